//! What a frame means: which operation it belongs to, where its payload goes, what it sets free.

use super::context::Context;
use super::engine::EngineConfig;
use super::fault::Fault;
use super::ops::{Lookup, Ops};
use super::piece::Direction;
use super::rx::{Landing, Segment, Speaker};
use super::tx::Outgoing;
use crate::types::Rank;
use crate::wire::frame::{FrameHeader, TRAILER_BYTES, Trailer};

/// The engine without its links.
pub(super) struct Core {
    pub ops: Ops,
    pub cx: Context,
    sink: Vec<u8>,
}

impl Core {
    pub fn new(config: EngineConfig) -> Core {
        Core { ops: Ops::default(), cx: Context::new(config), sink: Vec::new() }
    }

    /// A place for bytes that nobody wants.
    pub fn sink(&mut self, len: usize) -> &mut [u8] {
        if self.sink.len() < len {
            self.sink.resize(len, 0);
        }
        &mut self.sink[..len]
    }

    /// The next piece for this peer, of the operation whose turn it is.
    pub fn next_piece(&mut self, peer: usize) -> Option<Outgoing> {
        let (slot, to) = self.cx.peers.take_turn(peer)?;
        let op = self.ops.get_mut(slot);
        let item = op.next_item(to, &mut self.cx)?;
        let (at, len) = op.span(&item);
        Some(Outgoing { op: slot, item, at, len, offset: 0 })
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
        let is_grant = header.kind.is_grant();
        let landing = match (self.find(speaker, &header)?, is_grant) {
            (Found::Stale, _) => {
                self.cx.counters.stale_frames += 1;
                Landing::Sink
            }
            (Found::Ahead, true) => {
                self.cx.peers.keep_early(speaker.peer, header)?;
                Landing::Sink
            }
            (Found::Ahead, false) => return Err(Fault::UnknownOp { key }),
            (Found::Running(slot, rank), true) => {
                self.ops.get_mut(slot).granted(rank, &header, &mut self.cx)?;
                Landing::Sink
            }
            (Found::Running(slot, rank), false) => {
                let target = self.ops.get_mut(slot).accept(rank, &header, speaker.link, &mut self.cx)?;
                match target.item.direction {
                    Direction::Broadcast => Landing::Result { target },
                    Direction::Reduce => Landing::Scratch { target, bytes: self.cx.scratch.take(target.len) },
                }
            }
        };
        if is_grant {
            self.cx.counters.grants_received += 1;
            return Ok(None);
        }
        Ok(Some(Segment { key, len: header.len as usize, got: 0, landing }))
    }

    /// A payload is here with its trailer: counts if it is sound.
    pub fn end_segment(&mut self, segment: Segment, trailer: &[u8; TRAILER_BYTES]) -> Result<(), Fault> {
        let verdict = match &segment.landing {
            Landing::Sink => return Ok(()),
            Landing::Scratch { bytes, .. } => check(&segment, trailer, &bytes[..segment.len]),
            Landing::Result { target } => {
                let landed = self.ops.get(target.op).buffers.result(target.at, target.len);
                check(&segment, trailer, landed)
            }
        };
        match (&verdict, &segment.landing) {
            (Ok(true), Landing::Scratch { target, bytes }) => {
                let op = self.ops.get_mut(target.op);
                op.land_contribution(target, &bytes[..segment.len], &mut self.cx);
            }
            (Ok(true), Landing::Result { target }) => {
                self.ops.get_mut(target.op).land_final(target, &mut self.cx);
            }
            (Ok(false), _) => self.cx.counters.voids_received += 1,
            _ => {}
        }
        segment.landing.release(&mut self.cx.scratch);
        verdict.map(|_| ())
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
            Some(op) => FrameHeader { key: op.key, digest: op.digest(), ..header },
            None => header,
        }
    }
}

enum Found {
    /// Slot of the operation, and the speaker's rank there.
    Running(usize, Rank),
    Stale,
    Ahead,
}

/// Whether the payload is sound; false if the sender made it void.
fn check(segment: &Segment, trailer: &[u8; TRAILER_BYTES], payload: &[u8]) -> Result<bool, Fault> {
    let trailer = Trailer::decode(trailer)?;
    if trailer.void {
        return Ok(false);
    }
    let found = crc32fast::hash(payload);
    if found == trailer.crc32 {
        Ok(true)
    } else {
        Err(Fault::Damaged { key: segment.key, expected: trailer.crc32, found })
    }
}
