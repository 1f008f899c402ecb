//! Sums, products and averages of 16-bit floats, and f16 to f32 and back, with the vectors of x86_64, and F16C for f16.

use std::arch::x86_64::{
    __m256, __m256i, __m512, __m512i, _CMP_UNORD_Q, _MM_FROUND_TO_NEAREST_INT, _mm256_add_epi32,
    _mm256_add_ps, _mm256_and_si256, _mm256_blendv_ps, _mm256_castps_si256, _mm256_castsi256_ps,
    _mm256_castsi256_si128, _mm256_cmp_ps, _mm256_cvtph_ps, _mm256_cvtps_ph, _mm256_div_ps,
    _mm256_extracti128_si256, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_mul_ps, _mm256_packus_epi32,
    _mm256_set_m128i, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256, _mm256_srli_epi32,
    _mm256_storeu_ps, _mm256_storeu_si256, _mm256_unpackhi_epi16, _mm256_unpacklo_epi16, _mm512_add_epi32,
    _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi256_si512, _mm512_castsi512_ps,
    _mm512_castsi512_si256, _mm512_cmp_ps_mask, _mm512_cvtph_ps, _mm512_cvtps_ph, _mm512_div_ps,
    _mm512_extracti64x4_epi64, _mm512_inserti64x4, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_mov_ps,
    _mm512_mul_ps, _mm512_packus_epi32, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512,
    _mm512_srli_epi32, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_unpackhi_epi16, _mm512_unpacklo_epi16,
};

use super::{Arithmetic, F32_NAN, walk};
use crate::kernel::path::{Halves, LANES, Singles};

const ROUND: i32 = _MM_FROUND_TO_NEAREST_INT;

#[target_feature(enable = "avx2")]
fn canonical_nan_256(number: __m256) -> __m256 {
    let nans = _mm256_cmp_ps::<_CMP_UNORD_Q>(number, number);
    _mm256_blendv_ps(number, _mm256_set1_ps(F32_NAN), nans)
}

#[target_feature(enable = "avx2,f16c")]
fn widen_f16_256(halves: __m256i) -> (__m256, __m256) {
    (_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(halves)))
}

#[target_feature(enable = "avx2,f16c")]
fn narrow_f16_256(low: __m256, high: __m256) -> __m256i {
    let low = _mm256_cvtps_ph::<ROUND>(canonical_nan_256(low));
    _mm256_set_m128i(_mm256_cvtps_ph::<ROUND>(canonical_nan_256(high)), low)
}

/// Each bf16 becomes the upper half of an f32.
#[target_feature(enable = "avx2")]
fn widen_bf16_256(numbers: __m256i) -> (__m256, __m256) {
    let zero = _mm256_setzero_si256();
    (
        _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, numbers)),
        _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, numbers)),
    )
}

#[target_feature(enable = "avx2")]
fn round_bf16_256(number: __m256) -> __m256i {
    let bits = _mm256_castps_si256(canonical_nan_256(number));
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    _mm256_srli_epi32::<16>(rounded)
}

#[target_feature(enable = "avx2")]
fn narrow_bf16_256(low: __m256, high: __m256) -> __m256i {
    _mm256_packus_epi32(round_bf16_256(low), round_bf16_256(high))
}

walk!(
    f16_avx2,
    "avx2,f16c",
    __m256i,
    widen_f16_256,
    narrow_f16_256,
    _mm256_add_ps,
    _mm256_mul_ps,
    _mm256_div_ps,
    _mm256_set1_ps,
    _mm256_loadu_si256,
    _mm256_storeu_si256
);
walk!(
    bf16_avx2,
    "avx2",
    __m256i,
    widen_bf16_256,
    narrow_bf16_256,
    _mm256_add_ps,
    _mm256_mul_ps,
    _mm256_div_ps,
    _mm256_set1_ps,
    _mm256_loadu_si256,
    _mm256_storeu_si256
);

#[target_feature(enable = "avx512f")]
fn canonical_nan_512(number: __m512) -> __m512 {
    let nans = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(number, number);
    _mm512_mask_mov_ps(number, nans, _mm512_set1_ps(F32_NAN))
}

#[target_feature(enable = "avx512f")]
fn widen_f16_512(halves: __m512i) -> (__m512, __m512) {
    (_mm512_cvtph_ps(_mm512_castsi512_si256(halves)), _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(halves)))
}

#[target_feature(enable = "avx512f")]
fn narrow_f16_512(low: __m512, high: __m512) -> __m512i {
    let low = _mm512_castsi256_si512(_mm512_cvtps_ph::<ROUND>(canonical_nan_512(low)));
    _mm512_inserti64x4::<1>(low, _mm512_cvtps_ph::<ROUND>(canonical_nan_512(high)))
}

#[target_feature(enable = "avx512f,avx512bw")]
fn widen_bf16_512(numbers: __m512i) -> (__m512, __m512) {
    let zero = _mm512_setzero_si512();
    (
        _mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, numbers)),
        _mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, numbers)),
    )
}

#[target_feature(enable = "avx512f")]
fn round_bf16_512(number: __m512) -> __m512i {
    let bits = _mm512_castps_si512(canonical_nan_512(number));
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    _mm512_srli_epi32::<16>(rounded)
}

#[target_feature(enable = "avx512f,avx512bw")]
fn narrow_bf16_512(low: __m512, high: __m512) -> __m512i {
    _mm512_packus_epi32(round_bf16_512(low), round_bf16_512(high))
}

walk!(
    f16_avx512,
    "avx512f",
    __m512i,
    widen_f16_512,
    narrow_f16_512,
    _mm512_add_ps,
    _mm512_mul_ps,
    _mm512_div_ps,
    _mm512_set1_ps,
    _mm512_loadu_si512,
    _mm512_storeu_si512
);
walk!(
    bf16_avx512,
    "avx512f,avx512bw",
    __m512i,
    widen_bf16_512,
    narrow_bf16_512,
    _mm512_add_ps,
    _mm512_mul_ps,
    _mm512_div_ps,
    _mm512_set1_ps,
    _mm512_loadu_si512,
    _mm512_storeu_si512
);

/// # Safety
/// `from` is readable for 32 bytes, `to` writable for 64.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn widen_step_f16_256(to: *mut u8, from: *const u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let (low, high) = widen_f16_256(_mm256_loadu_si256(from.cast()));
        _mm256_storeu_ps(to.cast(), low);
        _mm256_storeu_ps(to.cast::<f32>().add(8), high);
    }
}

/// # Safety
/// `from` is readable for 64 bytes, `to` writable for 32.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn narrow_step_f16_256(to: *mut u8, from: *const u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let (low, high) = (_mm256_loadu_ps(from.cast()), _mm256_loadu_ps(from.cast::<f32>().add(8)));
        _mm256_storeu_si256(to.cast(), narrow_f16_256(low, high));
    }
}

/// # Safety
/// `from` is readable for 64 bytes, `to` writable for 128.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn widen_step_f16_512(to: *mut u8, from: *const u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let (low, high) = widen_f16_512(_mm512_loadu_si512(from.cast()));
        _mm512_storeu_ps(to.cast(), low);
        _mm512_storeu_ps(to.cast::<f32>().add(16), high);
    }
}

/// # Safety
/// `from` is readable for 128 bytes, `to` writable for 64.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn narrow_step_f16_512(to: *mut u8, from: *const u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let (low, high) = (_mm512_loadu_ps(from.cast()), _mm512_loadu_ps(from.cast::<f32>().add(16)));
        _mm512_storeu_si512(to.cast(), narrow_f16_512(low, high));
    }
}

macro_rules! lanes {
    ($widen:ident, $narrow:ident, $features:literal, $step:literal, $widen_step:ident, $narrow_step:ident) => {
        #[inline]
        #[target_feature(enable = $features)]
        pub fn $widen(halves: &Halves) -> Singles {
            let mut singles = [0.0; LANES];
            for at in (0..LANES).step_by($step) {
                let (to, from) = (singles[at..at + $step].as_mut_ptr(), halves[at..at + $step].as_ptr());
                // SAFETY: a step is so many elements of both.
                unsafe { $widen_step(to.cast(), from.cast()) };
            }
            singles
        }

        #[inline]
        #[target_feature(enable = $features)]
        pub fn $narrow(singles: &Singles) -> Halves {
            let mut halves = [[0; 2]; LANES];
            for at in (0..LANES).step_by($step) {
                let (to, from) = (halves[at..at + $step].as_mut_ptr(), singles[at..at + $step].as_ptr());
                // SAFETY: a step is so many elements of both.
                unsafe { $narrow_step(to.cast(), from.cast()) };
            }
            halves
        }
    };
}

lanes!(widen_lanes_f16_256, narrow_lanes_f16_256, "avx2,f16c", 16, widen_step_f16_256, narrow_step_f16_256);
lanes!(widen_lanes_f16_512, narrow_lanes_f16_512, "avx512f", 32, widen_step_f16_512, narrow_step_f16_512);
