//! Real processes: 64 operations over one connection of a pair, in another order at every peer, one of which
//! announces them when all others wait for it. The argument is in `docs/SCHEDULES.md`.

use pccl_core::api::{Communicator, ReduceOp, ScheduleChoice, Tag};

use crate::harness::{Process, loopback, master_with, tell, wait_for_world};

const OPS: u64 = 64;
const LEN: usize = 30_000;
const WORLD: u32 = 4;
/// All peers start it; the late one before everything else, the others after it.
const BETWEEN: Tag = Tag(1000);

fn connect(address: &str, inbound: bool) -> Communicator {
    let builder = Communicator::builder(address).listen(loopback()).pool(1);
    let peer = if inbound { builder } else { builder.no_inbound() }.build().unwrap();
    peer.connect().unwrap();
    peer
}

/// Starts all operations, `stride` apart; `between` runs when they are started.
fn all(peer: &Communicator, stride: u64, between: impl FnOnce()) {
    let order = (0..OPS).map(|i| (i * stride + u64::from(peer.rank())) % OPS);
    let mut data: Vec<(u64, Vec<u32>)> = order.map(|tag| (tag, vec![tag as u32; LEN])).collect();
    peer.scope(|scope| {
        let start = |(tag, data)| scope.all_reduce_in_place(data, ReduceOp::Sum, Tag(tag)).unwrap();
        let works: Vec<_> = data.iter_mut().map(|(tag, data)| start((*tag, &mut data[..]))).collect();
        between();
        works.into_iter().for_each(|work| assert_eq!(work.wait().unwrap().group_world_size, WORLD));
    });
    for (tag, sum) in data {
        assert!(sum.iter().all(|sum| *sum == WORLD * tag as u32), "tag {tag} has a wrong sum");
    }
}

/// One of those that do not wait. `told`: the master's address, whether others can dial it, and its stride.
pub fn in_time(told: &str) {
    let [address, inbound, stride] = told.split(' ').collect::<Vec<_>>()[..] else { panic!("{told:?}") };
    let peer = connect(address, inbound == "1");
    wait_for_world(&peer, WORLD);
    all(&peer, stride.parse().unwrap(), || {
        tell("started");
        peer.all_reduce_in_place(&mut [1u32; 1000], ReduceOp::Sum, BETWEEN).unwrap();
    });
}

fn with_a_late_peer(schedule: ScheduleChoice, inbound: bool) {
    let (_master, address) = master_with(|master| master.schedule(schedule));
    // The first member: everybody can link to it.
    let peer = connect(&address, true);
    let mut others = [1, 5, 63]
        .map(|stride| Process::start("in-time", &format!("{address} {} {stride}", u8::from(inbound))));
    wait_for_world(&peer, WORLD);
    for other in &mut others {
        assert_eq!(other.hears().as_deref(), Some("started"));
    }
    // Nothing of what waits for this peer is in the way.
    peer.all_reduce_in_place(&mut [1u32; 1000], ReduceOp::Sum, BETWEEN).unwrap();
    all(&peer, 27, || {});
    assert!(others.into_iter().all(Process::succeeds));
}

#[test]
fn operations_that_one_peer_announces_late_end_on_the_ring() {
    with_a_late_peer(ScheduleChoice::Ring, true);
}

#[test]
fn operations_that_one_peer_announces_late_end_on_the_mesh() {
    with_a_late_peer(ScheduleChoice::Mesh, true);
}

#[test]
fn operations_that_one_peer_announces_late_end_on_trees() {
    // Nobody can dial the others: all pairs but theirs with the late one lack a link.
    with_a_late_peer(ScheduleChoice::Auto, false);
}
