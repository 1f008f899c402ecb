//! What a compiled path has of its own beside wider vectors: instructions that the compiler has no plain code for.

#[cfg(not(target_arch = "aarch64"))]
use super::float16;
#[cfg(target_arch = "aarch64")]
use super::float16_loops::neon;
#[cfg(target_arch = "x86_64")]
use super::float16_loops::x86;

/// Elements that a loop takes at once: a cache line of 8-bit codes, and enough vectors of f32 (four of the widest) that the
/// compiler makes a loop of vectors of it. Half as many it takes for straight code, and does one by one.
pub const LANES: usize = 64;

/// 16-bit floats as they lie in memory.
pub type Halves = [[u8; 2]; LANES];
pub type Singles = [f32; LANES];

/// A path, as a type, so that each loop is compiled with it. A value proves that this CPU has it: see `Cpu`.
pub trait Path: Copy {
    /// Numbers are exact; a NaN comes out as some NaN.
    fn widen_f16(self, halves: &Halves) -> Singles;
    /// As `float16::f32_to_f16`.
    fn narrow_f16(self, singles: &Singles) -> Halves;
}

/// What the target promises: SSE2 on x86_64, NEON on aarch64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baseline;

/// AVX2 and F16C.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

/// AVX-512 F, BW, DQ and VL, with all of the above.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// Asks for every feature that `for_each_cpu` (walk.rs) compiles this path with.
    pub fn detect() -> Option<Avx2> {
        use std::arch::is_x86_feature_detected as has;
        (has!("avx2") && has!("f16c")).then_some(Avx2(()))
    }
}

#[cfg(target_arch = "x86_64")]
impl Avx512 {
    /// As `Avx2::detect`.
    pub fn detect() -> Option<Avx512> {
        use std::arch::is_x86_feature_detected as has;
        let is_wide = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
        (Avx2::detect().is_some() && is_wide).then_some(Avx512(()))
    }
}

impl Path for Baseline {
    #[inline(always)]
    fn widen_f16(self, halves: &Halves) -> Singles {
        #[cfg(target_arch = "aarch64")]
        return neon::widen_lanes(halves);
        #[cfg(not(target_arch = "aarch64"))]
        halves.map(|half| float16::f16_to_f32(u16::from_le_bytes(half)))
    }

    #[inline(always)]
    fn narrow_f16(self, singles: &Singles) -> Halves {
        #[cfg(target_arch = "aarch64")]
        return neon::narrow_lanes(singles);
        #[cfg(not(target_arch = "aarch64"))]
        singles.map(|single| float16::f32_to_f16(single).to_le_bytes())
    }
}

#[cfg(target_arch = "x86_64")]
impl Path for Avx2 {
    #[inline(always)]
    fn widen_f16(self, halves: &Halves) -> Singles {
        // SAFETY: there is an `Avx2`, so the CPU has these features.
        unsafe { x86::widen_lanes_f16_256(halves) }
    }

    #[inline(always)]
    fn narrow_f16(self, singles: &Singles) -> Halves {
        // SAFETY: as above.
        unsafe { x86::narrow_lanes_f16_256(singles) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Path for Avx512 {
    #[inline(always)]
    fn widen_f16(self, halves: &Halves) -> Singles {
        // SAFETY: there is an `Avx512`, so the CPU has these features.
        unsafe { x86::widen_lanes_f16_512(halves) }
    }

    #[inline(always)]
    fn narrow_f16(self, singles: &Singles) -> Halves {
        // SAFETY: as above.
        unsafe { x86::narrow_lanes_f16_512(singles) }
    }
}
