//! An operation under way, whatever its schedule: what links and tables need of it.

use super::context::Context;
use super::engine::{OpStart, OpTraffic};
use super::fault::Fault;
use super::op::Op;
use super::piece::Item;
use super::small::Small;
use crate::limits::MAX_EAGER_FRAME_BYTES;
use crate::mem::Buffers;
use crate::plan::Schedule;
use crate::types::{OpKey, PeerId, Rank};
use crate::wire::frame::FrameHeader;

pub(super) enum Running {
    Forest(Op),
    Small(Small),
}

impl Running {
    pub fn new(slot: usize, start: OpStart, cx: &mut Context) -> Running {
        match start.view.schedule {
            Schedule::Small => Running::Small(Small::new(slot, start, cx)),
            _ => Running::Forest(Op::new(slot, start, cx)),
        }
    }

    pub fn key(&self) -> OpKey {
        match self {
            Running::Forest(op) => op.key,
            Running::Small(op) => op.key,
        }
    }

    /// Pieces and their places are a forest's alone.
    pub fn forest(&self) -> &Op {
        let Running::Forest(op) = self else { unreachable!("only a forest hands out places") };
        op
    }

    pub fn forest_mut(&mut self) -> &mut Op {
        let Running::Forest(op) = self else { unreachable!("only a forest hands out places") };
        op
    }

    #[cfg(feature = "seeded-bugs")]
    pub fn digest(&self) -> u32 {
        match self {
            Running::Forest(op) => op.digest(),
            Running::Small(op) => op.digest,
        }
    }

    pub fn rank_of(&self, peer: PeerId) -> Option<Rank> {
        match self {
            Running::Forest(op) => op.rank_of(peer),
            Running::Small(op) => op.rank_of(peer),
        }
    }

    /// The slots of the other peers of the group.
    pub fn peer_slots(&self) -> Vec<usize> {
        match self {
            Running::Forest(op) => op.peer_slots().collect(),
            Running::Small(op) => op.peer_slots().collect(),
        }
    }

    pub fn begin(&mut self, cx: &mut Context) {
        match self {
            Running::Forest(op) => {
                for peer in op.peer_slots() {
                    // Of another plan, as it is no small operation here: the master decides.
                    cx.peers.early(peer).take_parked(op.key);
                }
                op.begin(cx);
            }
            Running::Small(op) => op.begin(cx),
        }
    }

    pub fn halt(&mut self) {
        match self {
            Running::Forest(op) => op.halt(),
            Running::Small(op) => op.halt(),
        }
    }

    /// It keeps no more contributions.
    pub fn leave_room(&mut self, cx: &mut Context) {
        if let Running::Small(op) = self {
            op.leave_room(cx);
        }
    }

    pub fn granted(&mut self, rank: Rank, header: &FrameHeader, cx: &mut Context) -> Result<(), Fault> {
        match self {
            Running::Forest(op) => op.granted(rank, header, cx),
            Running::Small(op) => op.granted(rank, header, cx),
        }
    }

    /// Whether a whole contribution is wanted.
    pub fn expects(&mut self, rank: Rank, header: &FrameHeader, cx: &mut Context) -> Result<bool, Fault> {
        match self {
            Running::Forest(op) if header.digest == op.digest() => {
                Err(Fault::EagerToForest { key: header.key })
            }
            Running::Forest(_) => Ok(false),
            Running::Small(op) => op.expects(rank, header, cx),
        }
    }

    /// Memory untouched by a planted bug only if `pieces_to_forget` is 0.
    pub fn stop(self, pieces_to_forget: usize, cx: &mut Context) -> Buffers {
        match self {
            Running::Forest(Op { mut buffers, saved, saved_residual, .. }) => {
                cx.counters.bytes_copied += saved.bytes() + saved_residual.bytes();
                for (at, span) in saved.spans().skip(pieces_to_forget) {
                    buffers.result_mut(at, span.len()).copy_from_slice(span);
                }
                for (at, span) in saved_residual.spans() {
                    if let (_, Some(residual)) = buffers.result_and_residual_mut(at, span.len()) {
                        residual.copy_from_slice(span);
                    }
                }
                saved.release(&mut cx.saves);
                saved_residual.release(&mut cx.saves);
                buffers
            }
            Running::Small(op) => op.stop(pieces_to_forget > 0, cx),
        }
    }

    pub fn finish(self, cx: &mut Context) -> (Buffers, OpTraffic) {
        match self {
            Running::Forest(Op { buffers, saved, saved_residual, traffic, .. }) => {
                saved.release(&mut cx.saves);
                saved_residual.release(&mut cx.saves);
                (buffers, traffic)
            }
            Running::Small(op) => op.finish(),
        }
    }
}

/// What leaves.
impl Running {
    /// The next piece for `rank`, whose turn it is, with its place in the payload and its length on the wire.
    pub fn next_item(&mut self, rank: Rank, cx: &mut Context) -> Option<(Item, usize, usize)> {
        match self {
            Running::Forest(op) => {
                let item = op.next_item(rank, cx)?;
                let (at, len) = op.span(&item);
                Some((item, at, op.coding.wire_bytes(len)))
            }
            Running::Small(op) => Some((op.next_item(rank), 0, op.wire_bytes())),
        }
    }

    /// The most that one frame may hold of it, on a link whose frames hold `of_link` bytes.
    pub fn segment_bytes(&self, of_link: usize) -> usize {
        match self {
            Running::Forest(op) => op.coding.segment_bytes(of_link),
            Running::Small(_) => MAX_EAGER_FRAME_BYTES,
        }
    }

    pub fn header(&self, item: &Item, offset: usize, len: usize) -> FrameHeader {
        match self {
            Running::Forest(op) => op.header(item, offset, len),
            Running::Small(op) => op.eager_header(len),
        }
    }

    /// The memory a piece is sent from.
    pub fn payload(&self, item: &Item, at: usize, len: usize) -> &[u8] {
        match self {
            Running::Forest(op) => op.payload(item, at, len),
            Running::Small(op) => op.payload(at, len),
        }
    }

    /// The links have taken so many bytes more of a piece.
    pub fn moved(&mut self, len: usize) {
        let traffic = match self {
            Running::Forest(op) => &mut op.traffic,
            Running::Small(op) => &mut op.traffic,
        };
        traffic.tx_bytes += len as u64;
    }

    /// The links have taken the whole piece.
    pub fn sent(&mut self, item: &Item, cx: &mut Context) {
        match self {
            Running::Forest(op) => {
                op.sent(item, cx);
                cx.counters.pieces_sent += 1;
            }
            Running::Small(_) => cx.counters.eager_sent += 1,
        }
    }
}
