//! Counts of what happened, fed by `shell`, `exec` and `net` alone. They do not depend on the weather: a test can
//! assert them where it must not assert a time.

mod counters;
mod stats;

pub use counters::Counters;
pub use stats::{LinkStats, Stats};
