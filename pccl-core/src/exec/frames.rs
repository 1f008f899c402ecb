//! What a frame means: which operation it belongs to, where its payload goes, what it sets free.

use super::context::Context;
use super::engine::EngineConfig;
use super::fault::Fault;
use super::landing::{Hot, Landing, Sum};
use super::ops::{Lookup, Ops};
use super::probe::{self, Probes};
use super::running::Running;
use super::rx::{Segment, Speaker};
use super::sync::{Answer, Landed, Syncs};
use super::tx::{Outgoing, OutgoingLoad, OutgoingPiece};
use crate::limits::HOT_BYTES;
use crate::types::{LinkId, OpKey, Rank};
use crate::wire::frame::{FrameHeader, FrameKind, TRAILER_BYTES, Trailer};

/// The engine without its links.
pub(super) struct Core {
    pub ops: Ops,
    pub cx: Context,
    pub hot: Hot,
    pub syncs: Syncs,
    pub probes: Probes,
    sink: Vec<u8>,
}

impl Core {
    pub fn new(config: EngineConfig) -> Core {
        let hot = Hot::new(HOT_BYTES);
        Core {
            ops: Ops::default(),
            cx: Context::new(config),
            hot,
            syncs: Syncs::default(),
            probes: Probes::default(),
            sink: Vec::new(),
        }
    }

    /// Gives room to small operations that have waited for it.
    pub fn admit_small(&mut self) {
        while let Some((slot, room)) = self.cx.rooms.next() {
            if let Running::Small(op) = self.ops.get_mut(slot) {
                op.admit(room, &mut self.cx);
            }
        }
    }

    /// A place for bytes that nobody wants.
    pub fn sink(&mut self, len: usize) -> &mut [u8] {
        grown(&mut self.sink, len)
    }

    /// Where a part of a block goes; into the sink, if nobody wants it any more.
    pub fn block_place(&mut self, landed: &Landed, got: usize) -> &mut [u8] {
        match self.syncs.place(landed, got, &self.cx) {
            Some(place) => place,
            None => grown(&mut self.sink, landed.len - got),
        }
    }

    /// The next short thing for this peer: goes before all that is long.
    pub fn next_short(&mut self, peer: usize) -> Option<Outgoing> {
        let (slot, to) = self.cx.peers.take_short(peer)?;
        self.next_piece(slot, to, true)
    }

    fn next_piece(&mut self, slot: usize, to: Rank, is_short: bool) -> Option<Outgoing> {
        let (item, at, len) = self.ops.get_mut(slot).next_item(to, &mut self.cx)?;
        Some(Outgoing::Piece(OutgoingPiece { op: slot, item, at, len, offset: 0, is_short }))
    }

    /// The next other thing for this peer: what we ask of it, then a piece of the operation whose turn it is, then what it
    /// has asked of us. Measurements come last; but their pings and pongs meet nothing else, as programs wait for them.
    pub fn next_outgoing(&mut self, peer: usize, link: LinkId) -> Option<Outgoing> {
        let id = self.cx.peers.id(peer);
        if let Some(note) = self.syncs.next_note(id) {
            return Some(Outgoing::Note(note));
        }
        if let Some((slot, to)) = self.cx.peers.take_turn(peer) {
            return self.next_piece(slot, to, false);
        }
        if let Some(answer) = self.syncs.next_answer(id) {
            return Some(match answer {
                Answer::Block(block) => Outgoing::Block(block),
                Answer::Note(note) => Outgoing::Note(note),
            });
        }
        Some(match self.probes.next(id, peer, link, &mut self.cx)? {
            probe::Item::Note(note) => Outgoing::Note(note),
            probe::Item::Load(header) => Outgoing::Load(OutgoingLoad { to: id, header }),
        })
    }

    /// Takes up a grant, or tells where the payload goes.
    pub fn begin_frame(
        &mut self,
        speaker: &mut Speaker,
        header: FrameHeader,
    ) -> Result<Option<Segment>, Fault> {
        #[cfg(feature = "seeded-bugs")]
        let header = self.mistake_epoch(header);
        let key = header.key;
        if header.kind.is_state() {
            let landing = self.syncs.begin_frame(speaker, &header, &mut self.cx)?;
            return Ok(Some(Segment::new(&header, landing)));
        }
        if header.kind == FrameKind::Probe {
            let landing = Landing::Probe(self.probes.begin_frame(speaker, &header));
            return Ok(Some(Segment::new(&header, landing)));
        }
        let is_grant = header.kind.is_grant();
        // Only who has started an operation speaks of it.
        self.cx.peers.allowance(speaker.peer).met(key);
        if header.kind == FrameKind::Eager {
            let landing = self.begin_eager(speaker, &header)?;
            return Ok(Some(Segment::new(&header, landing)));
        }
        let landing = match (self.find(speaker, &header)?, is_grant) {
            (Found::Stale, _) => {
                self.cx.counters.stale_frames += 1;
                Landing::Sink
            }
            (Found::Ahead, true) => {
                self.cx.peers.early(speaker.peer).keep_grant(header)?;
                Landing::Sink
            }
            (Found::Ahead, false) => return Err(Fault::UnknownOp { key }),
            (Found::Running(slot, rank), true) => {
                self.ops.get_mut(slot).granted(rank, &header, &mut self.cx)?;
                Landing::Sink
            }
            (Found::Running(slot, rank), false) => {
                let Running::Forest(op) = self.ops.get_mut(slot) else {
                    return Err(Fault::PieceOfSmall { key });
                };
                op.accept(rank, &header, speaker.link, &mut self.cx)?
            }
        };
        if is_grant {
            self.cx.counters.grants_received += 1;
            return Ok(None);
        }
        Ok(Some(Segment::new(&header, landing)))
    }

    /// Takes a place for a whole contribution, where it may be wanted.
    fn begin_eager(&mut self, speaker: &mut Speaker, header: &FrameHeader) -> Result<Landing, Fault> {
        let wanted = match self.find(speaker, header)? {
            Found::Stale => {
                self.cx.counters.stale_frames += 1;
                false
            }
            Found::Ahead => self.cx.peers.early(speaker.peer).expect(header)?,
            Found::Running(slot, rank) => self.ops.get_mut(slot).expects(rank, header, &mut self.cx)?,
        };
        let bytes = || vec![0; header.len as usize];
        let (peer, digest) = (speaker.peer, header.digest);
        Ok(if wanted { Landing::Eager { peer, digest, bytes: bytes() } } else { Landing::Sink })
    }

    /// The operation may have been started, or have ended, since the contribution began to arrive.
    fn end_eager(&mut self, key: OpKey, peer: usize, digest: u32, bytes: Option<Vec<u8>>) {
        self.cx.counters.eager_received += u64::from(bytes.is_some());
        match self.ops.lookup(key) {
            Lookup::Running(slot) => {
                if let Running::Small(op) = self.ops.get_mut(slot) {
                    op.contributed(peer, digest, bytes, &mut self.cx);
                }
            }
            Lookup::Ahead => self.cx.peers.early(peer).park(key, bytes),
            Lookup::Stale => {}
        }
    }

    /// Adds the part of a contribution that has just been read into `hot`.
    pub fn add_part(&mut self, sum: &mut Sum, read: usize) {
        let op = self.ops.get_mut(sum.target.op).forest_mut();
        op.add_part(sum, &mut self.hot, read, &mut self.cx);
    }

    /// A payload is here with its trailer: counts if it is sound.
    pub fn end_segment(&mut self, segment: Segment, trailer: &[u8; TRAILER_BYTES]) -> Result<(), Fault> {
        let Segment { key, crc, landing, .. } = segment;
        let crc32 = match &landing {
            Landing::Sink => return Ok(()),
            Landing::Probe(probed) => {
                self.probes.landed(probed, &mut self.cx);
                return Ok(());
            }
            Landing::Block(landed) => match self.syncs.landed_bytes(landed) {
                Some(bytes) => crc32fast::hash(bytes),
                None => {
                    self.syncs.block_sunk(landed, &mut self.cx);
                    return Ok(());
                }
            },
            Landing::Note { bytes, .. } => crc32fast::hash(bytes),
            Landing::Sum(sum) => sum.crc32(),
            Landing::Eager { bytes, .. } => crc32fast::hash(bytes),
            Landing::Window { .. } | Landing::Result { .. } => crc.finalize(),
        };
        let checked = check(key, trailer, crc32);
        if let Landing::Eager { peer, digest, bytes } = landing {
            self.end_eager(key, peer, digest, (checked == Ok(true)).then_some(bytes));
            self.cx.counters.voids_received += u64::from(checked == Ok(false));
            return checked.map(|_| ());
        }
        let sound = checked?;
        self.cx.counters.voids_received += u64::from(!sound);
        match landing {
            Landing::Block(landed) => {
                self.syncs.block_landed(&landed, sound, &mut self.cx);
                return Ok(());
            }
            Landing::Note { from, header, bytes } if sound => {
                return self.syncs.note_landed(from, &header, &bytes, &mut self.cx);
            }
            _ => {}
        }
        let Some(&target) = landing.target() else { return Ok(()) };
        let op = self.ops.get_mut(target.op).forest_mut();
        match landing {
            Landing::Window { bytes, .. } if sound => op.window_landed(&target, bytes, &mut self.cx),
            Landing::Window { bytes, .. } => op.spoil_window(&target, bytes, &mut self.cx),
            _ if !sound => op.spoil(&target),
            Landing::Sum(_) => op.sum_landed(&target, &mut self.cx),
            _ => op.final_landed(&target, &mut self.cx),
        }
        Ok(())
    }

    fn find(&self, speaker: &mut Speaker, header: &FrameHeader) -> Result<Found, Fault> {
        let key = header.key;
        if let Some((last, slot, rank)) = speaker.last
            && last == key
        {
            return Ok(Found::Running(slot, rank));
        }
        match self.ops.lookup(key) {
            Lookup::Stale => Ok(Found::Stale),
            Lookup::Ahead => Ok(Found::Ahead),
            Lookup::Running(slot) => {
                let rank = self.ops.get(slot).rank_of(speaker.id).ok_or(Fault::Stranger { key })?;
                speaker.last = Some((key, slot, rank));
                Ok(Found::Running(slot, rank))
            }
        }
    }

    /// The planted bug: data of an old epoch is taken for the running operation of the same tag.
    #[cfg(feature = "seeded-bugs")]
    fn mistake_epoch(&self, header: FrameHeader) -> FrameHeader {
        let planted = self.cx.config.bug == Some(super::SeededBug::OldEpochAccepted);
        if !planted || header.kind.is_grant() || header.key.epoch >= self.ops.epoch {
            return header;
        }
        match self.ops.by_tag_alone(header.key.tag) {
            Some(op) if matches!(op, Running::Small(_)) == (header.kind == FrameKind::Eager) => {
                FrameHeader { key: op.key(), digest: op.digest(), ..header }
            }
            _ => header,
        }
    }
}

fn grown(bytes: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if bytes.len() < len {
        bytes.resize(len, 0);
    }
    &mut bytes[..len]
}

enum Found {
    /// Slot of the operation, and the speaker's rank there.
    Running(usize, Rank),
    Stale,
    Ahead,
}

/// Whether a payload with this check sum is sound; false if the sender made it void.
fn check(key: OpKey, trailer: &[u8; TRAILER_BYTES], found: u32) -> Result<bool, Fault> {
    let trailer = Trailer::decode(trailer)?;
    if !trailer.void && found != trailer.crc32 {
        return Err(Fault::Damaged { key, expected: trailer.crc32, found });
    }
    Ok(!trailer.void)
}
