//! `optimize_topology` over real sockets: measured while peers die, and looked at from outside.

use std::sync::Mutex;

use pccl_core::api::{Communicator, ErrorKind, FigureRow, RunReport, inspect};

use crate::harness::{Process, connect, join, master, reduce, wait_for_world};

const PEERS: usize = 4;
const INSPECT_MS: u64 = 20_000;

/// Threads that each are a peer of a run of `PEERS`.
fn peers(address: &str, act: impl Fn(usize, &Communicator) + Sync) {
    let entering = Mutex::new(());
    std::thread::scope(|scope| {
        for n in 0..PEERS {
            let (act, entering) = (&act, &entering);
            scope.spawn(move || {
                let first = entering.lock().unwrap();
                let peer = connect(address, 2);
                drop(first);
                wait_for_world(&peer, PEERS as u32);
                act(n, &peer);
            });
        }
    });
}

fn look(address: &str) -> (RunReport, Vec<FigureRow>) {
    inspect(address, INSPECT_MS).unwrap()
}

#[test]
fn links_are_measured_and_operations_go_by_the_plan() {
    let (_master, address) = master();
    assert_eq!(look(&address).0.epoch.world_size(), 0, "nobody is there yet");
    peers(&address, |n, peer| {
        peer.optimize_topology().unwrap();
        let (report, rows) = look(&address);
        assert_eq!((report.epoch.world_size(), rows.len()), (PEERS, PEERS));
        for (rank, row) in rows.iter().enumerate() {
            let rates = row.bytes_per_second.iter().enumerate();
            assert!(rates.clone().all(|(to, rate)| (*rate > 1_000_000) == (to != rank)), "{row:?}");
            let trips = row.rtt_us.iter().enumerate();
            assert!(trips.clone().all(|(to, rtt)| (1..1_000_000).contains(rtt) == (to != rank)), "{row:?}");
        }
        for (tag, len) in [3, 1000, 300_000].into_iter().enumerate() {
            let mut data = vec![n as f32; len];
            reduce(peer, &mut data, tag as u64);
            assert!(data.iter().all(|sum| *sum == 6.0));
        }
        // Nothing is measured again, and the plan stays.
        peer.optimize_topology().unwrap();
        assert_eq!(look(&address).0.epoch.groups, report.epoch.groups);
        // Nobody leaves before all have looked.
        peer.are_peers_pending().unwrap();
    });
}

#[test]
fn alone_it_is_no_use() {
    let (_master, address) = master();
    let peer = connect(&address, 1);
    assert_eq!(peer.optimize_topology().unwrap_err().kind, ErrorKind::InvalidUsage);
}

/// Measures again and again, for ever.
pub fn measurer(address: &str) {
    let peer = join(address, 2);
    crate::harness::tell("in");
    loop {
        // Whatever becomes of it: this process is here to be killed.
        let _ = peer.optimize_topology();
    }
}

#[test]
fn a_peer_that_dies_while_it_measures_takes_nobody_along() {
    let (_master, address) = master();
    let first = connect(&address, 2);
    for _ in 0..3 {
        let mut victim = Process::start("measurer", &address);
        wait_for_world(&first, 2);
        assert_eq!(victim.hears().as_deref(), Some("in"));
        std::thread::scope(|scope| {
            // Dies in the middle of the round, or just before or after it.
            scope.spawn(move || victim.kill());
            match first.optimize_topology() {
                Ok(()) => {}
                Err(error) => {
                    let kinds = [ErrorKind::TopologyOptimizationFailed, ErrorKind::InvalidUsage];
                    assert!(kinds.contains(&error.kind), "{error}");
                }
            }
        });
        while first.world_size() > 1 {
            first.update_topology().unwrap();
        }
    }
}

#[test]
fn where_no_master_is_there_is_nothing_to_look_at() {
    let error = inspect("127.0.0.1:9", 5_000).unwrap_err();
    assert_eq!(error.kind, ErrorKind::MasterConnectionFailed);
    assert!(error.reason.contains("127.0.0.1:9"), "{error}");
}
