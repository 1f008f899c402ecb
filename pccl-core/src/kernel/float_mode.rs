//! The floating-point mode of this thread, put right for as long as a kernel runs.

/// While it lives: round to nearest even, subnormals kept, no traps. Then the mode is as it was.
///
/// Loops that rely on it must not be inlined where it is made, so that no arithmetic moves across its borders.
pub struct StandardFloatMode {
    saved: imp::Mode,
}

impl StandardFloatMode {
    pub fn enter() -> StandardFloatMode {
        let saved = imp::read();
        imp::write(imp::STANDARD);
        StandardFloatMode { saved }
    }
}

impl Drop for StandardFloatMode {
    fn drop(&mut self) {
        imp::write(self.saved);
    }
}

#[cfg(target_arch = "x86_64")]
pub mod imp {
    use std::arch::asm;

    /// MXCSR.
    pub type Mode = u32;
    /// All exceptions masked, nearest even, neither flush-to-zero nor denormals-are-zero.
    pub const STANDARD: Mode = 0x1f80;
    #[cfg(test)]
    pub const FLUSH_AND_ROUND_UP: Mode = STANDARD | 1 << 15 | 1 << 6 | 0b10 << 13;

    pub fn read() -> Mode {
        let mut mode: Mode = 0;
        // SAFETY: stores four bytes to a local of that size; every x86_64 has SSE.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mode, options(nostack, preserves_flags)) };
        mode
    }

    pub fn write(mode: Mode) {
        // SAFETY: reads four bytes of a local. The value is `STANDARD` or was read before, so it has no
        // reserved bit set; code outside the guard's span runs in the mode its owner chose.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mode, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
pub mod imp {
    use std::arch::asm;

    /// FPCR.
    pub type Mode = u64;
    /// No traps, nearest even, no flushing, NaN operands as they are.
    pub const STANDARD: Mode = 0;
    #[cfg(test)]
    pub const FLUSH_AND_ROUND_UP: Mode = 1 << 24 | 0b01 << 22;

    pub fn read() -> Mode {
        let mode: Mode;
        // SAFETY: reads a register that every process may read.
        unsafe { asm!("mrs {}, fpcr", out(reg) mode, options(nostack, preserves_flags)) };
        mode
    }

    pub fn write(mode: Mode) {
        // SAFETY: every process may write it; 0 is the architecture's default, other values were read before.
        unsafe { asm!("msr fpcr, {}", in(reg) mode, options(nostack, preserves_flags)) };
    }
}

/// Elsewhere the mode is taken to be the standard one.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod imp {
    pub type Mode = ();
    pub const STANDARD: Mode = ();
    pub fn read() -> Mode {}
    pub fn write(_: Mode) {}
}
