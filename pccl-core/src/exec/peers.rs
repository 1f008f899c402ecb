//! What waits to be sent to each peer, and what each peer granted before we were ready.

use std::collections::{BTreeMap, VecDeque};

use super::allowance::Allowance;
use super::early::Early;
use super::observe::Observation;
use crate::types::{Epoch, Heard, OpKey, PeerId, Rank, Time};
use crate::wire::frame::FrameHeader;

/// Every peer we have links to, or want to send to. A slot stays a peer's until `forget_idle`.
#[derive(Debug, Default)]
pub(super) struct Peers {
    slots: Vec<Option<Peer>>,
    by_id: BTreeMap<PeerId, usize>,
    /// Peers that got something to send since the last flush.
    dirty: VecDeque<usize>,
}

#[derive(Debug)]
struct Peer {
    id: PeerId,
    /// Slots of the links, in the order they came.
    links: Vec<usize>,
    /// Those that hold little, in the order that both ends know.
    little: BTreeMap<u32, usize>,
    /// See `express`.
    express: Option<usize>,
    /// Whose turn among the links it is.
    next_link: usize,
    grants: VecDeque<FrameHeader>,
    /// Operations (slot, and the peer's rank there) with pieces for this peer, each once: they take turns.
    turns: VecDeque<(usize, Rank)>,
    /// The same of what is short.
    short_turns: VecDeque<(usize, Rank)>,
    early: Early,
    allowance: Allowance,
    observation: Observation,
    dirty: bool,
}

impl Peer {
    fn choose_express(&mut self) {
        let first = self.little.first_key_value().map(|(_, link)| *link);
        self.express = first.filter(|_| self.links.len() > 1);
    }
}

impl Peers {
    /// The peer's slot; made if need be.
    pub fn slot_of(&mut self, id: PeerId) -> usize {
        if let Some(slot) = self.by_id.get(&id) {
            return *slot;
        }
        let slot = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(Peer {
            id,
            links: Vec::new(),
            little: BTreeMap::new(),
            express: None,
            next_link: 0,
            grants: VecDeque::new(),
            turns: VecDeque::new(),
            short_turns: VecDeque::new(),
            early: Early::default(),
            allowance: Allowance::default(),
            observation: Observation::default(),
            dirty: false,
        });
        self.by_id.insert(id, slot);
        slot
    }

    pub fn id(&self, slot: usize) -> PeerId {
        self.slots[slot]
            .as_ref()
            .map(|peer| peer.id)
            .expect("slots are handed out by slot_of and outlive their users")
    }

    pub fn find(&self, id: PeerId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    fn get(&mut self, slot: usize) -> &mut Peer {
        self.slots[slot].as_mut().expect("slots are handed out by slot_of and outlive their users")
    }

    /// What is kept: grants that came early, grants that wait to be sent, bytes that came early.
    pub fn kept(&self) -> (usize, usize, usize) {
        let mut kept = (0, 0, 0);
        for peer in self.slots.iter().flatten() {
            kept.0 += peer.early.grants();
            kept.1 += peer.grants.len();
            kept.2 += peer.early.parked_bytes();
        }
        kept
    }

    /// Drops what no operation and no link needs. Only while no operation uses any slot.
    pub fn forget_idle(&mut self) {
        for (slot, place) in self.slots.iter_mut().enumerate() {
            if let Some(peer) = place
                && peer.links.is_empty()
                && peer.early.is_empty()
            {
                self.by_id.remove(&peer.id);
                self.dirty.retain(|d| *d != slot);
                *place = None;
            }
        }
    }

    pub fn links(&self, slot: usize) -> &[usize] {
        self.slots[slot].as_ref().map_or(&[], |peer| &peer.links)
    }

    /// `order`: see `Link::order`; of one that holds little.
    pub fn add_link(&mut self, slot: usize, link: usize, order: Option<u32>) {
        let peer = self.get(slot);
        peer.links.push(link);
        peer.little.extend(order.map(|order| (order, link)));
        peer.choose_express();
        self.mark_dirty(slot);
    }

    pub fn remove_link(&mut self, slot: usize, link: usize) {
        let peer = self.get(slot);
        peer.links.retain(|l| *l != link);
        peer.little.retain(|_, l| *l != link);
        peer.choose_express();
    }

    /// This link, which is not the express, holds as much as others.
    pub fn holds_as_tuned(&mut self, slot: usize, order: u32) {
        self.get(slot).little.remove(&order);
    }

    /// The link of a near pair that what is short goes over: the same one at both ends, the first in the order.
    pub fn express(&self, slot: usize) -> Option<usize> {
        self.slots[slot].as_ref()?.express
    }

    /// Slots there are, whether or not in use.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The links take turns, so that one that takes much at once does not carry everything.
    pub fn next_link(&mut self, slot: usize) -> Option<usize> {
        let peer = self.get(slot);
        let count = peer.links.len();
        if count == 0 {
            return None;
        }
        peer.next_link = (peer.next_link + 1) % count;
        Some(peer.links[peer.next_link])
    }

    /// So many bytes came of this peer, of operations or a shared state.
    pub fn heard(&mut self, slot: usize, bytes: u64, now: Time) {
        self.get(slot).observation.heard(bytes, now);
    }

    /// What came of each peer at best of late.
    pub fn observed(&self, now: Time) -> Vec<Heard> {
        let rate = |peer: &Peer| {
            let bytes_per_second = peer.observation.bytes_per_second(now)?;
            Some(Heard { from: peer.id, bytes_per_second })
        };
        self.slots.iter().flatten().filter_map(rate).collect()
    }

    pub fn mark_dirty(&mut self, slot: usize) {
        let peer = self.get(slot);
        if !peer.dirty {
            peer.dirty = true;
            self.dirty.push_back(slot);
        }
    }

    pub fn next_dirty(&mut self) -> Option<usize> {
        let slot = self.dirty.pop_front()?;
        self.get(slot).dirty = false;
        Some(slot)
    }

    pub fn queue_grant(&mut self, slot: usize, grant: FrameHeader) {
        self.get(slot).grants.push_back(grant);
        self.mark_dirty(slot);
    }

    pub fn take_grant(&mut self, slot: usize) -> Option<FrameHeader> {
        self.get(slot).grants.pop_front()
    }

    /// Gives an operation its turn at this peer. It must not have one already.
    pub fn queue_turn(&mut self, slot: usize, op: usize, rank: Rank) {
        self.get(slot).turns.push_back((op, rank));
        self.mark_dirty(slot);
    }

    /// The same for an operation that has just had a turn: nothing new to send.
    pub fn requeue_turn(&mut self, slot: usize, op: usize, rank: Rank) {
        self.get(slot).turns.push_back((op, rank));
    }

    pub fn take_turn(&mut self, slot: usize) -> Option<(usize, Rank)> {
        self.get(slot).turns.pop_front()
    }

    /// A turn for the only thing that an operation sends this peer, which is short.
    pub fn queue_short(&mut self, slot: usize, op: usize, rank: Rank) {
        self.get(slot).short_turns.push_back((op, rank));
        self.mark_dirty(slot);
    }

    pub fn take_short(&mut self, slot: usize) -> Option<(usize, Rank)> {
        self.get(slot).short_turns.pop_front()
    }

    /// Whether grants or what is short wait for a link.
    pub fn has_short(&self, slot: usize) -> bool {
        let peer = self.slots[slot].as_ref();
        peer.is_some_and(|peer| !peer.grants.is_empty() || !peer.short_turns.is_empty())
    }

    pub fn has_turns(&self, slot: usize) -> bool {
        self.slots[slot].as_ref().is_some_and(|peer| !peer.turns.is_empty())
    }

    /// Takes back everything queued for an operation.
    pub fn withdraw(&mut self, slot: usize, op: usize, key: OpKey) {
        let peer = self.get(slot);
        peer.turns.retain(|(turn, _)| *turn != op);
        peer.short_turns.retain(|(turn, _)| *turn != op);
        peer.grants.retain(|grant| grant.key != key);
    }

    pub fn early(&mut self, slot: usize) -> &mut Early {
        &mut self.get(slot).early
    }

    pub fn allowance(&mut self, slot: usize) -> &mut Allowance {
        &mut self.get(slot).allowance
    }

    /// The epoch holds here: what came early for older ones will never be taken, and what was sent for them
    /// counts no more.
    pub fn enter_epoch(&mut self, epoch: Epoch) {
        for peer in self.slots.iter_mut().flatten() {
            peer.early.drop_before(epoch);
            peer.allowance = Allowance::default();
        }
    }

    /// Epochs count anew: what was kept for the old ones is of no use.
    pub fn forget_early(&mut self) {
        for peer in self.slots.iter_mut().flatten() {
            peer.early = Early::default();
            peer.allowance = Allowance::default();
        }
    }

    /// The instance is over, and with it all earlier ones of its tag.
    pub fn drop_early_until(&mut self, key: OpKey) {
        for peer in self.slots.iter_mut().flatten().filter(|peer| !peer.early.is_empty()) {
            peer.early.drop_until(key);
        }
    }
}
