//! One block: which loop does it, and its header.

use super::careful::{self, ODD_CODES};
use super::codec::{Code, Codec};
use super::float8::{E4M3, E5M2, Float8};
use super::grid::{Extent, Grid};
use super::loops::{self, AsBf16, AsF16, CodeCell};
use super::work::Work;
use crate::kernel::ahead::Ahead;
use crate::kernel::cpu::Cpu;
use crate::kernel::float16_loops;
use crate::types::{DType, MAX_BLOCK_ELEMENTS};

/// A block on its way between two forms; always hot in the cache. Aligned, as vectors of floats that lie on two cache lines
/// cost twice.
#[repr(align(64))]
pub struct Scratch {
    /// 16-bit floats as f32.
    singles: [u8; MAX_BLOCK_ELEMENTS * 4],
    /// Codes of 4 bits, each a byte.
    codes: [u8; MAX_BLOCK_ELEMENTS],
}

/// How blocks of an operation are done.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    pub cpu: Cpu,
    pub codec: &'a Codec,
    /// What is worked on next.
    pub ahead: Ahead,
}

/// Never inlined: so that a profile tells encoding from decoding, and both from what is done with the elements.
impl Scratch {
    pub fn new() -> Scratch {
        Scratch { singles: [0; MAX_BLOCK_ELEMENTS * 4], codes: [0; MAX_BLOCK_ELEMENTS] }
    }

    #[inline(never)]
    pub fn encode(&mut self, way: Way<'_>, elements: &[u8], wire: &mut [u8]) {
        if wire.len() == elements.len() {
            return wire.copy_from_slice(elements);
        }
        let Scratch { singles, codes } = self;
        match way.codec.dtype {
            DType::F64 => way.encode::<f64>(elements, || way.extent(elements), wire, codes),
            DType::F32 => way.encode::<f32>(elements, || way.extent(elements), wire, codes),
            dtype => {
                let singles = &mut singles[..elements.len() * 2];
                widen(way.cpu, dtype, elements, singles);
                way.encode::<f32>(singles, || way.extent_of_halves(elements, singles), wire, codes);
            }
        }
    }

    #[inline(never)]
    pub fn decode(&mut self, way: Way<'_>, wire: &[u8], elements: &mut [u8]) {
        if wire.len() == elements.len() {
            return elements.copy_from_slice(wire);
        }
        let Scratch { singles, codes } = self;
        match way.codec.dtype {
            DType::F64 => way.decode::<f64>(f64::MAX, wire, elements, codes),
            DType::F32 => way.decode::<f32>(f32::MAX, wire, elements, codes),
            dtype => {
                let singles = &mut singles[..elements.len() * 2];
                way.decode::<f32>(largest_half(dtype), wire, singles, codes);
                narrow(way.cpu, dtype, singles, elements);
            }
        }
    }
}

/// The largest number of a 16-bit float.
fn largest_half(dtype: DType) -> f32 {
    if dtype == DType::F16 { 65504.0 } else { f32::from_bits(0x7f7f_0000) }
}

/// NaN may come out as any NaN: no code depends on which.
fn widen(cpu: Cpu, dtype: DType, halves: &[u8], singles: &mut [u8]) {
    if float16_loops::widen(cpu, dtype, halves, singles) {
        return;
    }
    match dtype {
        DType::F16 => loops::widen::<AsF16>(cpu, halves, singles),
        _ => loops::widen::<AsBf16>(cpu, halves, singles),
    }
}

fn narrow(cpu: Cpu, dtype: DType, singles: &[u8], halves: &mut [u8]) {
    if float16_loops::narrow(cpu, dtype, singles, halves) {
        return;
    }
    match dtype {
        DType::F16 => loops::narrow::<AsF16>(cpu, singles, halves),
        _ => loops::narrow::<AsBf16>(cpu, singles, halves),
    }
}

/// A block with something in it that is no number is marked: its step has a sign.
fn put_header<W: Work>(header: &mut [u8], numbers: &[W], is_marked: bool) {
    let last = numbers.len() - 1;
    for (i, (cell, number)) in W::cells_mut(header).iter_mut().zip(numbers).enumerate() {
        let number = if i == last && is_marked { number.negated() } else { *number };
        *cell = number.store();
    }
}

fn header_number<W: Work>(header: &[u8], index: usize) -> W {
    W::load(W::cells(header)[index])
}

impl Way<'_> {
    fn extent<W: Work>(&self, elements: &[u8]) -> Extent<W> {
        let mut extent = Extent { least: W::ZERO, greatest: W::ZERO, is_finite: true };
        loops::extent::<W>(self.cpu, elements, &mut extent);
        if extent.is_finite { extent } else { careful::finite_extent::<W>(elements) }
    }

    /// `singles`: the same, widened.
    fn extent_of_halves(&self, halves: &[u8], singles: &[u8]) -> Extent<f32> {
        let mut extent = Extent { least: 0.0, greatest: 0.0, is_finite: true };
        match self.codec.dtype {
            DType::F16 => loops::extent_of_halves::<AsF16>(self.cpu, halves, &mut extent),
            _ => loops::extent_of_halves::<AsBf16>(self.cpu, halves, &mut extent),
        }
        if extent.is_finite { extent } else { careful::finite_extent::<f32>(singles) }
    }

    /// Calls a loop on one part of a block after the other, while what comes next is fetched: elements or codes of so many
    /// bytes each.
    fn in_parts(
        &self,
        (from, from_bytes): (&[u8], usize),
        (to, to_bytes): (&mut [u8], usize),
        mut each: impl FnMut(&[u8], &mut [u8]),
    ) {
        self.ahead.during(from.len() / from_bytes, |part| {
            let from = &from[part.start * from_bytes..part.end * from_bytes];
            each(from, &mut to[part.start * to_bytes..part.end * to_bytes]);
        });
    }

    fn encode<W: Work>(
        &self,
        elements: &[u8],
        extent: impl FnOnce() -> Extent<W>,
        wire: &mut [u8],
        spare: &mut [u8],
    ) {
        let cpu = self.cpu;
        let (header, codes) = wire.split_at_mut(self.codec.header_bytes());
        match self.codec.code {
            Code::F16 => {
                self.in_parts((elements, 4), (codes, 2), |from, to| narrow(cpu, DType::F16, from, to))
            }
            Code::BF16 => {
                self.in_parts((elements, 4), (codes, 2), |from, to| narrow(cpu, DType::BF16, from, to))
            }
            Code::E4M3 => self.encode_float8::<W, E4M3>(extent(), elements, header, codes),
            Code::E5M2 => self.encode_float8::<W, E5M2>(extent(), elements, header, codes),
            _ => self.encode_grid::<W>(extent(), elements, header, codes, spare),
        }
    }

    /// `largest`: of the elements' own type.
    fn decode<W: Work>(&self, largest: W, wire: &[u8], elements: &mut [u8], spare: &mut [u8]) {
        let cpu = self.cpu;
        let (header, codes) = wire.split_at(self.codec.header_bytes());
        match self.codec.code {
            Code::F16 => {
                self.in_parts((codes, 2), (elements, 4), |from, to| loops::widen::<AsF16>(cpu, from, to))
            }
            Code::BF16 => {
                self.in_parts((codes, 2), (elements, 4), |from, to| loops::widen::<AsBf16>(cpu, from, to))
            }
            Code::E4M3 => self.decode_float8::<W, E4M3>(largest, header, codes, elements),
            Code::E5M2 => self.decode_float8::<W, E5M2>(largest, header, codes, elements),
            _ => self.decode_grid::<W>(largest, header, codes, elements, spare),
        }
    }

    fn encode_grid<W: Work>(
        &self,
        extent: Extent<W>,
        elements: &[u8],
        header: &mut [u8],
        codes: &mut [u8],
        spare: &mut [u8],
    ) {
        let codec = self.codec;
        let top = codec.top() - if extent.is_finite { 0 } else { ODD_CODES };
        let grid = if codec.has_zero { Grid::with_zero(extent, top) } else { Grid::centred(extent, top) };
        let (first, step) = grid.header(codec.has_zero);
        put_header(header, &[first, step], !extent.is_finite);
        if grid.is_tiny() || !extent.is_finite {
            return encode_with_care(codec, &grid, top, elements, codes);
        }
        match codec.code {
            Code::Bits4 => {
                let unpacked = &mut spare[..elements.len() / W::BYTES];
                self.quantize::<W, u8>(&grid, extent, elements, unpacked);
                loops::pack(self.cpu, unpacked, codes);
            }
            Code::U16 => self.quantize::<W, u16>(&grid, extent, elements, codes),
            Code::I16 => self.quantize::<W, i16>(&grid, extent, elements, codes),
            Code::I8 => self.quantize::<W, i8>(&grid, extent, elements, codes),
            _ => self.quantize::<W, u8>(&grid, extent, elements, codes),
        }
    }

    fn quantize<W: Work, C: CodeCell>(
        &self,
        grid: &Grid<W>,
        extent: Extent<W>,
        elements: &[u8],
        codes: &mut [u8],
    ) {
        let (all_have_a_code, bytes) = (grid.reaches(extent), size_of::<C>());
        self.in_parts((elements, W::BYTES), (codes, bytes), |elements, codes| {
            if all_have_a_code {
                loops::quantize::<W, C>(self.cpu, grid, elements, codes);
            } else {
                loops::quantize_clamped::<W, C>(self.cpu, grid, elements, codes);
            }
        });
    }

    fn decode_grid<W: Work>(
        &self,
        largest: W,
        header: &[u8],
        codes: &[u8],
        elements: &mut [u8],
        spare: &mut [u8],
    ) {
        let codec = self.codec;
        let (first, step) = (header_number::<W>(header, 0), header_number::<W>(header, 1));
        let is_marked = step.is_negative();
        let top = codec.top() - if is_marked { ODD_CODES } else { 0 };
        let grid = Grid::of_header(first, step.magnitude(), codec.has_zero, top);
        if is_marked || !grid.fits(W::LARGEST) {
            return decode_with_care(codec, &grid, is_marked.then_some(top), largest, codes, elements);
        }
        match codec.code {
            Code::Bits4 => {
                let unpacked = &mut spare[..elements.len() / W::BYTES];
                loops::unpack(self.cpu, codes, unpacked);
                self.dequantize::<W, u8>(&grid, unpacked, elements);
            }
            Code::U16 => self.dequantize::<W, u16>(&grid, codes, elements),
            Code::I16 => self.dequantize::<W, i16>(&grid, codes, elements),
            Code::I8 => self.dequantize::<W, i8>(&grid, codes, elements),
            _ => self.dequantize::<W, u8>(&grid, codes, elements),
        }
        if !grid.fits(largest) {
            loops::clamp(self.cpu, largest, elements);
        }
    }

    fn dequantize<W: Work, C: CodeCell>(&self, grid: &Grid<W>, codes: &[u8], elements: &mut [u8]) {
        self.in_parts((codes, size_of::<C>()), (elements, W::BYTES), |codes, elements| {
            loops::dequantize::<W, C>(self.cpu, grid, codes, elements);
        });
    }

    fn encode_float8<W: Work, F: Float8>(
        &self,
        extent: Extent<W>,
        elements: &[u8],
        header: &mut [u8],
        codes: &mut [u8],
    ) {
        let (least, greatest) = (extent.least.magnitude(), extent.greatest.magnitude());
        let (exponent, above) = if least > greatest { least } else { greatest }.exponent();
        let exponent = exponent - F::LARGEST_EXPONENT + i32::from(above);
        let exponent = Ord::max(exponent, W::LEAST_EXPONENT);
        put_header(header, &[W::power_of_two(exponent)], !extent.is_finite);
        let inverse = W::power_of_two(-exponent);
        if extent.is_finite {
            self.in_parts((elements, W::BYTES), (codes, 1), |elements, codes| {
                loops::to_float8::<W, F>(self.cpu, inverse, elements, codes);
            });
        } else {
            careful::to_float8::<W, F>(inverse, elements, codes);
        }
    }

    fn decode_float8<W: Work, F: Float8>(
        &self,
        largest: W,
        header: &[u8],
        codes: &[u8],
        elements: &mut [u8],
    ) {
        let step = header_number::<W>(header, 0);
        let is_marked = step.is_negative();
        let step = step.magnitude();
        let greatest = W::of(1.75) * W::power_of_two(F::LARGEST_EXPONENT);
        let fits = |largest: W| step * greatest <= largest * W::of(0.5);
        if fits(W::LARGEST) && !is_marked {
            self.in_parts((codes, 1), (elements, W::BYTES), |codes, elements| {
                loops::of_float8::<W, F>(self.cpu, step, codes, elements);
            });
            if !fits(largest) {
                loops::clamp(self.cpu, largest, elements);
            }
        } else {
            careful::of_float8::<W, F>(step, is_marked, largest, codes, elements);
        }
    }
}

/// One element at a time.
fn encode_with_care<W: Work>(codec: &Codec, grid: &Grid<W>, top: u32, elements: &[u8], codes: &mut [u8]) {
    let flip = codec.flip();
    match codec.code {
        Code::Bits4 => {
            let half = codes.len();
            careful::quantize(grid, top, elements, |i, code| match i.checked_sub(half) {
                None => codes[i] = code as u8,
                Some(i) => codes[i] |= (code as u8) << 4,
            });
        }
        Code::U16 | Code::I16 => careful::quantize(grid, top, elements, |i, code| {
            codes[2 * i..2 * i + 2].copy_from_slice(&((code ^ flip) as u16).to_le_bytes());
        }),
        _ => careful::quantize(grid, top, elements, |i, code| codes[i] = (code ^ flip) as u8),
    }
}

/// One element at a time. `marked_top`: the last code of a number in a marked block.
fn decode_with_care<W: Work>(
    codec: &Codec,
    grid: &Grid<W>,
    marked_top: Option<u32>,
    largest: W,
    codes: &[u8],
    elements: &mut [u8],
) {
    let flip = codec.flip();
    match codec.code {
        Code::Bits4 => {
            let half = codes.len();
            let code = |i: usize| match i.checked_sub(half) {
                None => u32::from(codes[i] & 15),
                Some(i) => u32::from(codes[i] >> 4),
            };
            careful::dequantize(grid, marked_top, largest, code, elements);
        }
        Code::U16 | Code::I16 => {
            let code = |i: usize| u32::from(u16::from_le_bytes([codes[2 * i], codes[2 * i + 1]])) ^ flip;
            careful::dequantize(grid, marked_top, largest, code, elements);
        }
        _ => careful::dequantize(grid, marked_top, largest, |i| u32::from(codes[i]) ^ flip, elements),
    }
}
