//! One clock for all processes of this machine, so that what they report can be put in order.

/// Microseconds on the machine's monotonic clock.
#[cfg(unix)]
pub fn now_us() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    // The monotonic clock exists on every system we build for; 0 would only spoil a figure.
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(|t| t.tv_sec() as u64 * 1_000_000 + t.tv_nsec() as u64 / 1_000)
        .unwrap_or(0)
}

/// Microseconds since 1970: where there is no monotonic clock that processes share.
#[cfg(not(unix))]
pub fn now_us() -> u64 {
    use std::time::{SystemTime, UNIX_EPOCH};
    SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_micros() as u64).unwrap_or(0)
}
