//! What measurements have told, by who measured: it ages, and is forgotten with its peers.

use std::collections::{BTreeMap, BTreeSet};

use super::rounds::Flow;
use crate::limits::{FIGURE_FRESH_MS, MAX_FIGURE_BYTES_PER_SECOND};
use crate::types::{PeerId, Time};

/// A flow that gets less than this part of what it gets alone is held up by one of its ends' own links.
const THROTTLED: f64 = 0.8;

/// What an operation got confirms a figure from this part of it on.
const CONFIRMS: f64 = 0.8;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    pub bytes_per_second: f64,
    at: Time,
}

#[derive(Debug, Default)]
pub struct FigureStore {
    rates: BTreeMap<Flow, Figure>,
    round_trips_us: BTreeMap<Flow, u32>,
    /// What a peer's own link carried when everybody sent to everybody; no figure where nothing held it up.
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
        self.rates.get(&flow).is_some_and(|figure| is_fresh(figure.at, now))
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
            self.rates.insert(flow, Figure { bytes_per_second, at });
        } else {
            self.rates.remove(&flow);
        }
    }

    /// What an operation got: at most what the path can. Says nothing where it is much less than the figure, or where there
    /// is none.
    pub fn observed(&mut self, flow: Flow, bytes_per_second: u64, at: Time) {
        let observed = bytes_per_second.min(MAX_FIGURE_BYTES_PER_SECOND) as f64;
        if let Some(figure) = self.rates.get_mut(&flow)
            && observed >= CONFIRMS * figure.bytes_per_second
        {
            self.version += u64::from(observed > figure.bytes_per_second);
            *figure = Figure { bytes_per_second: figure.bytes_per_second.max(observed), at };
        }
    }

    pub fn round_trip(&mut self, flow: Flow, rtt_us: u32) {
        self.version += 1;
        self.round_trips_us.insert(flow, rtt_us);
    }

    /// What came over each flow while all of these ran at once. A peer's own link is a limit where it held up all of the
    /// peer's flows; what it carried then is what it can.
    ///
    /// Nothing is learnt of a peer with a flow that told nothing, now or alone.
    pub fn measured_together(&mut self, flows: &BTreeSet<Flow>, heard: &BTreeMap<Flow, u64>, at: Time) {
        self.version += 1;
        let mut peers: Vec<PeerId> = flows.iter().flat_map(|(from, to)| [*from, *to]).collect();
        peers.sort_unstable();
        peers.dedup();
        for peer in peers {
            let silent =
                |flow: &Flow| heard.get(flow).is_none_or(|rate| *rate == 0) || !self.rates.contains_key(flow);
            if flows.iter().filter(|(from, to)| *from == peer || *to == peer).any(silent) {
                continue;
            }
            let up = self.limit(heard, |(from, _)| *from == peer);
            let down = self.limit(heard, |(_, to)| *to == peer);
            self.ups.insert(peer, up);
            self.downs.insert(peer, down);
            self.together_at.insert(peer, at);
        }
    }

    fn limit(&self, heard: &BTreeMap<Flow, u64>, of_peer: impl Fn(&Flow) -> bool) -> Option<f64> {
        let (mut sum, mut flows) = (0.0, 0);
        for (flow, rate) in heard.iter().filter(|(flow, _)| of_peer(flow)) {
            let rate = (*rate).min(MAX_FIGURE_BYTES_PER_SECOND) as f64;
            let alone = self.rates.get(flow)?.bytes_per_second;
            if rate >= THROTTLED * alone {
                return None;
            }
            sum += rate;
            flows += 1;
        }
        // One flow alone shares with nobody.
        (flows > 1 && sum > 0.0).then_some(sum)
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

    /// Everybody with everybody, of three peers, `alone` each; then together, as `together` says.
    fn store(alone: u64, together: impl Fn(u8, u8) -> u64) -> FigureStore {
        let mut store = FigureStore::default();
        let flows = || (0..3).flat_map(|a| (0..3).filter(move |b| *b != a).map(move |b| (a, b)));
        for (a, b) in flows() {
            store.measured((peer(a), peer(b)), alone, Time(0));
        }
        let heard: BTreeMap<Flow, u64> = flows().map(|(a, b)| ((peer(a), peer(b)), together(a, b))).collect();
        store.measured_together(&heard.keys().copied().collect(), &heard, Time(0));
        store
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
        for (to, rate) in [(1, 79), (2, 130)] {
            store.observed((peer(0), peer(to)), rate, later);
        }
        assert!(!store.is_fresh((peer(0), peer(1)), later), "no operation has asked for all of it");
        assert!(store.is_fresh((peer(0), peer(2)), later));
        assert_eq!(
            (store.rate((peer(0), peer(1))), store.rate((peer(0), peer(2)))),
            (Some(100.0), Some(130.0))
        );
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
