//! How an operation's elements travel: as they are, or quantized.
//!
//! A piece on the wire is as long as its number of elements says. It is handled in *units*, which no frame cuts: an element,
//! or a block of a codec.

use crate::kernel;
use crate::kernel::quant::Codec;
use crate::types::{DType, OpDescriptor, ReduceOp};

#[derive(Clone, Copy, Debug)]
pub(super) struct Coding {
    pub dtype: DType,
    pub codec: Option<Codec>,
}

impl Coding {
    pub fn of(descriptor: &OpDescriptor) -> Coding {
        let dtype = descriptor.dtype;
        Coding { dtype, codec: Codec::of(dtype, descriptor.quantization) }
    }

    pub fn is_plain(&self) -> bool {
        self.codec.is_none()
    }

    /// What so many bytes of elements take on the wire: never more.
    pub fn wire_bytes(&self, elements_bytes: usize) -> usize {
        let count = (elements_bytes / self.dtype.size_bytes()) as u64;
        self.codec.map_or(elements_bytes, |codec| codec.wire_bytes(count) as usize)
    }

    /// What a unit takes on the wire, but for the last one of a piece.
    pub fn unit_bytes(&self) -> usize {
        self.codec.map_or(self.dtype.size_bytes(), |codec| codec.block_wire_bytes())
    }

    /// What one frame holds, where a link's frames hold so many bytes.
    pub fn segment_bytes(&self, of_link: usize) -> usize {
        match self.codec {
            None => of_link,
            Some(_) => (of_link - of_link % self.unit_bytes()).max(self.unit_bytes()),
        }
    }

    /// Of a piece with so many bytes of elements: those that these bytes of the wire, whole units, stand for.
    pub fn elements_of(&self, wire: std::ops::Range<usize>, piece_bytes: usize) -> std::ops::Range<usize> {
        let Some(codec) = self.codec else { return wire };
        let whole = wire.end == self.wire_bytes(piece_bytes);
        codec.elements_at(wire.start)..if whole { piece_bytes } else { codec.elements_at(wire.end) }
    }

    /// `acc = acc op contribution`, which is as it came.
    pub fn reduce_into(&self, op: ReduceOp, acc: &mut [u8], contribution: &[u8]) {
        match self.codec {
            None => kernel::reduce_into(op, self.dtype, acc, contribution),
            Some(codec) => codec.reduce_into(op, acc, contribution),
        }
    }

    /// `out = own op contribution`.
    pub fn reduce_pair(&self, op: ReduceOp, out: &mut [u8], own: &[u8], contribution: &[u8]) {
        match self.codec {
            None => kernel::reduce_pair(op, self.dtype, out, own, contribution),
            Some(codec) => codec.reduce_pair(op, out, own, contribution),
        }
    }
}
