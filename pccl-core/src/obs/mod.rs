//! Counts of what happened, fed by `shell`, `exec` and `net` alone. They do not depend on the weather: a test can
//! assert them where it must not assert a time. And where the log goes, for who has no place for it.

mod counters;
mod stats;
mod stderr_log;

pub use counters::Counters;
pub use stats::{LinkStats, Stats};
pub use stderr_log::{check_log_level, log_to_stderr, set_log_level};
