//! One block: which loop does it, and its header.

use super::careful::{self, ODD_CODES};
use super::codec::{Code, Codec};
use super::float8::{E4M3, E5M2, Float8};
use super::form::{AsBf16, AsF16, Form};
use super::grid::{Extent, Grid};
use super::loops::{self, CodeCell, Limited, Unlimited};
use super::work::Work;
use crate::kernel::ahead::Ahead;
use crate::kernel::cpu::Cpu;
use crate::types::DType;

/// How blocks of an operation are done.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    pub cpu: Cpu,
    pub codec: &'a Codec,
    /// What is worked on next.
    pub ahead: Ahead,
}

/// Never inlined: so that a profile tells encoding from decoding, and both from what is done with the elements.
impl Way<'_> {
    #[inline(never)]
    pub fn encode(self, elements: &[u8], wire: &mut [u8]) {
        if wire.len() == elements.len() {
            return wire.copy_from_slice(elements);
        }
        match (self.codec.dtype, self.codec.code) {
            (DType::F32, Code::F16) => loops::narrow::<AsF16>(self.cpu, self.ahead, elements, wire),
            (DType::F32, Code::BF16) => loops::narrow::<AsBf16>(self.cpu, self.ahead, elements, wire),
            (DType::F64, _) => self.encode_form::<f64>(elements, wire),
            (DType::F32, _) => self.encode_form::<f32>(elements, wire),
            (DType::F16, _) => self.encode_form::<AsF16>(elements, wire),
            _ => self.encode_form::<AsBf16>(elements, wire),
        }
    }

    #[inline(never)]
    pub fn decode(self, wire: &[u8], elements: &mut [u8]) {
        if wire.len() == elements.len() {
            return elements.copy_from_slice(wire);
        }
        match (self.codec.dtype, self.codec.code) {
            (DType::F32, Code::F16) => loops::widen::<AsF16>(self.cpu, self.ahead, wire, elements),
            (DType::F32, Code::BF16) => loops::widen::<AsBf16>(self.cpu, self.ahead, wire, elements),
            (DType::F64, _) => self.decode_form::<f64>(wire, elements),
            (DType::F32, _) => self.decode_form::<f32>(wire, elements),
            (DType::F16, _) => self.decode_form::<AsF16>(wire, elements),
            _ => self.decode_form::<AsBf16>(wire, elements),
        }
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
    fn encode_form<F: Form>(&self, elements: &[u8], wire: &mut [u8]) {
        let (header, codes) = wire.split_at_mut(self.codec.header_bytes());
        match self.codec.code {
            Code::F16 | Code::BF16 => unreachable!("16-bit codes of {} elements", self.codec.dtype),
            Code::E4M3 => self.encode_float8::<F, E4M3>(elements, header, codes),
            Code::E5M2 => self.encode_float8::<F, E5M2>(elements, header, codes),
            _ => self.encode_grid::<F>(elements, header, codes),
        }
    }

    fn decode_form<F: Form>(&self, wire: &[u8], elements: &mut [u8]) {
        let (header, codes) = wire.split_at(self.codec.header_bytes());
        match self.codec.code {
            Code::F16 | Code::BF16 => unreachable!("16-bit codes of {} elements", self.codec.dtype),
            Code::E4M3 => self.decode_float8::<F, E4M3>(header, codes, elements),
            Code::E5M2 => self.decode_float8::<F, E5M2>(header, codes, elements),
            _ => self.decode_grid::<F>(header, codes, elements),
        }
    }

    fn extent<F: Form>(&self, ahead: Ahead, elements: &[u8]) -> Extent<F::Work> {
        let extent = F::extent(self.cpu, ahead, elements);
        if extent.is_finite { extent } else { careful::finite_extent::<F>(elements) }
    }

    fn encode_grid<F: Form>(&self, elements: &[u8], header: &mut [u8], codes: &mut [u8]) {
        let (codec, (soon, later)) = (self.codec, self.ahead.halves());
        let extent = self.extent::<F>(soon, elements);
        let top = codec.top() - if extent.is_finite { 0 } else { ODD_CODES };
        let grid = if codec.has_zero { Grid::with_zero(extent, top) } else { Grid::centred(extent, top) };
        let (first, step) = grid.header(codec.has_zero);
        put_header(header, &[first, step], !extent.is_finite);
        if grid.is_tiny() || !extent.is_finite {
            return encode_with_care::<F>(codec, &grid, top, elements, codes);
        }
        match codec.code {
            Code::Bits4 => quantize_4::<F>(self.cpu, later, &grid, extent, elements, codes),
            // Of elements of two bytes they would save nothing, and such blocks travel as they are.
            Code::U16 | Code::I16 if F::BYTES > 2 => {
                quantize::<F, u16>(self.cpu, later, &grid, codec.flip(), extent, elements, codes)
            }
            Code::U8 | Code::I8 => {
                quantize::<F, u8>(self.cpu, later, &grid, codec.flip(), extent, elements, codes)
            }
            code => unreachable!("{code:?} of elements of {} bytes on a grid", F::BYTES),
        }
    }

    fn decode_grid<F: Form>(&self, header: &[u8], codes: &[u8], elements: &mut [u8]) {
        let codec = self.codec;
        let (first, step) = (header_number::<F::Work>(header, 0), header_number::<F::Work>(header, 1));
        let is_marked = step.is_negative();
        let top = codec.top() - if is_marked { ODD_CODES } else { 0 };
        let grid = Grid::of_header(first, step.magnitude(), codec.has_zero, top);
        if is_marked || !grid.fits(F::Work::LARGEST) {
            return decode_with_care::<F>(codec, &grid, is_marked.then_some(top), codes, elements);
        }
        match codec.code {
            Code::Bits4 => dequantize_4::<F>(self.cpu, self.ahead, &grid, codes, elements),
            Code::U16 | Code::I16 if F::BYTES > 2 => {
                dequantize::<F, u16>(self.cpu, self.ahead, &grid, codec.flip(), codes, elements)
            }
            Code::U8 | Code::I8 => {
                dequantize::<F, u8>(self.cpu, self.ahead, &grid, codec.flip(), codes, elements)
            }
            code => unreachable!("{code:?} of elements of {} bytes on a grid", F::BYTES),
        }
    }

    fn encode_float8<F: Form, C: Float8>(&self, elements: &[u8], header: &mut [u8], codes: &mut [u8]) {
        let (soon, later) = self.ahead.halves();
        let extent = self.extent::<F>(soon, elements);
        let (least, greatest) = (extent.least.magnitude(), extent.greatest.magnitude());
        let (exponent, above) = if least > greatest { least } else { greatest }.exponent();
        let exponent = exponent - C::LARGEST_EXPONENT + i32::from(above);
        let exponent = Ord::max(exponent, F::Work::LEAST_EXPONENT);
        put_header(header, &[F::Work::power_of_two(exponent)], !extent.is_finite);
        let inverse = F::Work::power_of_two(-exponent);
        if extent.is_finite {
            loops::to_float8::<F, C>(self.cpu, later, inverse, elements, codes);
        } else {
            careful::to_float8::<F, C>(inverse, elements, codes);
        }
    }

    fn decode_float8<F: Form, C: Float8>(&self, header: &[u8], codes: &[u8], elements: &mut [u8]) {
        let step = header_number::<F::Work>(header, 0);
        let is_marked = step.is_negative();
        let step = step.magnitude();
        let greatest = F::Work::of(1.75) * F::Work::power_of_two(C::LARGEST_EXPONENT);
        let fits = |largest: F::Work| step * greatest <= largest * F::Work::of(0.5);
        if is_marked || !fits(F::Work::LARGEST) {
            return careful::of_float8::<F, C>(step, is_marked, codes, elements);
        }
        let decode = if !F::ENDS_EARLY || fits(F::LARGEST) {
            loops::of_float8::<F, C, Unlimited>
        } else {
            loops::of_float8::<F, C, Limited>
        };
        decode(self.cpu, self.ahead, step, codes, elements);
    }
}

fn quantize<F: Form, C: CodeCell>(
    cpu: Cpu,
    ahead: Ahead,
    grid: &Grid<F::Work>,
    flip: u32,
    extent: Extent<F::Work>,
    elements: &[u8],
    codes: &mut [u8],
) {
    if grid.reaches(extent) {
        loops::quantize::<F, C, Unlimited>(cpu, ahead, grid, flip, elements, codes);
    } else {
        loops::quantize::<F, C, Limited>(cpu, ahead, grid, flip, elements, codes);
    }
}

fn quantize_4<F: Form>(
    cpu: Cpu,
    ahead: Ahead,
    grid: &Grid<F::Work>,
    extent: Extent<F::Work>,
    elements: &[u8],
    codes: &mut [u8],
) {
    let (low, high) = elements.split_at(codes.len() * F::BYTES);
    if grid.reaches(extent) {
        loops::quantize_4::<F, Unlimited>(cpu, ahead, grid, low, high, codes);
    } else {
        loops::quantize_4::<F, Limited>(cpu, ahead, grid, low, high, codes);
    }
}

fn dequantize<F: Form, C: CodeCell>(
    cpu: Cpu,
    ahead: Ahead,
    grid: &Grid<F::Work>,
    flip: u32,
    codes: &[u8],
    elements: &mut [u8],
) {
    if !F::ENDS_EARLY || grid.fits(F::LARGEST) {
        loops::dequantize::<F, C, Unlimited>(cpu, ahead, grid, flip, codes, elements);
    } else {
        loops::dequantize::<F, C, Limited>(cpu, ahead, grid, flip, codes, elements);
    }
}

fn dequantize_4<F: Form>(cpu: Cpu, ahead: Ahead, grid: &Grid<F::Work>, codes: &[u8], elements: &mut [u8]) {
    let (low, high) = elements.split_at_mut(codes.len() * F::BYTES);
    if !F::ENDS_EARLY || grid.fits(F::LARGEST) {
        loops::dequantize_4::<F, Unlimited>(cpu, ahead, grid, codes, low, high);
    } else {
        loops::dequantize_4::<F, Limited>(cpu, ahead, grid, codes, low, high);
    }
}

/// One element at a time.
fn encode_with_care<F: Form>(
    codec: &Codec,
    grid: &Grid<F::Work>,
    top: u32,
    elements: &[u8],
    codes: &mut [u8],
) {
    let flip = codec.flip();
    match codec.code {
        Code::Bits4 => {
            let half = codes.len();
            careful::quantize::<F>(grid, top, elements, |i, code| match i.checked_sub(half) {
                None => codes[i] = code as u8,
                Some(i) => codes[i] |= (code as u8) << 4,
            });
        }
        Code::U16 | Code::I16 => careful::quantize::<F>(grid, top, elements, |i, code| {
            codes[2 * i..2 * i + 2].copy_from_slice(&((code ^ flip) as u16).to_le_bytes());
        }),
        _ => careful::quantize::<F>(grid, top, elements, |i, code| codes[i] = (code ^ flip) as u8),
    }
}

/// One element at a time. `marked_top`: the last code of a number in a marked block.
fn decode_with_care<F: Form>(
    codec: &Codec,
    grid: &Grid<F::Work>,
    marked_top: Option<u32>,
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
            careful::dequantize::<F>(grid, marked_top, code, elements);
        }
        Code::U16 | Code::I16 => {
            let code = |i: usize| u32::from(u16::from_le_bytes([codes[2 * i], codes[2 * i + 1]])) ^ flip;
            careful::dequantize::<F>(grid, marked_top, code, elements);
        }
        _ => careful::dequantize::<F>(grid, marked_top, |i| u32::from(codes[i]) ^ flip, elements),
    }
}
