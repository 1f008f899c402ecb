//! Error feedback over real sockets: what one all-reduce loses the next ones make good.

use pccl_core::api::{Communicator, ErrorKind, Quantization, ReduceOp, Tag};

use crate::harness::{connect, join, master, until};

const PEERS: usize = 3;
/// A small operation, and one whose pieces travel along a schedule.
const COUNTS: [usize; 2] = [500, 40_000];
const ROUNDS: usize = 64;

/// Most of it small beside the largest number of its block: what 4 bits are too coarse for.
fn input(peer: usize, count: usize) -> Vec<f32> {
    let of = |i: usize| ((i * 7919 + peer * 7) % 1000) as f32 / 1000.0 - 0.5;
    (0..count).map(|i| if i % 500 == peer { 20.0 } else { of(i) }).collect()
}

/// The mean of the results of many rounds.
fn mean_of_rounds(peer: &Communicator, input: &[f32], with_feedback: bool) -> Vec<f64> {
    let (mut residual, mut sums) = (vec![0f32; input.len()], vec![0f64; input.len()]);
    for _ in 0..ROUNDS {
        let mut data = input.to_vec();
        peer.all_reduce_with_feedback(&mut data, &mut residual, ReduceOp::Avg, Quantization::Bits4, Tag(1))
            .unwrap();
        sums.iter_mut().zip(&data).for_each(|(sum, x)| *sum += f64::from(*x));
        if !with_feedback {
            residual.fill(0.0);
        }
    }
    sums.iter().map(|sum| sum / ROUNDS as f64).collect()
}

#[test]
fn the_mean_of_many_rounds_is_the_true_mean() {
    let (_master, address) = master();
    std::thread::scope(|threads| {
        for peer in 0..PEERS {
            let address = &address;
            threads.spawn(move || {
                let communicator = join(address, PEERS as u32);
                for count in COUNTS {
                    let input = input(peer, count);
                    let all: Vec<_> = (0..PEERS).map(|peer| self::input(peer, count)).collect();
                    let sum = |i: usize| all.iter().map(|input| f64::from(input[i])).sum::<f64>();
                    let exact: Vec<f64> = (0..count).map(|i| sum(i) / PEERS as f64).collect();
                    let worst = |means: Vec<f64>| {
                        means.iter().zip(&exact).map(|(mean, exact)| (mean - exact).abs()).fold(0.0, f64::max)
                    };
                    let with = worst(mean_of_rounds(&communicator, &input, true));
                    let without = worst(mean_of_rounds(&communicator, &input, false));
                    // Steps are 20 / 15 and more. What is still owed in the end is a few of them, in 64 rounds.
                    assert!(with < 0.08 && without > 0.3, "{count}: {with} with feedback, {without} without");
                }
            });
        }
    });
}

/// Data and residual of the survivors afterwards, by peer.
fn reduce_while_one_leaves(count: usize) -> Vec<(Vec<f32>, Vec<f32>)> {
    let (_master, address) = master();
    let survive = |peer: usize| {
        let communicator = join(&address, PEERS as u32);
        let input = input(peer, count);
        let before: Vec<f32> = input.iter().map(|x| x / 64.0).collect();
        let (mut data, mut residual) = (input.clone(), before.clone());
        // Whether the call is aborted or carried over into the next epoch is the master's decision.
        while let Err(error) = communicator.all_reduce_with_feedback(
            &mut data,
            &mut residual,
            ReduceOp::Avg,
            Quantization::Bits4,
            Tag(1),
        ) {
            assert_eq!(error.kind, ErrorKind::Aborted);
            assert!(data == input && residual == before, "an abort has changed them");
        }
        (data, residual)
    };
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let communicator = join(&address, PEERS as u32);
            until("the others have begun", || communicator.stats().counters.bytes_read > 0);
        });
        let survive = &survive;
        let survivors: Vec<_> = (0..2).map(|peer| threads.spawn(move || survive(peer))).collect();
        survivors.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn when_a_peer_leaves_under_way_nothing_is_lost_and_nothing_counts_twice() {
    for count in COUNTS {
        let after = reduce_while_one_leaves(count);
        assert!(after[0].0 == after[1].0, "results differ");
        let inputs = [input(0, count), input(1, count)];
        for i in 0..count {
            let before: f64 = inputs.iter().map(|input| f64::from(input[i]) * 65.0 / 64.0).sum();
            let residuals: f64 = after.iter().map(|(_, residual)| f64::from(residual[i])).sum();
            let off = f64::from(after[0].0[i]) * 2.0 + residuals - before;
            assert!(off.abs() < 1e-4, "{count} elements, {i}: {off:e} went missing");
        }
    }
}

#[test]
fn feedback_without_a_loss_or_a_sum_is_refused() {
    let (_master, address) = master();
    let communicator = connect(&address, 1);
    let (mut data, mut residual) = ([1f32; 4], [0f32; 4]);
    for (op, quantization, word) in [
        (ReduceOp::Avg, Quantization::None, "nothing is lost"),
        (ReduceOp::Max, Quantization::Bits4, "maximum"),
    ] {
        let result =
            communicator.all_reduce_with_feedback(&mut data, &mut residual, op, quantization, Tag(1));
        let error = result.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(word), "{error}");
    }
    let short = &mut residual[1..];
    let result =
        communicator.all_reduce_with_feedback(&mut data, short, ReduceOp::Sum, Quantization::Bits4, Tag(1));
    assert_eq!(result.unwrap_err().kind, ErrorKind::InvalidArgument);
}
