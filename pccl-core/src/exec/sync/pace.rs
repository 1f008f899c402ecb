//! How much is asked of one source ahead of what it has sent: enough to keep its path full, little enough that a source
//! that turns slow does not hold up the end.

use crate::limits::{MAX_STATE_ASKS, MAX_STATE_WINDOW_BYTES};
use crate::types::Time;

/// Before anything is known about the path: about 80 ms at 400 Mbit/s.
const FIRST_WINDOW_BYTES: u64 = 4 << 20;
/// A window holds what the source sends in this time, and in two of its delays.
const WINDOW_US: u64 = 300_000;
/// The rate is measured over at least so long.
const SAMPLE_US: u64 = 50_000;

#[derive(Debug)]
pub(super) struct Pace {
    /// Asked for and not come: also what is wanted from others by now, since nothing tells the source.
    asked_bytes: u64,
    asked_blocks: usize,
    rate_bytes_per_s: u64,
    /// The shortest time from asking to having.
    delay_us: u64,
    sample_from: Time,
    sample_bytes: u64,
}

impl Pace {
    pub fn new(now: Time) -> Pace {
        Pace {
            asked_bytes: 0,
            asked_blocks: 0,
            rate_bytes_per_s: 0,
            delay_us: u64::MAX,
            sample_from: now,
            sample_bytes: 0,
        }
    }

    /// What may be asked for and not have come.
    pub fn window_bytes(&self) -> u64 {
        if self.rate_bytes_per_s == 0 {
            return FIRST_WINDOW_BYTES;
        }
        let span_us = WINDOW_US.saturating_add(self.delay_us.saturating_mul(2));
        let bytes = u128::from(self.rate_bytes_per_s) * u128::from(span_us) / 1_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX).clamp(FIRST_WINDOW_BYTES / 4, MAX_STATE_WINDOW_BYTES)
    }

    /// Whether it is worth asking for more: a good part of the window is free.
    pub fn has_room(&self) -> bool {
        let window = self.window_bytes();
        let few = self.asked_blocks <= MAX_STATE_ASKS - MAX_STATE_ASKS / 8;
        self.asked_blocks == 0 || few && self.asked_bytes <= window - window / 8
    }

    /// Whether another block may be asked for now. One may be, however large.
    pub fn takes(&self, bytes: u64) -> bool {
        let fits = self.asked_bytes + bytes <= self.window_bytes() && self.asked_blocks < MAX_STATE_ASKS;
        self.asked_blocks == 0 || fits
    }

    pub fn is_idle(&self) -> bool {
        self.asked_blocks == 0
    }

    pub fn asked(&mut self, bytes: u64, now: Time) {
        if self.asked_blocks == 0 {
            // What passes without anything to send says nothing about the path.
            (self.sample_from, self.sample_bytes) = (now, 0);
        }
        self.asked_bytes += bytes;
        self.asked_blocks += 1;
    }

    /// Nothing of what was asked will come any more: the links it would have come over are gone.
    pub fn forgotten(&mut self) {
        (self.asked_bytes, self.asked_blocks) = (0, 0);
    }

    pub fn came(&mut self, bytes: u64, asked_at: Time, now: Time) {
        self.delay_us = self.delay_us.min(now.since_us(asked_at));
        self.came_unwanted(bytes, now);
    }

    /// Another source was asked for it in the meantime. The path has carried it all the same.
    pub fn came_unwanted(&mut self, bytes: u64, now: Time) {
        self.asked_bytes = self.asked_bytes.saturating_sub(bytes);
        self.asked_blocks = self.asked_blocks.saturating_sub(1);
        self.sample_bytes += bytes;
        let span_us = now.since_us(self.sample_from);
        if span_us >= SAMPLE_US {
            let rate = u128::from(self.sample_bytes) * 1_000_000 / u128::from(span_us);
            let rate = u64::try_from(rate).unwrap_or(u64::MAX).max(1);
            let known = self.rate_bytes_per_s;
            self.rate_bytes_per_s = if known == 0 { rate } else { known / 2 + rate / 2 }.max(1);
            (self.sample_from, self.sample_bytes) = (now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 256 << 10;

    /// A source with this rate and delay, always asked for as much as fits; the window at the end, and the bytes that came.
    fn run(rate_bytes_per_s: u64, delay_us: u64, for_us: u64) -> (u64, u64) {
        let mut pace = Pace::new(Time(0));
        let (mut now, mut free_at, mut came) = (0, 0, 0);
        let mut under_way: std::collections::VecDeque<(u64, u64)> = Default::default();
        while now < for_us {
            while pace.takes(BLOCK) {
                free_at = free_at.max(now + delay_us) + BLOCK * 1_000_000 / rate_bytes_per_s;
                pace.asked(BLOCK, Time(now));
                under_way.push_back((now, free_at));
            }
            let (asked_at, here_at) = under_way.pop_front().unwrap();
            now = now.max(here_at);
            pace.came(BLOCK, Time(asked_at), Time(now));
            came += BLOCK;
        }
        (pace.window_bytes(), came)
    }

    #[test]
    fn a_window_grows_to_what_the_path_carries() {
        for (rate, delay_us) in [(125_000_000, 80_000), (12_500_000, 600_000), (1_250_000_000, 100_000)] {
            let (window, came) = run(rate, delay_us, 20_000_000);
            let path = rate * delay_us / 1_000_000;
            assert!(window >= (path + path / 4).min(MAX_STATE_WINDOW_BYTES), "{rate} {delay_us}: {window}");
            let possible = rate * 20;
            let bound = (MAX_STATE_WINDOW_BYTES * 1_000_000 / delay_us * 20).min(possible);
            assert!(came > bound / 10 * 8, "{rate} {delay_us}: {came} of {bound}");
        }
    }

    #[test]
    fn a_slow_source_is_asked_for_little() {
        let (window, _) = run(1_000_000, 20_000, 20_000_000);
        assert_eq!(window, FIRST_WINDOW_BYTES / 4);
    }

    #[test]
    fn one_block_may_always_be_asked_for() {
        let mut pace = Pace::new(Time(0));
        assert!(pace.takes(u64::MAX) && pace.has_room());
        pace.asked(FIRST_WINDOW_BYTES, Time(0));
        assert!(!pace.takes(1) && !pace.has_room() && !pace.is_idle());
        pace.came_unwanted(FIRST_WINDOW_BYTES, Time(1));
        assert!(pace.is_idle());
        pace.asked(1, Time(2));
        pace.forgotten();
        assert!(pace.is_idle());
    }
}
