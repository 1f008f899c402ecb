//! Quantized pieces on their way: what travels lies in the piece's own place in the result, and so needs no memory besides.
//!
//! A sum gives way to what it travels as when it is about to leave; the finished piece arrives as it travels, leaves for
//! the children as it came, and gives way to its elements when the last of them has it. The place is free meanwhile:
//! what stands in `docs/SCHEDULES.md` about memory still to be sent goes for both forms alike.

use std::ops::Range;

use super::context::Context;
use super::op::Op;
use super::piece::{Direction, Item, Stage};
use crate::kernel;
use crate::kernel::quant::Errors;
use crate::types::ReduceOp;

impl Op {
    /// Before a contribution leaves: makes it what travels.
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
            self.add_residual(&(at..at + len));
        }
        self.encode_span(at, len, 1, cx);
    }

    /// What stands in the result gives way to what travels; `times` as much as is lost by it is the residual now.
    fn encode_span(&mut self, at: usize, len: usize, times: u64, cx: &mut Context) {
        let Some(codec) = self.coding.codec else { return };
        let whole = self.buffers.len();
        match self.buffers.result_and_residual_mut(at, len) {
            (span, None) => codec.encode_in_place(span),
            (span, Some(kept)) => {
                self.saved_residual.save(&mut cx.saves, whole, at, kept);
                cx.counters.bytes_copied += len as u64;
                codec.encode_in_place_with_errors(span, Errors { kept, times })
            }
        };
    }

    /// Adds what was lost before to this peer's elements, which stand in the result, or are in its sum. Before they are
    /// encoded here, as the residual changes with that.
    pub(super) fn add_residual(&mut self, elements: &Range<usize>) {
        if let (sum, Some(residual)) = self.buffers.result_and_residual_mut(elements.start, elements.len()) {
            kernel::reduce_into(ReduceOp::Sum, self.coding.dtype, sum, residual);
        }
    }

    /// The owner's sum is complete: from here on it is what travels, here too.
    pub(super) fn encode_result(&mut self, chunk: u32, piece: u32, cx: &mut Context) {
        let (at, len) = self.span(&Item { direction: Direction::Broadcast, chunk, piece });
        // What an average is off by, a sum must make good so many times.
        let times = if self.reduce == ReduceOp::Avg { self.view.world_size.into() } else { 1 };
        self.encode_span(at, len, times, cx);
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
