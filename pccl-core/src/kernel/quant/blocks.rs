//! One block: which loop does it, and its header.

use super::careful::{self, ODD_CODES};
use super::codec::{Code, Codec};
use super::float8::{E4M3, E5M2, Float8};
use super::grid::{Extent, Grid};
use super::loops::{self, AsBf16, AsF16};
use super::work::Work;
use crate::kernel::cpu::Cpu;
use crate::types::{DType, MAX_BLOCK_ELEMENTS};

/// A block on its way between two forms; always hot in the cache.
pub struct Scratch {
    /// 16-bit floats as f32.
    singles: [u8; MAX_BLOCK_ELEMENTS * 4],
    /// Codes of 4 bits, each a byte.
    codes: [u8; MAX_BLOCK_ELEMENTS],
}

/// Never inlined: so that a profile tells encoding from decoding, and both from what is done with the elements.
impl Scratch {
    pub fn new() -> Scratch {
        Scratch { singles: [0; MAX_BLOCK_ELEMENTS * 4], codes: [0; MAX_BLOCK_ELEMENTS] }
    }

    #[inline(never)]
    pub fn encode(&mut self, cpu: Cpu, codec: &Codec, elements: &[u8], wire: &mut [u8]) {
        if wire.len() == elements.len() {
            return wire.copy_from_slice(elements);
        }
        let Scratch { singles, codes } = self;
        match codec.dtype {
            DType::F64 => encode_as::<f64>(cpu, codec, elements, wire, codes),
            DType::F32 => encode_as::<f32>(cpu, codec, elements, wire, codes),
            dtype => {
                let singles = &mut singles[..elements.len() * 2];
                widen(cpu, dtype, elements, singles);
                encode_as::<f32>(cpu, codec, singles, wire, codes);
            }
        }
    }

    #[inline(never)]
    pub fn decode(&mut self, cpu: Cpu, codec: &Codec, wire: &[u8], elements: &mut [u8]) {
        if wire.len() == elements.len() {
            return elements.copy_from_slice(wire);
        }
        let Scratch { singles, codes } = self;
        match codec.dtype {
            DType::F64 => decode_as::<f64>(cpu, codec, f64::MAX, wire, elements, codes),
            DType::F32 => decode_as::<f32>(cpu, codec, f32::MAX, wire, elements, codes),
            dtype => {
                let singles = &mut singles[..elements.len() * 2];
                decode_as::<f32>(cpu, codec, largest_half(dtype), wire, singles, codes);
                narrow(cpu, dtype, singles, elements);
            }
        }
    }
}

/// The largest number of a 16-bit float.
fn largest_half(dtype: DType) -> f32 {
    if dtype == DType::F16 { 65504.0 } else { f32::from_bits(0x7f7f_0000) }
}

fn widen(cpu: Cpu, dtype: DType, halves: &[u8], singles: &mut [u8]) {
    match dtype {
        DType::F16 => loops::widen::<AsF16>(cpu, halves, singles),
        _ => loops::widen::<AsBf16>(cpu, halves, singles),
    }
}

fn narrow(cpu: Cpu, dtype: DType, singles: &[u8], halves: &mut [u8]) {
    match dtype {
        DType::F16 => loops::narrow::<AsF16>(cpu, singles, halves),
        _ => loops::narrow::<AsBf16>(cpu, singles, halves),
    }
}

fn encode_as<W: Work>(cpu: Cpu, codec: &Codec, elements: &[u8], wire: &mut [u8], spare: &mut [u8]) {
    let (header, codes) = wire.split_at_mut(codec.header_bytes());
    match codec.code {
        Code::F16 => narrow(cpu, DType::F16, elements, codes),
        Code::BF16 => narrow(cpu, DType::BF16, elements, codes),
        Code::E4M3 => encode_float8::<W, E4M3>(cpu, elements, header, codes),
        Code::E5M2 => encode_float8::<W, E5M2>(cpu, elements, header, codes),
        _ => encode_grid::<W>(cpu, codec, elements, header, codes, spare),
    }
}

/// `largest`: of the elements' own type.
fn decode_as<W: Work>(
    cpu: Cpu,
    codec: &Codec,
    largest: W,
    wire: &[u8],
    elements: &mut [u8],
    spare: &mut [u8],
) {
    let (header, codes) = wire.split_at(codec.header_bytes());
    match codec.code {
        Code::F16 => widen(cpu, DType::F16, codes, elements),
        Code::BF16 => widen(cpu, DType::BF16, codes, elements),
        Code::E4M3 => decode_float8::<W, E4M3>(cpu, largest, header, codes, elements),
        Code::E5M2 => decode_float8::<W, E5M2>(cpu, largest, header, codes, elements),
        _ => decode_grid::<W>(cpu, codec, largest, header, codes, elements, spare),
    }
}

fn extent_of<W: Work>(cpu: Cpu, elements: &[u8]) -> Extent<W> {
    let mut extent = Extent { least: W::ZERO, greatest: W::ZERO, is_finite: true };
    loops::extent::<W>(cpu, elements, &mut extent);
    if extent.is_finite { extent } else { careful::finite_extent::<W>(elements) }
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

fn encode_grid<W: Work>(
    cpu: Cpu,
    codec: &Codec,
    elements: &[u8],
    header: &mut [u8],
    codes: &mut [u8],
    spare: &mut [u8],
) {
    let extent = extent_of::<W>(cpu, elements);
    let top = codec.top() - if extent.is_finite { 0 } else { ODD_CODES };
    let grid = if codec.has_zero { Grid::with_zero(extent, top) } else { Grid::centred(extent, top) };
    let (first, step) = grid.header(codec.has_zero);
    put_header(header, &[first, step], !extent.is_finite);
    let (flip, count) = (codec.flip(), elements.len() / W::BYTES);
    let with_care = grid.is_tiny() || !extent.is_finite;
    match codec.code {
        Code::Bits4 => {
            let unpacked = &mut spare[..count];
            if with_care {
                careful::quantize(&grid, top, elements, |i, code| unpacked[i] = code as u8);
            } else {
                loops::quantize::<W, u8>(cpu, &grid, 0, elements, unpacked);
            }
            loops::pack(cpu, unpacked, codes);
        }
        Code::U16 | Code::I16 if with_care => careful::quantize(&grid, top, elements, |i, code| {
            codes[2 * i..2 * i + 2].copy_from_slice(&((code ^ flip) as u16).to_le_bytes());
        }),
        Code::U16 | Code::I16 => loops::quantize::<W, u16>(cpu, &grid, flip, elements, codes),
        _ if with_care => careful::quantize(&grid, top, elements, |i, code| codes[i] = (code ^ flip) as u8),
        _ => loops::quantize::<W, u8>(cpu, &grid, flip, elements, codes),
    }
}

fn decode_grid<W: Work>(
    cpu: Cpu,
    codec: &Codec,
    largest: W,
    header: &[u8],
    codes: &[u8],
    elements: &mut [u8],
    spare: &mut [u8],
) {
    let (first, step) = (header_number::<W>(header, 0), header_number::<W>(header, 1));
    let is_marked = step.is_negative();
    let top = codec.top() - if is_marked { ODD_CODES } else { 0 };
    let grid = Grid::of_header(first, step.magnitude(), codec.has_zero, top);
    let with_care = is_marked || !grid.fits(W::LARGEST);
    let (flip, count, marked_top) = (codec.flip(), elements.len() / W::BYTES, is_marked.then_some(top));
    match codec.code {
        Code::Bits4 => {
            let unpacked = &mut spare[..count];
            loops::unpack(cpu, codes, unpacked);
            if with_care {
                careful::dequantize(&grid, marked_top, largest, |i| unpacked[i].into(), elements);
            } else {
                loops::dequantize::<W, u8>(cpu, &grid, 0, unpacked, elements);
            }
        }
        Code::U16 | Code::I16 if with_care => {
            let code = |i: usize| u32::from(u16::from_le_bytes([codes[2 * i], codes[2 * i + 1]])) ^ flip;
            careful::dequantize(&grid, marked_top, largest, code, elements);
        }
        Code::U16 | Code::I16 => loops::dequantize::<W, u16>(cpu, &grid, flip, codes, elements),
        _ if with_care => {
            careful::dequantize(&grid, marked_top, largest, |i| u32::from(codes[i]) ^ flip, elements);
        }
        _ => loops::dequantize::<W, u8>(cpu, &grid, flip, codes, elements),
    }
    if !with_care && !grid.fits(largest) {
        loops::clamp(cpu, largest, elements);
    }
}

fn encode_float8<W: Work, F: Float8>(cpu: Cpu, elements: &[u8], header: &mut [u8], codes: &mut [u8]) {
    let extent = extent_of::<W>(cpu, elements);
    let (least, greatest) = (extent.least.magnitude(), extent.greatest.magnitude());
    let (exponent, above) = if least > greatest { least } else { greatest }.exponent();
    let exponent = exponent - F::LARGEST_EXPONENT + i32::from(above);
    let exponent = Ord::max(exponent, W::LEAST_EXPONENT);
    put_header(header, &[W::power_of_two(exponent)], !extent.is_finite);
    let inverse = W::power_of_two(-exponent);
    if extent.is_finite {
        loops::to_float8::<W, F>(cpu, inverse, elements, codes);
    } else {
        careful::to_float8::<W, F>(inverse, elements, codes);
    }
}

fn decode_float8<W: Work, F: Float8>(cpu: Cpu, largest: W, header: &[u8], codes: &[u8], elements: &mut [u8]) {
    let step = header_number::<W>(header, 0);
    let is_marked = step.is_negative();
    let step = step.magnitude();
    let greatest = W::of(1.75) * W::power_of_two(F::LARGEST_EXPONENT);
    let fits = |largest: W| step * greatest <= largest * W::of(0.5);
    if fits(W::LARGEST) && !is_marked {
        loops::of_float8::<W, F>(cpu, step, codes, elements);
        if !fits(largest) {
            loops::clamp(cpu, largest, elements);
        }
    } else {
        careful::of_float8::<W, F>(step, is_marked, largest, codes, elements);
    }
}
