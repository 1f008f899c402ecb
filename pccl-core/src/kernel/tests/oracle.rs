//! The rule of the kernels, written down a second time: one element at a time, in wider arithmetic.

use std::cmp::Ordering;

use crate::types::{DType, ReduceOp};

/// What one element becomes.
pub fn combine(op: ReduceOp, dtype: DType, a: &[u8], b: &[u8]) -> Vec<u8> {
    if !is_float(dtype) {
        return integer_bytes(dtype, integer(op, to_integer(dtype, a), to_integer(dtype, b)));
    }
    let (a, b) = (to_float(dtype, a), to_float(dtype, b));
    let result = match op {
        // For f64 this is the operation itself. For the narrower ones the sum or product in f64 is exact, or
        // (sums of f32 far apart) rounded so far down that rounding again gives the same: 53 ≥ 2 · 24 + 2.
        ReduceOp::Sum | ReduceOp::Avg => a + b,
        ReduceOp::Prod => a * b,
        ReduceOp::Max | ReduceOp::Min if a.is_nan() || b.is_nan() => f64::NAN,
        ReduceOp::Max => {
            if a.total_cmp(&b) == Ordering::Greater {
                a
            } else {
                b
            }
        }
        ReduceOp::Min => {
            if a.total_cmp(&b) == Ordering::Less {
                a
            } else {
                b
            }
        }
    };
    float_bytes(dtype, result)
}

pub fn average(dtype: DType, sum: &[u8], world_size: u64) -> Vec<u8> {
    if !is_float(dtype) {
        // i128's division truncates towards zero.
        return integer_bytes(dtype, to_integer(dtype, sum) / i128::from(world_size));
    }
    match dtype {
        DType::F64 => float_bytes(dtype, to_float(dtype, sum) / world_size as f64),
        // The quotient of two f32, rounded to f64 and then to f32, is the quotient rounded to f32.
        _ => float_bytes(dtype, to_float(dtype, sum) / f64::from(world_size as f32)),
    }
}

fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
}

fn is_signed(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64)
}

fn to_integer(dtype: DType, bytes: &[u8]) -> i128 {
    let mut wide = [0; 16];
    if is_signed(dtype) && bytes[bytes.len() - 1] >= 0x80 {
        wide = [0xff; 16];
    }
    wide[..bytes.len()].copy_from_slice(bytes);
    i128::from_le_bytes(wide)
}

fn integer(op: ReduceOp, a: i128, b: i128) -> i128 {
    match op {
        ReduceOp::Sum | ReduceOp::Avg => a + b,
        ReduceOp::Prod => a.wrapping_mul(b),
        ReduceOp::Max => a.max(b),
        ReduceOp::Min => a.min(b),
    }
}

/// The low bytes: wrapping.
fn integer_bytes(dtype: DType, value: i128) -> Vec<u8> {
    value.to_le_bytes()[..dtype.size_bytes()].to_vec()
}

fn to_float(dtype: DType, bytes: &[u8]) -> f64 {
    match *bytes {
        [a, b] if dtype == DType::F16 => half::f16::from_le_bytes([a, b]).to_f64(),
        [a, b] => half::bf16::from_le_bytes([a, b]).to_f64(),
        [a, b, c, d] => f32::from_le_bytes([a, b, c, d]).into(),
        _ => f64::from_le_bytes(bytes.try_into().unwrap()),
    }
}

fn float_bytes(dtype: DType, value: f64) -> Vec<u8> {
    // The 16-bit floats are combined in f32 and rounded once more.
    let single = value as f32;
    match dtype {
        DType::F16 if value.is_nan() => 0x7e00u16.to_le_bytes().to_vec(),
        DType::BF16 if value.is_nan() => 0x7fc0u16.to_le_bytes().to_vec(),
        DType::F32 if value.is_nan() => 0x7fc0_0000u32.to_le_bytes().to_vec(),
        _ if value.is_nan() => 0x7ff8_0000_0000_0000u64.to_le_bytes().to_vec(),
        DType::F16 => half::f16::from_f32(single).to_le_bytes().to_vec(),
        DType::BF16 => half::bf16::from_f32(single).to_le_bytes().to_vec(),
        DType::F32 => single.to_le_bytes().to_vec(),
        _ => value.to_le_bytes().to_vec(),
    }
}
