//! Operations share the links: a small one is not stuck behind a large one.

use super::pipe::LITTLE;
use super::world::{Shape, World, expected, inputs, key};
use crate::types::{DType, OpDescriptor, ReduceOp, ScheduleChoice};
use crate::wire::frame::{FRAME_HEADER_BYTES, TRAILER_BYTES};

fn written(world: &World) -> u64 {
    world.hosts.iter().map(|host| host.engine.counters().bytes_written).sum()
}

/// What links hold, and their round trip.
const FAR: (usize, u32) = (100, 0);
/// Many pieces, and one of them is the express.
const NEAR: (usize, u32) = (20_000, 100);
/// The same without an express.
const NEAR_UNKNOWN: (usize, u32) = (NEAR.0, 0);

/// Nothing is read until links hold as much as they will.
fn fill(world: &mut World) {
    let stop = |world: &World, arrived| {
        world.pipes.values().for_each(|pipe| pipe.borrow_mut().arrived = arrived);
    };
    // What there is by then is enough to begin with.
    (0..200).for_each(|_| world.poke());
    stop(world, Some(0));
    let written = loop {
        let before = written(world);
        (0..100 * world.pipes.len()).for_each(|_| world.poke());
        if written(world) == before {
            break before;
        }
    };
    stop(world, None);
    assert!(written > 0);
}

#[test]
fn a_small_operation_behind_a_large_one_ends_within_a_few_pieces_of_each_link() {
    for (world_size, schedule) in
        [(2, ScheduleChoice::Mesh), (4, ScheduleChoice::Ring), (4, ScheduleChoice::Mesh)]
    {
        for links_per_pair in [1, 4] {
            assert!(is_soon_through(world_size, schedule, links_per_pair, FAR));
        }
    }
}

#[test]
fn between_near_peers_it_waits_for_no_more_however_much_links_hold() {
    for world_size in [2, 4] {
        for (links_per_pair, path) in [(2, NEAR), (4, NEAR), (4, NEAR_UNKNOWN)] {
            let is_soon = is_soon_through(world_size, ScheduleChoice::Auto, links_per_pair, path);
            assert_eq!(is_soon, path == NEAR, "{world_size} peers, {links_per_pair} links, {path:?}");
        }
    }
}

/// Whether a small operation that begins while links hold as much as they will of a large one waits for a few pieces of each.
fn is_soon_through(
    world_size: usize,
    schedule: ScheduleChoice,
    links_per_pair: usize,
    (capacity, rtt_us): (usize, u32),
) -> bool {
    let shape = Shape { world_size, schedule, links_per_pair, capacity, rtt_us, ..Shape::default() };
    // With its frames.
    let segments = (shape.piece_bytes as usize).div_ceil(shape.segment_bytes);
    let piece_bytes = shape.piece_bytes as usize + segments * (FRAME_HEADER_BYTES + TRAILER_BYTES);
    let mut world = World::new(shape);
    let large = OpDescriptor::plain(200_000, DType::U32, ReduceOp::Sum);
    world.start_all(key(1, 0, 0), large, &inputs(large, world_size, 0), false);
    fill(&mut world);
    let small = OpDescriptor::plain(16, DType::U32, ReduceOp::Sum);
    let inputs = inputs(small, world_size, 1);
    let before = written(&world);
    world.start_all(key(1, 1, 0), small, &inputs, false);
    world.drain_outputs();
    while !world.hosts.iter().all(|host| host.done.contains(&key(1, 1, 0))) {
        world.poke();
    }
    let meanwhile = written(&world) - before;
    assert!(world.hosts.iter().all(|host| !host.done.contains(&key(1, 0, 0))));
    world.commit(key(1, 1, 0), &expected(small, &inputs));
    // From hop to hop it waits for what is on the link and for one piece. Links are told in a random
    // order that they are ready, so some move more.
    let hops = if schedule == ScheduleChoice::Ring { 2 * (world_size as u64 - 1) } else { 2 } + 1;
    let most = hops * 5 * (piece_bytes * world.pipes.len()) as u64;
    if meanwhile >= most {
        eprintln!("{schedule:?} {links_per_pair} {capacity}: {meanwhile} of {most} bytes");
    }
    meanwhile < most
}

#[test]
fn the_express_carries_its_part_of_a_large_operation() {
    let (capacity, rtt_us) = NEAR;
    let schedule = ScheduleChoice::Mesh;
    let mut world = World::new(Shape { schedule, links_per_pair: 4, capacity, rtt_us, ..Shape::default() });
    let large = OpDescriptor::plain(20_000, DType::U32, ReduceOp::Sum);
    let inputs = inputs(large, 2, 0);
    world.start_all(key(1, 0, 0), large, &inputs, false);
    world.run();
    world.commit(key(1, 0, 0), &expected(large, &inputs));
    for (link, pipe) in &world.pipes {
        let pipe = pipe.borrow();
        // An eighth of them has four links and two directions.
        assert!(pipe.total > 80_000 / 16, "{link:?} carried {} bytes", pipe.total);
    }
    assert_eq!(world.pipes.values().filter(|pipe| pipe.borrow().capacity == LITTLE).count(), 2);
}

#[test]
fn what_is_short_waits_for_no_express_that_stands_still() {
    let (capacity, rtt_us) = NEAR;
    let schedule = ScheduleChoice::Auto;
    let (large, small) = (
        OpDescriptor::plain(100_000, DType::U32, ReduceOp::Sum),
        OpDescriptor::plain(16, DType::U32, ReduceOp::Sum),
    );
    for is_alone in [false, true] {
        let mut world =
            World::new(Shape { schedule, links_per_pair: 3, capacity, rtt_us, ..Shape::default() });
        if !is_alone {
            world.start_all(key(1, 0, 0), large, &inputs(large, 2, 0), false);
            (0..2000).for_each(|_| world.poke());
        }
        let express: Vec<_> = {
            let least = world.pipes.values().filter_map(|pipe| pipe.borrow().order).min();
            world.pipes.values().filter(|pipe| pipe.borrow().order == least).cloned().collect()
        };
        assert_eq!(express.len(), 2);
        for pipe in &express {
            let mut pipe = pipe.borrow_mut();
            pipe.stands_at = Some(pipe.total);
        }
        let inputs = inputs(small, 2, 1);
        world.start_all(key(1, 1, 0), small, &inputs, false);
        if !is_alone {
            (0..2000).for_each(|_| world.poke());
            assert!(
                world.hosts.iter().all(|host| !host.done.contains(&key(1, 1, 0))),
                "it waits for the express"
            );
            world.now = world.now.plus_ms(20);
        }
        world.run();
        world.commit(key(1, 1, 0), &expected(small, &inputs));
    }
}

#[test]
fn another_link_becomes_the_express_and_the_one_before_holds_as_much_as_it_did() {
    let (capacity, rtt_us) = NEAR;
    let mut world = World::new(Shape { links_per_pair: 2, capacity, rtt_us, ..Shape::default() });
    let large = OpDescriptor::plain(20_000, DType::U32, ReduceOp::Sum);
    let inputs = inputs(large, 2, 0);
    for seq in 0..3 {
        world.start_all(key(1, 0, seq), large, &inputs, true);
        (0..500).for_each(|_| world.poke());
        // The last to come is the first in the order.
        world.connect(0, 1);
        world.run();
        world.commit(key(1, 0, seq), &expected(large, &inputs));
        let least = world.pipes.values().filter_map(|pipe| pipe.borrow().order).min();
        for pipe in world.pipes.values() {
            let pipe = pipe.borrow();
            assert!(pipe.capacity == capacity || pipe.order == least);
        }
    }
}
