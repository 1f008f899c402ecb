//! The retry loop with one operation in flight, under a kill: success means that every one was reduced.

use std::time::Duration;

use pccl_core::api::{Communicator, ReduceOp, ReduceRequest, Tag};

use crate::harness::{EIGHT_LEN, Process, join, master, wait_for_world};

/// Tags that the victim takes part in, and tags it never calls: those wait until it is dead.
const SHARED: usize = 8;
const OURS: usize = 16;

fn survivor(peer: &Communicator) {
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
    assert!(data[SHARED..].iter().all(|data| data[0] == 2.0), "only the two of us can have reduced these");
}

#[test]
fn success_of_the_retry_loop_means_every_operation_was_reduced() {
    let (_master, address) = master();
    std::thread::scope(|threads| {
        for rank in 0..2 {
            let address = &address;
            threads.spawn(move || {
                let peer = join(address, 2);
                let victim = (rank == 0).then(|| Process::start("eight", address));
                wait_for_world(&peer, 3);
                std::thread::scope(|threads| {
                    threads.spawn(|| {
                        // Somewhere in the middle of what it takes part in.
                        std::thread::sleep(Duration::from_millis(60));
                        victim.into_iter().for_each(Process::kill);
                    });
                    survivor(&peer);
                });
            });
        }
    });
}
