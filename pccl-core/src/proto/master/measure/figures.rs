//! What measurements have told, by who measured: it ages, and is forgotten with its peers.

use std::collections::{BTreeMap, BTreeSet};

use super::own_links::{OwnLink, Shared};
use super::rounds::Flow;
use crate::limits::{FIGURE_FRESH_MS, MAX_FIGURE_BYTES_PER_SECOND};
use crate::types::{PeerId, Time};

/// What an operation got confirms a figure from this part of it on, and up to its inverse.
const CONFIRMS: f64 = 0.8;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    pub bytes_per_second: f64,
    at: Time,
    /// Operations got much more.
    is_doubted: bool,
}

/// What both ends say of the flows of one round, in bytes a second.
#[derive(Debug, Default)]
pub struct Together {
    pub sent: BTreeMap<Flow, u64>,
    pub heard: BTreeMap<Flow, u64>,
}

fn rate_in(told: &BTreeMap<Flow, u64>, flow: &Flow) -> Option<f64> {
    let rate = told.get(flow).copied().filter(|rate| *rate > 0)?;
    Some(rate.min(MAX_FIGURE_BYTES_PER_SECOND) as f64)
}

#[derive(Debug, Default)]
pub struct FigureStore {
    rates: BTreeMap<Flow, Figure>,
    round_trips_us: BTreeMap<Flow, u32>,
    /// What a peer's own link carried when everybody sent to everybody; no figure where it held nothing up.
    ups: BTreeMap<PeerId, Option<f64>>,
    downs: BTreeMap<PeerId, Option<f64>>,
    together_at: BTreeMap<PeerId, Time>,
    /// Grows with everything that is learnt or forgotten.
    version: u64,
}

impl FigureStore {
    /// Equal versions, equal figures.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn is_fresh(&self, flow: Flow, now: Time) -> bool {
        self.rates.get(&flow).is_some_and(|figure| !figure.is_doubted && is_fresh(figure.at, now))
    }

    /// Whether this peer has taken part in a round of everybody with everybody of late.
    pub fn is_fresh_together(&self, peer: PeerId, now: Time) -> bool {
        self.together_at.get(&peer).is_some_and(|at| is_fresh(*at, now))
    }

    /// 0 is a measurement that told nothing: what was known before is too old, so the pair is unknown.
    pub fn measured(&mut self, flow: Flow, bytes_per_second: u64, at: Time) {
        self.version += 1;
        let bytes_per_second = bytes_per_second.min(MAX_FIGURE_BYTES_PER_SECOND) as f64;
        if bytes_per_second > 0.0 {
            self.rates.insert(flow, Figure { bytes_per_second, at, is_doubted: false });
        } else {
            self.rates.remove(&flow);
        }
    }

    /// What an operation got at best. Near the figure it confirms it; far above it the figure is measured again, not
    /// replaced, as bytes that were held up come at more than the path's rate. Says nothing where it is much less, or
    /// where there is none.
    pub fn observed(&mut self, flow: Flow, bytes_per_second: u64, at: Time) {
        let observed = bytes_per_second.min(MAX_FIGURE_BYTES_PER_SECOND) as f64;
        if let Some(figure) = self.rates.get_mut(&flow)
            && observed >= CONFIRMS * figure.bytes_per_second
        {
            if CONFIRMS * observed <= figure.bytes_per_second {
                figure.at = at;
            } else if !std::mem::replace(&mut figure.is_doubted, true) {
                // No plan is made of it any more.
                self.version += 1;
            }
        }
    }

    pub fn round_trip(&mut self, flow: Flow, rtt_us: u32) {
        self.version += 1;
        self.round_trips_us.insert(flow, rtt_us);
    }

    /// What went over each flow while all of these ran at once. A peer's downlink is its own word, its uplink what it says
    /// to have sent, of which so much arrives as most of those who heard it say. Whether it was a limit, most of them say.
    ///
    /// Of a peer of whose flows too few told something, now and alone, nothing is learnt.
    pub fn measured_together(&mut self, flows: &BTreeSet<Flow>, told: &Together, at: Time) {
        self.version += 1;
        let mut links: BTreeMap<PeerId, (OwnLink, OwnLink)> = BTreeMap::new();
        for flow in flows {
            let heard = rate_in(&told.heard, flow).zip(self.rate(*flow));
            let heard = heard.map(|(together, alone)| Shared { alone, together, sent: None });
            let sent = heard.zip(rate_in(&told.sent, flow));
            let sent = sent.map(|(heard, sent)| Shared { sent: Some(sent), ..heard });
            links.entry(flow.0).or_default().0.add(sent);
            links.entry(flow.1).or_default().1.add(heard);
        }
        for (peer, (up, down)) in links {
            if up.is_told() && down.is_told() {
                self.ups.insert(peer, up.limit());
                self.downs.insert(peer, down.limit());
                self.together_at.insert(peer, at);
            }
        }
    }

    pub fn rate(&self, flow: Flow) -> Option<f64> {
        self.rates.get(&flow).map(|figure| figure.bytes_per_second)
    }

    /// The lesser of what both ends measured: whatever disturbs a measurement makes it greater.
    pub fn round_trip_us(&self, a: PeerId, b: PeerId) -> Option<u32> {
        let both = [self.round_trips_us.get(&(a, b)), self.round_trips_us.get(&(b, a))];
        both.into_iter().flatten().copied().min()
    }

    pub fn up(&self, peer: PeerId) -> Option<f64> {
        self.ups.get(&peer).copied().flatten()
    }

    pub fn down(&self, peer: PeerId) -> Option<f64> {
        self.downs.get(&peer).copied().flatten()
    }

    /// Since the oldest figure of what this peer sends; 0 where there is none.
    pub fn age_us(&self, peer: PeerId, now: Time) -> u64 {
        let of_peer = self.rates.range((peer, PeerId([0; 16]))..=(peer, PeerId([u8::MAX; 16])));
        of_peer.map(|(_, figure)| now.since_us(figure.at)).max().unwrap_or(0)
    }

    pub fn forget(&mut self, peer: PeerId) {
        self.version += 1;
        self.rates.retain(|(from, to), _| *from != peer && *to != peer);
        self.round_trips_us.retain(|(from, to), _| *from != peer && *to != peer);
        self.ups.remove(&peer);
        self.downs.remove(&peer);
        self.together_at.remove(&peer);
    }

    pub fn len(&self) -> usize {
        self.rates.len()
    }
}

fn is_fresh(at: Time, now: Time) -> bool {
    now.since_us(at) < FIGURE_FRESH_MS * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId([n; 16])
    }

    fn flows(peers: u8) -> impl Iterator<Item = (u8, u8)> {
        (0..peers).flat_map(move |a| (0..peers).filter(move |b| *b != a).map(move |b| (a, b)))
    }

    /// Everybody with everybody, `alone` each; then together, as one end says and as the other.
    fn of(
        peers: u8,
        alone: impl Fn(u8, u8) -> u64,
        sent: impl Fn(u8, u8) -> u64,
        heard: impl Fn(u8, u8) -> u64,
    ) -> FigureStore {
        let mut store = FigureStore::default();
        for (a, b) in flows(peers) {
            store.measured((peer(a), peer(b)), alone(a, b), Time(0));
        }
        let flow = |(a, b): (u8, u8)| (peer(a), peer(b));
        let told = Together {
            sent: flows(peers).map(|(a, b)| (flow((a, b)), sent(a, b))).collect(),
            heard: flows(peers).map(|(a, b)| (flow((a, b)), heard(a, b))).collect(),
        };
        store.measured_together(&flows(peers).map(flow).collect(), &told, Time(0));
        store
    }

    /// Three peers that tell the truth.
    fn store(alone: u64, together: impl Fn(u8, u8) -> u64) -> FigureStore {
        of(3, |_, _| alone, &together, &together)
    }

    #[test]
    fn a_link_of_its_own_is_a_limit_where_it_holds_up_all_flows() {
        // Peer 0 sends 100 in all; the others 200, which nothing holds up.
        let store = store(100, |from, _| if from == 0 { 50 } else { 100 });
        assert_eq!((store.up(peer(0)), store.up(peer(1)), store.up(peer(2))), (Some(100.0), None, None));
        // Peer 1 hears 50 from peer 0 and 100 from peer 2: its own link is no limit.
        assert!([0, 1, 2].iter().all(|n| store.down(peer(*n)).is_none()));
    }

    #[test]
    fn who_has_a_flow_that_told_nothing_is_asked_again() {
        let store = store(100, |from, to| if (from, to) == (0, 1) { 0 } else { 50 });
        assert!(!store.is_fresh_together(peer(0), Time(0)) && !store.is_fresh_together(peer(1), Time(0)));
        assert!(store.is_fresh_together(peer(2), Time(0)));
        assert_eq!((store.up(peer(0)), store.up(peer(2))), (None, Some(100.0)));
    }

    /// Of five peers each sends 100 in all, 25 to each other. Peer 4 tells lies of what comes to it.
    #[test]
    fn whoever_lies_changes_no_other_peers_link() {
        let honest = of(5, |_, _| 100, |_, _| 25, |_, _| 25);
        assert_eq!(honest.up(peer(0)), Some(100.0));
        // That nothing holds it up; that all of it came; that nothing came; that it gets little even alone.
        let lies: [(u64, u64); 4] = [(100, 100), (u64::MAX, u64::MAX), (100, 0), (1, 1)];
        for (alone_of_4, heard_by_4) in lies {
            let alone = |_, to| if to == 4 { alone_of_4 } else { 100 };
            let heard = |_, to| if to == 4 { heard_by_4 } else { 25 };
            let lied = of(5, alone, |_, _| 25, heard);
            for n in 0..4 {
                let up = lied.up(peer(n)).expect("it is still a limit");
                assert!((75.0..=111.0).contains(&up), "peer {n}: {up}");
                assert_eq!(lied.down(peer(n)), Some(100.0), "its own word");
                assert!(lied.is_fresh_together(peer(n), Time(0)), "nobody has to measure again for it");
            }
        }
        // What it says to have sent is of its own uplink.
        let lied = of(5, |_, _| 100, |from, _| if from == 4 { u64::MAX } else { 25 }, |_, _| 25);
        assert!((0..4).all(|n| (lied.up(peer(n)), lied.down(peer(n))) == (Some(100.0), Some(100.0))));
    }

    #[test]
    fn slow_paths_do_not_hide_an_uplink() {
        // Peer 0 reaches 1 and 2 over paths of 10, and shares 100 among them and the others.
        let path = |from, to| if (from, to) == (0, 1) || (from, to) == (0, 2) { 10 } else { 100 };
        let together = |from, to| match (from, to) {
            (0, 1 | 2) => 10,
            (0, _) => 40,
            _ => 100,
        };
        let store = of(5, path, together, together);
        assert_eq!((store.up(peer(0)), store.up(peer(1))), (Some(100.0), None));
    }

    #[test]
    fn paths_between_pairs_leave_no_limit() {
        let store = store(100, |_, _| 95);
        assert!([0, 1, 2].iter().all(|n| store.up(peer(*n)).is_none() && store.down(peer(*n)).is_none()));
    }

    #[test]
    fn figures_age_and_go_with_their_peer() {
        let mut store = store(100, |_, _| 50);
        let later = Time(FIGURE_FRESH_MS * 1000);
        assert!(store.is_fresh((peer(0), peer(1)), Time(0)) && store.is_fresh_together(peer(0), Time(0)));
        assert!(!store.is_fresh((peer(0), peer(1)), later) && !store.is_fresh_together(peer(0), later));
        assert_eq!(store.rate((peer(0), peer(1))), Some(100.0), "old, but better than nothing");
        store.measured((peer(0), peer(1)), 0, later);
        assert_eq!(store.rate((peer(0), peer(1))), None, "a measurement that told nothing");
        store.forget(peer(2));
        assert_eq!((store.len(), store.up(peer(2))), (1, None));
    }

    #[test]
    fn what_operations_get_keeps_a_figure_fresh() {
        let mut store = store(100, |_, _| 50);
        let later = Time(FIGURE_FRESH_MS * 1000);
        let seen = |store: &mut FigureStore, rate| {
            store.observed((peer(0), peer(1)), rate, later);
            assert_eq!(store.rate((peer(0), peer(1))), Some(100.0), "it is no measurement");
            store.is_fresh((peer(0), peer(1)), later)
        };
        assert!(!seen(&mut store, 79), "no operation has asked for all of it");
        assert!(seen(&mut store, 80) && seen(&mut store, 124));
        assert!(
            !seen(&mut store, 126),
            "held up and come at once, or more than was measured: to be measured again"
        );
        assert!(!seen(&mut store, 100), "once doubted it is not confirmed any more");
        store.measured((peer(0), peer(1)), 100, later);
        assert!(seen(&mut store, 100));
        store.observed((peer(0), peer(9)), 5, later);
        assert_eq!(store.rate((peer(0), peer(9))), None, "that is no measurement");
    }

    #[test]
    fn a_wild_figure_is_cut() {
        let mut store = FigureStore::default();
        store.measured((peer(0), peer(1)), u64::MAX, Time(0));
        assert_eq!(store.rate((peer(0), peer(1))), Some(MAX_FIGURE_BYTES_PER_SECOND as f64));
    }
}
