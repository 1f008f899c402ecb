//! A process killed at any moment of a large operation in place: the survivors agree, have their inputs back bit
//! for bit, and a retry gives their sum.

use std::sync::{Arc, Barrier, Mutex};

use pccl_core::api::{Communicator, ErrorKind, ReduceOp, Tag};

use crate::harness::{Process, master, wait_for_world};
use crate::proxy::{Seed, Wire, connect_at};

/// Elements of the operation: 64 MiB.
const LEN: usize = 8 << 20;
const BLOCK: usize = 1 << 16;
const TAG: Tag = Tag(7);

/// What a peer puts in, block by block: no two peers the same.
fn block(weight: u64) -> Vec<u64> {
    (0..BLOCK as u64).map(|i| (i % 1013 + 1) * weight).collect()
}

fn fill(data: &mut [u64], block: &[u64]) {
    data.chunks_mut(BLOCK).for_each(|chunk| chunk.copy_from_slice(block));
}

fn is(data: &[u64], block: &[u64]) -> bool {
    data.chunks(BLOCK).all(|chunk| chunk == block)
}

/// Takes part for ever, with weight 1. `told`: master, listening address, announced port.
pub fn victim(told: &str) {
    let told: Vec<&str> = told.split(' ').collect();
    let peer = connect_at(told[0], (told[1].parse().unwrap(), told[2].parse().unwrap()));
    let own = block(1);
    let mut data = vec![0; LEN];
    loop {
        fill(&mut data, &own);
        // Whatever becomes of it: this process is here to be killed.
        let _ = peer.all_reduce_in_place(&mut data, ReduceOp::Sum, TAG);
    }
}

/// Reduces until the victim is gone; whether the kill was seen as an abort. All survivors see the same outcomes.
fn survive(peer: &Communicator, data: &mut [u64], weight: u64, world: u32) -> bool {
    let own = block(weight);
    // Survivors have the weights 2, 3 and so on.
    let sum_of_survivors: u64 = (2..=u64::from(world)).sum();
    let mut aborted = false;
    loop {
        fill(data, &own);
        match peer.all_reduce_in_place(data, ReduceOp::Sum, TAG) {
            Ok(info) if info.group_world_size == world => {
                assert!(!aborted, "a peer that is gone takes part");
                assert!(is(data, &block(sum_of_survivors + 1)), "a wrong sum with the victim");
            }
            Ok(_) => {
                assert!(is(data, &block(sum_of_survivors)), "a wrong sum of the survivors");
                return aborted;
            }
            Err(error) if error.kind == ErrorKind::Aborted => {
                assert!(is(data, &own), "the input of weight {weight} was lost: {error}");
                aborted = true;
            }
            Err(error) => panic!("neither reduced nor aborted: {error}"),
        }
    }
}

fn kill_at_random_moments(world: u32, seeds: impl Iterator<Item = Seed>) {
    let (_master, address) = master();
    let wire = Wire::default();
    let survivors = world - 1;
    let peers = Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        for _ in 0..survivors {
            threads.spawn(|| {
                let peer = connect_at(&address, wire.place());
                wait_for_world(&peer, survivors);
                peers.lock().unwrap().push(peer);
            });
        }
    });
    let peers = peers.into_inner().unwrap();
    let mut memory = vec![vec![0; LEN]; peers.len()];
    let (mut kills, mut hits) = (0, 0);
    for seed in seeds {
        // All the bytes of an operation: nearly every kill falls into it.
        let whole = 2 * u64::from(survivors) * 8 * LEN as u64;
        let (listen, port) = wire.place();
        let victim = Process::start("victim", &format!("{address} {listen} {port}"));
        let victim = Arc::new(Mutex::new(Some(victim)));
        let doomed = Arc::clone(&victim);
        wire.at_byte(seed.dice().below(whole), move || {
            doomed.lock().unwrap().take().into_iter().for_each(Process::kill);
            None
        });
        let all_in = Barrier::new(peers.len());
        let outcomes: Vec<bool> = std::thread::scope(|threads| {
            let each = peers.iter().zip(&mut memory).zip(2..);
            let threads: Vec<_> = each
                .map(|((peer, data), weight)| {
                    let all_in = &all_in;
                    threads.spawn(move || {
                        wait_for_world(peer, world);
                        all_in.wait();
                        survive(peer, data, weight, world)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(outcomes.windows(2).all(|pair| pair[0] == pair[1]), "who saw an abort: {outcomes:?}");
        kills += 1;
        hits += usize::from(outcomes[0]);
    }
    assert!(2 * hits >= kills, "of {kills} kills {hits} fell into an operation all survivors were in");
}

#[test]
fn a_kill_at_any_moment_leaves_two_survivors_with_their_inputs() {
    kill_at_random_moments(3, Seed::each(4));
}

#[test]
fn a_kill_at_any_moment_leaves_three_survivors_with_their_inputs() {
    kill_at_random_moments(4, Seed::each(2));
}
