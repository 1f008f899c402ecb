//! Eight operations in place, one of the peers killed under them: whatever becomes of each, an input whose
//! operation failed is what it was, and a retry gives the survivors' sum.

use std::sync::Barrier;
use std::sync::mpsc::Sender;
use std::time::Duration;

use pccl_core::api::{Communicator, ErrorKind, ReduceOp, Tag};

use crate::harness::{EIGHT_LEN, Process, join, master, wait_for_world};

const ROUNDS: u64 = 6;

fn input(rank: u32, tag: usize) -> Vec<f32> {
    (0..EIGHT_LEN).map(|i| ((i + tag) % 1000) as f32 + rank as f32).collect()
}

/// Starts all eight at once, and tells which were reduced.
fn eight(peer: &Communicator, data: &mut [Vec<f32>]) -> Vec<bool> {
    peer.scope(|scope| {
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

fn survivor(rank: u32, address: &str, met: &Barrier, running: Sender<()>) -> usize {
    let peer = join(address, 3);
    let mut aborted = 0;
    let inputs: Vec<_> = (0..8).map(|tag| input(rank, tag)).collect();
    for _ in 0..ROUNDS {
        met.wait();
        wait_for_world(&peer, 4);
        // Until the victim is dead and the run is down to the three of us.
        while peer.world_size() == 4 {
            let mut data = inputs.clone();
            for (tag, reduced) in eight(&peer, &mut data).into_iter().enumerate() {
                if !reduced {
                    assert!(data[tag] == inputs[tag], "the input of tag {tag} was lost in an abort");
                    aborted += 1;
                }
            }
            // The next eight are on their way by the time this is heard. Nobody may listen any more.
            let _ = running.send(());
        }
        let mut data = inputs[0].clone();
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
    let (running, heard) = std::sync::mpsc::channel();
    let aborted: usize = std::thread::scope(|threads| {
        let survivors: Vec<_> = (0..3)
            .map(|rank| {
                let (address, met, running) = (&address, &met, running.clone());
                threads.spawn(move || survivor(rank, address, met, running))
            })
            .collect();
        for round in 0..ROUNDS {
            met.wait();
            let victim = Process::start("eight", &address);
            // What is left of the round before is not meant.
            while heard.try_recv().is_ok() {}
            heard.recv().unwrap();
            // At another moment of the next eight in each round.
            std::thread::sleep(Duration::from_millis(4 * (1 + round)));
            victim.kill();
        }
        met.wait();
        survivors.into_iter().map(|s| s.join().unwrap()).sum()
    });
    assert!(aborted > 0, "no operation was aborted: the test has shown nothing");
}
