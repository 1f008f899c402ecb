//! Eight operations over one connection at world 4 come to their end, in whatever order each peer starts them;
//! and a restarted master is found again.

use std::sync::Barrier;

use pccl_core::api::{Communicator, ErrorKind, Master, ReduceOp, Tag};

use crate::harness::{connect, loopback, master, master_with, reduce, wait_for_world};

const OPS: u64 = 8;
const LEN: usize = 300_000;

fn all_at_once(peer: &Communicator, order: impl Iterator<Item = u64>) {
    let mut data: Vec<(u64, Vec<f32>)> =
        order.map(|tag| (tag, (0..LEN).map(|i| (i % 100) as f32 + tag as f32).collect())).collect();
    peer.scope(|scope| {
        let works: Vec<_> = data
            .iter_mut()
            .map(|(tag, data)| scope.all_reduce_in_place(data, ReduceOp::Sum, Tag(*tag)).unwrap())
            .collect();
        works.into_iter().for_each(|work| assert_eq!(work.wait().unwrap().group_world_size, 4));
    });
    for (tag, data) in data {
        let expected = |i: usize| 4.0 * ((i % 100) as f32 + tag as f32);
        assert!(data.iter().enumerate().all(|(i, sum)| *sum == expected(i)), "tag {tag} has a wrong sum");
    }
}

fn eight_over_one_connection(schedule: pccl_core::api::ScheduleChoice) {
    let (_master, address) = master_with(|master| master.schedule(schedule));
    std::thread::scope(|threads| {
        for shift in 0..4 {
            let address = &address;
            threads.spawn(move || {
                let peer = connect(address, 1);
                wait_for_world(&peer, 4);
                all_at_once(&peer, (0..OPS).map(|tag| (tag + 2 * shift) % OPS));
            });
        }
    });
}

#[test]
fn eight_operations_over_one_connection_end_on_the_ring() {
    eight_over_one_connection(pccl_core::api::ScheduleChoice::Ring);
}

#[test]
fn eight_operations_over_one_connection_end_on_the_mesh() {
    eight_over_one_connection(pccl_core::api::ScheduleChoice::Mesh);
}

#[test]
fn a_restarted_master_is_found_again_and_the_run_goes_on_without_an_abort() {
    let (first, address) = master();
    let met = Barrier::new(4);
    std::thread::scope(|threads| {
        for _ in 0..3 {
            let (address, met) = (&address, &met);
            threads.spawn(move || {
                let peer = connect(address, 2);
                wait_for_world(&peer, 3);
                reduce(&peer, &mut [1.0; 1000], 1);
                met.wait();
                met.wait(); // the master is gone
                let mut data = [1.0; 1000];
                peer.all_reduce_in_place(&mut data, ReduceOp::Sum, Tag(2)).unwrap();
                assert_eq!(data, [3.0; 1000]);
                peer.update_topology().unwrap();
            });
        }
        met.wait();
        drop(first);
        met.wait();
        let second = Master::builder(&address).build().unwrap();
        second.run().unwrap();
        std::mem::forget(second); // serves until the process ends: the peers are still to leave
    });
}

#[test]
fn a_communicator_joins_a_new_run_when_the_old_master_is_gone_for_good() {
    let (first, address) = master();
    let met = Barrier::new(3);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            let (address, met) = (&address, &met);
            threads.spawn(move || {
                let builder = Communicator::builder(address).listen(loopback()).reconnect_timeout_ms(200);
                let peer = builder.build().unwrap();
                peer.connect().unwrap();
                wait_for_world(&peer, 2);
                // The same tag in both runs: nothing that is known of the old one may be taken for the new one's.
                reduce(&peer, &mut [1.0; 1000], 1);
                let old = peer.epoch();
                met.wait();
                met.wait(); // the master is gone
                let error = peer.update_topology().unwrap_err();
                assert_eq!(error.kind, ErrorKind::MasterConnectionFailed, "{error}");
                met.wait();
                met.wait(); // another one is there
                peer.connect().unwrap();
                wait_for_world(&peer, 2);
                assert!(peer.epoch() <= old, "the test is about epochs that begin anew");
                let mut data = [1.0; 1000];
                reduce(&peer, &mut data, 1);
                assert_eq!(data, [2.0; 1000]);
                met.wait();
            });
        }
        met.wait();
        drop(first);
        met.wait();
        met.wait();
        let second = Master::builder(&address).build().unwrap();
        second.run().unwrap();
        met.wait();
        met.wait();
    });
}
