//! The connections of a wide-area pair, paced to what the pair carries.
//!
//! Under bbr each connection sends at the best rate that it has seen lately, and that is one of a moment when others were idle. All at
//! once they are several times what the path carries: its queue overflows, and what is thrown away is sent again (measured:
//! 11 to 17 % of all packets, docs/PERFORMANCE.md). So while a pair has more to send than all its connections take, none of them
//! sends faster than its share of what was seen to get through.

use std::rc::Rc;
use std::time::Duration;

use super::peer_links::Watch;
use super::peer_loop::PeerLoop;
use crate::net::pacing::{Sent, limit, sent};
use crate::types::{PeerId, Time};

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

/// What comes of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Each connection may send so much in a second; `None`: nothing is known yet.
    Limit(Option<u64>),
    /// The path does not hold this pair up.
    Lift,
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
    fn lift(&mut self) -> Verdict {
        (self.is_on, self.before) = (false, None);
        Verdict::Lift
    }

    fn look(&mut self, look: Look) -> Verdict {
        let Some(before) = self.before.replace(look) else {
            return Verdict::Limit(self.share(look.connections));
        };
        let span_us = look.at.since_us(before.at);
        if look.connections != before.connections || span_us == 0 {
            return Verdict::Limit(self.share(look.connections));
        }
        let busy_us = look.sent.busy_us.saturating_sub(before.sent.busy_us);
        if busy_us * 100 < span_us * look.connections * LEAST_BUSY_PERCENT {
            return self.lift();
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
        Verdict::Limit(self.share(look.connections))
    }
}

impl PeerLoop {
    /// This connection takes no more. Where none of the pair's does, and a call of the program is what they send, they are paced from now.
    /// Measurements are not: they look for what a path carries at most.
    pub(super) fn held_up(&self, watch: &Watch) {
        if !watch.is_paced || self.moving.get() == 0 || self.is_paced(watch.peer) {
            return;
        }
        let pair = self.pair(watch.peer);
        if pair.iter().all(|watch| watch.is_writable_wanted()) {
            let look = self.look_at(&pair);
            let mut all = self.pacing.borrow_mut();
            limit_each(&pair, all.entry(watch.peer).or_default().begin(look));
            self.paced.notify_one();
        }
    }

    fn is_paced(&self, peer: PeerId) -> bool {
        self.pacing.borrow().get(&peer).is_some_and(|pacing| pacing.is_on)
    }

    fn pair(&self, peer: PeerId) -> Vec<Rc<Watch>> {
        self.links.borrow().values().filter(|watch| watch.peer == peer).cloned().collect()
    }

    fn look_at(&self, pair: &[Rc<Watch>]) -> Look {
        let mut look = Look { at: self.clock.now(), connections: pair.len() as u64, sent: Sent::default() };
        for sent in pair.iter().filter_map(|watch| sent(&watch.stream)) {
            look.sent.acked_bytes += sent.acked_bytes;
            look.sent.busy_us += sent.busy_us;
        }
        look
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
        for (peer, pacing) in self.pacing.borrow_mut().iter_mut().filter(|(_, pacing)| pacing.is_on) {
            if pacing.before.is_some_and(|before| now.since_us(before.at) < LOOK_MS * 900) {
                continue;
            }
            let pair = self.pair(*peer);
            // Small operations one after the other keep connections busy, too, and say nothing about the path.
            let is_held_up = pair.iter().any(|watch| watch.is_writable_wanted());
            let verdict = if is_held_up { pacing.look(self.look_at(&pair)) } else { pacing.lift() };
            limit_each(&pair, if let Verdict::Limit(share) = verdict { share } else { None });
        }
        self.pacing.borrow().values().any(|pacing| pacing.is_on)
    }

    /// No call sends anything any more: what comes next may be a measurement.
    pub(super) fn pace_no_more(&self) {
        for (peer, pacing) in self.pacing.borrow_mut().iter_mut().filter(|(_, pacing)| pacing.is_on) {
            pacing.lift();
            limit_each(&self.pair(*peer), None);
        }
    }

    /// Its last connection has ended: another membership's path may be another one.
    pub(super) fn forget_path(&self, peer: PeerId) {
        if self.pair(peer).is_empty() {
            self.pacing.borrow_mut().remove(&peer);
        }
    }
}

fn limit_each(pair: &[Rc<Watch>], bytes_per_s: Option<u64>) {
    for watch in pair {
        if watch.pace.replace(bytes_per_s) != bytes_per_s {
            limit(&watch.stream, bytes_per_s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECTIONS: u64 = 8;

    /// A pair that is looked at again and again.
    struct Path {
        pacing: Pacing,
        look: Look,
    }

    impl Path {
        fn new() -> Path {
            let look = Look { at: Time(1_000_000), connections: CONNECTIONS, sent: Sent::default() };
            Path { pacing: Pacing::default(), look }
        }

        /// Until the next look it carries so many bytes a second, if it may, and is busy for so many percent of the time.
        fn carries(&mut self, bytes_per_s: u64, busy_percent: u64) -> Verdict {
            let allowed = self.pacing.share(CONNECTIONS).map_or(u64::MAX, |share| share * CONNECTIONS);
            self.look.at = self.look.at.plus_ms(LOOK_MS);
            self.look.sent.acked_bytes += bytes_per_s.min(allowed) * LOOK_MS / 1000;
            self.look.sent.busy_us += CONNECTIONS * LOOK_MS * 1000 * busy_percent / 100;
            self.pacing.look(self.look)
        }

        fn share(&self) -> u64 {
            self.pacing.share(CONNECTIONS).unwrap()
        }
    }

    /// One of which 80 MB a second are known.
    fn known() -> Path {
        let mut path = Path::new();
        assert_eq!(path.pacing.begin(path.look), None, "nothing is known");
        for _ in 1..LEARNING_LOOKS {
            assert_eq!(path.carries(80_000_000, 100), Verdict::Limit(None), "it is being learnt");
        }
        path.carries(80_000_000, 100);
        path
    }

    #[test]
    fn what_got_through_is_shared_out_and_a_little_more() {
        let mut path = known();
        let shares: Vec<u64> = (0..80)
            .map(|_| {
                path.carries(80_000_000, 100);
                path.share()
            })
            .collect();
        let probes = shares.iter().filter(|share| **share == 12_500_000).count();
        assert!((8..=12).contains(&probes), "one look of eight asks for more: {probes}");
        assert_eq!(shares.iter().filter(|share| **share == 10_500_000).count(), shares.len() - probes);
    }

    #[test]
    fn a_path_that_has_become_faster_is_found_out_and_one_that_has_become_slower_too() {
        let mut path = known();
        let looks = (1..).find(|_| {
            path.carries(640_000_000, 100);
            path.pacing.best() == 640_000_000
        });
        assert!(looks.is_some_and(|looks| looks <= 20), "eight times as fast, in looks: {looks:?}");
        let looks = (1..).find(|_| {
            path.carries(20_000_000, 100);
            path.pacing.best() == 20_000_000
        });
        assert!(
            looks.is_some_and(|looks| looks <= 2 * PERIOD_MS / LOOK_MS + 1),
            "a fraction, in looks: {looks:?}"
        );
    }

    #[test]
    fn what_is_lost_on_the_way_does_not_keep_a_low_estimate_low() {
        let mut path = known();
        // A tenth of what is allowed does not get through, whatever that is.
        let looks = (1..1000).find(|_| {
            let allowed = path.share() * CONNECTIONS;
            path.carries(160_000_000.min(allowed * 9 / 10), 100);
            path.pacing.best() == 160_000_000
        });
        assert!(looks.is_some_and(|looks| looks <= 60), "{looks:?}");
    }

    #[test]
    fn a_pair_that_has_pauses_is_not_held_up_by_its_path_and_what_is_known_of_it_stays() {
        let mut path = known();
        assert_eq!(path.carries(1_000_000, 50), Verdict::Lift);
        assert!(!path.pacing.is_on);
        assert!(path.pacing.begin(path.look).is_some(), "from the first byte of the next burst");
    }

    #[test]
    fn a_look_across_a_change_of_the_pool_says_nothing() {
        let mut path = known();
        let before = path.share();
        path.look.connections = 4;
        assert_eq!(
            path.carries(500_000_000, 100),
            Verdict::Limit(Some(2 * before)),
            "the same shared out among four"
        );
        assert_eq!(path.pacing.best(), 80_000_000);
    }
}
