//! Links that break, stand still, or are damaged on their way.

use super::world::{Shape, World, expected, inputs, key, peer};
use crate::exec::Output;
use crate::limits::NEAR_RTT_US;
use crate::types::{DType, Epoch, OpDescriptor, ReduceOp, ScheduleChoice, Time};
use crate::wire::frame::{FRAME_HEADER_BYTES, TRAILER_BYTES};

const DESCRIPTOR: fn() -> OpDescriptor = || OpDescriptor::plain(40, DType::U32, ReduceOp::Sum);

fn started(shape: Shape) -> (World, Vec<Vec<u8>>) {
    let mut world = World::new(shape);
    let inputs = inputs(DESCRIPTOR(), world.shape.world_size, 2);
    world.start_all(key(1, 0, 0), DESCRIPTOR(), &inputs, true);
    (world, inputs)
}

#[test]
fn a_damaged_byte_anywhere_is_detected_and_the_operation_never_done() {
    let (mut whole, _) = started(Shape::default());
    whole.run();
    let link = *whole.pipes.keys().next().unwrap();
    let total = whole.pipes[&link].borrow().total;
    for at in 0..total {
        let mut world = World::new(Shape::default());
        world.pipes[&link].borrow_mut().damage_at = Some(at);
        let inputs = inputs(DESCRIPTOR(), 2, 2);
        world.start_all(key(1, 0, 0), DESCRIPTOR(), &inputs, true);
        world.run();
        let lost: usize = world.hosts.iter().map(|host| host.lost.len()).sum();
        assert!(lost >= 1, "byte {at}");
        assert!(!world.hosts[1].done.contains(&key(1, 0, 0)), "byte {at}");
        for (rank, input) in inputs.iter().enumerate() {
            world.hosts[rank].engine.stop(key(1, 0, 0)).unwrap();
            assert_eq!(world.memory[&(rank, key(1, 0, 0))].input(), input);
        }
    }
}

#[test]
fn a_cut_link_is_told_at_both_ends_and_the_other_links_go_on() {
    for pokes in 0..80 {
        let shape = Shape { world_size: 3, links_per_pair: 2, seed: pokes, ..Shape::default() };
        let (mut world, inputs) = started(Shape { schedule: ScheduleChoice::Mesh, ..shape });
        for _ in 0..pokes {
            world.poke();
        }
        let link = world.hosts[0].links[0];
        world.pipes[&link].borrow_mut().closed = true;
        world.pipes[&crate::types::LinkId(link.0 + 1)].borrow_mut().closed = true;
        world.run();
        let lost: Vec<usize> = world.hosts.iter().map(|host| host.lost.len()).collect();
        assert_eq!(lost, [1, 1, 0]);
        assert_eq!(world.hosts[0].engine.links_to(peer(1)), 1);
        // As the master would: a new epoch, and once more.
        for (rank, input) in inputs.iter().enumerate() {
            world.hosts[rank].lost.clear();
            world.hosts[rank].engine.stop(key(1, 0, 0)).unwrap();
            assert_eq!(world.memory[&(rank, key(1, 0, 0))].input(), input);
            world.hosts[rank].engine.enter_epoch(Epoch(2));
        }
        world.start_all(key(2, 0, 0), DESCRIPTOR(), &inputs, true);
        world.run();
        world.commit(key(2, 0, 0), &expected(DESCRIPTOR(), &inputs));
    }
}

#[test]
fn what_waits_for_a_peer_without_link_leaves_with_its_first_link() {
    let mut world = World::new(Shape { links_per_pair: 0, ..Shape::default() });
    let inputs = inputs(DESCRIPTOR(), 2, 2);
    world.start_all(key(1, 0, 0), DESCRIPTOR(), &inputs, false);
    world.run();
    world.connect(0, 1);
    world.connect(0, 1);
    world.run();
    world.commit(key(1, 0, 0), &expected(DESCRIPTOR(), &inputs));
}

#[test]
fn unlinking_closes_every_link_to_the_peer_and_no_other() {
    let (mut world, _) = started(Shape {
        world_size: 3,
        links_per_pair: 2,
        schedule: ScheduleChoice::Mesh,
        ..Shape::default()
    });
    world.poke();
    world.hosts[0].engine.unlink(peer(2), world.now);
    world.run();
    assert_eq!((world.hosts[0].closed.len(), world.hosts[0].lost.len()), (2, 0));
    assert_eq!(world.hosts[2].lost.len(), 2);
    assert_eq!([1, 2].map(|rank| world.hosts[0].engine.links_to(peer(rank))), [2, 0]);
}

#[test]
fn a_link_that_takes_nothing_is_given_up_after_the_stall_time_and_not_before() {
    let mut world = World::new(Shape::default());
    let inputs = inputs(DESCRIPTOR(), 2, 2);
    let link = world.hosts[0].links[0];
    world.start(0, key(1, 0, 0), DESCRIPTOR(), &inputs[0], true);
    for _ in 0..50 {
        world.ready(0, link);
    }
    assert_eq!(world.hosts[0].engine.next_deadline(), None, "nothing is granted, so nothing stands still");
    // Rank 1 grants, and then freezes: it reads nothing.
    world.start(1, key(1, 0, 0), DESCRIPTOR(), &inputs[1], true);
    for _ in 0..50 {
        world.ready(0, link);
    }
    let engine = &mut world.hosts[0].engine;
    assert_eq!(engine.next_deadline(), Some(Time(100_000)));
    engine.on_deadline(Time(99_999));
    assert_eq!(engine.links_to(peer(1)), 1);
    engine.on_deadline(Time(100_000));
    let outputs: Vec<Output> = std::iter::from_fn(|| engine.poll_output()).collect();
    let lost =
        |output: &Output| matches!(output, Output::LinkLost { reason, .. } if reason.contains("stalled"));
    assert!(outputs.iter().any(lost), "{outputs:?}");
    assert_eq!(engine.next_deadline(), None);
}

#[test]
fn a_host_that_was_frozen_itself_blames_nobody() {
    let (mut world, inputs) = started(Shape::default());
    let (link, link_1) = (world.hosts[0].links[0], world.hosts[1].links[0]);
    for _ in 0..4 {
        world.ready(1, link_1);
    }
    for _ in 0..50 {
        world.ready(0, link);
    }
    world.now = Time(10_000_000);
    world.hosts[0].engine.on_deadline(world.now);
    assert_eq!(world.hosts[0].engine.next_deadline(), Some(Time(10_100_000)));
    world.run();
    world.commit(key(1, 0, 0), &expected(DESCRIPTOR(), &inputs));
}

#[test]
fn a_link_that_has_had_its_share_asks_to_be_called_again() {
    let shape = Shape { pump_budget_bytes: 10, capacity: 10_000, step: 10_000, ..Shape::default() };
    let mut world = World::new(shape);
    let inputs = inputs(DESCRIPTOR(), 2, 2);
    for rank in [0, 1] {
        world.start(rank, key(1, 0, 0), DESCRIPTOR(), &inputs[rank], false);
    }
    let link = world.hosts[0].links[0];
    world.hosts[0].engine.ready(link, Time(0));
    let outputs: Vec<Output> = std::iter::from_fn(|| world.hosts[0].engine.poll_output()).collect();
    assert_eq!(outputs, [Output::Again { link }]);
}

/// Of 160 bytes each peer sends the other half a share to add to and one that is summed: pieces of 64 and of 16 bytes.
#[test]
fn frames_on_all_links_are_as_long_as_the_path_known_at_last_asks_for() {
    let shape = Shape { links_per_pair: 2, near_segment_bytes: Some(64), ..Shape::default() };
    let mut world = World::new(shape);
    let inputs = inputs(DESCRIPTOR(), 2, 2);
    let mut frames_of_one = |rtt_us: Option<u32>, seq| {
        for rank in 0..2 {
            rtt_us.iter().for_each(|us| world.hosts[rank].engine.set_round_trip(peer(1 - rank), *us));
        }
        let before = world.hosts[0].engine.counters().clone();
        world.start_all(key(1, 0, seq), DESCRIPTOR(), &inputs, true);
        world.run();
        world.commit(key(1, 0, seq), &expected(DESCRIPTOR(), &inputs));
        let now = world.hosts[0].engine.counters();
        let grants = (now.grants_sent - before.grants_sent) as usize * FRAME_HEADER_BYTES;
        let around = (now.bytes_written - before.bytes_written) as usize - grants - 160;
        assert_eq!(around % (FRAME_HEADER_BYTES + TRAILER_BYTES), 0);
        around / (FRAME_HEADER_BYTES + TRAILER_BYTES)
    };
    assert_eq!(frames_of_one(None, 0), 2 * (3 + 1), "nothing is known of it");
    assert_eq!(frames_of_one(Some(NEAR_RTT_US + 1), 1), 2 * (3 + 1));
    assert_eq!(frames_of_one(Some(NEAR_RTT_US), 2), 2 * (1 + 1));
    assert_eq!(frames_of_one(None, 3), 2 * (1 + 1));
}
