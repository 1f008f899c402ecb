//! How things stand with a communicator, for whoever asks.

use std::collections::{BTreeMap, BTreeSet};

use super::peer_links::Watch;
use super::peer_loop::PeerLoop;
use crate::net::congestion::in_force;
use crate::net::options::{notsent_lowat_bytes, send_buffer_bytes};
use crate::net::round_trip::{retransmitted, smoothed_us};
use crate::obs::{Counters, LinkStats};
use crate::types::PeerId;

/// What only the communicator's thread knows.
#[derive(Debug)]
pub struct Observed {
    pub counters: Counters,
    pub links: Vec<LinkStats>,
}

impl PeerLoop {
    pub(super) fn observe(&self) -> Observed {
        let links = self.links.borrow();
        let mut by_peer: BTreeMap<PeerId, Vec<&Watch>> = BTreeMap::new();
        for watch in links.values() {
            by_peer.entry(watch.peer).or_default().push(watch);
        }
        let node = self.node.borrow();
        let links = by_peer.iter().map(|(peer, watches)| {
            let rank = node.rank_of(*peer);
            LinkStats { peer: peer.to_string(), rank, ..sum(watches) }
        });
        Observed { counters: node.counters().clone(), links: links.collect() }
    }
}

/// The figures of one peer's connections together.
fn sum(watches: &[&Watch]) -> LinkStats {
    let least = |all: &mut dyn Iterator<Item = u32>| all.filter(|one| *one > 0).min().unwrap_or(0);
    let names: BTreeSet<String> = watches.iter().map(|watch| in_force(&watch.stream)).collect();
    LinkStats {
        connections: watches.len() as u32,
        congestion: names.into_iter().collect::<Vec<_>>().join(","),
        rtt_us: least(&mut watches.iter().map(|watch| watch.rtt_us)),
        rtt_now_us: least(&mut watches.iter().filter_map(|watch| smoothed_us(&watch.stream))),
        // The express of a near pair has less than the others.
        notsent_lowat_bytes: watches
            .iter()
            .filter_map(|watch| notsent_lowat_bytes(&watch.stream))
            .max()
            .unwrap_or(0),
        send_buffer_bytes: least(&mut watches.iter().filter_map(|watch| send_buffer_bytes(&watch.stream))),
        retransmitted: watches.iter().map(|watch| retransmitted(&watch.stream)).sum(),
        tx_bytes: watches.iter().map(|watch| watch.carried.written.get()).sum(),
        rx_bytes: watches.iter().map(|watch| watch.carried.read.get()).sum(),
        ..LinkStats::default()
    }
}
