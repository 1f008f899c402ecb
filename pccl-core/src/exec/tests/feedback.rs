//! Error feedback: what quantization loses stays with somebody, and an abort leaves what there was.

use std::sync::Arc;

use super::bounds::numbers;
use super::quantized::bytes;
use super::sums;
use super::world::{Shape, World, key};
use crate::limits::MAX_EAGER_BYTES_PER_PEER;
use crate::mem::TestMemory;
use crate::types::{DType, Epoch, OpDescriptor, OpKey, Quantization, Rank, ReduceOp, ScheduleChoice};

const FLOATS: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

/// Unit roundoff.
fn unit(dtype: DType) -> f64 {
    2f64.powi(match dtype {
        DType::F16 => -11,
        DType::BF16 => -8,
        DType::F32 => -24,
        _ => -53,
    })
}

/// Uniform from −size to size.
fn spread(dtype: DType, count: u64, salt: u64, size: f64) -> Vec<u8> {
    let of =
        |i: u64| (i.wrapping_mul(2_654_435_761).wrapping_add(salt * 40_503) % 10_007) as f64 / 5_003.0 - 1.0;
    (0..count).flat_map(|i| bytes(dtype, of(i) * size)).collect()
}

/// Data and residual of each rank.
fn memory(descriptor: OpDescriptor, rank: usize, in_place: bool) -> TestMemory {
    let salt = rank as u64 * 2;
    let OpDescriptor { dtype, count, .. } = descriptor;
    let data = spread(dtype, count, salt, 1.0 + rank as f64);
    TestMemory::new(&data, in_place).with_residual(&spread(dtype, count, salt + 1, 0.1))
}

fn start_all(world: &mut World, epoch: u64, descriptor: OpDescriptor, in_place: bool) {
    for rank in 0..world.hosts.len() {
        world.start_over(rank, key(epoch, 3, 0), descriptor, memory(descriptor, rank, in_place));
    }
}

fn shapes(base: &Shape) -> Vec<Shape> {
    let planned = Some(Arc::new(sums::planned(base.world_size as Rank)));
    let mut shapes = vec![
        base.clone(),
        Shape { schedule: ScheduleChoice::Packed, planned, ..base.clone() },
        Shape { schedule: ScheduleChoice::Mesh, ..base.clone() },
        Shape { schedule: ScheduleChoice::Auto, piece_bytes: 1 << 20, ..base.clone() },
    ];
    if base.world_size > 2 {
        shapes.push(Shape { unlinked: vec![(0, 1)], ..base.clone() });
    }
    shapes
}

/// One call, to its end. Gives everybody's result, which is the same, and leaves what is in the memory.
fn reduce(world: &mut World, at: OpKey) -> Vec<u8> {
    world.run();
    let results: Vec<Vec<u8>> = (0..world.hosts.len())
        .map(|rank| {
            world.hosts[rank].engine.finish(at).unwrap();
            world.memory[&(rank, at)].result().to_vec()
        })
        .collect();
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "results differ");
    results[0].clone()
}

/// Sums of everybody's data and residuals before a call; and the largest number among the residuals.
#[derive(Debug, Default)]
struct Ledger {
    data: Vec<f64>,
    residuals: Vec<f64>,
    largest: f64,
}

impl Ledger {
    fn of<'a>(dtype: DType, memories: impl Iterator<Item = &'a TestMemory>) -> Ledger {
        let mut ledger = Ledger::default();
        for memory in memories {
            let (data, residual) = (numbers(dtype, memory.input()), numbers(dtype, memory.residual()));
            ledger.largest = residual.iter().fold(ledger.largest, |most, x| most.max(x.abs()));
            for (sums, numbers) in [(&mut ledger.data, data), (&mut ledger.residuals, residual)] {
                sums.resize(numbers.len(), 0.0);
                sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
            }
        }
        ledger
    }
}

/// What is not in the result must be in the residuals, but for their own rounding and that of the arithmetic.
fn check_that_nothing_is_lost(
    descriptor: OpDescriptor,
    n: f64,
    before: &Ledger,
    result: &[u8],
    after: &Ledger,
) {
    let OpDescriptor { dtype, op, quantization, .. } = descriptor;
    let times = if op == ReduceOp::Avg { n } else { 1.0 };
    // A residual is rounded with each contribution and at the end; 16-bit floats lose nothing besides. In f32 sums do.
    let owed = unit(dtype) * n * (n + 3.0) * (before.largest + after.largest);
    let sums = unit(dtype).min(unit(DType::F32)) * 40.0 * n * n;
    for (i, result) in numbers(dtype, result).into_iter().enumerate() {
        let off = result * times + after.residuals[i] - before.data[i] - before.residuals[i];
        assert!(off.abs() <= owed + sums, "{quantization}, {op} of {dtype}: {off:e} went missing");
    }
}

const SUMS: [(ReduceOp, Quantization); 6] = [
    (ReduceOp::Sum, Quantization::Bits4),
    (ReduceOp::Avg, Quantization::Bits4),
    (ReduceOp::Avg, Quantization::MinMax(DType::U8)),
    (ReduceOp::Sum, Quantization::MinMax(DType::U16)),
    (ReduceOp::Sum, Quantization::Float8E5M2),
    (ReduceOp::Avg, Quantization::BFloat16),
];

/// Everybody's data and residuals are the sum and everybody's residuals afterwards: an operation loses nothing.
#[test]
fn what_a_result_lacks_is_in_the_residuals() {
    for world_size in 2..=5 {
        let base = Shape { world_size, links_per_pair: 2, step: 90, capacity: 400, ..Shape::default() };
        for shape in shapes(&base) {
            let ways = SUMS.into_iter().flat_map(|way| FLOATS.map(|dtype| (way, dtype)));
            for ((op, quantization), dtype) in ways {
                if quantization.refusal(dtype, op).is_some() {
                    continue;
                }
                for in_place in [false, true] {
                    let descriptor = OpDescriptor { count: 301, dtype, op, quantization };
                    let mut world = World::new(shape.clone());
                    start_all(&mut world, 1, descriptor, in_place);
                    let result = reduce(&mut world, key(1, 3, 0));
                    let then: Vec<_> =
                        (0..world_size).map(|rank| memory(descriptor, rank, in_place)).collect();
                    let (before, after) =
                        (Ledger::of(dtype, then.iter()), Ledger::of(dtype, world.memory.values()));
                    check_that_nothing_is_lost(descriptor, world_size as f64, &before, &result, &after);
                }
            }
        }
    }
}

/// Calls one after the other with the same data, each with the residual of the last. After each the sum of all results,
/// and the largest residual.
fn rounds(shape: &Shape, descriptor: OpDescriptor, count: u32, mut each: impl FnMut(u32, &[f64], f64)) {
    let mut world = World::new(shape.clone());
    let mut sums = vec![0.0; descriptor.count as usize];
    let zeros = vec![0; descriptor.size_bytes() as usize];
    let mut residuals = vec![zeros; shape.world_size];
    for round in 0..count {
        let at = key(1, 3, round);
        for (rank, residual) in residuals.iter().enumerate() {
            let data = memory(descriptor, rank, true).input().to_vec();
            world.start_over(
                rank,
                at,
                descriptor,
                TestMemory::new(&data, round % 2 == 0).with_residual(residual),
            );
        }
        let result = reduce(&mut world, at);
        for (rank, residual) in residuals.iter_mut().enumerate() {
            *residual = world.memory.remove(&(rank, at)).unwrap().residual().to_vec();
        }
        sums.iter_mut().zip(numbers(descriptor.dtype, &result)).for_each(|(sum, x)| *sum += x);
        let largest = residuals.iter().flat_map(|residual| numbers(descriptor.dtype, residual));
        each(round + 1, &sums, largest.fold(0.0, |most, x| most.max(x.abs())));
    }
}

fn in_few_frames(world_size: usize) -> Shape {
    Shape {
        world_size,
        piece_bytes: 1 << 11,
        segment_bytes: 1 << 14,
        step: 1 << 14,
        capacity: 1 << 16,
        pump_budget_bytes: 1 << 14,
        ..Shape::default()
    }
}

/// The mean of the results of T calls is off by what is owed in the end, a T-th of it. In 16 bits too: there a result's
/// last place is as coarse as a code of 8 bits.
#[test]
fn the_mean_of_many_results_is_the_true_mean_in_every_type() {
    const ROUNDS: u32 = 64;
    for shape in shapes(&in_few_frames(4)) {
        for dtype in FLOATS {
            for quantization in [
                Quantization::MinMax(DType::U8),
                Quantization::Bits4,
                Quantization::ZeroPointScale(DType::U16),
            ] {
                let descriptor = OpDescriptor { count: 512, dtype, op: ReduceOp::Avg, quantization };
                let all: Vec<_> = (0..4).map(|rank| memory(descriptor, rank, true)).collect();
                let exact = Ledger::of(dtype, all.iter()).data;
                let (mut first, mut last, mut owed) = (0.0, 0.0, 0.0);
                rounds(&shape, descriptor, ROUNDS, |round, sums, largest| {
                    let off = |(sum, exact): (&f64, &f64)| (sum / f64::from(round) - exact / 4.0).abs();
                    let worst = sums.iter().zip(&exact).map(off).fold(0.0, f64::max);
                    (first, owed) = (if round == 1 { worst } else { first }, f64::max(owed, largest));
                    last = worst;
                });
                // Four residuals of that size, of a sum of four; and each was rounded with each call.
                let limit = owed / f64::from(ROUNDS) + 2.0 * unit(dtype) * owed;
                println!("{quantization} of {dtype}: {first:.1e}, then {last:.1e}, limit {limit:.1e}");
                assert!(
                    last <= limit,
                    "{quantization} of {dtype}, {:?}: {last:e}, {limit:e}",
                    shape.schedule
                );
                let codes = matches!(quantization, Quantization::MinMax(_) | Quantization::Bits4);
                assert!(!codes || last < first / 8.0, "{quantization} of {dtype}: {first:e}, then {last:e}");
            }
        }
    }
}

/// What is owed widens what is encoded, and so what will be owed; but by less with each step.
#[test]
fn residuals_do_not_grow_with_the_number_of_calls() {
    for schedule in [ScheduleChoice::Ring, ScheduleChoice::Mesh] {
        let shape = Shape { schedule, ..in_few_frames(16) };
        let quantization = Quantization::Bits4;
        let descriptor = OpDescriptor { count: 640, dtype: DType::F32, op: ReduceOp::Sum, quantization };
        let (mut early, mut late) = (0.0, 0.0);
        rounds(&shape, descriptor, 128, |round, _, largest| {
            let most = if round <= 32 { &mut early } else { &mut late };
            *most = f64::max(*most, largest);
        });
        println!("{schedule:?}: {early} in 32 calls, {late} in the 96 after them");
        assert!(late <= early * 1.1, "{schedule:?}: {early} in 32 calls, {late} in the 96 after them");
    }
}

/// Half of the largest f16 and more, where every contribution has something to be added that leads beyond it.
#[test]
fn what_is_finite_without_feedback_is_finite_with_it() {
    let quantization = Quantization::Bits4;
    for dtype in FLOATS {
        let largest = match dtype {
            DType::F16 => 65_504.0,
            DType::BF16 => f64::from(f32::from_bits(0x7f7f_0000)),
            DType::F32 => f32::MAX.into(),
            _ => f64::MAX,
        };
        for shape in shapes(&in_few_frames(3)) {
            let descriptor = OpDescriptor { count: 300, dtype, op: ReduceOp::Sum, quantization };
            let mut world = World::new(shape);
            for rank in 0..3 {
                let sign = [1.0, -1.0, 0.0][rank];
                let number = |i: u64| sign * largest * if i.is_multiple_of(3) { 0.99 } else { 0.9 };
                let data: Vec<u8> = (0..300).flat_map(|i| bytes(dtype, number(i))).collect();
                let odd = [f64::NAN, f64::INFINITY, 0.06 * largest * sign];
                let residual: Vec<u8> = (0..300).flat_map(|i| bytes(dtype, odd[i % 3])).collect();
                world.start_over(
                    rank,
                    key(1, 3, 0),
                    descriptor,
                    TestMemory::new(&data, true).with_residual(&residual),
                );
            }
            let result = reduce(&mut world, key(1, 3, 0));
            assert!(numbers(dtype, &result).iter().all(|x| x.is_finite()), "{dtype}");
            for memory in world.memory.values() {
                assert!(numbers(dtype, memory.residual()).iter().all(|x| x.is_finite()), "{dtype}");
            }
        }
    }
}

/// Stops everybody after so many pumps, finds data and residuals as they were, and reduces again: nothing is lost by that
/// either. Whether the call was over already, and whether the residual of somebody was put back in part.
fn abort_and_retry(shape: &Shape, descriptor: OpDescriptor, in_place: bool, before: u64) -> (bool, bool) {
    let (old, new, n) = (key(1, 3, 0), key(2, 3, 0), shape.world_size);
    let mut world = World::new(Shape { seed: before, ..shape.clone() });
    start_all(&mut world, 1, descriptor, in_place);
    (0..before).for_each(|_| world.poke());
    let was_over = world.hosts.iter().all(|host| host.done.contains(&old));
    let mut in_part = false;
    for rank in 0..n {
        let copied = |world: &World| world.hosts[rank].engine.counters().bytes_copied;
        let until_then = copied(&world);
        assert!(world.hosts[rank].engine.stop(old).is_some());
        // Out of place the residual is all that is put back.
        let put_back = copied(&world) - until_then;
        in_part |= !in_place && put_back > 0 && put_back < descriptor.size_bytes();
        let (then, now) = (memory(descriptor, rank, in_place), world.memory.remove(&(rank, old)).unwrap());
        assert!(now.input() == then.input(), "rank {rank} after {before}: the data");
        assert!(now.residual() == then.residual(), "rank {rank} after {before}: the residual");
        world.hosts[rank].engine.enter_epoch(Epoch(2));
    }
    start_all(&mut world, 2, descriptor, in_place);
    let result = reduce(&mut world, new);
    let then: Vec<_> = (0..n).map(|rank| memory(descriptor, rank, in_place)).collect();
    let dtype = descriptor.dtype;
    let (ledger, after) = (Ledger::of(dtype, then.iter()), Ledger::of(dtype, world.memory.values()));
    check_that_nothing_is_lost(descriptor, n as f64, &ledger, &result, &after);
    (was_over, in_part)
}

#[test]
fn an_abort_at_any_time_leaves_data_and_residual_as_they_were() {
    let base = Shape {
        world_size: 3,
        step: 5,
        capacity: 40,
        pump_budget_bytes: 20,
        eager_bytes: MAX_EAGER_BYTES_PER_PEER,
        ..Shape::default()
    };
    for shape in shapes(&base) {
        for (in_place, dtype) in [(false, DType::F32), (true, DType::F32), (false, DType::BF16)] {
            let descriptor =
                OpDescriptor { count: 60, dtype, op: ReduceOp::Avg, quantization: Quantization::Bits4 };
            for before in (0..).step_by(9) {
                if abort_and_retry(&shape, descriptor, in_place, before).0 {
                    break;
                }
                assert!(before < 20_000, "the operation never ends");
            }
        }
    }
}

/// Several pieces of several blocks each, some of them done, some overwritten in part.
#[test]
fn an_abort_between_two_blocks_leaves_data_and_residual_as_they_were() {
    let base = Shape {
        world_size: 3,
        piece_bytes: 4 * 2_048 * 4,
        segment_bytes: 2_056,
        step: 1_500,
        capacity: 2_000,
        pump_budget_bytes: 1_500,
        ..Shape::default()
    };
    let forests = shapes(&base).into_iter().filter(|shape| shape.schedule != ScheduleChoice::Auto);
    for shape in forests {
        for (in_place, dtype) in [(false, DType::F32), (true, DType::BF16)] {
            let quantization = Quantization::MinMax(DType::U8);
            let descriptor = OpDescriptor { count: 40_000, dtype, op: ReduceOp::Avg, quantization };
            let mut in_part = 0;
            for before in (0..).step_by(23) {
                let (was_over, part) = abort_and_retry(&shape, descriptor, in_place, before);
                in_part += u32::from(part);
                if was_over {
                    break;
                }
                assert!(before < 20_000, "the operation never ends");
            }
            assert!(in_place || in_part > 3, "no abort met residuals that were overwritten in part");
        }
    }
}
