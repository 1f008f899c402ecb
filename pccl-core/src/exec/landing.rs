//! What arrives: where a segment goes, and what its landing sets free.

use crc32fast::Hasher;

use super::context::Context;
use super::fault::Fault;
use super::op::Op;
use super::piece::{Direction, Item, Stage, Target};
use super::probe::Probed;
use super::sync::Landed;
use crate::kernel;
use crate::kernel::quant::{self, Codec, MAX_BLOCK_WIRE_BYTES, Unfinished};
use crate::mem::Pool;
use crate::plan::turn_of_child;
use crate::types::{LinkId, OpKey, PeerId, Rank, ReduceOp};
use crate::wire::frame::{FrameHeader, FrameKind};

/// Where a segment's payload goes.
pub(super) enum Landing {
    /// Nobody wants it any more.
    Sink,
    /// A contribution whose turn it is: each part is added as it arrives, and counts when the check has passed.
    Sum(Sum),
    /// A contribution ahead of its turn: waits in its window, which is `bytes`.
    Window { target: Target, bytes: Vec<u8> },
    /// A finished value: lands where it stays.
    Result { target: Target },
    /// A whole contribution of the peer in this slot: where it goes is decided once it is here.
    Eager { peer: usize, digest: u32, bytes: Vec<u8> },
    /// A part of a block of a shared state: lands where it stays.
    Block(Landed),
    /// Of a measurement: counted and dropped.
    Probe(Probed),
    /// Asks or digests of a shared state.
    Note { from: PeerId, header: FrameHeader, bytes: Vec<u8> },
}

/// A segment under way into the sum.
pub(super) struct Sum {
    pub target: Target,
    crc: Hasher,
    /// The first bytes of a unit that was cut.
    carry: Vec<u8>,
    added: usize,
}

/// Memory that stays hot in the cache: parts of contributions pass through it into their sums.
pub(super) struct Hot(Vec<u8>);

/// Where parts begin: a line of the cache, with room for a cut unit before it.
const HOT_AT: usize = MAX_BLOCK_WIRE_BYTES.next_multiple_of(64);

impl Hot {
    pub fn new(segment_bytes: usize) -> Hot {
        Hot(vec![0; HOT_AT + segment_bytes])
    }

    pub fn place(&mut self, len: usize) -> &mut [u8] {
        &mut self.0[HOT_AT..HOT_AT + len]
    }
}

impl Landing {
    pub fn target(&self) -> Option<&Target> {
        match self {
            Landing::Sink
            | Landing::Eager { .. }
            | Landing::Block(_)
            | Landing::Note { .. }
            | Landing::Probe(_) => None,
            Landing::Sum(Sum { target, .. }) => Some(target),
            Landing::Window { target, .. } | Landing::Result { target } => Some(target),
        }
    }

    pub fn release(self, windows: &mut Pool) {
        if let Landing::Window { bytes, .. } = self {
            windows.give(bytes);
        }
    }
}

impl Sum {
    fn new(target: Target) -> Sum {
        Sum { target, crc: Hasher::new(), carry: Vec::new(), added: 0 }
    }

    pub fn crc32(&self) -> u32 {
        self.crc.clone().finalize()
    }
}

/// Whether a contribution's turn has come.
enum Due {
    Now,
    Later,
}

impl Op {
    /// Decides where a segment goes, from its header alone.
    pub fn accept(
        &mut self,
        from: Rank,
        header: &FrameHeader,
        link: LinkId,
        cx: &mut Context,
    ) -> Result<Landing, Fault> {
        let FrameHeader { key, chunk, piece, offset, len, .. } = *header;
        if header.digest != self.view.digest {
            return Err(Fault::Digest { key, expected: self.view.digest, found: header.digest });
        }
        let (_, index) = self.locate(header)?;
        let direction = match header.kind {
            FrameKind::Broadcast => Direction::Broadcast,
            _ => Direction::Reduce,
        };
        let item = Item { direction, chunk, piece };
        let (turn, due) = self.check_sender(from, &item, key)?;
        let (at, elements_len) = self.span(&item);
        let piece_len = self.coding.wire_bytes(elements_len);
        let state = &mut self.pieces[index];
        let (expected, carrier, spoiled) = match (self.windows.parked(index, turn), &due) {
            (Some(parked), _) => (parked.got, parked.carrier, parked.spoiled),
            (None, Due::Now) => (state.got, state.carrier.unwrap_or(link), state.spoiled),
            (None, Due::Later) => (0, link, false),
        };
        if spoiled {
            return Err(Fault::Spoiled { key, chunk, piece });
        }
        let end = offset as usize + len as usize;
        let whole_units = (len as usize).is_multiple_of(self.coding.unit_bytes()) || end == piece_len;
        if offset != expected || !whole_units || end > piece_len {
            return Err(Fault::Offset { key, offset, len, expected });
        }
        if carrier != link {
            return Err(Fault::TwoConnections { key, chunk, piece });
        }
        let (offset, len) = (offset as usize, len as usize);
        let target = Target { op: self.slot, item, at: at + offset, offset, len, turn };
        let landing = match due {
            Due::Now => {
                state.carrier = Some(link);
                // What is quantized has its place at the piece's beginning, and its elements all over it.
                let end = if self.coding.is_plain() { end } else { elements_len };
                self.save(index, at, end, cx);
                match direction {
                    Direction::Broadcast => Landing::Result { target },
                    Direction::Reduce => Landing::Sum(Sum::new(target)),
                }
            }
            Due::Later => {
                let parked = self.windows.parked_mut(index, turn, link);
                let bytes = parked.bytes.take().unwrap_or_else(|| cx.windows.take(piece_len));
                Landing::Window { target, bytes }
            }
        };
        self.meet(from, cx);
        Ok(landing)
    }

    /// In place, the input of a piece that is about to be overwritten up to `end` is kept. While it is hot: what saves
    /// it reads what will be added to, or fetches what will be written.
    pub(super) fn save(&mut self, index: usize, at: usize, end: usize, cx: &mut Context) {
        let before = self.pieces[index].saved as usize;
        if self.buffers.in_place() && before < end {
            self.pieces[index].saved = end as u32;
            let (whole, (at, len)) = (self.buffers.len(), (at + before, end - before));
            self.saved.save(&mut cx.saves, whole, at, self.buffers.result(at, len));
            cx.counters.bytes_copied += len as u64;
        }
    }

    /// Whether `from` may send this piece now, and which turn that is. A finished value may come only after our own
    /// contribution has left: it lands in the same memory.
    fn check_sender(&self, from: Rank, item: &Item, key: OpKey) -> Result<(u16, Due), Fault> {
        let Item { chunk, piece, direction } = *item;
        let view = &self.view.chunks[chunk as usize];
        let state = &self.pieces[self.index(chunk, piece)];
        let not_granted = Err(Fault::NotGranted { key, chunk, piece });
        match direction {
            Direction::Broadcast if view.broadcast_parent != Some(from) => {
                Err(Fault::WrongSender { key, chunk })
            }
            Direction::Broadcast if state.stage != Stage::Sent => not_granted,
            Direction::Broadcast => Ok((state.turn, Due::Now)),
            Direction::Reduce => {
                let children = &view.reduce_children;
                let Some(child) = children.iter().position(|rank| *rank == from) else {
                    return Err(Fault::WrongSender { key, chunk });
                };
                let turn = turn_of_child(children.len(), piece, child) as u16;
                let held = self.partners[usize::from(from)].held.contains(&(chunk, piece));
                if state.stage != Stage::Summing || held {
                    not_granted
                } else if turn == state.turn {
                    Ok((turn, Due::Now))
                } else if turn > state.turn && state.is_ahead(turn) {
                    Ok((turn, Due::Later))
                } else {
                    not_granted
                }
            }
        }
    }

    /// Adds the part of a contribution that has just been read into `hot`.
    pub fn add_part(&mut self, sum: &mut Sum, hot: &mut Hot, read: usize, cx: &mut Context) {
        let (from, to) = (HOT_AT - sum.carry.len(), HOT_AT + read);
        sum.crc.update(&hot.0[HOT_AT..to]);
        hot.0[from..HOT_AT].copy_from_slice(&sum.carry);
        let Target { item: Item { chunk, piece, .. }, offset, len, .. } = sum.target;
        // The segment's end is the end of a unit.
        let ends = sum.added + (to - from) == len;
        let cut = if ends { 0 } else { (to - from) % self.coding.unit_bytes() };
        let whole = &hot.0[from..to - cut];
        self.add(chunk, piece, offset + sum.added, whole, cx);
        sum.added += whole.len();
        sum.carry.clear();
        sum.carry.extend_from_slice(&hot.0[to - cut..to]);
    }

    /// Adds whole units of the contribution whose turn it is, from `offset` on in the piece as it travels.
    fn add(&mut self, chunk: u32, piece: u32, offset: usize, bytes: &[u8], cx: &mut Context) {
        // Most reads of a slow link end no block.
        if bytes.is_empty() {
            return;
        }
        let index = self.index(chunk, piece);
        let turn = self.pieces[index].turn;
        let (piece_at, piece_len) = self.span(&Item { direction: Direction::Reduce, chunk, piece });
        let elements = self.coding.elements_of(offset..offset + bytes.len(), piece_len);
        let (at, len) = (piece_at + elements.start, elements.len());
        let view = &self.view.chunks[chunk as usize];
        let last = usize::from(turn) + 1 == view.reduce_children.len();
        // At the owner, sums become results while they are hot in the cache.
        let is_average = last && view.reduce_parent.is_none() && self.reduce == ReduceOp::Avg;
        cx.counters.bytes_reduced += len as u64;
        if let (true, Some(codec), false) = (last, self.coding.codec, self.buffers.has_feedback()) {
            // What is kept of it is what travels, and that at once.
            self.pieces[index].encoded = true;
            let (own, place) = self.buffers.own_and_result_mut(piece_at, piece_len);
            let before = own.filter(|_| turn == 0);
            let divide_by = is_average.then_some(self.view.world_size.into());
            return codec.encode_sum(
                self.reduce,
                Unfinished { piece: place, before, divide_by },
                elements,
                bytes,
            );
        }
        match self.coding.codec {
            Some(codec) if self.buffers.has_feedback() => {
                self.add_keeping(codec, at, bytes, len, turn, cx);
                if last {
                    self.add_residual(at, len);
                }
            }
            _ => match self.buffers.own_and_result_mut(at, len) {
                (Some(own), sum) if turn == 0 => self.coding.reduce_pair(self.reduce, sum, own, bytes),
                (_, sum) => self.coding.reduce_into(self.reduce, sum, bytes),
            },
        }
        if is_average {
            let (dtype, world_size) = (self.coding.dtype, u64::from(self.view.world_size));
            match self.buffers.result_and_residual_mut(at, len) {
                (sum, Some(residual)) => quant::finish_average_keeping(dtype, sum, residual, world_size),
                (sum, None) => kernel::finish_average(dtype, sum, world_size),
            }
        }
    }

    /// With error feedback: what the sum loses joins the residual.
    fn add_keeping(
        &mut self,
        codec: Codec,
        at: usize,
        bytes: &[u8],
        len: usize,
        turn: u16,
        cx: &mut Context,
    ) {
        if turn == 0 {
            self.save_residual(at, len, cx);
            if let (Some(own), sum) = self.buffers.own_and_result_mut(at, len) {
                sum.copy_from_slice(own);
                cx.counters.bytes_copied += len as u64;
            }
        }
        if let (sum, Some(residual)) = self.buffers.result_and_residual_mut(at, len) {
            codec.add_keeping(sum, bytes, residual);
        }
    }

    /// Counts a segment that was added and has passed its check.
    pub fn sum_landed(&mut self, target: &Target, cx: &mut Context) {
        if self.landed(target) {
            self.end_turn(target.item.chunk, target.item.piece, cx);
        }
    }

    /// A segment was void: whoever sent it has given up the operation, and sends no more of this piece. Its bytes may
    /// be in the sum, so it must not begin anew; the operation waits for its end, which the master decides.
    pub fn spoil(&mut self, target: &Target) {
        let index = self.index(target.item.chunk, target.item.piece);
        self.pieces[index].spoiled = true;
    }

    /// The same for a contribution ahead of its turn; its memory is free.
    pub fn spoil_window(&mut self, target: &Target, bytes: Vec<u8>, cx: &mut Context) {
        let index = self.index(target.item.chunk, target.item.piece);
        if let Some(carrier) = self.windows.parked(index, target.turn).map(|parked| parked.carrier) {
            self.windows.parked_mut(index, target.turn, carrier).spoiled = true;
        }
        cx.windows.give(bytes);
    }

    /// Takes back a window that a link has read into; its bytes have passed their check. Its turn may have come.
    pub fn window_landed(&mut self, target: &Target, bytes: Vec<u8>, cx: &mut Context) {
        let Target { item: Item { chunk, piece, .. }, offset, len, turn, .. } = *target;
        let index = self.index(chunk, piece);
        let Some(carrier) = self.windows.parked(index, turn).map(|parked| parked.carrier) else { return };
        let parked = self.windows.parked_mut(index, turn, carrier);
        parked.bytes = Some(bytes);
        parked.got = (offset + len) as u32;
        self.traffic.rx_bytes += len as u64;
        if self.pieces[index].turn == turn && self.unpark(chunk, piece, cx) {
            self.end_turn(chunk, piece, cx);
        }
    }

    /// Counts a segment of a finished piece that passed its check. Its bytes are in place already.
    pub fn final_landed(&mut self, target: &Target, cx: &mut Context) {
        if self.landed(target) {
            let Item { chunk, piece, .. } = target.item;
            cx.counters.pieces_received += 1;
            self.finalize(chunk, piece, cx);
        }
    }

    /// Books a segment; true if the piece has come to its end.
    fn landed(&mut self, target: &Target) -> bool {
        let (_, elements_len) = self.span(&target.item);
        let piece_len = self.coding.wire_bytes(elements_len);
        let index = self.index(target.item.chunk, target.item.piece);
        self.traffic.rx_bytes += target.len as u64;
        self.pieces[index].got = (target.offset + target.len) as u32;
        target.offset + target.len == piece_len
    }

    /// A contribution has landed whole: the next one's turn, and that of all after it that are here.
    fn end_turn(&mut self, chunk: u32, piece: u32, cx: &mut Context) {
        let index = self.index(chunk, piece);
        loop {
            cx.counters.pieces_received += 1;
            let state = &mut self.pieces[index];
            let had_window = state.is_ahead(state.turn);
            (state.got, state.carrier, state.turn) = (0, None, state.turn + 1);
            let turn = state.turn;
            if had_window {
                self.windows.give_back(&self.view, chunk, piece);
            }
            let view = &self.view.chunks[chunk as usize];
            if usize::from(turn) == view.reduce_children.len() {
                match view.reduce_parent {
                    None => {
                        self.encode_result(chunk, piece);
                        self.finalize(chunk, piece, cx);
                    }
                    Some(_) => self.summed(chunk, piece, cx),
                }
                break;
            }
            if !self.pieces[index].is_ahead(turn) {
                self.grant_turn(chunk, piece, usize::from(turn), cx);
            }
            if !self.unpark(chunk, piece, cx) {
                break;
            }
        }
        self.widen(cx);
    }

    /// Adds what is parked of the contribution whose turn it is; true if that is all of it.
    fn unpark(&mut self, chunk: u32, piece: u32, cx: &mut Context) -> bool {
        let index = self.index(chunk, piece);
        let Some((bytes, parked)) = self.windows.unpark(index, self.pieces[index].turn) else { return false };
        let got = parked.got as usize;
        let (_, elements_len) = self.span(&Item { direction: Direction::Reduce, chunk, piece });
        self.add(chunk, piece, 0, &bytes[..got], cx);
        cx.counters.bytes_parked += got as u64;
        cx.windows.give(bytes);
        (self.pieces[index].got, self.pieces[index].carrier) = (parked.got, Some(parked.carrier));
        got == self.coding.wire_bytes(elements_len)
    }
}
