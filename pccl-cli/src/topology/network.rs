//! The run as it is shown: each group in the order of its ranks.

use pccl_core::api::{FigureRow, GroupInfo, RunReport};
use pccl_core::types::Cost;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Network {
    pub master: String,
    pub epoch: u64,
    pub peers_pending: u32,
    /// Peers whose figures the master's answer had no room for.
    pub rows_left_out: u32,
    pub groups: Vec<Group>,
}

#[derive(Debug, Serialize)]
pub struct Group {
    pub group: u32,
    pub peers: Vec<Peer>,
    /// Pairs of ranks without a link.
    pub unlinked: Vec<(u16, u16)>,
    /// From the row's rank to the column's, in bytes per second; 0 where it is not known. Empty if nothing was measured.
    pub bytes_per_second: Vec<Vec<u64>>,
    pub rtt_us: Vec<Vec<u32>>,
    pub age_ms: u64,
    /// Empty where the group has no plan.
    pub schedules: Vec<Schedule>,
}

#[derive(Debug, Serialize)]
pub struct Peer {
    pub rank: usize,
    pub id: String,
    pub address: String,
    /// Its own link's limit; 0 where none is known.
    pub up_bytes_per_second: u64,
    pub down_bytes_per_second: u64,
}

#[derive(Debug, Serialize)]
pub struct Schedule {
    pub name: String,
    #[serde(skip)]
    pub cost: Cost,
    pub latency_us: u32,
    pub ps_per_byte: u64,
    pub predicted: Vec<Prediction>,
}

#[derive(Debug, Serialize)]
pub struct Prediction {
    pub size_bytes: u64,
    pub time_us: u64,
}

impl Network {
    /// With predictions for these sizes.
    pub fn new(master: &str, report: &RunReport, rows: &[FigureRow], sizes: &[u64]) -> Network {
        Network {
            master: master.to_owned(),
            epoch: report.epoch.epoch.0,
            peers_pending: report.peers_pending,
            rows_left_out: report.rows_left_out,
            groups: report.epoch.groups.iter().map(|group| Group::new(group, report, rows, sizes)).collect(),
        }
    }

    pub fn peers(&self) -> usize {
        self.groups.iter().map(|group| group.peers.len()).sum()
    }
}

impl Group {
    fn new(info: &GroupInfo, report: &RunReport, rows: &[FigureRow], sizes: &[u64]) -> Group {
        // Rows that are not what they should be are left out: the answer may be anybody's.
        let size = info.order.len();
        let fits = |row: &&FigureRow| {
            row.group == info.group && row.bytes_per_second.len() == size && row.rtt_us.len() == size
        };
        let of_group: Vec<&FigureRow> = rows.iter().filter(fits).collect();
        let row_of = |rank: usize| of_group.iter().find(|row| row.peer == info.order[rank]);
        let measured = !of_group.is_empty();
        let matrix = |zero: bool| (0..if zero { 0 } else { size }).map(row_of);
        let peer = |rank: usize| {
            let id = info.order[rank];
            let address = report.addresses.iter().find(|(peer, _)| *peer == id);
            Peer {
                rank,
                id: id.to_string(),
                address: address.map_or_else(|| "-".to_owned(), |(_, ip)| ip.to_string()),
                up_bytes_per_second: row_of(rank).map_or(0, |row| row.up_bytes_per_second),
                down_bytes_per_second: row_of(rank).map_or(0, |row| row.down_bytes_per_second),
            }
        };
        Group {
            group: info.group.0,
            peers: (0..size).map(peer).collect(),
            unlinked: info.unlinked.clone(),
            bytes_per_second: matrix(!measured)
                .map(|row| row.map_or_else(|| vec![0; size], |row| row.bytes_per_second.clone()))
                .collect(),
            rtt_us: matrix(!measured)
                .map(|row| row.map_or_else(|| vec![0; size], |row| row.rtt_us.clone()))
                .collect(),
            age_ms: of_group.iter().map(|row| row.age_ms).max().unwrap_or(0),
            schedules: schedules(info, sizes),
        }
    }

    /// The one that an all-reduce of this size goes by, as far as predictions decide.
    pub fn fastest(&self, size_bytes: u64) -> Option<&Schedule> {
        self.schedules.iter().min_by_key(|schedule| schedule.cost.time_us(size_bytes))
    }

    pub fn fastest_link(&self) -> u64 {
        self.bytes_per_second.iter().flatten().copied().max().unwrap_or(0)
    }
}

fn schedules(info: &GroupInfo, sizes: &[u64]) -> Vec<Schedule> {
    let Some(planned) = &info.planned else { return Vec::new() };
    let schedule = |name: String, cost: Cost| Schedule {
        name,
        cost,
        latency_us: cost.latency_us,
        ps_per_byte: cost.ps_per_byte,
        predicted: sizes
            .iter()
            .map(|&size_bytes| Prediction { size_bytes, time_us: cost.time_us(size_bytes) })
            .collect(),
    };
    let forest = planned
        .forest
        .iter()
        .map(|forest| schedule(format!("{}, {} trees", forest.kind.name(), forest.trees.len()), forest.cost));
    [schedule("ring".to_owned(), planned.ring), schedule("mesh".to_owned(), planned.mesh)]
        .into_iter()
        .chain(forest)
        .filter(|schedule| schedule.cost != Cost::NEVER)
        .collect()
}

/// Three peers of which the last has told nothing of its link to the first; a ring and a mesh, no forest.
#[cfg(test)]
pub fn network_for_tests() -> Network {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use pccl_core::types::{Epoch, EpochInfo, GroupId, PeerId, Planned};

    let peer = |n: u8| PeerId([n; 16]);
    let cost = |ps_per_byte| Cost { latency_us: 100, ps_per_byte };
    let group = GroupInfo {
        group: GroupId(7),
        since: Epoch(4),
        order: (0..3).map(peer).collect(),
        unlinked: Vec::new(),
        rtt_us: 0,
        planned: Some(Arc::new(Planned { ring: cost(1000), mesh: cost(500), forest: None })),
    };
    let epoch = EpochInfo { epoch: Epoch(4), groups: vec![group], ..EpochInfo::default() };
    let addresses = (0..3u8).map(|n| (peer(n), IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)))).collect();
    let report = RunReport { epoch, peers_pending: 1, addresses, rows: 3, rows_left_out: 2 };
    let row = |n: u8, bytes_per_second: [u64; 3]| FigureRow {
        group: GroupId(7),
        peer: peer(n),
        up_bytes_per_second: u64::from(n) * 1_000_000,
        down_bytes_per_second: 0,
        bytes_per_second: bytes_per_second.to_vec(),
        rtt_us: vec![1000; 3],
        age_ms: 5_000,
    };
    let mega = 10_000_000;
    let short = FigureRow { bytes_per_second: vec![1], ..row(0, [0; 3]) };
    let rows = [short, row(0, [0, mega, mega]), row(1, [mega, 0, mega]), row(2, [0, 500_000, 0])];
    Network::new("host:1", &report, &rows, &[1 << 20])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_have_their_figures_and_rows_that_do_not_fit_are_nobodys() {
        let network = network_for_tests();
        let group = &network.groups[0];
        assert_eq!((network.peers(), network.epoch, network.peers_pending), (3, 4, 1));
        assert_eq!(group.bytes_per_second[0], [0, 10_000_000, 10_000_000]);
        assert_eq!(
            (group.peers[2].up_bytes_per_second, &group.peers[2].address[..]),
            (2_000_000, "10.0.0.2")
        );
        assert_eq!(group.fastest(1 << 20).map(|schedule| &schedule.name[..]), Some("mesh"));
        assert_eq!(group.schedules[0].predicted[0].time_us, 100 + 1048);
        let json = serde_json::to_string(&network).unwrap();
        assert!(json.contains("\"ps_per_byte\":500"), "{json}");
        assert!(json.contains("\"rows_left_out\":2"), "{json}");
    }
}
