//! The loops over one block, compiled once for each path of `Cpu`. On aarch64 the baseline has vectors already.

use super::float8::Float8;
use super::grid::{Extent, Grid};
use super::work::Work;
use crate::kernel::cpu::{Cpu, Level};
use crate::kernel::element::Element;
use crate::kernel::float16;

/// Extremes kept side by side: as many as fill the registers of several units.
const LANES: usize = 32;

/// A 16-bit float on its way to f32 and back.
pub trait Narrow {
    fn widen(bits: u16) -> f32;
    fn narrow(number: f32) -> u16;
}

pub struct AsF16;
pub struct AsBf16;

impl Narrow for AsF16 {
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
    #[inline(always)]
    fn widen(bits: u16) -> f32 {
        float16::bf16_to_f32(bits)
    }

    #[inline(always)]
    fn narrow(number: f32) -> u16 {
        float16::f32_to_bf16(number)
    }
}

/// A code as it lies on the wire.
pub trait CodeCell: Element {
    fn of_code(code: u32) -> Self;
    fn to_code(self) -> u32;
}

impl CodeCell for u8 {
    #[inline(always)]
    fn of_code(code: u32) -> u8 {
        code as u8
    }

    #[inline(always)]
    fn to_code(self) -> u32 {
        self.into()
    }
}

impl CodeCell for u16 {
    #[inline(always)]
    fn of_code(code: u32) -> u16 {
        code as u16
    }

    #[inline(always)]
    fn to_code(self) -> u32 {
        self.into()
    }
}

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
        let (mut low, mut high, mut sum) = (least[0], greatest[0], W::ZERO);
        for lane in 0..LANES {
            low = if least[lane] < low { least[lane] } else { low };
            high = if greatest[lane] > high { greatest[lane] } else { high };
            sum = sum + odd[lane];
        }
        *found = Extent { least: low, greatest: high, is_finite: sum == W::ZERO };
    }
}

for_each_cpu! {
    /// `flip` turns the sign bit of signed codes.
    pub fn quantize<W: Work, C: CodeCell>(grid: &Grid<W>, flip: u32, elements: &[u8], codes: &mut [u8]) {
        for (code, &cell) in C::cells_mut(codes).iter_mut().zip(W::cells(elements)) {
            let position = (W::load(cell) - grid.base) * grid.inverse + grid.zero;
            *code = C::of_code(grid.nearest(position) ^ flip).store();
        }
    }
}

for_each_cpu! {
    pub fn dequantize<W: Work, C: CodeCell>(grid: &Grid<W>, flip: u32, codes: &[u8], elements: &mut [u8]) {
        for (cell, &code) in W::cells_mut(elements).iter_mut().zip(C::cells(codes)) {
            *cell = grid.value(C::load(code).to_code() ^ flip).store();
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
