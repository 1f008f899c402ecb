//! Sums, products and averages of f16, and f16 to f32 and back, with NEON's instructions. (bf16 is integer work, which the compiler does well.)

use std::arch::aarch64::{
    float32x4_t, uint16x8_t, vaddq_f32, vbslq_f32, vceqq_f32, vcvt_f16_f32, vcvt_f32_f16, vcvt_high_f16_f32,
    vcvt_high_f32_f16, vdivq_f32, vdupq_n_f32, vget_low_f16, vld1q_f32, vld1q_u16, vmulq_f32,
    vreinterpretq_f16_u16, vreinterpretq_u16_f16, vst1q_f32, vst1q_u16,
};

use super::{Arithmetic, F32_NAN, walk};
use crate::kernel::path::{Halves, LANES, Singles};

#[target_feature(enable = "neon")]
fn canonical_nan(number: float32x4_t) -> float32x4_t {
    vbslq_f32(vceqq_f32(number, number), number, vdupq_n_f32(F32_NAN))
}

#[target_feature(enable = "neon")]
fn widen(halves: uint16x8_t) -> (float32x4_t, float32x4_t) {
    let halves = vreinterpretq_f16_u16(halves);
    (vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves))
}

/// Rounds as the mode of the thread says, which is the standard one here.
#[target_feature(enable = "neon")]
fn narrow(low: float32x4_t, high: float32x4_t) -> uint16x8_t {
    let low = vcvt_f16_f32(canonical_nan(low));
    vreinterpretq_u16_f16(vcvt_high_f16_f32(low, canonical_nan(high)))
}

walk!(
    f16,
    "neon",
    uint16x8_t,
    widen,
    narrow,
    vaddq_f32,
    vmulq_f32,
    vdivq_f32,
    vdupq_n_f32,
    vld1q_u16,
    vst1q_u16
);

/// # Safety
/// `from` is readable for 16 bytes, `to` writable for 32.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn widen_step(to: *mut u8, from: *const u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let (low, high) = widen(vld1q_u16(from.cast()));
        vst1q_f32(to.cast(), low);
        vst1q_f32(to.cast::<f32>().add(4), high);
    }
}

/// # Safety
/// `from` is readable for 32 bytes, `to` writable for 16.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn narrow_step(to: *mut u8, from: *const u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let (low, high) = (vld1q_f32(from.cast()), vld1q_f32(from.cast::<f32>().add(4)));
        vst1q_u16(to.cast(), narrow(low, high));
    }
}

#[inline(always)]
pub fn widen_lanes(halves: &Halves) -> Singles {
    let mut singles = [0.0; LANES];
    for at in (0..LANES).step_by(8) {
        let (to, from) = (singles[at..at + 8].as_mut_ptr(), halves[at..at + 8].as_ptr());
        // SAFETY: a step is 8 elements of both, and every aarch64 has NEON.
        unsafe { widen_step(to.cast(), from.cast()) };
    }
    singles
}

#[inline(always)]
pub fn narrow_lanes(singles: &Singles) -> Halves {
    let mut halves = [[0; 2]; LANES];
    for at in (0..LANES).step_by(8) {
        let (to, from) = (halves[at..at + 8].as_mut_ptr(), singles[at..at + 8].as_ptr());
        // SAFETY: a step is 8 elements of both, and every aarch64 has NEON.
        unsafe { narrow_step(to.cast(), from.cast()) };
    }
    halves
}
