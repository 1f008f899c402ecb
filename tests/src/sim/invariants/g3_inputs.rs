//! G3: after an abort, the input is what it was, in place too; out of place it is never touched.

use super::{Verdict, ensure};
use crate::sim::memory::CallMemory;

pub fn check(memory: &CallMemory, input: &[u8], succeeded: bool, what: impl FnOnce() -> String) -> Verdict {
    let may_differ = succeeded && memory.in_place();
    ensure(may_differ || memory.send() == input, "G3 inputs survive", || {
        format!("{}: the input was {input:02x?} and is {:02x?}", what(), memory.send())
    })
}
