//! Nothing waits for ever: see "No byte without a place" in `docs/SCHEDULES.md`. Each test runs with no window at
//! all, with windows for a piece or two, and with plenty, over one connection that holds less than a segment.

use std::sync::Arc;

use super::sums::shapes;
use super::world::{Shape, World, expected, inputs, key};
use crate::limits::WINDOW_OVERHEAD_BYTES;
use crate::types::{
    Cost, DType, ForestKind, OpDescriptor, PackedTree, Planned, PlannedForest, Rank, ReduceOp, ScheduleChoice,
};

const WORLD: usize = 4;
const BUDGETS: [usize; 3] = [0, 2 * (64 + WINDOW_OVERHEAD_BYTES), 1 << 20];

/// Ring, mesh and trees, each with every budget.
fn tight_shapes() -> impl Iterator<Item = Shape> {
    shapes(WORLD).into_iter().flat_map(|shape| {
        BUDGETS.map(|budget_bytes| Shape {
            budget_bytes,
            links_per_pair: 1,
            segment_bytes: 24,
            capacity: 20,
            step: 20,
            ..shape.clone()
        })
    })
}

fn descriptor(tag: u64) -> OpDescriptor {
    OpDescriptor::plain(1 + 7 * (tag % 12), DType::ALL[tag as usize % 12], ReduceOp::Avg)
}

fn start(world: &mut World, rank: usize, tag: u64) {
    let input = &inputs(descriptor(tag), WORLD, tag as usize)[rank];
    world.start(rank, key(1, tag, 0), descriptor(tag), input, tag.is_multiple_of(2));
    world.drain_outputs();
}

fn commit(world: &mut World, tag: u64) {
    let expected = expected(descriptor(tag), &inputs(descriptor(tag), WORLD, tag as usize));
    world.commit(key(1, tag, 0), &expected);
}

#[test]
fn sixty_four_tags_in_another_order_at_every_peer_come_to_their_end() {
    for shape in tight_shapes() {
        let mut world = World::new(shape);
        for i in 0..64 {
            for (rank, stride) in [1, 63, 5, 27].into_iter().enumerate() {
                start(&mut world, rank, (i * stride + 17 * rank as u64) % 64);
                world.poke();
            }
        }
        world.run();
        (0..64).for_each(|tag| commit(&mut world, tag));
    }
}

#[test]
fn a_peer_that_announces_everything_a_second_later_stops_nobody_and_is_no_stalled_link() {
    for (late, shape) in tight_shapes().enumerate() {
        let late = late % WORLD;
        let mut world = World::new(shape);
        for rank in (0..WORLD).filter(|rank| *rank != late) {
            (0..64).for_each(|tag| start(&mut world, rank, (tag + 20 * rank as u64) % 64));
        }
        world.run();
        for _ in 0..10 {
            world.now = world.now.plus_ms(100);
            world.each(|host, _| assert_eq!(host.engine.next_deadline(), None));
            let now = world.now;
            world.each(|host, _| host.engine.on_deadline(now));
            world.run();
        }
        // All that was sent has been taken in: one operation more comes through at once.
        assert!(world.pipes.values().all(|pipe| pipe.borrow().bytes.is_empty()));
        (0..WORLD).for_each(|rank| start(&mut world, rank, 64));
        world.run();
        commit(&mut world, 64);
        (0..64).rev().for_each(|tag| start(&mut world, late, tag));
        world.run();
        (0..64).for_each(|tag| commit(&mut world, tag));
    }
}

/// Three peers (ranks 0, 3 and 6), each of which gets its second child's contribution in one tree before it does in another.
/// The way down is another one, so a child has nothing to grant to its parent.
fn children_that_grant_nothing() -> Planned {
    let trees = [0, 3, 6].map(|owner| {
        let at = |step: Rank| (owner + step) % 9;
        let mut reduce_parents = vec![0; 9];
        // By steps around the ring: 1, 4 and 7 begin early, 2, 5 and 8 late.
        let parents = [0, 0, 3, 0, 1, 2, 3, 1, 2];
        for (step, parent) in parents.into_iter().enumerate() {
            reduce_parents[usize::from(at(step as Rank))] = at(parent);
        }
        let down = |rank| if rank == owner || rank == at(1) { owner } else { at(1) };
        PackedTree { owner, share: 1, reduce_parents, broadcast_parents: (0..9).map(down).collect() }
    });
    let trees = trees.to_vec();
    let forest = PlannedForest { kind: ForestKind::Packed, cost: Cost::default(), trees };
    assert_eq!(forest.check(9, &[]), Ok(()));
    Planned { ring: Cost::NEVER, mesh: Cost::NEVER, forest: Some(forest) }
}

#[test]
fn named_grants_are_withheld_for_a_while_only_also_where_a_child_has_nothing_to_grant_to_its_parent() {
    let planned = Some(Arc::new(children_that_grant_nothing()));
    for budget_bytes in BUDGETS {
        let shape = Shape {
            world_size: 9,
            schedule: ScheduleChoice::Packed,
            planned: planned.clone(),
            budget_bytes,
            ..Shape::default()
        };
        let descriptor = OpDescriptor::plain(12, DType::U32, ReduceOp::Sum);
        let mut world = World::new(shape);
        let inputs = inputs(descriptor, 9, 1);
        for is_late in [false, true] {
            for rank in (0..9).filter(|rank| (rank % 3 == 2) == is_late) {
                world.start(rank, key(1, 0, 0), descriptor, &inputs[rank], false);
            }
            world.run();
        }
        world.commit(key(1, 0, 0), &expected(descriptor, &inputs));
    }
}
