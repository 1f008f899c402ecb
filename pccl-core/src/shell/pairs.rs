//! The ways to other peers: the connections of each pair, how long its path is as far as known, and what follows from that.
//!
//! Each single measurement may have been held up, so the least of all that any of the pair's connections ever showed is the path's, and
//! decides for all of them. It only falls: a path that has become longer is measured anew when the pair is linked anew.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::node::Input;
use super::pacing::Pacing;
use super::peer_links::Watch;
use super::peer_loop::PeerLoop;
use crate::limits::{NEAR_RTT_US, WIDE_AREA_RTT_US};
use crate::net::congestion::{in_force, withstands_loss};
use crate::net::options::{DataOptions, set_congestion};
use crate::net::pool::connections;
use crate::net::round_trip::{lesser, round_trip_us};
use crate::types::{LinkId, PeerId};

/// The system's figures are asked for again after this time, when a call begins.
const LOOK_AGAIN_MS: u64 = 1_000;

/// A pair, from its first connection to its last.
#[derive(Debug, Default)]
pub(super) struct Pair {
    pub links: BTreeMap<LinkId, Rc<Watch>>,
    /// The least that is known; 0 if nothing is.
    pub rtt_us: u32,
    /// Its connections are paced when there is more to send than they take.
    pub is_paced: bool,
    pub pacing: Pacing,
}

impl Pair {
    /// Sets on all connections what the path asks for; gives how many there should be.
    fn fit(&mut self, data: &DataOptions) -> u16 {
        for watch in self.links.values() {
            let name = data.congestion.choose(self.rtt_us).unwrap_or(&watch.own_congestion);
            set_congestion(&watch.stream, name);
        }
        // All have the same, unless the system let us set it on some only.
        let names: Vec<String> = self.links.values().map(|watch| in_force(&watch.stream)).collect();
        self.is_paced = is_paced(data.pacing, self.rtt_us, &names);
        if !self.is_paced {
            self.lift();
        }
        connections(self.rtt_us, names.first().map_or("", String::as_str))
    }
}

/// Of connections that keep their rate when packets are lost, on a wide-area path.
fn is_paced(may_be: bool, rtt_us: u32, congestion: &[String]) -> bool {
    may_be && rtt_us >= WIDE_AREA_RTT_US && congestion.iter().all(|name| withstands_loss(name))
}

/// Nothing that is decided by the round trip would be decided otherwise if it were less.
fn is_settled(rtt_us: u32) -> bool {
    (1..=NEAR_RTT_US).contains(&rtt_us)
}

impl PeerLoop {
    /// A connection more; gives the path as it is known now: its round trip, and the connections it needs.
    pub(super) fn join_pair(&self, link: LinkId, watch: &Rc<Watch>, rtt_us: u32) -> (u32, u16) {
        self.links.borrow_mut().insert(link, watch.clone());
        let mut pairs = self.pairs.borrow_mut();
        let pair = pairs.entry(watch.peer).or_default();
        pair.links.insert(link, watch.clone());
        pair.rtt_us = lesser(pair.rtt_us, rtt_us);
        let pool = pair.fit(&self.data);
        (pair.rtt_us, pool)
    }

    /// With its last connection all that was known of the path is forgotten: the next link, or another membership, may have another one.
    pub(super) fn leave_pair(&self, link: LinkId) -> Option<Rc<Watch>> {
        let watch = self.links.borrow_mut().remove(&link)?;
        let mut pairs = self.pairs.borrow_mut();
        if let Some(pair) = pairs.get_mut(&watch.peer) {
            pair.links.remove(&link);
            if pair.links.is_empty() {
                pairs.remove(&watch.peer);
            }
        }
        Some(watch)
    }

    /// Paths that looked long may have turned out shorter since.
    pub(super) fn look_at_paths(self: &Rc<Self>) {
        let now = self.clock.now();
        if now.since_us(self.paths_looked_at.get()) >= LOOK_AGAIN_MS * 1000 {
            self.paths_looked_at.set(now);
            for (peer, rtt_us, pool) in self.shorter_paths() {
                self.feed(Input::PathLength { peer, rtt_us, pool });
            }
        }
    }

    fn shorter_paths(&self) -> Vec<(PeerId, u32, u16)> {
        let mut shorter = Vec::new();
        for (peer, pair) in self.pairs.borrow_mut().iter_mut().filter(|(_, pair)| !is_settled(pair.rtt_us)) {
            let known_us = pair.links.values().map(|watch| round_trip_us(&watch.stream, None));
            let rtt_us = known_us.fold(pair.rtt_us, lesser);
            if rtt_us != pair.rtt_us {
                pair.rtt_us = rtt_us;
                shorter.push((*peer, rtt_us, pair.fit(&self.data)));
            }
        }
        shorter
    }
}

#[cfg(test)]
#[path = "pairs_tests.rs"]
pub(super) mod tests;
