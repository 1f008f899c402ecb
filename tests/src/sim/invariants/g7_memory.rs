//! G7: bounded memory, also before authentication.

use pccl_core::limits;

use super::{Verdict, ensure};

const G7: &str = "G7 bounded memory";

/// What is kept for others at one place, and how much of it there may be.
pub fn at_most(kept: usize, most: usize, what: &str) -> Verdict {
    ensure(kept <= most, G7, || format!("{kept} {what}, at most {most} are allowed"))
}

pub fn parked(connections: usize) -> Verdict {
    at_most(connections, limits::MAX_PARKED_CONNECTIONS, "parked connections")
}

/// Whoever has gone or was turned away leaves nothing behind.
pub fn nothing_left(what: Vec<String>) -> Verdict {
    ensure(what.is_empty(), G7, || format!("left behind: {}", what.join(", ")))
}
