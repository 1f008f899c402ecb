//! G7: bounded memory, also before authentication.

use pccl_core::exec::Kept;
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

/// Grants one peer may have sent for operations that are not here yet, or may have to be sent to it: programs in
/// the documented order are within a step of each other, and a step is a few operations of a few pieces.
const MOST_GRANTS_PER_PEER: usize = 200;

pub fn engine(kept: Kept, peers: usize, obedient: bool) -> Verdict {
    let most = if obedient { MOST_GRANTS_PER_PEER } else { limits::MAX_EARLY_GRANTS_PER_PEER };
    at_most(kept.early_grants, most * peers, "early grants")?;
    at_most(kept.queued_grants, most * peers, "queued grants")?;
    at_most(kept.early_asks, limits::MAX_EARLY_STATE_ASKS * peers, "early asks of shared state")?;
    at_most(kept.parked_bytes, limits::MAX_EAGER_BYTES_PER_PEER * peers, "parked bytes")?;
    at_most(kept.links, usize::from(limits::MAX_POOL_CONNECTIONS) * peers, "data connections")
}

/// Who has no operation under way has given back what operations take.
pub fn budget(kept: Kept, idle: bool) -> Verdict {
    at_most(if idle { kept.budget_bytes } else { 0 }, 0, "bytes of the budget without an operation")
}

/// Whoever has gone or was turned away leaves nothing behind.
pub fn nothing_left(what: Vec<String>) -> Verdict {
    ensure(what.is_empty(), G7, || format!("left behind: {}", what.join(", ")))
}
