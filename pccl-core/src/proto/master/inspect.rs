//! What the master tells somebody who only looks: they join nothing, and the connection ends.

use super::io::{ConnId, Output};
use super::{Master, PeerState};
use crate::types::{FigureRow, GroupInfo, PeerId, RunReport};
use crate::wire::message::MasterMessage;

impl Master {
    pub(super) fn on_inspect(&mut self, conn: ConnId) {
        if self.recovery.is_some() {
            return self.refuse(conn, false, "this master is taking over a run; ask again".to_owned());
        }
        let rows: Vec<FigureRow> = self.info.groups.iter().flat_map(|group| self.rows_of(group)).collect();
        let pending = self.peers.values().filter(|peer| peer.state != PeerState::Member).count();
        let report = RunReport {
            epoch: self.info.clone(),
            peers_pending: pending as u32,
            addresses: self.members().map(|(id, peer)| (id, peer.from)).collect(),
            rows: rows.len() as u32,
        };
        self.conns.remove(&conn);
        let report = MasterMessage::Run { report: Box::new(report) };
        let rows = rows.into_iter().map(|row| MasterMessage::Figures { row });
        for message in std::iter::once(report).chain(rows) {
            self.outputs.push_back(Output::Send { conn, message });
        }
        self.outputs.push_back(Output::Close { conn });
    }

    /// None where nothing was measured.
    fn rows_of(&self, group: &GroupInfo) -> Vec<FigureRow> {
        let store = &self.measuring.figures;
        let known = |from: PeerId| group.order.iter().any(|to| store.rate((from, *to)).is_some());
        if !group.order.iter().any(|peer| known(*peer)) {
            return Vec::new();
        }
        let whole = |rate: Option<f64>| rate.map_or(0, |rate| rate as u64);
        let row = |&peer: &PeerId| FigureRow {
            group: group.group,
            peer,
            up_bytes_per_second: whole(store.up(peer)),
            down_bytes_per_second: whole(store.down(peer)),
            bytes_per_second: group.order.iter().map(|to| whole(store.rate((peer, *to)))).collect(),
            rtt_us: group.order.iter().map(|to| store.round_trip_us(peer, *to).unwrap_or(0)).collect(),
            age_ms: store.age_us(peer, self.seen) / 1000,
        };
        group.order.iter().map(row).collect()
    }
}
