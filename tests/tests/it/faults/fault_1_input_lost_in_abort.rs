//! Eight operations in place, one of the peers killed under them: whatever becomes of each, an input whose
//! operation failed is what it was, and a retry gives the survivors' sum.

use std::sync::Barrier;

use pccl_core::api::{Communicator, ErrorKind, ReduceOp, Tag};

use crate::harness::{EIGHT_LEN, Process, join, master, wait_for_world};

const ROUNDS: usize = 6;

fn input(rank: u32, tag: usize) -> Vec<f32> {
    (0..EIGHT_LEN).map(|i| ((i + tag) % 1000) as f32 + rank as f32).collect()
}

/// Starts all eight at once, and tells which were reduced.
fn eight(peer: &Communicator, data: &mut [Vec<f32>]) -> Vec<bool> {
    peer.scope(|scope| {
        let start = |(tag, data): (usize, &'_ mut Vec<f32>)| (tag, data.as_mut_ptr());
        let _ = start;
        let works: Vec<_> = data
            .iter_mut()
            .enumerate()
            .map(|(tag, data)| scope.all_reduce_in_place(data, ReduceOp::Sum, Tag(tag as u64)).unwrap())
            .collect();
        let outcomes = works.into_iter().map(|work| match work.wait() {
            Ok(_) => true,
            Err(error) if error.kind == ErrorKind::Aborted => false,
            Err(error) => panic!("neither reduced nor aborted: {error}"),
        });
        outcomes.collect()
    })
}

fn survivor(rank: u32, address: &str, met: &Barrier) -> usize {
    let peer = join(address, 3);
    let mut aborted = 0;
    for _ in 0..ROUNDS {
        met.wait();
        wait_for_world(&peer, 4);
        // Until the victim is dead and the run is down to the three of us.
        while peer.world_size() == 4 {
            let mut data: Vec<_> = (0..8).map(|tag| input(rank, tag)).collect();
            for (tag, reduced) in eight(&peer, &mut data).into_iter().enumerate() {
                if !reduced {
                    assert!(data[tag] == input(rank, tag), "the input of tag {tag} was lost in an abort");
                    aborted += 1;
                }
            }
        }
        let mut data = input(rank, 0);
        crate::harness::reduce(&peer, &mut data, 100);
        let expected = |i: usize| 3.0 * (i % 1000) as f32 + 3.0;
        assert!(data.iter().enumerate().all(|(i, sum)| *sum == expected(i)), "a wrong sum after an abort");
    }
    met.wait();
    aborted
}

#[test]
fn an_aborted_input_is_intact_in_place_and_the_retry_is_right() {
    let (_master, address) = master();
    let met = Barrier::new(4);
    let aborted: usize = std::thread::scope(|threads| {
        let survivors: Vec<_> = (0..3)
            .map(|rank| {
                let (address, met) = (&address, &met);
                threads.spawn(move || survivor(rank, address, met))
            })
            .collect();
        for round in 0..ROUNDS {
            met.wait();
            let victim = Process::start("eight", &address);
            // Different moments of joining and of the operations; which ones is up to the machine.
            std::thread::sleep(std::time::Duration::from_millis(150 + 17 * round as u64));
            victim.kill();
        }
        met.wait();
        survivors.into_iter().map(|s| s.join().unwrap()).sum()
    });
    assert!(aborted > 0, "no operation was aborted: the test has shown nothing");
}
