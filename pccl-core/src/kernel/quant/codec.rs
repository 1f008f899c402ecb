//! One way to encode elements of one type: how long things are, and spans block by block.

use super::blocks::Way;
use super::feedback;
use crate::kernel::ahead::Ahead;
use crate::kernel::cpu::Cpu;
use crate::kernel::float_mode::StandardFloatMode;
use crate::kernel::{reduce_into_on, reduce_pair_on};
use crate::types::{DType, MAX_BLOCK_ELEMENTS, Quantization, ReduceOp};

/// No block travels as more: 16 bits an element, and two numbers of 64.
pub const MAX_BLOCK_WIRE_BYTES: usize = 2 * MAX_BLOCK_ELEMENTS + 16;

/// How one element travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    U8,
    I8,
    U16,
    I16,
    Bits4,
    E4M3,
    E5M2,
    F16,
    BF16,
}

/// What one operation's elements travel as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    pub(super) dtype: DType,
    quantization: Quantization,
    pub(super) code: Code,
    /// A code stands for 0 exactly.
    pub(super) has_zero: bool,
}

/// Where a block lies: its elements, and what travels, both in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    elements_at: usize,
    pub elements_len: usize,
    pub wire_at: usize,
    pub wire_len: usize,
}

/// Lengths.
impl Codec {
    /// `None` if the elements travel as they are. The caller has made sure that `Quantization::refusal` has nothing against
    /// it.
    pub fn of(dtype: DType, quantization: Quantization) -> Option<Codec> {
        debug_assert_eq!(quantization.refusal(dtype, ReduceOp::Sum), None, "{quantization} of {dtype}");
        let has_zero = matches!(quantization, Quantization::ZeroPointScale(_) | Quantization::Bits4);
        let code = match quantization {
            Quantization::None => return None,
            Quantization::MinMax(code) | Quantization::ZeroPointScale(code) => match code {
                DType::I8 => Code::I8,
                DType::U16 => Code::U16,
                DType::I16 => Code::I16,
                DType::U8 => Code::U8,
                refused => unreachable!("codes of {refused} have been refused"),
            },
            Quantization::Bits4 => Code::Bits4,
            Quantization::Float8E4M3 => Code::E4M3,
            Quantization::Float8E5M2 => Code::E5M2,
            Quantization::Float16 => Code::F16,
            Quantization::BFloat16 => Code::BF16,
        };
        Some(Codec { dtype, quantization, code, has_zero })
    }

    /// Of a full block.
    pub fn block_elements(&self) -> usize {
        self.quantization.block_elements()
    }

    /// What a full block travels as.
    pub fn block_wire_bytes(&self) -> usize {
        self.wire_bytes_of_block(self.block_elements())
    }

    /// What so many elements travel as, the first of them being the first of a block. Never more than their own bytes.
    pub fn wire_bytes(&self, count: u64) -> u64 {
        self.quantization.wire_bytes(self.dtype, count)
    }

    /// Bytes of so many first elements on the wire, a whole number of blocks, as bytes of elements.
    pub fn elements_at(&self, wire_at: usize) -> usize {
        wire_at / self.block_wire_bytes() * self.block_elements() * self.dtype.size_bytes()
    }

    /// The converse, of where a block begins.
    pub(super) fn wire_at(&self, elements_at: usize) -> usize {
        elements_at / (self.block_elements() * self.dtype.size_bytes()) * self.block_wire_bytes()
    }

    fn wire_bytes_of_block(&self, elements: usize) -> usize {
        self.quantization.block_wire_bytes(self.dtype, elements)
    }

    pub(super) fn header_bytes(&self) -> usize {
        self.quantization.header_bytes(self.dtype)
    }

    /// The largest code.
    pub(super) fn top(&self) -> u32 {
        match self.code {
            Code::U16 | Code::I16 => 65535,
            Code::Bits4 => 15,
            _ => 255,
        }
    }

    /// What turns codes into signed ones: the sign bit.
    pub(super) fn flip(&self) -> u32 {
        match self.code {
            Code::I8 => 1 << 7,
            Code::I16 => 1 << 15,
            _ => 0,
        }
    }

    /// Of so many bytes of elements, in order.
    fn places(self, elements_len: usize) -> impl DoubleEndedIterator<Item = Place> {
        self.places_within(elements_len, 0..elements_len)
    }

    /// The same, of those that begin in a range.
    pub(super) fn places_within(
        self,
        elements_len: usize,
        range: std::ops::Range<usize>,
    ) -> impl DoubleEndedIterator<Item = Place> {
        let size = self.dtype.size_bytes();
        assert!(elements_len.is_multiple_of(size), "an element is cut");
        let (of_block, wire_of_block) = (self.block_elements() * size, self.block_wire_bytes());
        (range.start.div_ceil(of_block)..range.end.div_ceil(of_block)).map(move |block| {
            let elements_at = block * of_block;
            let elements_len = of_block.min(elements_len - elements_at);
            let wire_len = self.wire_bytes_of_block(elements_len / size);
            Place { elements_at, elements_len, wire_at: block * wire_of_block, wire_len }
        })
    }

    fn check(&self, elements: &[u8], wire: &[u8]) {
        let count = (elements.len() / self.dtype.size_bytes()) as u64;
        assert_eq!(self.wire_bytes(count), wire.len() as u64, "elements and wire are not of one length");
    }
}

impl Place {
    pub(super) fn elements<'a>(&self, span: &'a [u8]) -> &'a [u8] {
        &span[self.elements_at..self.elements_at + self.elements_len]
    }

    fn elements_mut<'a>(&self, span: &'a mut [u8]) -> &'a mut [u8] {
        &mut span[self.elements_at..self.elements_at + self.elements_len]
    }

    /// The elements of the block after this one.
    pub(super) fn next(&self, span: &[u8]) -> Ahead {
        let at = self.elements_at + self.elements_len;
        Ahead::of(&span[at..span.len().min(at + self.elements_len)])
    }

    /// The elements of the block before this one, a full one of so many bytes.
    fn previous(&self, of_block: usize, span: &[u8]) -> Ahead {
        Ahead::of(&span[self.elements_at.saturating_sub(of_block)..self.elements_at])
    }

    fn wire<'a>(&self, span: &'a [u8]) -> &'a [u8] {
        &span[self.wire_at..self.wire_at + self.wire_len]
    }

    pub(super) fn wire_mut<'a>(&self, span: &'a mut [u8]) -> &'a mut [u8] {
        &mut span[self.wire_at..self.wire_at + self.wire_len]
    }
}

/// What is lost on the way, for whoever keeps it.
pub struct Errors<'a> {
    /// Of the elements' type. What each had and its code does not stand for is added to it, times `times`.
    pub kept: &'a mut [u8],
    pub times: u64,
}

/// Spans. Every one begins where a block does.
impl Codec {
    /// `wire` is as long as `wire_bytes` says.
    pub fn encode(&self, elements: &[u8], wire: &mut [u8]) {
        self.encode_on(Cpu::best(), elements, wire);
    }

    /// What the wire stands for.
    pub fn decode(&self, wire: &[u8], elements: &mut [u8]) {
        self.decode_on(Cpu::best(), wire, elements);
    }

    /// `acc = acc op what the wire stands for`; as `reduce_into` of what `decode` gives.
    pub fn reduce_into(&self, op: ReduceOp, acc: &mut [u8], wire: &[u8]) {
        self.reduce_into_on(Cpu::best(), op, acc, wire);
    }

    /// `out = own op what the wire stands for`.
    pub fn reduce_pair(&self, op: ReduceOp, out: &mut [u8], own: &[u8], wire: &[u8]) {
        self.reduce_pair_on(Cpu::best(), op, out, own, wire);
    }

    /// `acc += what the wire stands for`, as `reduce_into` does it; of 16-bit floats `owed`, of the same type, grows by what
    /// rounding loses.
    pub fn add_keeping(&self, acc: &mut [u8], wire: &[u8], owed: &mut [u8]) {
        self.add_keeping_on(Cpu::best(), acc, wire, owed);
    }

    /// Elements give way to what they travel as, which takes the first bytes of their place. Gives its length.
    pub fn encode_in_place(&self, span: &mut [u8]) -> usize {
        self.encode_in_place_on(Cpu::best(), span, None)
    }

    /// The same, and `errors` keeps what is lost by it.
    pub fn encode_in_place_with_errors(&self, span: &mut [u8], errors: Errors<'_>) -> usize {
        self.encode_in_place_on(Cpu::best(), span, Some(errors))
    }

    /// What travels, in the first bytes of `span`, gives way to the elements.
    pub fn decode_in_place(&self, span: &mut [u8]) {
        self.decode_in_place_on(Cpu::best(), span);
    }

    pub(super) fn encode_on(&self, cpu: Cpu, elements: &[u8], wire: &mut [u8]) {
        self.check(elements, wire);
        let _mode = StandardFloatMode::enter();
        for place in self.places(elements.len()) {
            let way = Way { cpu, codec: self, ahead: place.next(elements) };
            way.encode(place.elements(elements), place.wire_mut(wire));
        }
    }

    pub(super) fn decode_on(&self, cpu: Cpu, wire: &[u8], elements: &mut [u8]) {
        self.check(elements, wire);
        let _mode = StandardFloatMode::enter();
        for place in self.places(elements.len()) {
            let way = Way { cpu, codec: self, ahead: place.next(elements) };
            way.decode(place.wire(wire), place.elements_mut(elements));
        }
    }

    pub(super) fn reduce_into_on(&self, cpu: Cpu, op: ReduceOp, acc: &mut [u8], wire: &[u8]) {
        self.check(acc, wire);
        let _mode = StandardFloatMode::enter();
        let mut tile = Tile::new();
        for place in self.places(acc.len()) {
            let tile = &mut tile.0[..place.elements_len];
            let way = Way { cpu, codec: self, ahead: Ahead::of(place.elements(acc)) };
            way.decode(place.wire(wire), tile);
            reduce_into_on(cpu, op, self.dtype, place.elements_mut(acc), tile);
        }
    }

    pub(super) fn reduce_pair_on(&self, cpu: Cpu, op: ReduceOp, out: &mut [u8], own: &[u8], wire: &[u8]) {
        self.check(out, wire);
        let _mode = StandardFloatMode::enter();
        let mut tile = Tile::new();
        for place in self.places(out.len()) {
            let tile = &mut tile.0[..place.elements_len];
            let way = Way { cpu, codec: self, ahead: Ahead::of(place.elements(own)) };
            way.decode(place.wire(wire), tile);
            reduce_pair_on(cpu, op, self.dtype, place.elements_mut(out), place.elements(own), tile);
        }
    }

    pub(super) fn add_keeping_on(&self, cpu: Cpu, acc: &mut [u8], wire: &[u8], owed: &mut [u8]) {
        if !feedback::loses_in_sums(self.dtype) {
            return self.reduce_into_on(cpu, ReduceOp::Sum, acc, wire);
        }
        self.check(acc, wire);
        let _mode = StandardFloatMode::enter();
        let mut tile = Tile::new();
        for place in self.places(acc.len()) {
            let tile = &mut tile.0[..place.elements_len];
            let way = Way { cpu, codec: self, ahead: Ahead::of(place.elements(acc)) };
            way.decode(place.wire(wire), tile);
            feedback::add_on(cpu, self.dtype, place.elements_mut(acc), tile, place.elements_mut(owed));
        }
    }

    pub(super) fn encode_in_place_on(
        &self,
        cpu: Cpu,
        span: &mut [u8],
        mut errors: Option<Errors<'_>>,
    ) -> usize {
        let _mode = StandardFloatMode::enter();
        let mut tile = Tile::new();
        let mut sent = errors.is_some().then(Tile::new);
        let mut len = 0;
        // What a block travels as is not longer than it, so it ends before the next block begins.
        for place in self.places(span.len()) {
            let wire = &mut tile.0[..place.wire_len];
            let way = Way { cpu, codec: self, ahead: place.next(span) };
            way.encode(place.elements(span), wire);
            if let (Some(Errors { kept, times }), Some(sent)) = (&mut errors, &mut sent) {
                let sent = &mut sent.0[..place.elements_len];
                Way { ahead: Ahead::of(place.elements(kept)), ..way }.decode(wire, sent);
                feedback::keep_on(
                    cpu,
                    self.dtype,
                    place.elements(span),
                    sent,
                    *times,
                    place.elements_mut(kept),
                );
            }
            place.wire_mut(span).copy_from_slice(wire);
            len = place.wire_at + place.wire_len;
        }
        len
    }

    pub(super) fn decode_in_place_on(&self, cpu: Cpu, span: &mut [u8]) {
        let _mode = StandardFloatMode::enter();
        let mut tile = Tile::new();
        let of_block = self.block_elements() * self.dtype.size_bytes();
        // The last one first: a block's elements lie where only blocks after it have been.
        for place in self.places(span.len()).rev() {
            let wire = &mut tile.0[..place.wire_len];
            wire.copy_from_slice(place.wire(span));
            let way = Way { cpu, codec: self, ahead: place.previous(of_block, span) };
            way.decode(wire, place.elements_mut(span));
        }
    }
}

/// The elements of one block, or what they travel as. Aligned, as vectors of floats that lie on two cache lines
/// cost twice.
#[repr(align(64))]
pub(super) struct Tile(pub [u8; MAX_BLOCK_ELEMENTS * 8]);

impl Tile {
    pub fn new() -> Tile {
        Tile([0; MAX_BLOCK_ELEMENTS * 8])
    }
}
