//! The loops over one block, compiled once for each path of `Cpu`. On aarch64 the baseline has vectors already.

use super::float8::Float8;
use super::form::{Form, Narrow};
use super::grid::{Extent, Grid};
use super::work::Work;
use crate::kernel::ahead::Ahead;
use crate::kernel::cpu::Cpu;
use crate::kernel::element::Element;
use crate::kernel::float16;
use crate::kernel::path::LANES;

/// Extremes kept side by side: as many as fill the registers of several units.
const EXTREMES: usize = 32;
/// The same, of elements of two bytes.
const HALF_EXTREMES: usize = 64;

/// A code as it lies on the wire: where codes are signed, with the highest bit turned (`flip`, see `Codec`).
pub trait CodeCell: Element {
    /// Of its lowest bits.
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
    pub fn extent<W: Work>(ahead: Ahead, elements: &[u8], found: &mut Extent<W>) {
        let cells = W::cells(elements);
        let Some(first) = cells.first() else { return };
        let first = W::load(*first);
        let (mut least, mut greatest, mut odd) = ([first; EXTREMES], [first; EXTREMES], [W::ZERO; EXTREMES]);
        let mut chunks = cells.chunks_exact(EXTREMES);
        let mut steps = ahead.in_steps(chunks.len());
        for chunk in &mut chunks {
            steps.fetch();
            for lane in 0..EXTREMES {
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
        let mut width = EXTREMES / 2;
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
    pub fn extent_of_halves<N: Narrow>(ahead: Ahead, halves: &[u8], found: &mut Extent<f32>) {
        let cells = <u16 as Element>::cells(halves);
        let Some(first) = cells.first() else { return };
        let key = |cell: [u8; 2]| float16::order_key(i16::from_le_bytes(cell));
        let (mut least, mut greatest) = ([key(*first); HALF_EXTREMES], [key(*first); HALF_EXTREMES]);
        let mut chunks = cells.chunks_exact(HALF_EXTREMES);
        let mut steps = ahead.in_steps(chunks.len());
        for chunk in &mut chunks {
            steps.fetch();
            for lane in 0..HALF_EXTREMES {
                least[lane] = Ord::min(least[lane], key(chunk[lane]));
                greatest[lane] = Ord::max(greatest[lane], key(chunk[lane]));
            }
        }
        for (lane, cell) in chunks.remainder().iter().enumerate() {
            least[lane] = Ord::min(least[lane], key(*cell));
            greatest[lane] = Ord::max(greatest[lane], key(*cell));
        }
        let mut width = HALF_EXTREMES / 2;
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

/// Whether numbers have to be brought within their limits.
pub trait Limit {
    const IS_NEEDED: bool;
}

pub struct Limited;
pub struct Unlimited;

impl Limit for Limited {
    const IS_NEEDED: bool = true;
}

impl Limit for Unlimited {
    const IS_NEEDED: bool = false;
}

/// Elements beyond the codes get the first or the last.
#[inline(always)]
fn code<W: Work, L: Limit>(grid: &Grid<W>, element: W) -> u32 {
    let position = grid.position(element);
    if L::IS_NEEDED { grid.nearest(position) } else { position.to_code() }
}

/// Not beyond the largest number of a type that ends before its `Work` does.
#[inline(always)]
fn within<F: Form, L: Limit>(number: F::Work) -> F::Work {
    if !L::IS_NEEDED {
        return number;
    }
    let number = if number > F::LARGEST { F::LARGEST } else { number };
    if number < F::LARGEST.negated() { F::LARGEST.negated() } else { number }
}

for_each_cpu! {
    /// Of finite elements; `Unlimited` where all have a code (`Grid::reaches`).
    pub fn quantize<F: Form, C: CodeCell, L: Limit>(@path, ahead: Ahead, grid: &Grid<F::Work>, flip: u32, elements: &[u8], codes: &mut [u8]) {
        let (elements, last_elements) = F::cells(elements).as_chunks::<LANES>();
        let (codes, last_codes) = C::cells_mut(codes).as_chunks_mut::<LANES>();
        let mut steps = ahead.in_steps(elements.len());
        for (codes, cells) in codes.iter_mut().zip(elements) {
            steps.fetch();
            let numbers = F::load_lanes(path, cells);
            for lane in 0..LANES {
                codes[lane] = C::of_code(code::<F::Work, L>(grid, numbers[lane]) ^ flip).store();
            }
        }
        for (cell, element) in last_codes.iter_mut().zip(last_elements) {
            *cell = C::of_code(code::<F::Work, L>(grid, F::load(*element)) ^ flip).store();
        }
    }
}

for_each_cpu! {
    /// The same with codes of 4 bits: the lower half of a byte is that of an element of `low`, the upper half that of the
    /// element in the same place of `high`, which may be one shorter.
    pub fn quantize_4<F: Form, L: Limit>(@path, ahead: Ahead, grid: &Grid<F::Work>, low: &[u8], high: &[u8], packed: &mut [u8]) {
        let (low, high) = (F::cells(low), F::cells(high));
        let (low, last_low) = low.split_at(high.len() - high.len() % LANES);
        let (high, last_high) = high.as_chunks::<LANES>();
        let (packed, last_packed) = packed.split_at_mut(low.len());
        let pairs = low.as_chunks::<LANES>().0.iter().zip(high);
        let mut steps = ahead.in_steps(pairs.len());
        for (packed, (low, high)) in packed.as_chunks_mut::<LANES>().0.iter_mut().zip(pairs) {
            steps.fetch();
            let (low, high) = (F::load_lanes(path, low), F::load_lanes(path, high));
            for lane in 0..LANES {
                let (low, high) = (code::<F::Work, L>(grid, low[lane]), code::<F::Work, L>(grid, high[lane]));
                packed[lane] = (low | high << 4) as u8;
            }
        }
        for (i, (packed, low)) in last_packed.iter_mut().zip(last_low).enumerate() {
            let high = last_high.get(i).map_or(0, |high| code::<F::Work, L>(grid, F::load(*high)));
            *packed = (code::<F::Work, L>(grid, F::load(*low)) | high << 4) as u8;
        }
    }
}

for_each_cpu! {
    /// `Limited` where some codes stand for more than the type's largest number.
    pub fn dequantize<F: Form, C: CodeCell, L: Limit>(@path, ahead: Ahead, grid: &Grid<F::Work>, flip: u32, codes: &[u8], elements: &mut [u8]) {
        let (elements, last_elements) = F::cells_mut(elements).as_chunks_mut::<LANES>();
        let (codes, last_codes) = C::cells(codes).as_chunks::<LANES>();
        let mut steps = ahead.in_steps(codes.len());
        for (cells, codes) in elements.iter_mut().zip(codes) {
            steps.fetch();
            let mut numbers = [F::Work::ZERO; LANES];
            for lane in 0..LANES {
                numbers[lane] = within::<F, L>(grid.value(C::load(codes[lane]).to_code() ^ flip));
            }
            F::store_lanes(path, &numbers, cells);
        }
        for (cell, code) in last_elements.iter_mut().zip(last_codes) {
            *cell = F::store(within::<F, L>(grid.value(C::load(*code).to_code() ^ flip)));
        }
    }
}

for_each_cpu! {
    /// The same with codes of 4 bits, as `quantize_4` lays them.
    pub fn dequantize_4<F: Form, L: Limit>(@path, ahead: Ahead, grid: &Grid<F::Work>, packed: &[u8], low: &mut [u8], high: &mut [u8]) {
        let (low, high) = (F::cells_mut(low), F::cells_mut(high));
        let (low, last_low) = low.split_at_mut(high.len() - high.len() % LANES);
        let (high, last_high) = high.as_chunks_mut::<LANES>();
        let (packed, last_packed) = packed.split_at(low.len());
        let pairs = low.as_chunks_mut::<LANES>().0.iter_mut().zip(high);
        let mut steps = ahead.in_steps(pairs.len());
        for (packed, (low, high)) in packed.as_chunks::<LANES>().0.iter().zip(pairs) {
            steps.fetch();
            let (mut of_low, mut of_high) = ([F::Work::ZERO; LANES], [F::Work::ZERO; LANES]);
            for lane in 0..LANES {
                of_low[lane] = within::<F, L>(grid.value(u32::from(packed[lane] & 15)));
                of_high[lane] = within::<F, L>(grid.value(u32::from(packed[lane] >> 4)));
            }
            F::store_lanes(path, &of_low, low);
            F::store_lanes(path, &of_high, high);
        }
        let value = |code: u8| F::store(within::<F, L>(grid.value(code.into())));
        for (i, (packed, low)) in last_packed.iter().zip(last_low).enumerate() {
            *low = value(packed & 15);
            if let Some(high) = last_high.get_mut(i) {
                *high = value(packed >> 4);
            }
        }
    }
}

for_each_cpu! {
    /// Of finite elements.
    pub fn to_float8<F: Form, C: Float8>(@path, ahead: Ahead, inverse: F::Work, elements: &[u8], codes: &mut [u8]) {
        let (elements, last_elements) = F::cells(elements).as_chunks::<LANES>();
        let (codes, last_codes) = codes.as_chunks_mut::<LANES>();
        let mut steps = ahead.in_steps(elements.len());
        for (codes, cells) in codes.iter_mut().zip(elements) {
            steps.fetch();
            let numbers = F::load_lanes(path, cells);
            for lane in 0..LANES {
                codes[lane] = C::encode((numbers[lane] * inverse).to_single());
            }
        }
        for (code, cell) in last_codes.iter_mut().zip(last_elements) {
            *code = C::encode((F::load(*cell) * inverse).to_single());
        }
    }
}

for_each_cpu! {
    /// `Limited` where some codes stand for more than the type's largest number.
    pub fn of_float8<F: Form, C: Float8, L: Limit>(@path, ahead: Ahead, step: F::Work, codes: &[u8], elements: &mut [u8]) {
        let (elements, last_elements) = F::cells_mut(elements).as_chunks_mut::<LANES>();
        let (codes, last_codes) = codes.as_chunks::<LANES>();
        let mut steps = ahead.in_steps(codes.len());
        for (cells, codes) in elements.iter_mut().zip(codes) {
            steps.fetch();
            let mut numbers = [F::Work::ZERO; LANES];
            for lane in 0..LANES {
                numbers[lane] = within::<F, L>(F::Work::of_single(C::decode(codes[lane])) * step);
            }
            F::store_lanes(path, &numbers, cells);
        }
        for (cell, code) in last_elements.iter_mut().zip(last_codes) {
            *cell = F::store(within::<F, L>(F::Work::of_single(C::decode(*code)) * step));
        }
    }
}

for_each_cpu! {
    pub fn widen<N: Narrow>(ahead: Ahead, halves: &[u8], singles: &mut [u8]) {
        let pairs = <f32 as Form>::cells_mut(singles).chunks_mut(LANES).zip(<u16 as Element>::cells(halves).chunks(LANES));
        let mut steps = ahead.in_steps(pairs.len());
        for (singles, halves) in pairs {
            steps.fetch();
            for (single, &half) in singles.iter_mut().zip(halves) {
                *single = N::widen(u16::from_le_bytes(half)).to_le_bytes();
            }
        }
    }
}

for_each_cpu! {
    pub fn narrow<N: Narrow>(@path, ahead: Ahead, singles: &[u8], halves: &mut [u8]) {
        let (singles, last_singles) = <f32 as Form>::cells(singles).as_chunks::<LANES>();
        let (halves, last_halves) = <u16 as Element>::cells_mut(halves).as_chunks_mut::<LANES>();
        let mut steps = ahead.in_steps(singles.len());
        for (halves, singles) in halves.iter_mut().zip(singles) {
            steps.fetch();
            *halves = N::narrow_lanes(path, &singles.map(f32::from_le_bytes));
        }
        for (half, &single) in last_halves.iter_mut().zip(last_singles) {
            *half = N::narrow(f32::from_le_bytes(single)).to_le_bytes();
        }
    }
}
