//! Fetching what a peer lacks of the elected content, from all sources at once.
//!
//! First the digests of the tensors, from one source, which must give what was elected; then those of the blocks of the
//! tensors that differ, which must give the tensor's; then the blocks that differ, each from the source that has room
//! next, each checked against its digest where it lies. So no source has to be believed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::parts::Parts;
use super::source::{Source, Standing};
use super::{Held, Landed, SyncStart};
use crate::exec::context::Context;
use crate::exec::fault::Fault;
use crate::kernel::hash;
use crate::limits::STATE_SILENCE_MS;
use crate::state::{Condition, combined, tensor_digest};
use crate::types::{Digest, Election, LinkId, Needs, PeerId, SyncNumber, Time};
use crate::wire::frame::FrameHeader;
use crate::wire::state_ask::{StateAsk, Wanted};

/// A block: index of the tensor, index within it.
pub(super) type Block = (u32, u32);

/// A source with fewer parts due than this is asked for the digests of one more tensor.
const FEW_PARTS_DUE: usize = 64;
/// At the end, a block that one source has kept waiting for so long is asked of another one.
const LATE_US: u64 = 1_500_000;
/// What an idle source takes over at once: no more than any window.
const HELP_BYTES: usize = 1 << 20;

/// A block that was asked for.
#[derive(Debug)]
struct Asked {
    source: usize,
    at: Time,
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
    /// `left` as it was in the beginning.
    to_fetch: usize,
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
    conditions: Vec<Condition>,
    next_ticket: u64,
    /// Of what differs; an upper bound until all digests are known.
    pub needed_bytes: u64,
    pub got_bytes: u64,
    listed: bool,
    /// Why it cannot be had, as soon as that is known.
    failed: Option<String>,
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
            conditions: vec![Condition::Kept; start.tensors.len()],
            next_ticket: 0,
            needed_bytes: 0,
            got_bytes: 0,
            listed: start.tensors.is_empty(),
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

    /// What may differ stays as it is. Where some of it has come already, it would be a mixture: then the whole fails, and
    /// the next call begins with what can be had.
    fn settle_for_content(&mut self, held: &Held) {
        let touched = |tensor: &usize| {
            let lacking = self.lacking.get(&(*tensor as u32));
            let begun = lacking.is_some_and(|l| !l.half.is_empty() || l.left < l.to_fetch);
            held.may_differ(*tensor as u32) && (begun || self.conditions[*tensor] == Condition::Elected)
        };
        if (0..held.tensors.len()).any(|tensor| touched(&tensor)) {
            let text = "who held the tensors that may differ is gone, and some of them had come: call again";
            self.failed = Some(text.to_owned());
            return;
        }
        self.needs = Needs::Content;
        for source in 0..self.sources.len() {
            let due = |block: Block, asked: &Asked| asked.source == source && held.may_differ(block.0);
            self.take_back(source, held, due);
        }
        self.missing_full.clear();
        self.unknown.retain(|tensor| !held.may_differ(*tensor));
        let dropped: Vec<u32> =
            self.lacking.keys().copied().filter(|tensor| held.may_differ(*tensor)).collect();
        for tensor in dropped {
            self.needed_bytes =
                self.needed_bytes.saturating_sub(held.tensors.size_bytes(tensor as usize) as u64);
            self.lacking.remove(&tensor);
        }
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
        for source in (0..count).map(|at| (first + at) % count) {
            if self.sources[source].standing != Standing::Good || !has_links(&self.sources[source], cx) {
                continue;
            }
            let mut asks = Vec::new();
            self.ask_for_list(source, held, cx.now, &mut asks);
            self.ask_for_digests(source, held, cx.now, &mut asks);
            self.ask_for_blocks(source, held, cx.now, &mut asks);
            if !asks.is_empty() {
                send(self.sources[source].peer, &asks);
            }
        }
    }

    fn ask_for_list(&mut self, source: usize, held: &Held, now: Time, asks: &mut Vec<StateAsk>) {
        let serves = self.needs != Needs::All || self.sources[source].full;
        if self.listed || self.list.from.is_some() || !serves {
            return;
        }
        let before = asks.len();
        asks.extend(self.list.ask(held.tensors.len(), source).map(|part| StateAsk {
            wanted: Wanted::TensorDigests,
            tensor: 0,
            first: part.start as u32,
            count: part.len() as u32,
        }));
        self.sources[source].asked_for_parts(asks.len() - before, now);
    }

    fn ask_for_digests(&mut self, source: usize, held: &Held, now: Time, asks: &mut Vec<StateAsk>) {
        while self.sources[source].parts_due < FEW_PARTS_DUE
            && let Some(tensor) = self.next_unknown(source, held)
            && let Some(lacking) = self.lacking.get_mut(&tensor)
        {
            let blocks = held.survey.blocks(tensor as usize).len();
            let before = asks.len();
            asks.extend(lacking.elected.ask(blocks, source).map(|part| StateAsk {
                wanted: Wanted::BlockDigests,
                tensor,
                first: part.start as u32,
                count: part.len() as u32,
            }));
            self.sources[source].asked_for_parts(asks.len() - before, now);
        }
    }

    fn next_unknown(&mut self, source: usize, held: &Held) -> Option<u32> {
        let full = self.sources[source].full;
        let serves = |tensor: &u32| full || !held.may_differ(*tensor);
        let at = self.unknown.iter().position(serves)?;
        self.unknown.remove(at)
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
            self.asked.insert((tensor, block), Asked { source, at: now, landing: None });
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

/// What arrives.
impl Fetch {
    /// Digests that some source has sent. What was not asked of it is dropped: it may have been asked of another since.
    pub fn digests(
        &mut self,
        from: PeerId,
        header: &FrameHeader,
        payload: &[u8],
        held: &mut Held,
        cx: &mut Context,
    ) {
        let Some(source) = self.source_of(from) else { return };
        let (tensor, first) = (header.key.tag.0, header.chunk as usize);
        if tensor == TENSOR_LIST {
            if self.listed || self.list.from != Some(source) {
                return;
            }
            let Some(whole) = self.list.take(first, payload) else { return };
            self.heard_part(source, cx.now);
            if whole {
                self.list_is_here(source, held, cx);
            }
            return;
        }
        let Ok(tensor) = u32::try_from(tensor) else { return };
        let Some(lacking) = self.lacking.get_mut(&tensor) else { return };
        if lacking.elected.from != Some(source) || !lacking.done.is_empty() {
            return;
        }
        let Some(whole) = lacking.elected.take(first, payload) else { return };
        self.heard_part(source, cx.now);
        if whole {
            self.digests_are_here(source, tensor, held, cx);
        }
    }

    fn heard_part(&mut self, source: usize, now: Time) {
        let source = &mut self.sources[source];
        source.parts_due = source.parts_due.saturating_sub(1);
        source.heard = now;
    }

    fn list_is_here(&mut self, source: usize, held: &Held, cx: &mut Context) {
        let (content, full) = combined(held.tensors.keys(), &self.list.digests);
        let all = self.needs == Needs::All;
        if content != self.election.content || all && full != self.election.full {
            self.list.reset();
            return self.discredit(source, "its tensors are not what was elected", held, cx);
        }
        self.listed = true;
        for (tensor, key) in held.tensors.keys().iter().enumerate() {
            if key.may_differ && !all || self.list.digests[tensor] == held.survey.digests()[tensor] {
                continue;
            }
            let blocks = held.survey.blocks(tensor).len();
            self.needed_bytes += held.tensors.size_bytes(tensor) as u64;
            let mut lacking = Lacking {
                elected: Parts::new(),
                done: Vec::new(),
                left: blocks,
                to_fetch: blocks,
                half: BTreeSet::new(),
            };
            if blocks == 1 {
                // The tensor's digest tells whether its one block is right.
                lacking.done = vec![false];
                self.queue(key.may_differ).push_back((tensor as u32, 0));
            } else {
                self.unknown.push_back(tensor as u32);
            }
            self.lacking.insert(tensor as u32, lacking);
        }
    }

    fn queue(&mut self, may_differ: bool) -> &mut VecDeque<Block> {
        if may_differ { &mut self.missing_full } else { &mut self.missing }
    }

    fn digests_are_here(&mut self, source: usize, tensor: u32, held: &Held, cx: &mut Context) {
        let (at, size_bytes) = (tensor as usize, held.tensors.size_bytes(tensor as usize));
        let Some(lacking) = self.lacking.get_mut(&tensor) else { return };
        let digest = tensor_digest(size_bytes, held.survey.block_bytes(), &lacking.elected.digests);
        if digest != self.list.digests[at] {
            lacking.elected.reset();
            self.unknown.push_front(tensor);
            let what = "its digests of blocks are not those of the elected tensor";
            return self.discredit(source, what, held, cx);
        }
        let same = lacking.elected.digests.iter().zip(held.survey.blocks(at)).map(|(a, b)| a == b);
        lacking.done = same.collect();
        let mut differing = Vec::new();
        for (block, _) in lacking.done.iter().enumerate().filter(|(_, done)| !**done) {
            differing.push((tensor, block as u32));
        }
        (lacking.left, lacking.to_fetch) = (differing.len(), differing.len());
        let differing_bytes: u64 = differing.iter().map(|block| held.block_len(*block) as u64).sum();
        self.needed_bytes -= size_bytes as u64 - differing_bytes;
        self.queue(held.may_differ(tensor)).extend(differing);
    }

    /// Where a segment of a block goes: the ticket, or `None` if it is not wanted (any more).
    pub fn accept(
        &mut self,
        from: PeerId,
        link: LinkId,
        header: &FrameHeader,
        block: Block,
        block_len: usize,
    ) -> Result<Option<u64>, Fault> {
        let (offset, len) = (header.offset as usize, header.len as usize);
        let place = |expected| Fault::BlockPlace {
            number: SyncNumber(header.key.epoch.0),
            tensor: header.key.tag.0,
            block: header.chunk,
            offset: header.offset,
            len: header.len,
            expected,
        };
        if offset + len > block_len {
            return Err(place(block_len));
        }
        let source = self.source_of(from);
        let Some(asked) = self.asked.get_mut(&block).filter(|asked| Some(asked.source) == source) else {
            return Ok(None);
        };
        match asked.landing {
            None if offset == 0 => {}
            // The rest of one that was asked of this source before, and given up since.
            None => return Ok(None),
            Some((over, ..)) if over != link => return Ok(None),
            Some((_, ticket, got)) if got == offset => return Ok(Some(ticket)),
            Some((.., got)) => return Err(place(got)),
        }
        self.next_ticket += 1;
        asked.landing = Some((link, self.next_ticket, 0));
        if let Some(lacking) = self.lacking.get_mut(&block.0) {
            lacking.half.insert(block.1);
        }
        Ok(Some(self.next_ticket))
    }

    /// Whether bytes with this ticket may still be written.
    pub fn wants(&self, block: Block, ticket: u64) -> bool {
        let landing = self.asked.get(&block).and_then(|asked| asked.landing);
        landing.is_some_and(|(_, current, _)| current == ticket)
    }

    /// Some bytes of this block have come.
    pub fn heard(&mut self, block: Block, now: Time) {
        if let Some(asked) = self.asked.get(&block) {
            self.sources[asked.source].heard = now;
        }
    }

    /// A segment is here, and sound.
    pub fn landed(&mut self, landed: &Landed, held: &mut Held, cx: &mut Context) {
        let Landed { block, ticket, offset, len, .. } = *landed;
        if !self.wants(block, ticket) {
            return;
        }
        let block_len = held.block_len(block);
        let Some(asked) = self.asked.get_mut(&block) else { return };
        if let Some((_, _, got)) = &mut asked.landing {
            *got = offset + len;
        }
        if offset + len < block_len {
            return;
        }
        let (source, asked_at) = (asked.source, asked.at);
        let digest = hash::digest(held.tensors.read(block.0 as usize, held.block_at(block), block_len));
        if !self.is_elected(block, digest, held) {
            cx.counters.state_blocks_refused += 1;
            let text = format!(
                "block {} of {} is not the elected one",
                block.1,
                held.tensors.keys()[block.0 as usize]
            );
            return self.discredit(source, &text, held, cx);
        }
        self.asked.remove(&block);
        let source = &mut self.sources[source];
        source.pace.came(block_len as u64, asked_at, cx.now);
        source.got_bytes += block_len as u64;
        self.got_bytes += block_len as u64;
        cx.counters.state_bytes_received += block_len as u64;
        self.block_is_here(block, digest, held);
    }

    fn is_elected(&self, (tensor, block): Block, digest: Digest, held: &Held) -> bool {
        let Some(lacking) = self.lacking.get(&tensor) else { return false };
        let size_bytes = held.tensors.size_bytes(tensor as usize);
        match lacking.elected.digests.get(block as usize) {
            Some(elected) => *elected == digest,
            None => {
                tensor_digest(size_bytes, held.survey.block_bytes(), &[digest])
                    == self.list.digests[tensor as usize]
            }
        }
    }

    fn block_is_here(&mut self, (tensor, block): Block, digest: Digest, held: &mut Held) {
        let Some(lacking) = self.lacking.get_mut(&tensor) else { return };
        lacking.half.remove(&block);
        lacking.done[block as usize] = true;
        lacking.left -= 1;
        if lacking.left > 0 {
            return;
        }
        let elected = std::mem::take(&mut lacking.elected.digests);
        let elected = if elected.is_empty() { vec![digest] } else { elected };
        let blocks = elected.into_iter().enumerate().map(|(block, digest)| (block, Some(digest)));
        held.survey.follow(&held.tensors, tensor as usize, blocks);
        self.lacking.remove(&tensor);
        self.conditions[tensor as usize] = Condition::Elected;
    }

    /// The source gave up in the middle of the block: it has ended the synchronization, or is about to leave.
    pub fn void(&mut self, landed: &Landed, held: &Held) {
        if !self.wants(landed.block, landed.ticket) {
            return;
        }
        if let Some(source) = self.asked.get(&landed.block).map(|asked| asked.source) {
            self.take_back(source, held, |_, _| true);
            self.sources[source].standing = Standing::Torn;
        }
    }
}

/// What becomes of the fetch.
impl Fetch {
    /// Whether everything is here.
    pub fn is_complete(&self) -> bool {
        self.listed && self.lacking.is_empty()
    }

    fn holds_elected(&self, held: &Held) -> bool {
        let Election { content, full, .. } = &*self.election;
        held.survey.content() == *content && (self.needs != Needs::All || held.survey.full() == *full)
    }

    /// The end, if there is one: everything is here, or nobody is left who could send it.
    pub fn outcome(&mut self, held: &mut Held) -> Option<Option<String>> {
        if self.ended {
            return None;
        }
        if let Some(text) = self.failed.take() {
            self.ended = true;
            return Some(Some(text));
        }
        if self.is_complete() {
            held.survey.sum_all(&held.tensors);
            let same = self.holds_elected(held);
            self.ended = true;
            // Each tensor was compared with the list, and the list with what was elected.
            return Some((!same).then(|| "what was received is not what was elected: a bug".to_owned()));
        }
        if self.sources.iter().all(|s| s.standing == Standing::Bad) {
            self.ended = true;
            let peers: Vec<String> = self.sources.iter().map(|s| s.peer.to_string()).collect();
            return Some(Some(format!("no source is left; of no use were peers {}", peers.join(", "))));
        }
        None
    }

    /// Every block asked of this source for which `which` holds is to be asked for anew. True if there are any.
    fn take_back(&mut self, source: usize, held: &Held, which: impl Fn(Block, &Asked) -> bool) -> bool {
        let back: Vec<Block> = self
            .asked
            .iter()
            .filter(|(block, asked)| asked.source == source && which(**block, asked))
            .map(|(block, _)| *block)
            .collect();
        for block in back.iter().copied().rev() {
            self.asked.remove(&block);
            self.sources[source].pace.taken_back(held.block_len(block) as u64);
            self.queue(held.may_differ(block.0)).push_front(block);
        }
        !back.is_empty()
    }

    /// The same for everything, digests too.
    fn take_all_back(&mut self, source: usize, held: &Held) {
        self.take_back(source, held, |_, _| true);
        self.sources[source].parts_due = 0;
        if !self.listed && self.list.from == Some(source) {
            self.list.reset();
        }
        for (tensor, lacking) in &mut self.lacking {
            if lacking.done.is_empty() && lacking.elected.from == Some(source) {
                lacking.elected.reset();
                self.unknown.push_front(*tensor);
            }
        }
    }

    fn discredit(&mut self, source: usize, why: &str, held: &Held, cx: &mut Context) {
        self.take_all_back(source, held);
        self.sources[source].standing = Standing::Bad;
        let text =
            format!("{}: peer {} is no source any more: {why}", self.number(), self.sources[source].peer);
        cx.outputs.push_back(crate::exec::Output::Log { text });
    }

    /// A link to this peer was lost: what it was asked for may be lost too.
    pub fn torn(&mut self, peer: PeerId, held: &Held) {
        let Some(source) = self.source_of(peer) else { return };
        self.take_all_back(source, held);
        if self.sources[source].standing == Standing::Good {
            self.sources[source].standing = Standing::Torn;
        }
    }

    /// All links to this peer are closed, here and there: from now on it is asked over new ones.
    pub fn unlinked(&mut self, peer: PeerId, held: &Held) {
        self.torn(peer, held);
        let source = self.source_of(peer).map(|source| &mut self.sources[source]);
        if let Some(source) = source.filter(|s| s.standing == Standing::Torn) {
            source.standing = Standing::Good;
        }
    }

    /// Sources that are silent count no more; at the end, what one is late with is asked of those that are idle.
    pub fn tick(&mut self, held: &Held, cx: &mut Context) {
        let now = cx.now;
        let silent = |s: &Source| {
            s.standing == Standing::Good && s.owes() && now.since_us(s.heard) > STATE_SILENCE_MS * 1000
        };
        for source in 0..self.sources.len() {
            if silent(&self.sources[source]) {
                let why = format!("it sent nothing for {} s", STATE_SILENCE_MS / 1000);
                self.discredit(source, &why, held, cx);
            }
        }
        if self.missing.is_empty() && self.missing_full.is_empty() {
            self.help_out(held, cx);
        }
    }

    /// At the end: some of what a source is late with is asked of one that has nothing to do. What the late one sends of
    /// it all the same is dropped, so it is no more than a small window.
    fn help_out(&mut self, held: &Held, cx: &Context) {
        let idle = |s: &Source| s.standing == Standing::Good && s.pace.is_idle() && has_links(s, cx);
        let Some(helper) = self.sources.iter().position(idle) else { return };
        let full = self.sources[helper].full;
        let late = |block: &Block, asked: &Asked| {
            let serves = full || !held.may_differ(block.0);
            serves && asked.landing.is_none() && cx.now.since_us(asked.at) > LATE_US
        };
        let mut taken: BTreeSet<Block> = BTreeSet::new();
        let mut bytes = 0;
        // The last ones are those it would come to last.
        for (block, _) in self.asked.iter().rev().filter(|(block, asked)| late(block, asked)) {
            bytes += held.block_len(*block);
            if bytes > HELP_BYTES && !taken.is_empty() {
                break;
            }
            taken.insert(*block);
        }
        for source in 0..self.sources.len() {
            self.take_back(source, held, |block, _| taken.contains(&block));
        }
        if !taken.is_empty() {
            self.first = helper;
        }
    }

    /// When we come much too late ourselves, the time says nothing about the others.
    pub fn restart_patience(&mut self, now: Time) {
        self.sources.iter_mut().for_each(|source| source.heard = now);
    }

    /// What has become of each tensor; the survey follows what was written. `true`: the tensors are a mixture of what
    /// they were and of what was elected.
    pub fn conditions(&mut self, held: &mut Held) -> (Vec<Condition>, bool) {
        let mut touched = self.conditions.contains(&Condition::Elected);
        for (tensor, lacking) in &self.lacking {
            let (at, mut written) = (*tensor as usize, Vec::new());
            for (block, done) in lacking.done.iter().enumerate() {
                let known = lacking.elected.digests.get(block).filter(|_| *done);
                if known.is_some_and(|known| *known != held.survey.blocks(at)[block]) {
                    written.push((block, known.copied()));
                } else if lacking.half.contains(&(block as u32)) {
                    written.push((block, None));
                }
            }
            let before = held.survey.digests()[at];
            held.survey.follow(&held.tensors, at, written);
            if held.survey.digests()[at] == self.list.digests[at] {
                // The last bytes were here, and the trailer was not.
                self.conditions[at] = Condition::Elected;
                touched = true;
            } else if held.survey.digests()[at] != before {
                self.conditions[at] = Condition::Mixed;
                touched = true;
            }
        }
        held.survey.sum_all(&held.tensors);
        let mixture = touched && !self.holds_elected(held);
        (self.conditions.clone(), mixture)
    }
}

fn has_links(source: &Source, cx: &Context) -> bool {
    cx.peers.find(source.peer).is_some_and(|slot| !cx.peers.links(slot).is_empty())
}

/// As the tag of a frame: the list of tensors, not one of them.
pub(super) const TENSOR_LIST: u64 = u64::MAX;
