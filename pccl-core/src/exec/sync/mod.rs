//! Shared state on its way: serving blocks to whoever asks, and fetching those that differ.
//!
//! `serve` answers, `fetch` asks: `source` is one that is asked, `pace` how much at once, `parts` a list of digests.
//! Nothing waits for anything but bytes that were asked for: who is asked keeps a bounded list and sends as its links
//! take it; who asked has a place for every byte. So the two directions of a pair cannot hold each other up.

mod fetch;
mod pace;
mod parts;
mod progress;
mod serve;
mod source;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use self::fetch::{Block, Fetch, TENSOR_LIST};
use self::progress::Progress;
use self::serve::{EarlyAsks, Item, Serve};
use super::Output;
use super::context::Context;
use super::fault::Fault;
use super::landing::Landing;
use super::rx::Speaker;
use crate::limits::MAX_STATE_NOTE_BYTES;
use crate::state::{Condition, Survey, Tensors};
use crate::types::{Digest, Election, Epoch, Needs, OpKey, PeerId, Severity, Source, SyncNumber, Tag, Time};
use crate::wire::frame::{FrameHeader, FrameKind};
use crate::wire::state_ask::{StateAsk, Wanted};

/// How often a fetch looks for sources that are silent or late.
const TICK_MS: u64 = 250;

/// One synchronization as this peer is to take part in it.
#[derive(Debug)]
pub struct SyncStart {
    pub me: PeerId,
    pub election: Arc<Election>,
    pub needs: Needs,
    pub tensors: Tensors,
    pub survey: Survey,
}

/// What a synchronization has come to here.
#[derive(Debug)]
pub struct SyncEnd {
    pub tensors: Tensors,
    /// Content of tensors sent and received, in whole blocks.
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    /// In the order of names.
    pub conditions: Vec<Condition>,
    /// The tensors that the transfer has changed, as they are now.
    pub touched: Vec<(usize, Digest)>,
    /// Whether they are not what was elected, with those it has not changed.
    pub is_mixture: bool,
    /// The digest of all that was elected and its revision, if the tensors are just that.
    pub holds: Option<(Digest, u64)>,
}

/// A frame that is sent whole: asks, or digests.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub header: FrameHeader,
    pub payload: Vec<u8>,
}

/// A block on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutgoingBlock {
    number: SyncNumber,
    block: Block,
    at: usize,
    pub len: usize,
    /// How much of it was sent in segments before the one under way.
    pub offset: usize,
}

/// A segment of a block that lands, or has landed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Landed {
    pub number: SyncNumber,
    pub from: PeerId,
    pub block: Block,
    pub ticket: u64,
    /// Within the block.
    pub offset: usize,
    pub len: usize,
    /// The segment's place within the tensor.
    pub at: usize,
}

/// What this peer holds.
pub(super) struct Held {
    tensors: Tensors,
    survey: Survey,
}

impl Held {
    fn may_differ(&self, tensor: u32) -> bool {
        self.tensors.keys()[tensor as usize].may_differ
    }

    /// Where the block begins within its tensor.
    fn block_at(&self, (_, block): Block) -> usize {
        block as usize * self.survey.block_bytes()
    }

    fn block_len(&self, block: Block) -> usize {
        let rest = self.tensors.size_bytes(block.0 as usize).saturating_sub(self.block_at(block));
        rest.min(self.survey.block_bytes())
    }
}

struct Sync {
    number: SyncNumber,
    election: Arc<Election>,
    held: Held,
    serve: Serve,
    fetch: Option<Fetch>,
    progress: Progress,
    next_tick: Time,
    tx_bytes: u64,
}

/// The synchronization under way, if there is one, and what is kept for the next.
#[derive(Default)]
pub(super) struct Syncs {
    current: Option<Sync>,
    /// The newest that was begun here.
    latest: SyncNumber,
    early: EarlyAsks,
    notes: BTreeMap<PeerId, VecDeque<Note>>,
}

/// What the engine asks for.
impl Syncs {
    pub fn begin(&mut self, start: SyncStart, cx: &mut Context) {
        let number = start.election.number;
        let fetch = (start.needs != Needs::Nothing).then(|| Fetch::new(&start, cx.now));
        let SyncStart { election, tensors, survey, .. } = start;
        let (serve, progress) = (Serve::default(), Progress::new(number, cx.now));
        let next_tick = cx.now.plus_ms(TICK_MS);
        let held = Held { tensors, survey };
        let sync = Sync { number, election, held, serve, fetch, progress, next_tick, tx_bytes: 0 };
        self.latest = number;
        let sync = self.current.insert(sync);
        let mut blamed = BTreeSet::new();
        for (from, ask) in self.early.take(number) {
            // Whoever asks for what is not there is left without an answer; its link has done nothing wrong just now.
            if let Err(fault) = sync.serve.ask(from, number, ask, &sync.held.survey)
                && blamed.insert(from)
            {
                let text = format!("peer {from}: {fault}");
                cx.outputs.push_back(Output::Log { severity: Severity::Warn, text });
            }
            wake(from, cx);
        }
        self.pump(cx);
    }

    pub fn add_source(&mut self, number: SyncNumber, source: Source, cx: &mut Context) {
        if let Some(sync) = self.current.as_mut().filter(|sync| sync.number == number)
            && let Some(fetch) = &mut sync.fetch
        {
            fetch.add_source(source.peer, source.full, &sync.held, cx.now);
        }
        self.pump(cx);
    }

    pub fn end(&mut self) -> Option<SyncEnd> {
        let Sync { election, mut held, fetch, tx_bytes, .. } = self.current.take()?;
        self.notes.clear();
        let rx_bytes = fetch.as_ref().map_or(0, |fetch| fetch.got_bytes);
        let (conditions, is_mixture) = match fetch {
            Some(mut fetch) => fetch.conditions(&mut held),
            None => (vec![Condition::Kept; held.tensors.len()], false),
        };
        let touched = conditions.iter().zip(held.survey.digests()).enumerate();
        let touched = touched.filter(|(_, (condition, _))| **condition != Condition::Kept);
        let touched = touched.map(|(tensor, (_, digest))| (tensor, *digest)).collect();
        let holds = (held.survey.full() == election.full).then_some((election.full, election.revision));
        Some(SyncEnd { tensors: held.tensors, tx_bytes, rx_bytes, conditions, touched, is_mixture, holds })
    }

    /// Numbers count anew. Nothing is under way.
    pub fn reset(&mut self) {
        self.latest = SyncNumber::default();
        self.early.clear();
        self.notes.clear();
    }

    /// There are new links to this peer.
    pub fn linked(&mut self, cx: &mut Context) {
        self.pump(cx);
    }

    /// One link to this peer was lost; what it carried may be lost too.
    pub fn torn(&mut self, peer: PeerId, cx: &mut Context) {
        if let Some((held, fetch)) = self.fetching() {
            fetch.torn(peer, held);
        }
        self.pump(cx);
    }

    /// All links to this peer are closed: whatever was asked is asked anew over the next ones, on both ends.
    pub fn unlinked(&mut self, peer: PeerId, cx: &mut Context) {
        self.early.forget(peer);
        self.notes.remove(&peer);
        if let Some(sync) = &mut self.current {
            sync.serve.forget(peer);
        }
        if let Some((held, fetch)) = self.fetching() {
            fetch.unlinked(peer, held);
        }
        self.pump(cx);
    }

    /// Who is in the group from here on.
    pub fn members(&mut self, members: &[PeerId], cx: &mut Context) {
        if let Some((held, fetch)) = self.fetching() {
            fetch.members(members, held);
        }
        self.pump(cx);
    }

    pub fn next_deadline(&self) -> Option<Time> {
        let sync = self.current.as_ref()?;
        sync.fetch.as_ref().filter(|fetch| !fetch.ended).map(|_| sync.next_tick)
    }

    pub fn tick(&mut self, cx: &mut Context) {
        let Some(sync) = self.current.as_mut().filter(|sync| sync.next_tick <= cx.now) else { return };
        let overslept_us = cx.now.since_us(sync.next_tick);
        sync.next_tick = cx.now.plus_ms(TICK_MS);
        if let Some(fetch) = sync.fetch.as_mut().filter(|fetch| !fetch.ended) {
            fetch.overslept(overslept_us, cx.now);
            fetch.tick(TICK_MS * 1000, &sync.held, cx);
            if let Some(text) = sync.progress.report(fetch, cx.now) {
                cx.outputs.push_back(Output::Log { severity: Severity::Info, text });
            }
        }
        self.pump(cx);
    }

    /// Kept for others: asks of synchronizations that have not begun here.
    pub fn early_asks(&self) -> usize {
        self.early.count()
    }

    fn fetching(&mut self) -> Option<(&Held, &mut Fetch)> {
        let sync = self.current.as_mut()?;
        Some((&sync.held, sync.fetch.as_mut()?))
    }

    /// Asks for what there is room for, and tells the outcome once there is one.
    fn pump(&mut self, cx: &mut Context) {
        let Some(sync) = &mut self.current else { return };
        let Some(fetch) = &mut sync.fetch else { return };
        let (number, notes, mut woken) = (sync.number, &mut self.notes, Vec::new());
        fetch.pump(&sync.held, cx, |peer, asks| {
            let payload: Vec<u8> = asks.iter().flat_map(StateAsk::encode).collect();
            let queue = notes.entry(peer).or_default();
            queue.extend(payload.chunks(MAX_STATE_NOTE_BYTES).map(|payload| Note {
                header: header(FrameKind::StateAsk, number, 0, 0, 0, payload.len()),
                payload: payload.to_vec(),
            }));
            woken.push(peer);
        });
        woken.into_iter().for_each(|peer| wake(peer, cx));
        if let Some(failed) = fetch.outcome(&mut sync.held) {
            if let Some(text) = sync.progress.last_words(fetch, cx.now) {
                cx.outputs.push_back(Output::Log { severity: Severity::Info, text });
            }
            cx.outputs.push_back(Output::StateDone { number, failed });
        }
    }
}

/// What arrives.
impl Syncs {
    /// Where the payload of this frame goes.
    pub fn begin_frame(
        &mut self,
        speaker: &Speaker,
        header: &FrameHeader,
        cx: &mut Context,
    ) -> Result<Landing, Fault> {
        let number = SyncNumber(header.key.epoch.0);
        let current = self.current.as_mut().filter(|sync| sync.number == number);
        let note =
            || Landing::Note { from: speaker.id, header: *header, bytes: vec![0; header.len as usize] };
        let landing = match header.kind {
            FrameKind::StateAsk if current.is_some() || number > self.latest => note(),
            FrameKind::StateDigests if current.as_ref().is_some_and(|sync| sync.fetch.is_some()) => note(),
            FrameKind::StateBlock => match current {
                Some(sync) => sync.begin_block(speaker, header, cx.now)?,
                None => Landing::Sink,
            },
            _ => Landing::Sink,
        };
        cx.counters.stale_frames += u64::from(matches!(landing, Landing::Sink));
        Ok(landing)
    }

    /// The place of a segment from byte `got` of it on; `None` if it is not wanted any more.
    pub fn place(&mut self, landed: &Landed, got: usize, cx: &Context) -> Option<&mut [u8]> {
        let sync = self.current.as_mut().filter(|sync| sync.number == landed.number)?;
        let (fetch, end) = (sync.fetch.as_mut()?, landed.offset + got);
        let wanted = fetch.hears(landed.block, landed.ticket, end, cx.now);
        if !wanted {
            fetch.sunk(landed.from, landed.block, end, sync.held.block_len(landed.block), cx.now);
        }
        wanted.then(|| sync.held.tensors.write(landed.block.0 as usize, landed.at + got, landed.len - got))
    }

    /// What has landed of a wanted segment.
    pub fn landed_bytes(&self, landed: &Landed) -> Option<&[u8]> {
        let sync = self.current.as_ref().filter(|sync| sync.number == landed.number)?;
        let wanted = sync.fetch.as_ref()?.wants(landed.block, landed.ticket);
        wanted.then(|| sync.held.tensors.read(landed.block.0 as usize, landed.at, landed.len))
    }

    /// A segment has ended that was wanted when it began.
    pub fn block_sunk(&mut self, landed: &Landed, cx: &mut Context) {
        let Some(sync) = self.current.as_mut().filter(|sync| sync.number == landed.number) else { return };
        let Some(fetch) = &mut sync.fetch else { return };
        let (end, block_len) = (landed.offset + landed.len, sync.held.block_len(landed.block));
        fetch.sunk(landed.from, landed.block, end, block_len, cx.now);
        // There may be room to ask for more.
        self.pump(cx);
    }

    /// Bytes of a list of digests come.
    pub fn hears_note(&mut self, from: PeerId, header: &FrameHeader, bytes: usize, now: Time) {
        if header.kind == FrameKind::StateDigests
            && let Some(sync) = self.current.as_mut().filter(|sync| sync.number.0 == header.key.epoch.0)
            && let Some(fetch) = &mut sync.fetch
        {
            fetch.hears_part(from, header, bytes, now);
        }
    }

    /// A segment is here whole. A void one: its source has given up, so whatever was asked of it is to come from others.
    pub fn block_landed(&mut self, landed: &Landed, sound: bool, cx: &mut Context) {
        if !sound {
            return self.torn(landed.from, cx);
        }
        let Some(sync) = self.current.as_mut().filter(|sync| sync.number == landed.number) else { return };
        let Some(fetch) = &mut sync.fetch else { return };
        if fetch.landed(landed, &mut sync.held, cx) {
            self.pump(cx);
        }
    }

    /// Asks or digests are here, and sound.
    pub fn note_landed(
        &mut self,
        from: PeerId,
        header: &FrameHeader,
        payload: &[u8],
        cx: &mut Context,
    ) -> Result<(), Fault> {
        let number = SyncNumber(header.key.epoch.0);
        let current = self.current.as_mut().filter(|sync| sync.number == number);
        if header.kind == FrameKind::StateDigests {
            if let Some(sync) = current
                && let Some(fetch) = &mut sync.fetch
            {
                fetch.digests(from, header, payload, &mut sync.held, cx);
                self.pump(cx);
            }
            return Ok(());
        }
        let asks = StateAsk::decode_list(payload)?;
        match current {
            Some(sync) => {
                for ask in asks {
                    sync.serve.ask(from, number, ask, &sync.held.survey)?;
                }
                wake(from, cx);
            }
            None if number > self.latest => {
                for ask in asks {
                    self.early.keep(from, number, ask)?;
                }
            }
            None => {}
        }
        Ok(())
    }
}

/// What leaves.
impl Syncs {
    /// Asks of ours to this peer.
    pub fn next_note(&mut self, to: PeerId) -> Option<Note> {
        let queue = self.notes.get_mut(&to)?;
        let note = queue.pop_front();
        if queue.is_empty() {
            self.notes.remove(&to);
        }
        note
    }

    /// What this peer has asked for.
    pub fn next_answer(&mut self, to: PeerId) -> Option<Answer> {
        let sync = self.current.as_mut()?;
        Some(match sync.serve.next(to)? {
            Item::Block { tensor, block } => {
                let block = (tensor, block);
                let (at, len) = (sync.held.block_at(block), sync.held.block_len(block));
                Answer::Block(OutgoingBlock { number: sync.number, block, at, len, offset: 0 })
            }
            Item::Digests(ask) => {
                let (tag, all) = match ask.wanted {
                    Wanted::TensorDigests => (TENSOR_LIST, sync.held.survey.digests()),
                    _ => (u64::from(ask.tensor), sync.held.survey.blocks(ask.tensor as usize)),
                };
                // The range was held against what there is when the ask came.
                let digests = &all[ask.first as usize..][..ask.count as usize];
                let payload: Vec<u8> = digests.iter().flat_map(|digest| digest.0).collect();
                let header = header(FrameKind::StateDigests, sync.number, tag, ask.first, 0, payload.len());
                Answer::Note(Note { header, payload })
            }
        })
    }

    pub fn payload(&self, out: &OutgoingBlock, len: usize) -> &[u8] {
        match &self.current {
            Some(sync) => sync.held.tensors.read(out.block.0 as usize, out.at + out.offset, len),
            None => &[],
        }
    }

    pub fn block_header(&self, out: &OutgoingBlock, len: usize) -> FrameHeader {
        let (tensor, block) = out.block;
        header(FrameKind::StateBlock, out.number, u64::from(tensor), block, out.offset, len)
    }

    /// The links have taken the whole block.
    pub fn block_sent(&mut self, out: &OutgoingBlock, cx: &mut Context) {
        if let Some(sync) = &mut self.current {
            sync.tx_bytes += out.len as u64;
            cx.counters.state_bytes_sent += out.len as u64;
        }
    }
}

/// What a peer is sent because it asked.
pub(super) enum Answer {
    Block(OutgoingBlock),
    Note(Note),
}

impl Sync {
    fn begin_block(&mut self, speaker: &Speaker, header: &FrameHeader, now: Time) -> Result<Landing, Fault> {
        let Some(fetch) = &mut self.fetch else { return Ok(Landing::Sink) };
        let (tensor, block) = (header.key.tag.0, header.chunk);
        let tensor_index = usize::try_from(tensor).unwrap_or(usize::MAX);
        let is_there =
            self.held.survey.blocks_in(tensor_index).is_some_and(|blocks| (block as usize) < blocks);
        let id = (tensor as u32, block);
        let len = if is_there { self.held.block_len(id) } else { 0 };
        let ticket = fetch.accept(speaker.id, speaker.link, header, id, len)?;
        if ticket.is_none() && is_there {
            fetch.sunk(speaker.id, id, header.offset as usize + header.len as usize, len, now);
        }
        let (offset, len) = (header.offset as usize, header.len as usize);
        Ok(ticket.map_or(Landing::Sink, |ticket| {
            let at = self.held.block_at(id) + offset;
            Landing::Block(Landed {
                number: self.number,
                from: speaker.id,
                block: id,
                ticket,
                offset,
                len,
                at,
            })
        }))
    }
}

fn header(
    kind: FrameKind,
    number: SyncNumber,
    tag: u64,
    chunk: u32,
    offset: usize,
    len: usize,
) -> FrameHeader {
    let key = OpKey { epoch: Epoch(number.0), tag: Tag(tag), seq: 0 };
    FrameHeader { kind, key, digest: 0, chunk, piece: 0, offset: offset as u32, len: len as u32 }
}

/// There is something for this peer.
fn wake(peer: PeerId, cx: &mut Context) {
    if let Some(slot) = cx.peers.find(peer) {
        cx.peers.mark_dirty(slot);
    }
}
