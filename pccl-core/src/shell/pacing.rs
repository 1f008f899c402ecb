//! The connections of a wide-area pair, paced to what the pair carries.
//!
//! Under bbr each connection sends at the best rate that it has seen lately, and that is one of a moment when others were idle. All at
//! once they are several times what the path carries: its queue overflows, and what is thrown away is sent again (measured:
//! 11 to 17 % of all packets, docs/PERFORMANCE.md). So while a pair has more to send than all its connections take, none of them
//! sends faster than its share of what was seen to get through.

use std::rc::Rc;
use std::time::Duration;

use super::pairs::Pair;
use super::peer_links::Watch;
use super::peer_loop::PeerLoop;
use crate::net::pacing::{Sent, limit, sent};
use crate::types::Time;

/// How long is looked at once: some round trips, as what a lost packet held up is acknowledged in one.
const LOOK_MS: u64 = 250;
/// A pair whose connections were idle for more of a look than this is not held up by its path.
const LEAST_BUSY_PERCENT: u64 = 80;
/// Before so many looks nothing is limited: the first ones see connections that get going.
const LEARNING_LOOKS: u32 = 4;
/// Shares are a little more than what was seen, in percent.
const GAIN_PERCENT: u64 = 105;
/// The same while the path shows that it carries more than was known, and in one look of so many after that: or a path that has
/// become faster would not show.
const PROBE_GAIN_PERCENT: u64 = 125;
const RISING_LOOKS: u32 = 4;
const PROBE_EVERY_LOOKS: u32 = 8;
/// What counts as more, in percent.
const RISE_PERCENT: u64 = 102;
/// The best of two such periods counts, so a path that has become slower shows after one or two.
const PERIOD_MS: u64 = 5_000;

/// What is known of the way to one peer.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// Connections are limited now.
    is_on: bool,
    /// How things stood at the last look, if all connections have been busy since.
    before: Option<Look>,
    /// The best of this period and of the one before.
    best_bytes_per_s: [u64; 2],
    period_began: Time,
    /// So many of which something was learnt.
    looks: u32,
    /// So many since the best has risen.
    since_rise: u32,
}

/// All connections of the pair.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Time,
    connections: u64,
    sent: Sent,
}

impl Pacing {
    /// All connections have more than they take.
    fn begin(&mut self, look: Look) -> Option<u64> {
        (self.is_on, self.before) = (true, Some(look));
        self.share(look.connections)
    }

    fn best(&self) -> u64 {
        let [this, before] = self.best_bytes_per_s;
        this.max(before)
    }

    fn share(&self, connections: u64) -> Option<u64> {
        let probes =
            self.since_rise < RISING_LOOKS || self.since_rise % PROBE_EVERY_LOOKS == PROBE_EVERY_LOOKS - 1;
        let gain_percent = if probes { PROBE_GAIN_PERCENT } else { GAIN_PERCENT };
        let all = self.best() * gain_percent / 100;
        (self.looks >= LEARNING_LOOKS && all > 0).then(|| all / connections.max(1))
    }

    /// The path does not hold this pair up. What is known of it stays.
    fn lift(&mut self) {
        (self.is_on, self.before) = (false, None);
    }

    /// What each connection may send in a second from now on. `None`: as much as it likes, as nothing is known yet, or the path
    /// does not hold the pair up.
    fn look(&mut self, look: Look) -> Option<u64> {
        let Some(before) = self.before.replace(look) else { return self.share(look.connections) };
        let span_us = look.at.since_us(before.at);
        if look.connections != before.connections || span_us == 0 {
            return self.share(look.connections);
        }
        let busy_us = look.sent.busy_us.saturating_sub(before.sent.busy_us);
        if busy_us * 100 < span_us * look.connections * LEAST_BUSY_PERCENT {
            self.lift();
            return None;
        }
        let bytes = look.sent.acked_bytes.saturating_sub(before.sent.acked_bytes);
        let rate = (u128::from(bytes) * 1_000_000 / u128::from(span_us)) as u64;
        self.since_rise = if rate * 100 > self.best() * RISE_PERCENT { 0 } else { self.since_rise + 1 };
        self.looks += 1;
        if look.at.since_us(self.period_began) >= PERIOD_MS * 1000 {
            self.best_bytes_per_s = [0, self.best_bytes_per_s[0]];
            self.period_began = look.at;
        }
        self.best_bytes_per_s[0] = self.best_bytes_per_s[0].max(rate);
        self.share(look.connections)
    }
}

impl Pair {
    fn look_at(&self, now: Time) -> Look {
        let mut look = Look { at: now, connections: self.links.len() as u64, sent: Sent::default() };
        for sent in self.links.values().filter_map(|watch| sent(&watch.stream)) {
            look.sent.acked_bytes += sent.acked_bytes;
            look.sent.busy_us += sent.busy_us;
        }
        look
    }

    fn limit_each(&self, bytes_per_s: Option<u64>) {
        for watch in self.links.values() {
            if watch.pace.replace(bytes_per_s) != bytes_per_s {
                limit(&watch.stream, bytes_per_s);
            }
        }
    }

    pub(super) fn lift(&mut self) {
        if self.pacing.is_on {
            self.pacing.lift();
            self.limit_each(None);
        }
    }

    /// Paces it from now if none of its connections takes any more; whether that is so.
    fn is_held_up(&mut self, now: Time) -> bool {
        let is_held_up =
            self.is_paced && !self.pacing.is_on && self.links.values().all(|link| link.is_full());
        if is_held_up {
            let share = self.pacing.begin(self.look_at(now));
            self.limit_each(share);
        }
        is_held_up
    }

    fn look_again(&mut self, now: Time) {
        if self.pacing.before.is_some_and(|before| now.since_us(before.at) < LOOK_MS * 900) {
            return;
        }
        // Small operations one after the other keep connections busy, too, and say nothing about the path.
        if self.links.values().any(|link| link.is_writable_wanted()) {
            let share = self.pacing.look(self.look_at(now));
            self.limit_each(share);
        } else {
            self.lift();
        }
    }
}

impl PeerLoop {
    /// This connection takes no more. Where none of the pair's does, and a call of the program is what they send, they are paced from now.
    /// Measurements are not: they look for what a path carries at most.
    pub(super) fn held_up(&self, watch: &Watch) {
        let now = self.clock.now();
        if self.moving.get() > 0
            && self.pairs.borrow_mut().get_mut(&watch.peer).is_some_and(|pair| pair.is_held_up(now))
        {
            self.paced.notify_one();
        }
    }

    /// Looks at all pairs that are paced, and sleeps while there is none.
    pub(super) async fn keep_pace(self: Rc<Self>) {
        loop {
            self.paced.notified().await;
            while self.look_again() {
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
            }
        }
    }

    /// Whether any pair is paced still.
    fn look_again(&self) -> bool {
        let now = self.clock.now();
        let mut pairs = self.pairs.borrow_mut();
        pairs.values_mut().filter(|pair| pair.pacing.is_on).for_each(|pair| pair.look_again(now));
        pairs.values().any(|pair| pair.pacing.is_on)
    }

    /// No call sends anything any more: what comes next may be a measurement.
    pub(super) fn pace_no_more(&self) {
        self.pairs.borrow_mut().values_mut().for_each(Pair::lift);
    }
}

#[cfg(test)]
#[path = "pacing_tests.rs"]
mod tests;
