//! G3: after an abort, the input is what it was, in place too, and so is a residual; out of place it is never touched.

use super::{Verdict, ensure};
use crate::sim::memory::CallMemory;

const G3: &str = "G3 inputs survive";

pub fn check(
    memory: &CallMemory,
    input: &[u8],
    residual: Option<&[u8]>,
    succeeded: bool,
    what: impl Fn() -> String,
) -> Verdict {
    let may_differ = succeeded && memory.in_place();
    ensure(may_differ || memory.send() == input, G3, || {
        format!("{}: the input was {input:02x?} and is {:02x?}", what(), memory.send())
    })?;
    ensure(succeeded || memory.residual() == residual, G3, || {
        format!("{}: the residual was {residual:02x?} and is {:02x?}", what(), memory.residual())
    })
}
