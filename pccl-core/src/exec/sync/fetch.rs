//! Fetching what a peer lacks of the elected content, from all sources at once.
//!
//! First the digests of the tensors, from one source, which must give what was elected; then those of the blocks of the
//! tensors that differ, which must give the tensor's; then the blocks that differ, each from the source that has room
//! next, each checked against its digest where it lies. So no source has to be believed.

mod arrival;
mod ending;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::parts::Parts;
use super::source::{Source, Standing};
use super::{Held, SyncStart};
use crate::exec::context::Context;
use crate::state::Condition;
use crate::types::{Election, FetchFailure, LinkId, Needs, PeerId, SyncNumber, Time};
use crate::wire::state_ask::{StateAsk, Wanted};

/// A block: index of the tensor, index within it.
pub(super) type Block = (u32, u32);

/// A source with fewer parts due than this is asked for the digests of one more tensor.
const FEW_PARTS_DUE: usize = 64;

/// A block that was asked for.
#[derive(Debug)]
struct Asked {
    source: usize,
    at: Time,
    /// The same, but for the time in which we did not look: since when its source keeps us waiting.
    due_since: Time,
    /// How much of it has counted as a sign of life.
    counted: usize,
    /// While it lands: over which link, under which ticket, and how much of it is here.
    landing: Option<(LinkId, u64, usize)>,
}

/// A tensor that differs and is not here whole.
#[derive(Debug)]
struct Lacking {
    elected: Parts,
    /// By block; empty until the digests of the blocks are known.
    done: Vec<bool>,
    left: usize,
    /// `left` as it was in the beginning, and the bytes of those blocks: of all, until the digests are known.
    to_fetch: usize,
    needed_bytes: u64,
    /// Blocks with some bytes of something else than before.
    half: BTreeSet<u32>,
}

#[derive(Debug)]
pub(super) struct Fetch {
    election: Arc<Election>,
    needs: Needs,
    sources: Vec<Source>,
    /// The source that is asked first.
    first: usize,
    list: Parts,
    lacking: BTreeMap<u32, Lacking>,
    /// Tensors whose digests of blocks are to be asked for.
    unknown: VecDeque<u32>,
    /// Blocks to be asked for: those that every source has, and those that only full ones have.
    missing: VecDeque<Block>,
    missing_full: VecDeque<Block>,
    asked: BTreeMap<Block, Asked>,
    /// How often a block was asked of another source, as one was late with it.
    hops: BTreeMap<Block, u32>,
    /// Whether it is time to see if idle sources can help late ones, and whether there were late ones at the latest look.
    may_help: bool,
    some_are_late: bool,
    conditions: Vec<Condition>,
    next_ticket: u64,
    /// Of what differs; an upper bound until all digests are known.
    pub needed_bytes: u64,
    pub got_bytes: u64,
    listed: bool,
    /// Since when nobody is in reach who could go on, while somebody is of no use: of that the master knows nothing.
    stranded_since: Option<Time>,
    /// How long nothing has come whole, while it was due.
    waited_us: u64,
    /// Why it cannot be had, as soon as that is known.
    failed: Option<FetchFailure>,
    /// Whether `StateDone` is out.
    pub ended: bool,
}

impl Fetch {
    pub fn new(start: &SyncStart, now: Time) -> Fetch {
        let others = start.election.sources.iter().filter(|s| s.peer != start.me);
        Fetch {
            election: start.election.clone(),
            needs: start.needs,
            sources: others.map(|s| Source::new(s.peer, s.full, now)).collect(),
            first: 0,
            list: Parts::new(),
            lacking: BTreeMap::new(),
            unknown: VecDeque::new(),
            missing: VecDeque::new(),
            missing_full: VecDeque::new(),
            asked: BTreeMap::new(),
            hops: BTreeMap::new(),
            may_help: false,
            some_are_late: false,
            conditions: vec![Condition::Kept; start.tensors.len()],
            next_ticket: 0,
            needed_bytes: 0,
            got_bytes: 0,
            listed: start.tensors.is_empty(),
            stranded_since: None,
            waited_us: 0,
            failed: None,
            ended: false,
        }
    }

    fn number(&self) -> SyncNumber {
        self.election.number
    }

    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// A peer that needs everything hears of a source that has less only where it can reach none that has more.
    pub fn add_source(&mut self, peer: PeerId, full: bool, held: &Held, now: Time) {
        if !full && self.needs == Needs::All {
            self.settle_for_content(held);
        }
        match self.sources.iter_mut().find(|s| s.peer == peer) {
            Some(known) => known.full |= full,
            None => self.sources.push(Source::new(peer, full, now)),
        }
    }

    fn queue(&mut self, may_differ: bool) -> &mut VecDeque<Block> {
        if may_differ { &mut self.missing_full } else { &mut self.missing }
    }

    fn source_of(&self, peer: PeerId) -> Option<usize> {
        self.sources.iter().position(|s| s.peer == peer)
    }

    /// Asks every source that has links for as much as it has room for: `send` takes a list of asks.
    pub fn pump(&mut self, held: &Held, cx: &mut Context, mut send: impl FnMut(PeerId, &[StateAsk])) {
        if self.ended {
            return;
        }
        let (first, count) = (self.first, self.sources.len());
        let may_help = std::mem::take(&mut self.may_help);
        for source in (0..count).map(|at| (first + at) % count) {
            if !self.sources[source].is_in_reach(cx) {
                continue;
            }
            let mut asks = Vec::new();
            self.ask_for_list(source, held, cx, &mut asks);
            self.ask_for_digests(source, held, cx, &mut asks);
            self.ask_for_blocks(source, held, cx.now, &mut asks);
            if may_help && self.sources[source].pace.is_idle() && self.help_out(source, held, cx.now) {
                self.ask_for_blocks(source, held, cx.now, &mut asks);
            }
            if !asks.is_empty() {
                send(self.sources[source].peer, &asks);
            }
        }
    }

    fn ask_for_list(&mut self, source: usize, held: &Held, cx: &Context, asks: &mut Vec<StateAsk>) {
        let of_all = self.needs == Needs::All;
        if self.listed || self.list.from.is_some() || !self.is_to_list(source, &self.list, of_all, cx) {
            return;
        }
        for part in self.list.ask(held.tensors.len(), source, cx.now) {
            let (first, count) = (part.start as u32, part.len() as u32);
            self.sources[source].asked_for_part(TENSOR_LIST, first, cx.now);
            asks.push(StateAsk { wanted: Wanted::TensorDigests, tensor: 0, first, count });
        }
    }

    fn ask_for_digests(&mut self, source: usize, held: &Held, cx: &Context, asks: &mut Vec<StateAsk>) {
        while self.sources[source].parts_due() < FEW_PARTS_DUE
            && let Some(tensor) = self.next_unknown(source, held, cx)
            && let Some(lacking) = self.lacking.get_mut(&tensor)
        {
            let blocks = held.survey.blocks(tensor as usize).len();
            for part in lacking.elected.ask(blocks, source, cx.now) {
                let (first, count) = (part.start as u32, part.len() as u32);
                self.sources[source].asked_for_part(u64::from(tensor), first, cx.now);
                asks.push(StateAsk { wanted: Wanted::BlockDigests, tensor, first, count });
            }
        }
    }

    fn next_unknown(&mut self, source: usize, held: &Held, cx: &Context) -> Option<u32> {
        let serves = |tensor: &u32| {
            let digests = self.lacking.get(tensor).map(|lacking| &lacking.elected);
            digests.is_some_and(|digests| self.is_to_list(source, digests, held.may_differ(*tensor), cx))
        };
        let at = self.unknown.iter().position(serves)?;
        self.unknown.remove(at)
    }

    /// Whether this source is the one to ask for these digests (`full`: of what may differ as well): one that was late
    /// with them is only where nobody else is in reach.
    fn is_to_list(&self, source: usize, digests: &Parts, full: bool, cx: &Context) -> bool {
        let serves = self.sources[source].full || !full;
        serves && (!digests.late.contains(&source) || self.another(digests, full, cx).is_none())
    }

    /// Somebody in reach who has not been asked for these digests yet, or not in vain.
    fn another(&self, digests: &Parts, full: bool, cx: &Context) -> Option<usize> {
        let tried = |at: usize| digests.from == Some(at) || digests.late.contains(&at);
        let serves = |(at, s): &(usize, &Source)| !tried(*at) && (s.full || !full) && s.is_in_reach(cx);
        self.sources.iter().enumerate().find(serves).map(|(at, _)| at)
    }

    fn ask_for_blocks(&mut self, source: usize, held: &Held, now: Time, asks: &mut Vec<StateAsk>) {
        if !self.sources[source].pace.has_room() {
            return;
        }
        loop {
            let full = self.sources[source].full && !self.missing_full.is_empty();
            let queue = if full { &mut self.missing_full } else { &mut self.missing };
            let Some(&(tensor, block)) = queue.front() else { return };
            let bytes = held.block_len((tensor, block)) as u64;
            if !self.sources[source].pace.takes(bytes) {
                return;
            }
            queue.pop_front();
            self.sources[source].asked_for_block(bytes, now);
            let asked = Asked { source, at: now, due_since: now, counted: 0, landing: None };
            self.asked.insert((tensor, block), asked);
            match asks.last_mut() {
                Some(last)
                    if last.wanted == Wanted::Blocks
                        && last.tensor == tensor
                        && last.first + last.count == block =>
                {
                    last.count += 1;
                }
                _ => asks.push(StateAsk { wanted: Wanted::Blocks, tensor, first: block, count: 1 }),
            }
        }
    }
}

impl Source {
    /// Whether there is a way to it, and nothing against it.
    fn is_in_reach(&self, cx: &Context) -> bool {
        self.standing == Standing::Good && self.has_links(cx)
    }

    fn has_links(&self, cx: &Context) -> bool {
        cx.peers.find(self.peer).is_some_and(|slot| !cx.peers.links(slot).is_empty())
    }
}

/// How often patience with a source is doubled at most.
pub(super) const MAX_DOUBLINGS: u32 = 6;

/// As the tag of a frame: the list of tensors, not one of them.
pub(super) const TENSOR_LIST: u64 = u64::MAX;
