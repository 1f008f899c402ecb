//! The receiving half of a link: bytes to frames to memory. Payload is read straight to where it belongs,
//! and nothing beyond a frame's header is ever read before the header was understood.

use std::io::IoSliceMut;

use crc32fast::Hasher;

use super::fault::Fault;
use super::frames::Core;
use super::landing::Landing;
use super::link::{Link, LinkIo};
use crate::limits::HOT_BYTES;
use crate::mem::Pool;
use crate::types::{LinkId, OpKey, PeerId, Rank};
use crate::wire::frame::{FRAME_HEADER_BYTES, FrameHeader, TRAILER_BYTES};

const CONTROL_BYTES: usize = TRAILER_BYTES + FRAME_HEADER_BYTES;

/// Who speaks on a link, and of which operation it spoke last.
#[derive(Debug)]
pub(super) struct Speaker {
    pub link: LinkId,
    pub id: PeerId,
    /// Its slot among the peers.
    pub peer: usize,
    /// Key and slot of the operation, and the peer's rank there: spares the look-up for most frames.
    pub last: Option<(OpKey, usize, Rank)>,
}

/// A frame's payload under way.
pub(super) struct Segment {
    pub key: OpKey,
    pub len: usize,
    pub got: usize,
    /// Of what has landed where it stays, summed while it is hot. A sum has its own, other landings are short.
    pub crc: Hasher,
    pub landing: Landing,
}

impl Segment {
    pub fn new(header: &FrameHeader, landing: Landing) -> Segment {
        Segment { key: header.key, len: header.len as usize, got: 0, crc: Hasher::new(), landing }
    }
}

pub(super) struct Rx {
    /// The trailer of the frame before, then the next header, so that both come with one read.
    control: [u8; CONTROL_BYTES],
    control_got: usize,
    segment: Option<Segment>,
}

impl Rx {
    /// The first frame has none before it, so no trailer to wait for.
    pub fn new() -> Rx {
        Rx { control: [0; CONTROL_BYTES], control_got: TRAILER_BYTES, segment: None }
    }

    /// One attempt to read.
    pub fn read<L: Link>(&mut self, io: &mut L, core: &mut Core) -> LinkIo {
        let control = &mut self.control[self.control_got..];
        let Some(segment) = self.segment.as_mut().filter(|segment| segment.got < segment.len) else {
            let moved = io.try_read(&mut [IoSliceMut::new(control)]);
            if let LinkIo::Moved(bytes) = moved {
                self.control_got += bytes;
            }
            return moved;
        };
        let rest = segment.len - segment.got;
        // What is added or summed at once is looked at again while it is hot.
        let part = match segment.landing {
            Landing::Sum(_) | Landing::Result { .. } | Landing::Window { .. } => rest.min(HOT_BYTES),
            _ => rest,
        };
        let payload = match &mut segment.landing {
            Landing::Sink | Landing::Probe(_) => core.sink(rest),
            Landing::Sum(_) => core.hot.place(part),
            Landing::Eager { bytes, .. } | Landing::Note { bytes, .. } => {
                &mut bytes[segment.got..segment.len]
            }
            Landing::Block(landed) => core.block_place(landed, segment.got),
            Landing::Window { target, bytes } => &mut bytes[target.offset + segment.got..][..part],
            Landing::Result { target } => {
                core.ops.get_mut(target.op).forest_mut().buffers.result_mut(target.at + segment.got, part)
            }
        };
        let moved = if part < rest {
            io.try_read(&mut [IoSliceMut::new(payload)])
        } else {
            io.try_read(&mut [IoSliceMut::new(payload), IoSliceMut::new(control)])
        };
        if let LinkIo::Moved(bytes) = moved {
            let landed = segment.got..segment.got + bytes.min(part);
            segment.got = landed.end;
            match &mut segment.landing {
                Landing::Result { target } => {
                    let buffers = &core.ops.get(target.op).forest().buffers;
                    segment.crc.update(buffers.result(target.at + landed.start, landed.len()));
                }
                Landing::Window { target, bytes } => {
                    segment.crc.update(&bytes[target.offset + landed.start..target.offset + landed.end]);
                }
                Landing::Sum(sum) => core.add_part(sum, bytes.min(part)),
                Landing::Note { from, header, .. } => {
                    core.syncs.hears_note(*from, header, bytes.min(part), core.cx.now);
                }
                Landing::Probe(probed) => core.probes.heard(probed, bytes.min(part), core.cx.now),
                _ => {}
            }
            self.control_got += bytes.saturating_sub(part);
        }
        moved
    }

    /// Takes up what is complete: a trailer ends its segment, a header begins one.
    pub fn digest(&mut self, speaker: &mut Speaker, core: &mut Core) -> Result<(), Fault> {
        loop {
            if let Some(segment) = &self.segment {
                if segment.got < segment.len || self.control_got < TRAILER_BYTES {
                    return Ok(());
                }
                if let (Some(segment), Some(trailer)) =
                    (self.segment.take(), self.control.first_chunk::<TRAILER_BYTES>())
                {
                    core.end_segment(segment, trailer)?;
                }
            }
            if self.control_got < CONTROL_BYTES {
                return Ok(());
            }
            if let Some(bytes) = self.control.last_chunk::<FRAME_HEADER_BYTES>() {
                self.segment = core.begin_frame(speaker, FrameHeader::decode(bytes)?)?;
            }
            self.control_got = if self.segment.is_some() { 0 } else { TRAILER_BYTES };
        }
    }

    /// Whether what arrives is part of something long.
    pub fn carries_long(&self) -> bool {
        let landing = self.segment.as_ref().map(|segment| &segment.landing);
        matches!(
            landing,
            Some(
                Landing::Block(_)
                    | Landing::Probe(_)
                    | Landing::Sum(_)
                    | Landing::Window { .. }
                    | Landing::Result { .. }
            )
        )
    }

    /// The operation in this slot is over: what still comes of it goes nowhere.
    pub fn forget(&mut self, op: usize, windows: &mut Pool) {
        if let Some(segment) = &mut self.segment
            && segment.landing.target().is_some_and(|target| target.op == op)
        {
            std::mem::replace(&mut segment.landing, Landing::Sink).release(windows);
        }
    }

    pub fn release(self, windows: &mut Pool) {
        if let Some(segment) = self.segment {
            segment.landing.release(windows);
        }
    }
}
