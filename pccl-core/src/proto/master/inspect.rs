//! What the master tells somebody who only looks: they join nothing, and the connection ends.

use super::io::{ConnId, Output};
use super::{Master, PeerState};
use crate::limits::MAX_FIGURES_BYTES;
use crate::types::{FigureRow, GroupInfo, PeerId, RunReport};
use crate::wire::message::MasterMessage;

/// What a row takes on the wire at most: so much for each member, and so much besides.
const ROW_BYTES_A_MEMBER: usize = 12;
const ROW_BYTES: usize = 128;

impl Master {
    pub(super) fn on_inspect(&mut self, conn: ConnId) {
        if self.recovery.is_some() {
            return self.refuse(conn, false, "this master is taking over a run; ask again".to_owned());
        }
        // In the order of the epoch, as many as an answer may have.
        let (mut rows, mut rows_left_out, mut left_bytes) = (Vec::new(), 0, MAX_FIGURES_BYTES);
        for group in self.info.groups.iter().filter(|group| self.is_measured(group)) {
            let members = group.order.len();
            let fitting = left_bytes / (ROW_BYTES + ROW_BYTES_A_MEMBER * members);
            let told = fitting.min(members);
            rows.extend(group.order[..told].iter().map(|peer| self.row_of(group, *peer)));
            left_bytes -= told * (ROW_BYTES + ROW_BYTES_A_MEMBER * members);
            rows_left_out += (members - told) as u32;
        }
        let pending = self.peers.values().filter(|peer| peer.state != PeerState::Member).count();
        let report = RunReport {
            epoch: self.info.clone(),
            peers_pending: pending as u32,
            addresses: self.members().map(|(id, peer)| (id, peer.from)).collect(),
            rows: rows.len() as u32,
            rows_left_out,
        };
        self.conns.remove(&conn);
        let report = MasterMessage::Run { report: Box::new(report) };
        let rows = rows.into_iter().map(|row| MasterMessage::Figures { row });
        for message in std::iter::once(report).chain(rows) {
            self.outputs.push_back(Output::Send { conn, message });
        }
        self.outputs.push_back(Output::Close { conn });
    }

    fn is_measured(&self, group: &GroupInfo) -> bool {
        let store = &self.measuring.figures;
        group.order.iter().any(|from| group.order.iter().any(|to| store.rate((*from, *to)).is_some()))
    }

    fn row_of(&self, group: &GroupInfo, peer: PeerId) -> FigureRow {
        let store = &self.measuring.figures;
        let whole = |rate: Option<f64>| rate.map_or(0, |rate| rate as u64);
        FigureRow {
            group: group.group,
            peer,
            up_bytes_per_second: whole(store.up(peer)),
            down_bytes_per_second: whole(store.down(peer)),
            bytes_per_second: group.order.iter().map(|to| whole(store.rate((peer, *to)))).collect(),
            rtt_us: group.order.iter().map(|to| store.round_trip_us(peer, *to).unwrap_or(0)).collect(),
            age_ms: store.age_us(peer, self.seen) / 1000,
        }
    }
}
