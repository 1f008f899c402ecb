//! What came of one peer's load, or went out to it, and when.

use crate::types::Time;

/// Bytes are counted by such stretches of time.
const SLOT_US: u64 = 5_000;
/// No load lasts so long: what comes later is not counted.
const MAX_SLOTS: u64 = 2_000;

#[derive(Debug, Default)]
pub(super) struct Arrival {
    first: Option<Time>,
    last: Time,
    /// Bytes in each stretch since the first came. The first bytes themselves began their way before.
    slots: Vec<u64>,
    ends: u32,
    ends_due: Option<u32>,
}

impl Arrival {
    pub fn add(&mut self, bytes: usize, now: Time) {
        let Some(first) = self.first else {
            self.first = Some(now);
            self.last = now;
            return;
        };
        let slot = now.since_us(first) / SLOT_US;
        if slot >= MAX_SLOTS {
            return;
        }
        if self.slots.len() as u64 <= slot {
            self.slots.resize(slot as usize + 1, 0);
        }
        self.slots[slot as usize] += bytes as u64;
        self.last = now;
    }

    /// One of `of` connections carries no more.
    pub fn end(&mut self, of: u32) {
        self.ends = self.ends.saturating_add(1);
        self.ends_due = Some(of);
    }

    pub fn is_over(&self) -> bool {
        self.ends_due.is_some_and(|of| self.ends >= of)
    }

    /// Over the later half, as senders and their algorithms for congestion need the first to find the rate. 0 if too little
    /// came to tell.
    pub fn bytes_per_second(&self) -> u64 {
        let Some(first) = self.first else { return 0 };
        let skipped = self.slots.len() / 2;
        let bytes: u64 = self.slots[skipped..].iter().sum();
        let span_us = self.last.since_us(first).saturating_sub(skipped as u64 * SLOT_US);
        if span_us == 0 { 0 } else { (u128::from(bytes) * 1_000_000 / u128::from(span_us)) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(bytes_at_us: &[(usize, u64)]) -> Arrival {
        let mut arrival = Arrival::default();
        for (bytes, at) in bytes_at_us {
            arrival.add(*bytes, Time(1_000_000 + at));
        }
        arrival
    }

    #[test]
    fn a_rate_is_that_of_the_later_half() {
        // A hundredth of the rate for 200 ms, then 1 MB/s.
        let slow = (0..200u64).map(|ms| (10, ms * 1000));
        let fast = (200..400u64).map(|ms| (1000, ms * 1000));
        let all: Vec<_> = slow.chain(fast).collect();
        let rate = arrival(&all).bytes_per_second();
        assert!((990_000..=1_010_000).contains(&rate), "{rate}");
    }

    #[test]
    fn too_little_says_nothing() {
        assert_eq!(Arrival::default().bytes_per_second(), 0);
        assert_eq!(arrival(&[(1 << 20, 0)]).bytes_per_second(), 0, "no time has passed");
        assert_eq!(arrival(&[(1 << 20, 0), (1 << 20, 0)]).bytes_per_second(), 0);
    }

    #[test]
    fn what_comes_too_late_takes_no_memory() {
        let mut arrival = arrival(&[(1, 0), (1, 1)]);
        arrival.add(1, Time(u64::MAX));
        assert_eq!(arrival.slots.len(), 1);
    }

    #[test]
    fn it_is_over_when_all_connections_have_ended() {
        let mut arrival = Arrival::default();
        assert!(!arrival.is_over());
        arrival.end(2);
        assert!(!arrival.is_over());
        arrival.end(2);
        assert!(arrival.is_over());
    }
}
