//! Nothing waits for ever: see "No byte without a place" in `docs/SCHEDULES.md`. Each test runs with no window at
//! all, with windows for a piece or two, and with plenty, over one connection that holds less than a segment.

use super::sums::shapes;
use super::world::{Shape, World, expected, inputs, key};
use crate::limits::WINDOW_OVERHEAD_BYTES;
use crate::types::{DType, OpDescriptor, ReduceOp};

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
