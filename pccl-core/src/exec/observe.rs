//! What comes from each peer while operations run: for measurements that cost nothing.

use crate::limits::FIGURE_FRESH_MS;
use crate::types::Time;

/// A rate is that of a window which begins with a byte and is this long: shorter ones catch what had been held up.
const WINDOW_US: u64 = 250_000;

/// Of one peer.
#[derive(Debug, Default)]
pub(super) struct Observation {
    /// The window under way.
    begun: Option<Time>,
    bytes: u64,
    best: u64,
    best_at: Time,
}

impl Observation {
    pub fn heard(&mut self, bytes: u64, now: Time) {
        let begun = *self.begun.get_or_insert(now);
        self.bytes += bytes;
        let span_us = now.since_us(begun);
        if span_us >= WINDOW_US {
            let rate = (u128::from(self.bytes) * 1_000_000 / u128::from(span_us)) as u64;
            if rate > self.best || is_old(self.best_at, now) {
                (self.best, self.best_at) = (rate, now);
            }
            (self.begun, self.bytes) = (Some(now), 0);
        }
    }

    /// The best of the time that figures are fresh, if there is one.
    pub fn bytes_per_second(&self, now: Time) -> Option<u64> {
        (self.best > 0 && !is_old(self.best_at, now)).then_some(self.best)
    }
}

fn is_old(at: Time, now: Time) -> bool {
    now.since_us(at) >= FIGURE_FRESH_MS * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_late_counts_and_idle_time_does_not() {
        let mut peer = Observation::default();
        let second = |s: u64| Time(s * 1_000_000);
        peer.heard(1000, second(1));
        assert_eq!(peer.bytes_per_second(second(1)), None, "no window is over");
        peer.heard(1_000_000, Time(1_500_000));
        assert_eq!(peer.bytes_per_second(second(2)), Some(2_002_000));
        peer.heard(10, second(100));
        assert_eq!(peer.bytes_per_second(second(100)), Some(2_002_000), "a slow window says nothing");
        let later = second(2 + FIGURE_FRESH_MS / 1000);
        assert_eq!(peer.bytes_per_second(later), None, "it was too long ago");
        peer.heard(10, later);
        assert!(peer.bytes_per_second(later).is_none_or(|rate| rate < 2_002_000));
    }
}
