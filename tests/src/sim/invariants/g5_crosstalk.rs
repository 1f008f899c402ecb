//! G5: bytes of one operation or epoch never land in another's buffer, nor beside it, nor after its end.

use super::{Verdict, ensure};
use crate::sim::memory::CallMemory;

const G5: &str = "G5 no cross-talk";

/// At a call's end.
pub fn nothing_beside(memory: &CallMemory, what: impl FnOnce() -> String) -> Verdict {
    ensure(memory.guards_intact(), G5, || format!("{}: bytes beside the buffer were written", what()))
}

/// At the run's end, for all memory the program had back.
pub fn nothing_after<'a>(kept: impl Iterator<Item = (&'a String, &'a CallMemory)>) -> Verdict {
    for (what, memory) in kept {
        ensure(memory.untouched(), G5, || format!("{what}: the memory was written after the call's end"))?;
    }
    Ok(())
}
