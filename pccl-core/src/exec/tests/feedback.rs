//! Error feedback: what quantization loses stays with somebody, and an abort leaves what there was.

use super::world::{Shape, World, key};
use crate::limits::MAX_EAGER_BYTES_PER_PEER;
use crate::mem::TestMemory;
use crate::types::{DType, Epoch, OpDescriptor, Quantization, ReduceOp, ScheduleChoice};

fn numbers(bytes: &[u8]) -> impl Iterator<Item = f64> {
    bytes.as_chunks().0.iter().map(|cell| f32::from_le_bytes(*cell).into())
}

/// Uniform from −size to size.
fn spread(count: u64, salt: u64, size: f32) -> Vec<u8> {
    let of =
        |i: u64| (i.wrapping_mul(2_654_435_761).wrapping_add(salt * 40_503) % 10_007) as f32 / 5_003.0 - 1.0;
    (0..count).flat_map(|i| (of(i) * size).to_le_bytes()).collect()
}

/// Data and residual of each rank.
fn memory(descriptor: OpDescriptor, rank: usize, in_place: bool) -> TestMemory {
    let salt = rank as u64 * 2;
    let data = spread(descriptor.count, salt, 1.0 + rank as f32);
    TestMemory::new(&data, in_place).with_residual(&spread(descriptor.count, salt + 1, 0.1))
}

fn start_all(world: &mut World, epoch: u64, descriptor: OpDescriptor, in_place: bool) {
    for rank in 0..world.hosts.len() {
        world.start_over(rank, key(epoch, 3, 0), descriptor, memory(descriptor, rank, in_place));
    }
}

fn shapes(base: &Shape) -> Vec<Shape> {
    let mut shapes = vec![
        base.clone(),
        Shape { schedule: ScheduleChoice::Mesh, ..base.clone() },
        Shape { schedule: ScheduleChoice::Auto, piece_bytes: 1 << 20, ..base.clone() },
    ];
    if base.world_size > 2 {
        shapes.push(Shape { unlinked: vec![(0, 1)], ..base.clone() });
    }
    shapes
}

/// Everybody's data and residuals are the sum and everybody's residuals afterwards: an operation loses nothing.
#[test]
fn what_a_result_lacks_is_in_the_residuals() {
    for world_size in 2..=5 {
        let base = Shape { world_size, links_per_pair: 2, step: 90, capacity: 400, ..Shape::default() };
        for shape in shapes(&base) {
            for (op, quantization) in [
                (ReduceOp::Sum, Quantization::Bits4),
                (ReduceOp::Avg, Quantization::Bits4),
                (ReduceOp::Avg, Quantization::MinMax(DType::U8)),
                (ReduceOp::Sum, Quantization::Float8E5M2),
                (ReduceOp::Avg, Quantization::BFloat16),
            ] {
                for in_place in [false, true] {
                    let descriptor = OpDescriptor { count: 301, dtype: DType::F32, op, quantization };
                    let mut world = World::new(shape.clone());
                    start_all(&mut world, 1, descriptor, in_place);
                    world.run();
                    let (mut before, mut after) = (vec![0.0; 301], vec![0.0; 301]);
                    let results: Vec<_> = (0..world_size)
                        .map(|rank| {
                            world.hosts[rank].engine.finish(key(1, 3, 0)).unwrap();
                            let then = memory(descriptor, rank, in_place);
                            let now = &world.memory[&(rank, key(1, 3, 0))];
                            let add = |sums: &mut Vec<f64>, bytes: &[u8]| {
                                sums.iter_mut().zip(numbers(bytes)).for_each(|(sum, x)| *sum += x);
                            };
                            add(&mut before, then.input());
                            add(&mut before, then.residual());
                            add(&mut after, now.residual());
                            now.result().to_vec()
                        })
                        .collect();
                    assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "results differ");
                    let times = if op == ReduceOp::Avg { world_size as f64 } else { 1.0 };
                    for ((result, before), after) in numbers(&results[0]).zip(before).zip(after) {
                        let off = result * times + after - before;
                        assert!(
                            off.abs() < 1e-5 * times * times,
                            "{quantization}, {op}: {off:e} went missing"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn an_abort_at_any_time_leaves_data_and_residual_as_they_were() {
    let quantization = Quantization::Bits4;
    let descriptor = OpDescriptor { count: 60, dtype: DType::F32, op: ReduceOp::Avg, quantization };
    let base = Shape {
        world_size: 3,
        step: 5,
        capacity: 40,
        pump_budget_bytes: 20,
        eager_bytes: MAX_EAGER_BYTES_PER_PEER,
        ..Shape::default()
    };
    for shape in shapes(&base) {
        for in_place in [false, true] {
            for before in (0..).step_by(9) {
                let mut world = World::new(Shape { seed: before, ..shape.clone() });
                start_all(&mut world, 1, descriptor, in_place);
                (0..before).for_each(|_| world.poke());
                let all_done = world.hosts.iter().all(|host| host.done.contains(&key(1, 3, 0)));
                for rank in 0..3 {
                    assert!(world.hosts[rank].engine.stop(key(1, 3, 0)).is_some());
                    let (then, now) =
                        (memory(descriptor, rank, in_place), &world.memory[&(rank, key(1, 3, 0))]);
                    assert_eq!(now.input(), then.input(), "rank {rank} after {before}");
                    assert_eq!(now.residual(), then.residual(), "rank {rank} after {before}");
                    world.hosts[rank].engine.enter_epoch(Epoch(2));
                }
                if all_done {
                    break;
                }
                assert!(before < 20_000, "the operation never ends");
            }
        }
    }
}
