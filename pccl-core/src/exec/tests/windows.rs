//! What windows are for: fewer one-way delays. And that none of it depends on them.

use super::world::{Shape, World, expected, inputs, key};
use crate::limits::WINDOW_OVERHEAD_BYTES;
use crate::types::{DType, OpDescriptor, ReduceOp, ScheduleChoice};

/// One-way delays until all have the result, if nothing but delay costs time.
fn delays(world_size: usize, count: u64, budget_bytes: usize) -> usize {
    let shape = Shape {
        world_size,
        schedule: ScheduleChoice::Mesh,
        links_per_pair: 2,
        budget_bytes,
        step: 1 << 16,
        capacity: 1 << 16,
        pump_budget_bytes: 1 << 20,
        ..Shape::default()
    };
    let descriptor = OpDescriptor::plain(count, DType::U32, ReduceOp::Sum);
    let mut world = World::new(shape);
    let inputs = inputs(descriptor, world_size, 0);
    world.start_all(key(1, 0, 0), descriptor, &inputs, false);
    let mut delays = 0;
    while !world.hosts.iter().all(|host| host.done.contains(&key(1, 0, 0))) {
        world.one_delay();
        world.drain_outputs();
        delays += 1;
        assert!(delays < 1000, "nothing moves any more");
    }
    world.commit(key(1, 0, 0), &expected(descriptor, &inputs));
    delays
}

#[test]
fn a_mesh_of_any_size_takes_a_grant_a_contribution_and_a_result() {
    for world_size in [2, 3, 4, 7, 12] {
        assert_eq!(delays(world_size, 16 * world_size as u64, 1 << 20), 3, "one piece, {world_size} peers");
        assert_eq!(delays(world_size, 160 * world_size as u64, 1 << 20), 3, "ten pieces, {world_size} peers");
    }
}

#[test]
fn without_windows_each_turn_takes_a_round_trip_more() {
    for world_size in [3, 4, 7] {
        assert_eq!(delays(world_size, 16 * world_size as u64, 0), 3 + 2 * (world_size - 2));
    }
}

#[test]
fn windows_are_used_again_by_later_pieces() {
    // Ten pieces of seven contributions ahead of their turn each, and windows for ten of them at a time.
    let some = 2 * 10 * (64 + WINDOW_OVERHEAD_BYTES);
    let (none, some, plenty) = (delays(9, 9 * 160, 0), delays(9, 9 * 160, some), delays(9, 9 * 160, 1 << 20));
    assert!(plenty < some && some < none, "{plenty}, {some}, {none}");
}
