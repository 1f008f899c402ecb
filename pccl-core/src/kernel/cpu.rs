//! Which of the compiled paths this CPU can take. All of them give the same bits.

use super::path::Baseline;
#[cfg(target_arch = "x86_64")]
use super::path::{Avx2, Avx512};

/// A path that this CPU has, as a value that loops are compiled with: it is made by asking the CPU, so whoever holds one has
/// been told so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpu {
    Baseline(Baseline),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Cpu {
    /// The best path here. A few loads: the standard library remembers what it found.
    pub fn best() -> Cpu {
        #[cfg(target_arch = "x86_64")]
        if let Some(cpu) = Avx512::detect().map(Cpu::Avx512).or_else(|| Avx2::detect().map(Cpu::Avx2)) {
            return cpu;
        }
        Cpu::Baseline(Baseline)
    }

    /// Every path this CPU can take: who takes the best one can take those below it.
    #[cfg(test)]
    pub fn all_here() -> Vec<Cpu> {
        let baseline = Some(Cpu::Baseline(Baseline));
        #[cfg(target_arch = "x86_64")]
        let all = [baseline, Avx2::detect().map(Cpu::Avx2), Avx512::detect().map(Cpu::Avx512)];
        #[cfg(not(target_arch = "x86_64"))]
        let all = [baseline];
        all.into_iter().flatten().collect()
    }
}
