//! What comes from each peer while operations run: for measurements that cost nothing.

use std::collections::BTreeMap;

use crate::limits::FIGURE_FRESH_MS;
use crate::types::{Heard, PeerId, Time};

/// A rate is that of a window which begins with a byte and is this long: shorter ones catch what had been held up.
const WINDOW_US: u64 = 250_000;

#[derive(Debug, Default)]
pub(super) struct Observations(BTreeMap<PeerId, Observation>);

#[derive(Debug)]
struct Observation {
    begun: Time,
    bytes: u64,
    best: u64,
    best_at: Time,
}

impl Observations {
    pub fn heard(&mut self, from: PeerId, bytes: u64, now: Time) {
        let fresh = || Observation { begun: now, bytes: 0, best: 0, best_at: now };
        let of_peer = self.0.entry(from).or_insert_with(fresh);
        of_peer.bytes += bytes;
        let span_us = now.since_us(of_peer.begun);
        if span_us >= WINDOW_US {
            let rate = (u128::from(of_peer.bytes) * 1_000_000 / u128::from(span_us)) as u64;
            if rate > of_peer.best || is_old(of_peer.best_at, now) {
                (of_peer.best, of_peer.best_at) = (rate, now);
            }
            (of_peer.begun, of_peer.bytes) = (now, 0);
        }
    }

    pub fn forget(&mut self, peer: PeerId) {
        self.0.remove(&peer);
    }

    /// The best of the time that figures are fresh.
    pub fn best(&self, now: Time) -> Vec<Heard> {
        let best = self.0.iter().filter(|(_, of_peer)| of_peer.best > 0 && !is_old(of_peer.best_at, now));
        best.map(|(from, of_peer)| Heard { from: *from, bytes_per_second: of_peer.best }).collect()
    }
}

fn is_old(at: Time, now: Time) -> bool {
    now.since_us(at) >= FIGURE_FRESH_MS * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId([1; 16]);

    fn rate(observations: &Observations, now: Time) -> u64 {
        observations.best(now).iter().map(|heard| heard.bytes_per_second).sum()
    }

    #[test]
    fn the_best_of_late_counts_and_idle_time_does_not() {
        let mut observations = Observations::default();
        let second = |s: u64| Time(s * 1_000_000);
        observations.heard(PEER, 1000, second(1));
        assert_eq!(rate(&observations, second(1)), 0, "no window is over");
        observations.heard(PEER, 1_000_000, Time(1_500_000));
        assert_eq!(rate(&observations, second(2)), 2_002_000);
        observations.heard(PEER, 10, second(100));
        assert_eq!(rate(&observations, second(100)), 2_002_000, "a slow window says nothing");
        let later = second(2 + FIGURE_FRESH_MS / 1000);
        assert_eq!(rate(&observations, later), 0, "it was too long ago");
        observations.heard(PEER, 10, later);
        assert!(rate(&observations, later) < 2_002_000);
        observations.forget(PEER);
        assert_eq!(observations.best(later), []);
    }
}
