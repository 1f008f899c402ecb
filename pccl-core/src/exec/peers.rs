//! What waits to be sent to each peer, and what each peer granted before we were ready.

use std::collections::{BTreeMap, VecDeque};

use super::fault::Fault;
use crate::limits::MAX_EARLY_GRANTS_PER_PEER;
use crate::types::{Epoch, OpKey, PeerId, Rank};
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
    /// Whose turn among the links it is.
    next_link: usize,
    grants: VecDeque<FrameHeader>,
    /// Operations (slot, and the peer's rank there) with pieces for this peer, each once: they take turns.
    turns: VecDeque<(usize, Rank)>,
    early: EarlyGrants,
    dirty: bool,
}

/// Grants for operations not started here. Only of the newest epoch the peer is known to be in: it has
/// given up everything older.
#[derive(Debug, Default)]
struct EarlyGrants {
    epoch: Epoch,
    kept: BTreeMap<OpKey, Vec<FrameHeader>>,
    count: usize,
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
            next_link: 0,
            grants: VecDeque::new(),
            turns: VecDeque::new(),
            early: EarlyGrants::default(),
            dirty: false,
        });
        self.by_id.insert(id, slot);
        slot
    }

    pub fn find(&self, id: PeerId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    fn get(&mut self, slot: usize) -> &mut Peer {
        self.slots[slot].as_mut().expect("slots are handed out by slot_of and outlive their users")
    }

    /// How many grants are kept: those that came early, and those that wait to be sent.
    pub fn grants_kept(&self) -> (usize, usize) {
        let peers = self.slots.iter().flatten();
        peers.fold((0, 0), |(early, queued), peer| (early + peer.early.count, queued + peer.grants.len()))
    }

    /// Drops what no operation and no link needs. Only while no operation uses any slot.
    pub fn forget_idle(&mut self) {
        for (slot, place) in self.slots.iter_mut().enumerate() {
            if let Some(peer) = place
                && peer.links.is_empty()
                && peer.early.count == 0
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

    pub fn add_link(&mut self, slot: usize, link: usize) {
        self.get(slot).links.push(link);
        self.mark_dirty(slot);
    }

    pub fn remove_link(&mut self, slot: usize, link: usize) {
        self.get(slot).links.retain(|l| *l != link);
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

    /// Takes back everything queued for an operation.
    pub fn withdraw(&mut self, slot: usize, op: usize, key: OpKey) {
        let peer = self.get(slot);
        peer.turns.retain(|(turn, _)| *turn != op);
        peer.grants.retain(|grant| grant.key != key);
    }

    pub fn keep_early(&mut self, slot: usize, grant: FrameHeader) -> Result<(), Fault> {
        let early = &mut self.get(slot).early;
        if grant.key.epoch < early.epoch {
            return Ok(());
        }
        if grant.key.epoch > early.epoch {
            *early = EarlyGrants { epoch: grant.key.epoch, ..EarlyGrants::default() };
        }
        if early.count >= MAX_EARLY_GRANTS_PER_PEER {
            return Err(Fault::TooManyEarlyGrants { limit: MAX_EARLY_GRANTS_PER_PEER });
        }
        early.count += 1;
        early.kept.entry(grant.key).or_default().push(grant);
        Ok(())
    }

    pub fn take_early(&mut self, slot: usize, key: OpKey) -> Vec<FrameHeader> {
        let early = &mut self.get(slot).early;
        let taken = early.kept.remove(&key).unwrap_or_default();
        early.count -= taken.len();
        taken
    }

    /// The epoch holds here: grants of older ones will never be taken.
    pub fn drop_early_before(&mut self, epoch: Epoch) {
        for peer in self.slots.iter_mut().flatten() {
            if peer.early.epoch < epoch {
                peer.early = EarlyGrants { epoch, ..EarlyGrants::default() };
            }
        }
    }

    /// Epochs count anew: what was kept for the old ones is of no use.
    pub fn forget_early(&mut self) {
        for peer in self.slots.iter_mut().flatten() {
            peer.early = EarlyGrants::default();
        }
    }

    /// The instance is over, and with it all earlier ones of its tag.
    pub fn drop_early_until(&mut self, key: OpKey) {
        let first = OpKey { seq: 0, ..key };
        for early in
            self.slots.iter_mut().flatten().map(|peer| &mut peer.early).filter(|early| early.count > 0)
        {
            while let Some((&old, grants)) = early.kept.range(first..=key).next() {
                early.count -= grants.len();
                early.kept.remove(&old);
            }
        }
    }
}
