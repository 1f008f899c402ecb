//! Arithmetic over spans of raw elements. One rule for every CPU:
//!
//! - Elements are little-endian, at any alignment.
//! - Integers wrap. An average is the wrapped sum divided by the world size, truncated towards zero.
//! - f32 and f64: one IEEE 754 operation per step, rounded to nearest even, never fused. f16 and bf16: both
//!   widened to f32 (exact), combined in f32, and the result rounded once to nearest even. An average is the
//!   final sum divided by the world size, which is converted to f32 (f64 for f64) first.
//! - Subnormals are neither flushed nor read as zero, whatever the host program has set: each call puts the
//!   floating-point mode right for its span and restores it (`float_mode`).
//! - Min and max: NaN wins over every number, −0 is less than +0.
//! - A result that is NaN is the one canonical quiet NaN of its type: positive, only the highest mantissa bit
//!   set (f16 `7e00`, bf16 `7fc0`, f32 `7fc00000`, f64 `7ff8000000000000`).
//!
//! Each element's result depends on its operands alone, so not on where a span was cut.

#![allow(unsafe_code)]

// Before those that use its macro.
#[macro_use]
mod walk;

mod ahead;
mod cpu;
mod division;
mod element;
mod float16;
mod float16_loops;
mod float_mode;
pub mod hash;
mod path;
pub mod quant;

#[cfg(test)]
mod tests;

use crate::types::{DType, ReduceOp};
use cpu::Cpu;
use element::{BFloat16, Half};
use float_mode::StandardFloatMode;

/// Runs an expression with `$t` standing for the Rust type of a `DType`.
macro_rules! for_dtype {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            DType::U8 => for_dtype!(@ $t = u8, $body),
            DType::I8 => for_dtype!(@ $t = i8, $body),
            DType::I16 => for_dtype!(@ $t = i16, $body),
            DType::U16 => for_dtype!(@ $t = u16, $body),
            DType::U32 => for_dtype!(@ $t = u32, $body),
            DType::I32 => for_dtype!(@ $t = i32, $body),
            DType::U64 => for_dtype!(@ $t = u64, $body),
            DType::I64 => for_dtype!(@ $t = i64, $body),
            DType::F16 => for_dtype!(@ $t = Half, $body),
            DType::BF16 => for_dtype!(@ $t = BFloat16, $body),
            DType::F32 => for_dtype!(@ $t = f32, $body),
            DType::F64 => for_dtype!(@ $t = f64, $body),
        }
    };
    (@ $t:ident = $type:ty, $body:expr) => {{
        type $t = $type;
        $body
    }};
}

/// `acc = acc op other`, element by element. `Avg` adds; `finish_average` divides.
///
/// Lengths are equal and a multiple of the element.
pub fn reduce_into(op: ReduceOp, dtype: DType, acc: &mut [u8], other: &[u8]) {
    reduce_into_on(Cpu::best(), op, dtype, acc, other);
}

/// `out = a op b`: the same bits as copying `a` to `out` and reducing `b` into it.
pub fn reduce_pair(op: ReduceOp, dtype: DType, out: &mut [u8], a: &[u8], b: &[u8]) {
    reduce_pair_on(Cpu::best(), op, dtype, out, a, b);
}

/// Divides final sums by the world size (at least 1).
pub fn finish_average(dtype: DType, buf: &mut [u8], world_size: u64) {
    finish_average_on(Cpu::best(), dtype, buf, world_size);
}

fn reduce_into_on(cpu: Cpu, op: ReduceOp, dtype: DType, acc: &mut [u8], other: &[u8]) {
    assert_eq!(acc.len(), other.len());
    assert!(acc.len().is_multiple_of(dtype.size_bytes()));
    let _mode = StandardFloatMode::enter();
    if !float16_loops::into(cpu, op, dtype, acc, other) {
        for_dtype!(dtype, T => walk::into_op::<T>(cpu, op, acc, other));
    }
}

fn reduce_pair_on(cpu: Cpu, op: ReduceOp, dtype: DType, out: &mut [u8], a: &[u8], b: &[u8]) {
    assert!(out.len() == a.len() && out.len() == b.len());
    assert!(out.len().is_multiple_of(dtype.size_bytes()));
    let _mode = StandardFloatMode::enter();
    if !float16_loops::pair(cpu, op, dtype, out, a, b) {
        for_dtype!(dtype, T => walk::pair_op::<T>(cpu, op, out, a, b));
    }
}

fn finish_average_on(cpu: Cpu, dtype: DType, buf: &mut [u8], world_size: u64) {
    assert!(world_size > 0);
    assert!(buf.len().is_multiple_of(dtype.size_bytes()));
    let _mode = StandardFloatMode::enter();
    if !float16_loops::average(cpu, dtype, buf, world_size) {
        for_dtype!(dtype, T => walk::average::<T>(cpu, buf, world_size));
    }
}
