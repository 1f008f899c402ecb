//! Eight operations in place, one of the peers killed under them: whatever becomes of each, an input whose
//! operation failed is what it was, and a retry gives the survivors' sum.

use pccl_core::api::{Communicator, ErrorKind, ReduceOp, Tag};

use crate::harness::{EIGHT_LEN, Process, join, master, reduce, wait_for_world};

/// Kills that must have fallen among operations in flight, and kills to get there.
const HITS: usize = 4;
const MAX_ROUNDS: usize = 30;

fn input(rank: u32, tag: usize) -> Vec<f32> {
    (0..EIGHT_LEN).map(|i| ((i + tag) % 1000) as f32 + rank as f32).collect()
}

/// Starts all eight at once, and tells with how many peers each was reduced; 0 if it was aborted.
fn eight(peer: &Communicator, data: &mut [Vec<f32>], mut reduced: impl FnMut()) -> Vec<u32> {
    peer.scope(|scope| {
        let works: Vec<_> = data
            .iter_mut()
            .enumerate()
            .map(|(tag, data)| scope.all_reduce_in_place(data, ReduceOp::Sum, Tag(tag as u64)).unwrap())
            .collect();
        let outcomes = works.into_iter().map(|work| match work.wait() {
            Ok(info) => {
                reduced();
                info.group_world_size
            }
            Err(error) if error.kind == ErrorKind::Aborted => 0,
            Err(error) => panic!("neither reduced nor aborted: {error}"),
        });
        outcomes.collect()
    })
}

/// One kill, after `kill_after` operations with the victim; whether it fell among operations in flight. All
/// survivors see the same outcomes, so they need no word from each other.
fn round(peer: &Communicator, inputs: &[Vec<f32>], mut victim: Option<Process>, kill_after: usize) -> bool {
    wait_for_world(peer, 4);
    let mut count = 0;
    loop {
        let mut data = inputs.to_vec();
        let outcomes = eight(peer, &mut data, || {
            count += 1;
            if count == kill_after {
                victim.take().into_iter().for_each(Process::kill);
            }
        });
        for (tag, _) in outcomes.iter().enumerate().filter(|(_, world)| **world == 0) {
            assert!(data[tag] == inputs[tag], "the input of tag {tag} was lost in an abort");
        }
        if outcomes.iter().any(|world| *world != 4) {
            return outcomes.contains(&0);
        }
    }
}

fn survivor(rank: u32, address: &str) {
    let peer = join(address, 3);
    let inputs: Vec<_> = (0..8).map(|tag| input(rank, tag)).collect();
    let mut hits = 0;
    for number in 0..MAX_ROUNDS {
        let victim = (rank == 0).then(|| Process::start("eight", address));
        // In the second eight, each time after another number of its operations.
        hits += usize::from(round(&peer, &inputs, victim, 8 + number % 8));
        let mut data = inputs[0].clone();
        reduce(&peer, &mut data, 100);
        let expected = |i: usize| 3.0 * (i % 1000) as f32 + 3.0;
        assert!(data.iter().enumerate().all(|(i, sum)| *sum == expected(i)), "a wrong sum after an abort");
        if hits == HITS {
            return;
        }
    }
    panic!("of {MAX_ROUNDS} kills {hits} fell among operations in flight, {HITS} must");
}

#[test]
fn an_aborted_input_is_intact_in_place_and_the_retry_is_right() {
    let (_master, address) = master();
    std::thread::scope(|threads| {
        for rank in 0..3 {
            let address = &address;
            threads.spawn(move || survivor(rank, address));
        }
    });
}
