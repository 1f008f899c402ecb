//! The retry loop with one operation in flight, under a kill: success means that every one was reduced.

use pccl_core::api::{Communicator, ReduceOp, ReduceRequest, Tag};

use crate::harness::{EIGHT_LEN, Process, join, master, wait_for_world};

/// Tags that the victim takes part in, and tags it never calls: those wait until it is dead.
const SHARED: usize = 8;
const OURS: usize = 16;
/// Kills to have one that falls among the shared tags.
const MAX_ROUNDS: u64 = 20;

/// The sum of each tag.
fn reduce_all(peer: &Communicator) -> Vec<f32> {
    let lengths = (0..SHARED).map(|_| EIGHT_LEN).chain((0..OURS).map(|_| 1000));
    let mut data: Vec<Vec<f32>> = lengths.map(|len| vec![1.0; len]).collect();
    let mut requests: Vec<_> = data
        .iter_mut()
        .enumerate()
        .map(|(tag, data)| ReduceRequest::in_place(data, ReduceOp::Sum, Tag(tag as u64)))
        .collect();
    peer.all_reduce_multiple_with_retry(&mut requests, 1).unwrap();
    for (tag, data) in data.iter().enumerate() {
        let sum = data[0];
        assert!(sum == 2.0 || sum == 3.0, "tag {tag} was reported reduced, but holds {sum}");
        assert!(data.iter().all(|v| *v == sum), "tag {tag} was reduced in part");
    }
    data.iter().map(|data| data[0]).collect()
}

/// Kills it when so many more operations were reduced here.
fn kill_after(ops: u64, peer: &Communicator, victim: Process) {
    let until = peer.stats().ops_reduced + ops;
    while peer.stats().ops_reduced < until {
        std::thread::yield_now();
    }
    victim.kill();
}

fn survivor(rank: u32, address: &str) {
    let peer = join(address, 2);
    for round in 0..MAX_ROUNDS {
        let victim = (rank == 0).then(|| Process::start("eight", address));
        wait_for_world(&peer, 3);
        let sums = std::thread::scope(|threads| {
            let peer = &peer;
            if let Some(victim) = victim {
                threads.spawn(move || kill_after(1 + round % 6, peer, victim));
            }
            reduce_all(peer)
        });
        assert!(sums[SHARED..].iter().all(|sum| *sum == 2.0), "only the two of us can have reduced these");
        // Both of us see the same sums.
        if sums[..SHARED].contains(&2.0) && sums[..SHARED].contains(&3.0) {
            return;
        }
    }
    panic!("none of {MAX_ROUNDS} kills fell among the operations that the victim took part in");
}

#[test]
fn success_of_the_retry_loop_means_every_operation_was_reduced() {
    let (_master, address) = master();
    std::thread::scope(|threads| {
        for rank in 0..2 {
            let address = &address;
            threads.spawn(move || survivor(rank, address));
        }
    });
}
