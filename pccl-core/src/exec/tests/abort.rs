//! Operations that are given up.

use super::world::{Shape, World, expected, inputs, key};
use crate::limits::{MIN_KEPT_SAVE_BYTES, SAVE_IDLE_MS};
use crate::types::{DType, Epoch, OpDescriptor, ReduceOp, ScheduleChoice, Time};

/// Pumps `before` times, stops everybody with `between` pumps after each, and checks that inputs are
/// intact and stay so, and that the next operation works over the same links. False if the operation was
/// over before it could be stopped.
fn abort_after(shape: Shape, in_place: bool, before: usize, between: usize) -> bool {
    let descriptor = OpDescriptor::plain(14, DType::U32, ReduceOp::Sum);
    let (old, new) = (key(1, 3, 0), key(2, 3, 0));
    let mut world = World::new(shape);
    let size = world.shape.world_size;
    let inputs = inputs(descriptor, size, 1);
    world.start_all(old, descriptor, &inputs, in_place);
    for _ in 0..before {
        world.poke();
    }
    let unfinished = world.hosts.iter().any(|host| !host.done.contains(&old));
    for (rank, input) in inputs.iter().enumerate() {
        assert!(world.hosts[rank].engine.stop(old).is_some());
        assert_eq!(world.memory[&(rank, old)].input(), input, "rank {rank} after {before}");
        let result = world.memory[&(rank, old)].result().to_vec();
        for _ in 0..between {
            world.poke();
        }
        assert_eq!(world.memory[&(rank, old)].result(), result, "rank {rank} touched after its stop");
        world.hosts[rank].engine.enter_epoch(Epoch(2));
        world.start(rank, new, descriptor, input, in_place);
    }
    world.run();
    world.commit(new, &expected(descriptor, &inputs));
    for (rank, input) in inputs.iter().enumerate() {
        assert_eq!(world.memory[&(rank, old)].input(), input);
    }
    unfinished
}

#[test]
fn an_abort_at_any_byte_leaves_the_input_intact_and_the_links_usable() {
    let base =
        Shape { piece_bytes: 16, segment_bytes: 16, step: 1, pump_budget_bytes: 1, ..Shape::default() };
    let mesh = Shape { world_size: 3, schedule: ScheduleChoice::Mesh, ..base.clone() };
    let trees = Shape { world_size: 4, unlinked: vec![(0, 1)], links_per_pair: 2, step: 3, ..base.clone() };
    let near = Shape { links_per_pair: 2, rtt_us: 100, segment_bytes: 8, ..mesh.clone() };
    for (shape, stride) in [(base, 1), (mesh, 13), (trees, 37), (near, 19)] {
        for in_place in [true, false] {
            let stride = if in_place { stride } else { 5 * stride };
            let mut before = 0;
            while abort_after(shape.clone(), in_place, before, before % 40) {
                before += stride;
            }
            assert!(before > 300, "the operation was over after {before} pumps");
        }
    }
}

#[test]
fn a_frame_under_way_is_made_void_and_never_counted() {
    let descriptor = OpDescriptor::plain(64, DType::U64, ReduceOp::Sum);
    let shape = Shape { piece_bytes: 256, segment_bytes: 256, capacity: 64, ..Shape::default() };
    let mut world = World::new(shape);
    world.start_all(key(1, 0, 0), descriptor, &inputs(descriptor, 2, 0), true);
    for _ in 0..20 {
        world.poke();
    }
    world.hosts[0].engine.stop(key(1, 0, 0)).unwrap();
    world.run();
    let (stopped, other) = (world.hosts[0].engine.counters(), world.hosts[1].engine.counters());
    assert_eq!((stopped.voids_sent, other.voids_received), (1, 1));
    assert_eq!((stopped.pieces_sent, other.pieces_received), (0, 0));
    assert!(world.hosts.iter().all(|host| host.lost.is_empty()));
}

#[test]
fn filler_of_a_long_frame_ends_where_the_frame_does() {
    let descriptor = OpDescriptor::plain(200_000, DType::U8, ReduceOp::Sum);
    let shape = Shape {
        piece_bytes: 200_000,
        segment_bytes: 200_000,
        step: 9_000,
        capacity: 20_000,
        pump_budget_bytes: 10_000,
        ..Shape::default()
    };
    let mut world = World::new(shape);
    let inputs = inputs(descriptor, 2, 0);
    world.start_all(key(1, 0, 0), descriptor, &inputs, true);
    for _ in 0..4 {
        world.poke();
    }
    for host in &mut world.hosts {
        host.engine.stop(key(1, 0, 0)).unwrap();
    }
    assert!(world.hosts[0].engine.counters().voids_sent > 0);
    world.start_all(key(1, 0, 1), descriptor, &inputs, true);
    world.run();
    world.commit(key(1, 0, 1), &expected(descriptor, &inputs));
    assert!(world.hosts.iter().all(|host| host.lost.is_empty()));
}

#[test]
fn frames_of_an_operation_that_is_over_are_dropped() {
    let descriptor = OpDescriptor::plain(64, DType::U8, ReduceOp::Sum);
    let mut world = World::new(Shape { capacity: 2000, ..Shape::default() });
    let inputs = inputs(descriptor, 2, 0);
    world.start_all(key(1, 0, 0), descriptor, &inputs, true);
    let link = world.hosts[1].links[0];
    for _ in 0..30 {
        world.ready(1, link);
    }
    world.hosts[0].engine.stop(key(1, 0, 0)).unwrap();
    world.run();
    assert!(world.hosts[0].engine.counters().stale_frames > 0);
    assert_eq!(world.memory[&(0, key(1, 0, 0))].input(), inputs[0]);
    assert!(world.hosts.iter().all(|host| host.lost.is_empty()));
}

#[test]
fn entering_an_epoch_stops_the_traffic_of_the_one_before_but_keeps_its_results() {
    let descriptor = OpDescriptor::plain(64, DType::U16, ReduceOp::Sum);
    let mut world = World::new(Shape::default());
    let inputs = inputs(descriptor, 2, 0);
    world.start_all(key(1, 0, 0), descriptor, &inputs, true);
    world.start_all(key(1, 1, 0), descriptor, &inputs, true);
    world.run();
    world.start_all(key(1, 2, 0), descriptor, &inputs, true);
    world.poke();
    world.each(|host, _| host.engine.enter_epoch(Epoch(2)));
    world.run();
    // A verdict that was given in the old epoch still holds, one way or the other.
    world.commit(key(1, 0, 0), &expected(descriptor, &inputs));
    for (rank, input) in inputs.iter().enumerate() {
        for tag in [1, 2] {
            world.hosts[rank].engine.stop(key(1, tag, 0)).unwrap();
            assert_eq!(world.memory[&(rank, key(1, tag, 0))].input(), input);
        }
        assert!(world.hosts[rank].engine.stop(key(1, 1, 0)).is_none());
    }
}

#[test]
fn other_operations_go_on_when_one_is_stopped() {
    let descriptor = OpDescriptor::plain(120, DType::I32, ReduceOp::Min);
    for pokes in 0..60 {
        let mut world = World::new(Shape { world_size: 3, seed: pokes, ..Shape::default() });
        let inputs = inputs(descriptor, 3, 0);
        for tag in 0..3 {
            world.start_all(key(1, tag, 0), descriptor, &inputs, true);
        }
        for _ in 0..pokes {
            world.poke();
        }
        world.each(|host, _| assert!(host.engine.stop(key(1, 1, 0)).is_some()));
        world.run();
        for tag in [0, 2] {
            world.commit(key(1, tag, 0), &expected(descriptor, &inputs));
        }
    }
}

#[cfg(feature = "seeded-bugs")]
#[test]
fn the_planted_bug_leaves_a_partial_sum_behind() {
    use crate::exec::SeededBug;
    let descriptor = OpDescriptor::plain(64, DType::U16, ReduceOp::Sum);
    let mut world = World::with_bug(Shape::default(), SeededBug::PartialSumLeftBehind);
    let inputs = inputs(descriptor, 2, 0);
    world.start_all(key(1, 0, 0), descriptor, &inputs, true);
    world.run();
    world.hosts[0].engine.stop(key(1, 0, 0)).unwrap();
    assert_ne!(world.memory[&(0, key(1, 0, 0))].input(), inputs[0]);
}

#[test]
fn areas_for_saved_input_are_kept_for_a_while_after_an_operation_however_long_it_took() {
    let shape = Shape {
        piece_bytes: 1 << 20,
        segment_bytes: 1 << 20,
        pump_budget_bytes: 1 << 24,
        step: 1 << 24,
        capacity: 1 << 24,
        ..Shape::default()
    };
    let descriptor = OpDescriptor::plain(MIN_KEPT_SAVE_BYTES as u64, DType::U8, ReduceOp::Sum);
    let mut world = World::new(shape);
    let inputs = inputs(descriptor, 2, 1);
    world.start_all(key(1, 0, 0), descriptor, &inputs, true);
    world.run();
    // It takes twice the time before its verdict is here; heartbeats tell the time meanwhile.
    world.now = Time(0).plus_ms(2 * SAVE_IDLE_MS);
    let now = world.now;
    world.each(|host, _| host.engine.on_deadline(now));
    world.commit(key(1, 0, 0), &expected(descriptor, &inputs));
    let given_back = now.plus_ms(SAVE_IDLE_MS);
    world.each(|host, _| {
        assert_eq!(host.engine.next_deadline(), Some(given_back));
        host.engine.on_deadline(Time(given_back.0 - 1));
        assert_eq!(host.engine.next_deadline(), Some(given_back), "it is kept");
    });
    // One that begins meanwhile counts as well.
    world.now = Time(given_back.0 - 1);
    world.start_all(key(1, 0, 1), descriptor, &inputs, true);
    world.run();
    world.commit(key(1, 0, 1), &expected(descriptor, &inputs));
    let given_back = world.now.plus_ms(SAVE_IDLE_MS);
    world.each(|host, _| {
        assert_eq!(host.engine.next_deadline(), Some(given_back));
        host.engine.on_deadline(given_back);
        assert_eq!(host.engine.next_deadline(), None);
    });
}
