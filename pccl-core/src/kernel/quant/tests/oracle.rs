//! The rule of `docs/QUANTIZATION.md`, written down a second time: one element at a time, with nothing shared.

use half::{bf16, f16};

use crate::types::{DType, Quantization};

/// What one block of elements travels as.
pub fn encode_block(dtype: DType, quantization: Quantization, elements: &[u8]) -> Vec<u8> {
    let encoded = match dtype {
        DType::F64 => double::encode(&numbers(dtype, elements), quantization),
        _ => single::encode(
            &numbers(dtype, elements).iter().map(|x| *x as f32).collect::<Vec<_>>(),
            quantization,
        ),
    };
    if encoded.len() < elements.len() { encoded } else { elements.to_vec() }
}

/// What it stands for.
pub fn decode_block(dtype: DType, quantization: Quantization, wire: &[u8], count: usize) -> Vec<u8> {
    if wire.len() == count * dtype.size_bytes() {
        return wire.to_vec();
    }
    let bytes = |number: f64| match dtype {
        DType::F16 if number.is_nan() => vec![0x00, 0x7e],
        DType::BF16 if number.is_nan() => vec![0xc0, 0x7f],
        DType::F32 if number.is_nan() => 0x7fc0_0000u32.to_le_bytes().to_vec(),
        DType::F64 if number.is_nan() => (0x7ff8u64 << 48).to_le_bytes().to_vec(),
        DType::F16 => f16::from_f32(number as f32).to_le_bytes().to_vec(),
        DType::BF16 => bf16::from_f32(number as f32).to_le_bytes().to_vec(),
        DType::F32 => (number as f32).to_le_bytes().to_vec(),
        _ => number.to_le_bytes().to_vec(),
    };
    let largest = match dtype {
        DType::F16 => f16::MAX.to_f64(),
        DType::BF16 => bf16::MAX.to_f64(),
        DType::F32 => f32::MAX.into(),
        _ => f64::MAX,
    };
    let all = match dtype {
        DType::F64 => double::decode(wire, quantization, count, largest),
        _ => single::decode(wire, quantization, count, largest as f32),
    };
    all.into_iter().flat_map(bytes).collect()
}

/// As f64, which all four types are exact in.
pub fn numbers(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    let of = |bytes: &[u8]| match *bytes {
        [a, b] if dtype == DType::F16 => f16::from_le_bytes([a, b]).to_f64(),
        [a, b] => bf16::from_le_bytes([a, b]).to_f64(),
        [a, b, c, d] => f32::from_le_bytes([a, b, c, d]).into(),
        _ => f64::from_le_bytes(bytes.try_into().unwrap()),
    };
    bytes.chunks(dtype.size_bytes()).map(of).collect()
}

/// Number of codes, sign bit, whether 0 has a code.
fn shape(quantization: Quantization) -> (u32, u32, bool) {
    let of = |code| match code {
        DType::U8 => (256, 0),
        DType::I8 => (256, 0x80),
        DType::U16 => (65536, 0),
        DType::I16 => (65536, 0x8000),
        _ => unreachable!(),
    };
    match quantization {
        Quantization::MinMax(code) => (of(code).0, of(code).1, false),
        Quantization::ZeroPointScale(code) => (of(code).0, of(code).1, true),
        Quantization::Bits4 => (16, 0, true),
        _ => unreachable!(),
    }
}

fn put_codes(codes: &[u32], levels: u32) -> Vec<u8> {
    match levels {
        256 => codes.iter().map(|code| *code as u8).collect(),
        65536 => codes.iter().flat_map(|code| (*code as u16).to_le_bytes()).collect(),
        _ => {
            let half = codes.len().div_ceil(2);
            (0..half).map(|i| (codes[i] | codes.get(i + half).unwrap_or(&0) << 4) as u8).collect()
        }
    }
}

fn get_codes(bytes: &[u8], levels: u32, count: usize) -> Vec<u32> {
    match levels {
        256 => bytes.iter().map(|code| u32::from(*code)).collect(),
        65536 => bytes.chunks(2).map(|code| u16::from_le_bytes([code[0], code[1]]).into()).collect(),
        _ => {
            let half = count.div_ceil(2);
            let code = |i: usize| if i < half { bytes[i] & 15 } else { bytes[i - half] >> 4 };
            (0..count).map(|i| code(i).into()).collect()
        }
    }
}

/// What an 8-bit float stands for: sign, exponent and mantissa read as such.
pub fn float8(quantization: Quantization, code: u8) -> f64 {
    let (mantissa_bits, bias) = float8_shape(quantization);
    let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
    let (exponent, mantissa) = (i32::from(code & 0x7f) >> mantissa_bits, code & ((1 << mantissa_bits) - 1));
    let fraction = f64::from(mantissa) / f64::from(1 << mantissa_bits);
    let (whole, exponent) = if exponent == 0 { (0.0, 1) } else { (1.0, exponent) };
    sign * (whole + fraction) * 2f64.powi(exponent - bias)
}

fn float8_shape(quantization: Quantization) -> (i32, i32) {
    if quantization == Quantization::Float8E4M3 { (3, 7) } else { (2, 15) }
}

pub fn float8_largest(quantization: Quantization) -> f64 {
    if quantization == Quantization::Float8E4M3 { 448.0 } else { 57344.0 }
}

/// The nearest one, of two the one with the even code.
fn to_float8(quantization: Quantization, number: f32) -> u8 {
    let wanted = f64::from(number.abs());
    let codes = (0..128u8).filter(|code| float8(quantization, *code) <= float8_largest(quantization));
    let far = |code: &u8| (float8(quantization, *code) - wanted).abs();
    let best = codes.min_by(|a, b| far(a).partial_cmp(&far(b)).unwrap().then((a & 1).cmp(&(b & 1)))).unwrap();
    best | if number.is_sign_negative() { 0x80 } else { 0 }
}

macro_rules! in_arithmetic_of {
    ($module:ident, $type:ident) => {
        mod $module {
            use super::*;

            const BYTES: usize = size_of::<$type>();

            fn extremes(elements: &[$type]) -> ($type, $type) {
                let finite: Vec<$type> = elements.iter().copied().filter(|x| x.is_finite()).collect();
                let greatest = finite.iter().copied().reduce($type::max).unwrap_or(0.0);
                (finite.iter().copied().reduce($type::min).unwrap_or(0.0), greatest)
            }

            pub fn encode(elements: &[$type], quantization: Quantization) -> Vec<u8> {
                let nan_as = |bits: u16, x: &$type, wire: u16| if x.is_nan() { bits } else { wire };
                match quantization {
                    Quantization::Float16 => {
                        let code = |x: &$type| nan_as(0x7e00, x, f16::from_f32(*x as f32).to_bits());
                        elements.iter().flat_map(|x| code(x).to_le_bytes()).collect()
                    }
                    Quantization::BFloat16 => {
                        let code = |x: &$type| nan_as(0x7fc0, x, bf16::from_f32(*x as f32).to_bits());
                        elements.iter().flat_map(|x| code(x).to_le_bytes()).collect()
                    }
                    Quantization::Float8E4M3 | Quantization::Float8E5M2 => {
                        encode_float8(elements, quantization)
                    }
                    _ => encode_grid(elements, quantization),
                }
            }

            fn encode_float8(elements: &[$type], quantization: Quantization) -> Vec<u8> {
                let is_marked = elements.iter().any(|x| !x.is_finite());
                let (least, greatest) = extremes(elements);
                let largest = least.abs().max(greatest.abs());
                // The least power of two, of those that are normal, that brings all within range.
                let mut power = $type::MIN_POSITIVE;
                while power * (float8_largest(quantization) as $type) < largest {
                    power *= 2.0;
                }
                let mut wire = (if is_marked { -power } else { power }).to_le_bytes().to_vec();
                wire.extend(elements.iter().map(|x| match to_float8_or_odd(*x, power, quantization) {
                    0x80 if is_marked && !x.is_nan() => 0,
                    code => code,
                }));
                wire
            }

            fn to_float8_or_odd(x: $type, power: $type, quantization: Quantization) -> u8 {
                if x.is_nan() {
                    0x80
                } else if x.is_infinite() {
                    if x > 0.0 { 0x7f } else { 0xff }
                } else {
                    to_float8(quantization, (x / power) as f32)
                }
            }

            fn encode_grid(elements: &[$type], quantization: Quantization) -> Vec<u8> {
                let (levels, sign_bit, has_zero) = shape(quantization);
                let is_marked = elements.iter().any(|x| !x.is_finite());
                let top = levels - 1 - if is_marked { 3 } else { 0 };
                let (least, greatest) = extremes(elements);
                let t = top as $type;
                let (low, high) =
                    if has_zero { (least.min(0.0), greatest.max(0.0)) } else { (least, greatest) };
                let is_huge = (high - low).is_infinite();
                let step = match (has_zero, is_huge) {
                    (true, _) if least == greatest => least.abs(),
                    (true, true) => high / t - low / t,
                    (false, true) => (high * 0.5 - low * 0.5) / (t * 0.5),
                    _ => (high - low).abs() / t,
                };
                let steps_of = |distance: $type| {
                    if step == 0.0 {
                        0.0
                    } else if step < $type::MIN_POSITIVE {
                        distance / step
                    } else {
                        distance * (1.0 / step)
                    }
                };
                let base = match (has_zero, is_huge) {
                    (true, _) => 0.0,
                    (false, true) => low * 0.5 + high * 0.5,
                    (false, false) => low + (high - low) * 0.5 + 0.0,
                };
                let zero =
                    if has_zero { steps_of(low.abs()).clamp(0.0, t).round_ties_even() } else { t * 0.5 };
                let code = |x: &$type| {
                    let code = if x.is_nan() {
                        top + 3
                    } else if x.is_infinite() {
                        top + if *x > 0.0 { 2 } else { 1 }
                    } else {
                        (steps_of(*x - base) + zero).clamp(0.0, t).round_ties_even() as u32
                    };
                    code ^ sign_bit
                };
                let mut wire = (if has_zero { zero } else { base }).to_le_bytes().to_vec();
                wire.extend((if is_marked { -step } else { step }).to_le_bytes());
                wire.extend(put_codes(&elements.iter().map(code).collect::<Vec<_>>(), levels));
                wire
            }

            fn number(wire: &[u8], index: usize) -> $type {
                $type::from_le_bytes(wire[index * BYTES..(index + 1) * BYTES].try_into().unwrap())
            }

            pub fn decode(wire: &[u8], quantization: Quantization, count: usize, largest: $type) -> Vec<f64> {
                let halves = wire.chunks(2).map(|code| u16::from_le_bytes([code[0], *code.last().unwrap()]));
                let all: Vec<$type> = match quantization {
                    Quantization::Float16 => {
                        halves.map(|bits| f16::from_bits(bits).to_f64() as $type).collect()
                    }
                    Quantization::BFloat16 => {
                        halves.map(|bits| bf16::from_bits(bits).to_f64() as $type).collect()
                    }
                    Quantization::Float8E4M3 | Quantization::Float8E5M2 => {
                        let power = number(wire, 0);
                        let value = |code: &u8| match code {
                            0x80 if power.is_sign_negative() => $type::NAN,
                            0x7f if power.is_sign_negative() => $type::INFINITY,
                            0xff if power.is_sign_negative() => -$type::INFINITY,
                            code => {
                                (float8(quantization, *code) as $type * power.abs()).clamp(-largest, largest)
                            }
                        };
                        wire[BYTES..].iter().map(value).collect()
                    }
                    _ => decode_grid(wire, quantization, count, largest),
                };
                all.into_iter().map(f64::from).collect()
            }

            fn decode_grid(
                wire: &[u8],
                quantization: Quantization,
                count: usize,
                largest: $type,
            ) -> Vec<$type> {
                let (levels, sign_bit, has_zero) = shape(quantization);
                let (first, step) = (number(wire, 0), number(wire, 1));
                let is_marked = step.is_sign_negative();
                let top = levels - 1 - if is_marked { 3 } else { 0 };
                let (base, zero) = if has_zero { (0.0, first) } else { (first, top as $type * 0.5) };
                let value = |code: u32| match code.saturating_sub(top) {
                    0 => (base + (code as $type - zero) * step.abs()).clamp(-largest, largest),
                    1 => -$type::INFINITY,
                    2 => $type::INFINITY,
                    _ => $type::NAN,
                };
                let codes = get_codes(&wire[2 * BYTES..], levels, count);
                codes.into_iter().map(|code| value(code ^ sign_bit)).collect()
            }
        }
    };
}

in_arithmetic_of!(single, f32);
in_arithmetic_of!(double, f64);
