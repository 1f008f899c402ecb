//! Quantized pieces on their way: what travels lies in the piece's own place in the result, and so needs no memory besides.
//!
//! A sum gives way to what it travels as when it is about to leave; the finished piece arrives as it travels, leaves for
//! the children as it came, and gives way to its elements when the last of them has it. The place is free meanwhile:
//! what stands in `docs/SCHEDULES.md` about memory still to be sent goes for both forms alike.

use super::context::Context;
use super::op::Op;
use super::piece::{Direction, Item, Stage};

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
            if let (Some(own), result) = self.buffers.own_and_result_mut(at, len) {
                let wire_bytes = self.coding.wire_bytes(len);
                return codec.encode(own, &mut result[..wire_bytes]);
            }
        }
        codec.encode_in_place(self.buffers.result_mut(at, len));
    }

    /// The owner's sum is complete: from here on it is what travels, here too.
    pub(super) fn encode_result(&mut self, chunk: u32, piece: u32) {
        if let Some(codec) = self.coding.codec {
            let (at, len) = self.span(&Item { direction: Direction::Broadcast, chunk, piece });
            codec.encode_in_place(self.buffers.result_mut(at, len));
        }
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
