//! Which of the compiled paths this CPU can take. All of them give the same bits.

/// A path that this CPU has: whoever holds one has been told so by the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What the target promises: SSE2 on x86_64, NEON on aarch64.
    Baseline,
    /// AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ and VL, with all of the above.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Cpu {
    /// The best path here. A few loads: the standard library remembers what it found.
    pub fn best() -> Cpu {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("f16c") {
                let wide = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
                return Cpu(if wide { Level::Avx512 } else { Level::Avx2 });
            }
        }
        Cpu(Level::Baseline)
    }

    pub fn level(self) -> Level {
        self.0
    }

    /// Every path this CPU can take: who takes the best one can take those below it.
    #[cfg(test)]
    pub fn all_here() -> Vec<Cpu> {
        let best = Cpu::best();
        let all = [
            Level::Baseline,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512,
        ];
        all.into_iter().filter(|level| *level as u8 <= best.0 as u8).map(Cpu).collect()
    }
}
