//! The loops over one block, compiled once for each path of `Cpu`. On aarch64 the baseline has vectors already.

use super::float8::Float8;
use super::grid::{Extent, Grid};
use super::work::Work;
use crate::kernel::cpu::{Cpu, Level};
use crate::kernel::element::Element;
use crate::kernel::float16;

/// Extremes kept side by side: as many as fill the registers of several units.
const LANES: usize = 32;
/// The same, of elements of two bytes.
const HALF_LANES: usize = 64;

/// A 16-bit float on its way to f32 and back.
pub trait Narrow {
    const INFINITY: i16;
    fn widen(bits: u16) -> f32;
    fn narrow(number: f32) -> u16;
}

pub struct AsF16;
pub struct AsBf16;

impl Narrow for AsF16 {
    const INFINITY: i16 = 0x7c00;

    #[inline(always)]
    fn widen(bits: u16) -> f32 {
        float16::f16_to_f32(bits)
    }

    #[inline(always)]
    fn narrow(number: f32) -> u16 {
        float16::f32_to_f16(number)
    }
}

impl Narrow for AsBf16 {
    const INFINITY: i16 = 0x7f80;

    #[inline(always)]
    fn widen(bits: u16) -> f32 {
        float16::bf16_to_f32(bits)
    }

    #[inline(always)]
    fn narrow(number: f32) -> u16 {
        float16::f32_to_bf16(number)
    }
}

/// A code as it lies on the wire. Signed ones have the highest bit turned.
pub trait CodeCell: Element {
    /// Of its lowest bits.
    fn of_code(code: u32) -> Self;
    fn to_code(self) -> u32;
}

macro_rules! code_cell {
    ($type:ident, $unsigned:ident, $flip:literal) => {
        impl CodeCell for $type {
            #[inline(always)]
            fn of_code(code: u32) -> $type {
                (code as $unsigned ^ $flip) as $type
            }

            #[inline(always)]
            fn to_code(self) -> u32 {
                (self as $unsigned ^ $flip).into()
            }
        }
    };
}

code_cell!(u8, u8, 0);
code_cell!(i8, u8, 0x80);
code_cell!(u16, u16, 0);
code_cell!(i16, u16, 0x8000);

for_each_cpu! {
    /// Least and greatest element; of no use where not all are finite.
    pub fn extent<W: Work>(elements: &[u8], found: &mut Extent<W>) {
        let cells = W::cells(elements);
        let Some(first) = cells.first() else { return };
        let first = W::load(*first);
        let (mut least, mut greatest, mut odd) = ([first; LANES], [first; LANES], [W::ZERO; LANES]);
        let mut chunks = cells.chunks_exact(LANES);
        for chunk in &mut chunks {
            for lane in 0..LANES {
                let element = W::load(chunk[lane]);
                least[lane] = if element < least[lane] { element } else { least[lane] };
                greatest[lane] = if element > greatest[lane] { element } else { greatest[lane] };
                // 0, unless it is infinite or no number; then no number, and so for good.
                odd[lane] = odd[lane] + element * W::ZERO;
            }
        }
        for (lane, cell) in chunks.remainder().iter().enumerate() {
            let element = W::load(*cell);
            least[lane] = if element < least[lane] { element } else { least[lane] };
            greatest[lane] = if element > greatest[lane] { element } else { greatest[lane] };
            odd[lane] = odd[lane] + element * W::ZERO;
        }
        // By halves: one after the other would take as long as the whole block.
        let mut width = LANES / 2;
        while width > 0 {
            for lane in 0..width {
                let (low, high) = (least[lane + width], greatest[lane + width]);
                least[lane] = if low < least[lane] { low } else { least[lane] };
                greatest[lane] = if high > greatest[lane] { high } else { greatest[lane] };
                odd[lane] = odd[lane] + odd[lane + width];
            }
            width /= 2;
        }
        *found = Extent { least: least[0], greatest: greatest[0], is_finite: odd[0] == W::ZERO };
    }
}

for_each_cpu! {
    /// The same of 16-bit floats, whose bits can be compared as they are.
    pub fn extent_of_halves<N: Narrow>(halves: &[u8], found: &mut Extent<f32>) {
        let cells = u16::cells(halves);
        let Some(first) = cells.first() else { return };
        let key = |cell: [u8; 2]| float16::order_key(i16::from_le_bytes(cell));
        let (mut least, mut greatest) = ([key(*first); HALF_LANES], [key(*first); HALF_LANES]);
        let mut chunks = cells.chunks_exact(HALF_LANES);
        for chunk in &mut chunks {
            for lane in 0..HALF_LANES {
                least[lane] = Ord::min(least[lane], key(chunk[lane]));
                greatest[lane] = Ord::max(greatest[lane], key(chunk[lane]));
            }
        }
        for (lane, cell) in chunks.remainder().iter().enumerate() {
            least[lane] = Ord::min(least[lane], key(*cell));
            greatest[lane] = Ord::max(greatest[lane], key(*cell));
        }
        let mut width = HALF_LANES / 2;
        while width > 0 {
            for lane in 0..width {
                least[lane] = Ord::min(least[lane], least[lane + width]);
                greatest[lane] = Ord::max(greatest[lane], greatest[lane + width]);
            }
            width /= 2;
        }
        let number = |key: i16| N::widen(float16::order_key(key) as u16);
        let is_finite = least[0] > !N::INFINITY && greatest[0] < N::INFINITY;
        *found = Extent { least: number(least[0]), greatest: number(greatest[0]), is_finite };
    }
}

for_each_cpu! {
    /// Of elements that all have a code (`Grid::reaches`).
    pub fn quantize<W: Work, C: CodeCell>(grid: &Grid<W>, elements: &[u8], codes: &mut [u8]) {
        for (code, &cell) in C::cells_mut(codes).iter_mut().zip(W::cells(elements)) {
            *code = C::of_code(grid.position(W::load(cell)).to_code()).store();
        }
    }
}

for_each_cpu! {
    /// Elements that lie beyond the codes get the first or the last.
    pub fn quantize_clamped<W: Work, C: CodeCell>(grid: &Grid<W>, elements: &[u8], codes: &mut [u8]) {
        for (code, &cell) in C::cells_mut(codes).iter_mut().zip(W::cells(elements)) {
            *code = C::of_code(grid.nearest(grid.position(W::load(cell)))).store();
        }
    }
}

for_each_cpu! {
    pub fn dequantize<W: Work, C: CodeCell>(grid: &Grid<W>, codes: &[u8], elements: &mut [u8]) {
        for (cell, &code) in W::cells_mut(elements).iter_mut().zip(C::cells(codes)) {
            *cell = grid.value(C::load(code).to_code()).store();
        }
    }
}

for_each_cpu! {
    /// Codes of 4 bits: byte `i` holds that of element `i` and, in its upper half, that of the same place in the second
    /// half of the block.
    pub fn pack<>(codes: &[u8], packed: &mut [u8]) {
        let (low, high) = codes.split_at(packed.len());
        for (packed, (low, high)) in packed.iter_mut().zip(low.iter().zip(high)) {
            *packed = low | high << 4;
        }
        if high.len() < low.len() {
            packed[high.len()] = low[high.len()];
        }
    }
}

for_each_cpu! {
    pub fn unpack<>(packed: &[u8], codes: &mut [u8]) {
        let (low, high) = codes.split_at_mut(packed.len());
        for (code, packed) in low.iter_mut().zip(packed) {
            *code = packed & 15;
        }
        for (code, packed) in high.iter_mut().zip(packed) {
            *code = packed >> 4;
        }
    }
}

for_each_cpu! {
    pub fn to_float8<W: Work, F: Float8>(inverse: W, elements: &[u8], codes: &mut [u8]) {
        for (code, &cell) in codes.iter_mut().zip(W::cells(elements)) {
            *code = F::encode((W::load(cell) * inverse).to_single());
        }
    }
}

for_each_cpu! {
    pub fn of_float8<W: Work, F: Float8>(step: W, codes: &[u8], elements: &mut [u8]) {
        for (cell, &code) in W::cells_mut(elements).iter_mut().zip(codes) {
            *cell = (W::of_single(F::decode(code)) * step).store();
        }
    }
}

for_each_cpu! {
    pub fn widen<N: Narrow>(halves: &[u8], singles: &mut [u8]) {
        for (single, &half) in f32::cells_mut(singles).iter_mut().zip(u16::cells(halves)) {
            *single = N::widen(u16::from_le_bytes(half)).to_le_bytes();
        }
    }
}

for_each_cpu! {
    pub fn narrow<N: Narrow>(singles: &[u8], halves: &mut [u8]) {
        for (half, &single) in u16::cells_mut(halves).iter_mut().zip(f32::cells(singles)) {
            *half = N::narrow(f32::from_le_bytes(single)).to_le_bytes();
        }
    }
}

for_each_cpu! {
    /// Not beyond the largest number of a type that ends before f32 does.
    pub fn clamp<W: Work>(largest: W, elements: &mut [u8]) {
        let least = largest.negated();
        for cell in W::cells_mut(elements) {
            let element = W::load(*cell);
            let element = if element > largest { largest } else { element };
            *cell = if element < least { least } else { element }.store();
        }
    }
}
