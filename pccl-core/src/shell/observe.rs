//! How things stand with a communicator, for whoever asks.

use std::collections::BTreeSet;

use super::pairs::Pair;
use super::peer_loop::PeerLoop;
use crate::net::congestion::in_force;
use crate::net::options::{notsent_lowat_bytes, send_buffer_bytes};
use crate::net::tcp_info::{TcpInfo, tcp_info};
use crate::obs::{Counters, LinkStats};

/// What only the communicator's thread knows.
#[derive(Debug)]
pub struct Observed {
    pub counters: Counters,
    pub links: Vec<LinkStats>,
}

impl PeerLoop {
    pub(super) fn observe(&self) -> Observed {
        let (node, pairs) = (self.node.borrow(), self.pairs.borrow());
        let links = pairs.iter().map(|(peer, pair)| {
            let rank = node.rank_of(*peer);
            LinkStats { peer: peer.to_string(), rank, ..sum(pair) }
        });
        Observed { counters: node.counters().clone(), links: links.collect() }
    }
}

/// The figures of one peer's connections together.
fn sum(pair: &Pair) -> LinkStats {
    let least = |all: &mut dyn Iterator<Item = u32>| all.filter(|one| *one > 0).min().unwrap_or(0);
    let (watches, streams) = (|| pair.links.values(), || pair.links.values().map(|watch| &*watch.stream));
    let infos: Vec<TcpInfo> = streams().map(tcp_info).collect();
    let names: BTreeSet<String> = streams().map(in_force).collect();
    LinkStats {
        connections: pair.links.len() as u32,
        congestion: names.into_iter().collect::<Vec<_>>().join(","),
        rtt_us: pair.rtt_us,
        rtt_now_us: least(&mut infos.iter().filter_map(TcpInfo::smoothed_us)),
        // The express of a near pair has less than the others.
        notsent_lowat_bytes: streams().filter_map(notsent_lowat_bytes).max().unwrap_or(0),
        send_buffer_bytes: least(&mut streams().filter_map(send_buffer_bytes)),
        pace_bytes_per_s: watches().map(|watch| watch.pace.get()).sum(),
        retransmitted: infos.iter().filter_map(TcpInfo::retransmitted).map(u64::from).sum(),
        tx_bytes: watches().map(|watch| watch.carried.written.get()).sum(),
        rx_bytes: watches().map(|watch| watch.carried.read.get()).sum(),
        ..LinkStats::default()
    }
}
