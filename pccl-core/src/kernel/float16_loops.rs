//! Where a CPU has instructions for 16-bit floats, sums, products and averages of them go to loops of their own. The same
//! instructions convert f16 for other loops, a few vectors at a time (`path`).
//!
//! The rule is `float16`'s, bit for bit: widened, one operation in f32, every NaN made canonical, rounded once.
//! A vector is taken apart into two vectors of f32 and put together again in whatever order is cheapest.
//! Each function says whether it did the work; else the loops of `walk` do, with the same result.

use super::cpu::Cpu;
use crate::types::{DType, ReduceOp};

#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

const F32_NAN: f32 = f32::from_bits(0x7fc0_0000);

/// What to do with the widened elements.
#[derive(Clone, Copy)]
pub enum Arithmetic {
    Add,
    Mul,
    /// By one number.
    Divide(f32),
}

/// A loop: result, operands, their length in bytes.
type Walk = unsafe fn(Arithmetic, *mut u8, *const u8, *const u8, usize);

/// The loop for one type and one width: whole vectors, then one that is filled up with zeros.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! walk {
    ($name:ident, $features:literal, $vector:ty, $widen:ident, $narrow:ident,
     $add:ident, $mul:ident, $div:ident, $splat:ident, $load:ident, $store:ident) => {
        /// `out[i] = a[i] op b[i]` over `len` bytes, a multiple of 2. `Divide` does not look at `b`.
        ///
        /// # Safety
        /// `a` and `b` are readable and `out` writable for `len` bytes; `out` is `a`, or overlaps neither.
        #[target_feature(enable = $features)]
        pub unsafe fn $name(op: Arithmetic, out: *mut u8, a: *const u8, b: *const u8, len: usize) {
            const BYTES: usize = size_of::<$vector>();
            let combine = |a: $vector, b: $vector| {
                let ((a_low, a_high), (b_low, b_high)) = ($widen(a), $widen(b));
                match op {
                    Arithmetic::Add => $narrow($add(a_low, b_low), $add(a_high, b_high)),
                    Arithmetic::Mul => $narrow($mul(a_low, b_low), $mul(a_high, b_high)),
                    Arithmetic::Divide(by) => $narrow($div(a_low, $splat(by)), $div(a_high, $splat(by))),
                }
            };
            let whole = len - len % BYTES;
            for at in (0..whole).step_by(BYTES) {
                // SAFETY: `at + BYTES <= len`, and the caller vouches for `len` bytes.
                unsafe {
                    let (a, b) = ($load(a.add(at).cast()), $load(b.add(at).cast()));
                    $store(out.add(at).cast(), combine(a, b));
                }
            }
            let rest = len - whole;
            let (mut rest_a, mut rest_b) = ([0u8; BYTES], [0u8; BYTES]);
            // SAFETY: `whole + rest == len`, and the local arrays are longer than `rest`.
            unsafe {
                a.add(whole).copy_to_nonoverlapping(rest_a.as_mut_ptr(), rest);
                b.add(whole).copy_to_nonoverlapping(rest_b.as_mut_ptr(), rest);
                let result = combine($load(rest_a.as_ptr().cast()), $load(rest_b.as_ptr().cast()));
                $store(rest_a.as_mut_ptr().cast(), result);
                rest_a.as_ptr().copy_to_nonoverlapping(out.add(whole), rest);
            }
        }
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use walk;

pub fn into(cpu: Cpu, op: ReduceOp, dtype: DType, acc: &mut [u8], other: &[u8]) -> bool {
    let (Some(op), Some(walk)) = (arithmetic(op), walk_for(cpu, dtype)) else { return false };
    let (len, acc) = (acc.len().min(other.len()), acc.as_mut_ptr());
    // SAFETY: both spans are at least `len` long, and a mutable one overlaps no other; the CPU has the loop.
    unsafe { walk(op, acc, acc, other.as_ptr(), len) };
    true
}

pub fn pair(cpu: Cpu, op: ReduceOp, dtype: DType, out: &mut [u8], a: &[u8], b: &[u8]) -> bool {
    let (Some(op), Some(walk)) = (arithmetic(op), walk_for(cpu, dtype)) else { return false };
    let len = out.len().min(a.len()).min(b.len());
    // SAFETY: all spans are at least `len` long, and a mutable one overlaps no other; the CPU has the loop.
    unsafe { walk(op, out.as_mut_ptr(), a.as_ptr(), b.as_ptr(), len) };
    true
}

pub fn average(cpu: Cpu, dtype: DType, buf: &mut [u8], world_size: u64) -> bool {
    let Some(walk) = walk_for(cpu, dtype) else { return false };
    let (len, buf) = (buf.len(), buf.as_mut_ptr());
    // SAFETY: one span of `len` bytes in all three roles; the CPU has the loop.
    unsafe { walk(Arithmetic::Divide(world_size as f32), buf, buf, buf, len) };
    true
}

/// Minima and maxima are integer work, which the compiler does well.
fn arithmetic(op: ReduceOp) -> Option<Arithmetic> {
    match op {
        ReduceOp::Sum | ReduceOp::Avg => Some(Arithmetic::Add),
        ReduceOp::Prod => Some(Arithmetic::Mul),
        ReduceOp::Max | ReduceOp::Min => None,
    }
}

/// The loop for a type. A `Cpu` of a level exists only where the CPU has what that level's loops need.
fn walk_for(cpu: Cpu, dtype: DType) -> Option<Walk> {
    match (cpu, dtype) {
        #[cfg(target_arch = "x86_64")]
        (Cpu::Avx2(_), DType::F16) => Some(x86::f16_avx2),
        #[cfg(target_arch = "x86_64")]
        (Cpu::Avx2(_), DType::BF16) => Some(x86::bf16_avx2),
        #[cfg(target_arch = "x86_64")]
        (Cpu::Avx512(_), DType::F16) => Some(x86::f16_avx512),
        #[cfg(target_arch = "x86_64")]
        (Cpu::Avx512(_), DType::BF16) => Some(x86::bf16_avx512),
        #[cfg(target_arch = "aarch64")]
        (Cpu::Baseline(_), DType::F16) => Some(neon::f16),
        _ => None,
    }
}
