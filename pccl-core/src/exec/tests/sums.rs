//! What comes out when nothing goes wrong.

use std::sync::Arc;

use super::world::{Shape, World, expected, inputs, key};
use crate::types::{
    Cost, DType, ForestKind, OpDescriptor, PackedTree, Planned, PlannedForest, Rank, ReduceOp, ScheduleChoice,
};

fn reduce_once(shape: Shape, descriptor: OpDescriptor, in_place: bool) -> World {
    let mut world = World::new(shape);
    let inputs = inputs(descriptor, world.shape.world_size, 3);
    world.start_all(key(1, 5, 0), descriptor, &inputs, in_place);
    world.run();
    world.commit(key(1, 5, 0), &expected(descriptor, &inputs));
    world
}

#[test]
fn two_peers_hold_the_sum() {
    reduce_once(Shape::default(), OpDescriptor::plain(100, DType::F32, ReduceOp::Sum), false);
}

#[test]
fn every_type_and_operation_gives_the_reference_result_in_place_and_out_of_place() {
    for dtype in DType::ALL {
        for op in ReduceOp::ALL {
            for in_place in [false, true] {
                let shape = Shape { world_size: 3, ..Shape::default() };
                reduce_once(shape, OpDescriptor::plain(37, dtype, op), in_place);
            }
        }
    }
}

#[test]
fn frames_longer_than_the_hot_scratch_are_added_in_parts() {
    let (piece_bytes, segment_bytes) = (800_000, 800_000);
    for (step, capacity) in [(1 << 20, 1 << 20), (150_001, 300_000)] {
        let shape = Shape {
            piece_bytes,
            segment_bytes,
            step,
            capacity,
            pump_budget_bytes: 1 << 20,
            ..Shape::default()
        };
        reduce_once(shape, OpDescriptor::plain(200_000, DType::F64, ReduceOp::Avg), false);
    }
}

/// A chain, a star, and a tree of both kinds; ranks own one chunk, several or none.
pub fn planned(world_size: Rank) -> Planned {
    let chain: Vec<Rank> = (0..world_size).map(|rank| rank.saturating_sub(1)).collect();
    let last = world_size - 1;
    let heap = (0..world_size).map(|rank| if rank == last { last } else { last - (last - rank - 1) / 2 });
    let heap: Vec<Rank> = heap.collect();
    let tree = |owner, share, reduce: &[Rank], broadcast: &[Rank]| PackedTree {
        owner,
        share,
        reduce_parents: reduce.to_vec(),
        broadcast_parents: broadcast.to_vec(),
    };
    let (zero, last_star) = (vec![0; usize::from(world_size)], vec![last; usize::from(world_size)]);
    let trees = vec![
        tree(0, 3, &chain, &zero),
        tree(last, 2, &heap, &last_star),
        tree(0, 1, &zero, &chain),
        tree(last, 5, &last_star, &heap),
    ];
    let forest = PlannedForest { kind: ForestKind::Packed, cost: Cost::default(), trees };
    assert_eq!(forest.check(world_size.into(), &[]), Ok(()));
    Planned { ring: Cost::NEVER, mesh: Cost::NEVER, forest: Some(forest) }
}

/// The same worlds under every schedule; trees where a pair has no link.
pub fn shapes(world_size: usize) -> Vec<Shape> {
    let base = Shape { world_size, links_per_pair: 2, ..Shape::default() };
    let mut shapes = vec![base.clone(), Shape { schedule: ScheduleChoice::Mesh, ..base.clone() }];
    let planned = Some(Arc::new(planned(world_size as Rank)));
    shapes.push(Shape { schedule: ScheduleChoice::Packed, planned, ..base.clone() });
    if world_size > 2 {
        shapes.push(Shape { unlinked: vec![(0, 1)], ..base });
    }
    shapes
}

#[test]
fn every_schedule_and_world_size_gives_the_reference_result() {
    for world_size in 2..=5 {
        for shape in shapes(world_size) {
            for count in [1, 3, 16, 100, 400] {
                for (seed, budget_bytes) in [0, 1 << 20, 700].into_iter().enumerate() {
                    let shape = Shape { seed: seed as u64, budget_bytes, ..shape.clone() };
                    let descriptor = OpDescriptor::plain(count, DType::I16, ReduceOp::Avg);
                    reduce_once(shape, descriptor, seed.is_multiple_of(2));
                }
            }
        }
    }
}

#[test]
fn all_peers_hold_the_same_bits_whatever_the_input_and_the_timing() {
    let descriptor = OpDescriptor::plain(200, DType::F32, ReduceOp::Sum);
    for shape in shapes(4) {
        let mut results = Vec::new();
        for seed in 0..6 {
            let budget_bytes = [0, 300, 1 << 20][seed as usize % 3];
            let links_per_pair = 1 + seed as usize / 2;
            let mut world = World::new(Shape { seed, links_per_pair, budget_bytes, ..shape.clone() });
            let mut noise = World::new(Shape { seed: 99, ..Shape::default() });
            let inputs: Vec<Vec<u8>> =
                (0..4).map(|_| (0..800).map(|_| noise.random(256) as u8).collect()).collect();
            world.start_all(key(1, 5, 0), descriptor, &inputs, seed.is_multiple_of(2));
            world.run();
            let result = world.memory[&(0, key(1, 5, 0))].result().to_vec();
            world.commit(key(1, 5, 0), &result);
            results.push(result);
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn tags_announced_in_different_order_do_not_disturb_each_other() {
    for shape in shapes(4) {
        let mut world = World::new(shape);
        let descriptor =
            |tag: u64| OpDescriptor::plain(20 * tag + 1, DType::ALL[tag as usize], ReduceOp::Sum);
        for rank in 0..4 {
            for i in 0..6 {
                let tag = (i * [1, 5, 1, 5][rank] + rank as u64) % 6;
                let inputs = inputs(descriptor(tag), 4, tag as usize);
                world.start(rank, key(1, tag, 0), descriptor(tag), &inputs[rank], tag.is_multiple_of(2));
                for _ in 0..20 {
                    world.poke();
                }
            }
        }
        world.run();
        for tag in 0..6 {
            world.commit(
                key(1, tag, 0),
                &expected(descriptor(tag), &inputs(descriptor(tag), 4, tag as usize)),
            );
        }
    }
}

#[test]
fn sequences_of_one_tag_follow_each_other() {
    let descriptor = OpDescriptor::plain(50, DType::U32, ReduceOp::Max);
    let mut world = World::new(Shape { world_size: 3, schedule: ScheduleChoice::Mesh, ..Shape::default() });
    for seq in 0..5 {
        let inputs = inputs(descriptor, 3, seq as usize);
        world.start_all(key(1, 0, seq), descriptor, &inputs, true);
        world.run();
        world.commit(key(1, 0, seq), &expected(descriptor, &inputs));
    }
}

#[test]
fn a_peer_that_starts_late_finds_the_grants_that_came_before() {
    for shape in shapes(5) {
        let descriptor = OpDescriptor::plain(1500, DType::U16, ReduceOp::Sum);
        let mut world = World::new(shape);
        let inputs = inputs(descriptor, 5, 0);
        for (rank, input) in inputs.iter().enumerate() {
            // Of each peer it has to keep the operation's grant and one for a piece.
            assert!(world.hosts[rank].engine.counters().grants_received <= 2 * rank as u64);
            world.start(rank, key(1, 1, 0), descriptor, input, true);
            world.run();
        }
        world.commit(key(1, 1, 0), &expected(descriptor, &inputs));
    }
}

#[test]
fn pieces_of_one_operation_use_every_link_of_a_pair() {
    let shape = Shape { links_per_pair: 4, step: 16, ..Shape::default() };
    let world = reduce_once(shape, OpDescriptor::plain(1000, DType::F32, ReduceOp::Sum), false);
    let totals: Vec<usize> = world.pipes.values().map(|pipe| pipe.borrow().total).collect();
    assert!(totals.iter().all(|total| *total > 500), "{totals:?}");
}

#[test]
fn bytes_are_copied_only_to_save_the_input_of_an_operation_in_place() {
    let descriptor = OpDescriptor::plain(600, DType::F32, ReduceOp::Sum);
    for (schedule, in_place) in
        [(ScheduleChoice::Ring, false), (ScheduleChoice::Mesh, false), (ScheduleChoice::Ring, true)]
    {
        let shape = Shape { world_size: 3, schedule, ..Shape::default() };
        let world = reduce_once(shape, descriptor, in_place);
        for host in &world.hosts {
            let counters = host.engine.counters();
            assert_eq!(counters.bytes_copied, if in_place { 2400 } else { 0 });
            assert_eq!(counters.voids_sent + counters.voids_received + counters.stale_frames, 0);
        }
        // Every contribution is added once: each of 3 × 600 elements but the first of its sum.
        let reduced: u64 = world.hosts.iter().map(|host| host.engine.counters().bytes_reduced).sum();
        assert_eq!(reduced, 2 * 2400);
    }
}

#[test]
fn traffic_is_the_payload_that_crossed_the_links() {
    let descriptor = OpDescriptor::plain(300, DType::F64, ReduceOp::Sum);
    let mut world = World::new(Shape { world_size: 3, ..Shape::default() });
    world.start_all(key(1, 0, 0), descriptor, &inputs(descriptor, 3, 0), false);
    world.run();
    for host in &mut world.hosts {
        let (_, traffic) = host.engine.finish(key(1, 0, 0)).unwrap();
        // Each peer of a ring of 3 sends and receives twice two thirds.
        assert_eq!((traffic.tx_bytes, traffic.rx_bytes), (3200, 3200));
    }
}
