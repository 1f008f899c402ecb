//! Operations share the links: a small one is not stuck behind a large one.

use super::world::{Shape, World, expected, inputs, key};
use crate::types::{DType, OpDescriptor, ReduceOp, ScheduleChoice};
use crate::wire::frame::{FRAME_HEADER_BYTES, TRAILER_BYTES};

fn written(world: &World) -> u64 {
    world.hosts.iter().map(|host| host.engine.counters().bytes_written).sum()
}

#[test]
fn a_small_operation_behind_a_large_one_ends_within_a_few_pieces_of_each_link() {
    for (world_size, schedule) in
        [(2, ScheduleChoice::Mesh), (4, ScheduleChoice::Ring), (4, ScheduleChoice::Mesh)]
    {
        for links_per_pair in [1, 4] {
            let shape = Shape { world_size, schedule, links_per_pair, ..Shape::default() };
            // With its frames.
            let segments = (shape.piece_bytes as usize).div_ceil(shape.segment_bytes);
            let piece_bytes = shape.piece_bytes as usize + segments * (FRAME_HEADER_BYTES + TRAILER_BYTES);
            let mut world = World::new(shape);
            let large = OpDescriptor::plain(100_000, DType::U32, ReduceOp::Sum);
            world.start_all(key(1, 0, 0), large, &inputs(large, world_size, 0), false);
            for _ in 0..2000 {
                world.poke();
            }
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
            assert!(meanwhile < most, "{schedule:?} {links_per_pair}: {meanwhile} of {most} bytes");
        }
    }
}
