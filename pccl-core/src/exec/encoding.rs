//! Quantized pieces on their way: what travels lies in the piece's own place in the result, and so needs no memory besides.
//!
//! A sum gives way to what it travels as with the last contribution, block by block and without ever standing there itself;
//! with error feedback, and where there is nothing to add, when it is about to leave. The finished piece arrives as it
//! travels, leaves for the children as it came, and gives way to its elements when the last of them has it. The place is
//! free meanwhile: what stands in `docs/SCHEDULES.md` about memory still to be sent goes for both forms alike.

use super::context::Context;
use super::op::Op;
use super::piece::{Direction, Item, Stage};
use crate::kernel::quant::{self, Errors};
use crate::types::ReduceOp;

impl Op {
    /// Before a contribution leaves: makes it what travels, unless it is.
    pub(super) fn encode_sum(&mut self, item: &Item, cx: &mut Context) {
        let Some(codec) = self.coding.codec else { return };
        let index = self.index(item.chunk, item.piece);
        if item.direction != Direction::Reduce || std::mem::replace(&mut self.pieces[index].encoded, true) {
            return;
        }
        let (at, len) = self.span(item);
        let is_leaf = self.view.chunks[item.chunk as usize].reduce_children.is_empty();
        if is_leaf {
            self.save(index, at, len, cx);
            let has_feedback = self.buffers.has_feedback();
            match self.buffers.own_and_result_mut(at, len) {
                (Some(own), result) if has_feedback => result.copy_from_slice(own),
                (Some(own), result) => {
                    let wire_bytes = self.coding.wire_bytes(len);
                    return codec.encode(own, &mut result[..wire_bytes]);
                }
                (None, _) => {}
            }
            self.save_residual(at, len, cx);
            self.add_residual(at, len);
        }
        self.encode_span(at, len, 1);
    }

    /// What stands in the result gives way to what travels; `times` as much as is lost by it joins the residual.
    fn encode_span(&mut self, at: usize, len: usize, times: u64) {
        let Some(codec) = self.coding.codec else { return };
        match self.buffers.result_and_residual_mut(at, len) {
            (span, None) => codec.encode_in_place(span),
            (span, Some(kept)) => codec.encode_in_place_with_errors(span, Errors { kept, times }),
        };
    }

    /// Before anything is done to this part of the residual: an abort puts it back.
    pub(super) fn save_residual(&mut self, at: usize, len: usize, cx: &mut Context) {
        let whole = self.buffers.len();
        if let (_, Some(residual)) = self.buffers.result_and_residual_mut(at, len) {
            self.saved_residual.save(&mut cx.saves, whole, at, residual);
            cx.counters.bytes_copied += len as u64;
        }
    }

    /// Adds what is owed to the sum that stands in the result, of this peer's own elements and all contributions: what is
    /// finite without it stays finite. What is lost by it is owed from here on.
    pub(super) fn add_residual(&mut self, at: usize, len: usize) {
        if let (sum, Some(residual)) = self.buffers.result_and_residual_mut(at, len) {
            quant::add_owed(self.coding.dtype, sum, residual);
        }
    }

    /// The owner's sum is complete: from here on it is what travels, here too.
    pub(super) fn encode_result(&mut self, chunk: u32, piece: u32) {
        let index = self.index(chunk, piece);
        if std::mem::replace(&mut self.pieces[index].encoded, true) {
            return;
        }
        let (at, len) = self.span(&Item { direction: Direction::Broadcast, chunk, piece });
        // What an average is off by, a sum must make good so many times.
        let times = if self.reduce == ReduceOp::Avg { self.view.world_size.into() } else { 1 };
        self.encode_span(at, len, times);
    }

    /// A finished piece that no child needs any more becomes its elements.
    pub(super) fn decode_result(&mut self, chunk: u32, piece: u32) {
        debug_assert_eq!(self.pieces[self.index(chunk, piece)].stage, Stage::Final);
        if let Some(codec) = self.coding.codec {
            let (at, len) = self.span(&Item { direction: Direction::Broadcast, chunk, piece });
            codec.decode_in_place(self.buffers.result_mut(at, len));
        }
    }
}
