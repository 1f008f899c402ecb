//! The small schedule between engines: everybody's whole contribution, added in the order of ranks.

use proptest::prelude::*;

use super::world::{Shape, World, expected, inputs, key};
use crate::limits::{MAX_EAGER_FRAME_BYTES, MAX_EAGER_RUNNING_BYTES};
use crate::types::{DType, Epoch, OpDescriptor, ReduceOp, ScheduleChoice};

/// Any operation of up to a piece is small.
fn shape(world_size: usize) -> Shape {
    let schedule = ScheduleChoice::Auto;
    Shape { world_size, schedule, piece_bytes: 1024, links_per_pair: 2, ..Shape::default() }
}

fn sent(world: &World) -> Vec<u64> {
    world.hosts.iter().map(|host| host.engine.counters().eager_sent).collect()
}

fn received(world: &World) -> Vec<u64> {
    world.hosts.iter().map(|host| host.engine.counters().eager_received).collect()
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut dice = World::new(Shape { seed, ..Shape::default() });
    (0..bytes).map(|_| dice.random(256) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_peer_holds_the_sum_in_the_order_of_ranks(
        world_size in 2..=9usize,
        (dtype, op) in (0..DType::ALL.len(), 0..ReduceOp::ALL.len()),
        count in 1..=40u64,
        (seed, in_place, eager_bytes) in (any::<u64>(), any::<bool>(), prop::sample::select(vec![0, 100, 1 << 19])),
    ) {
        // Any bits: a sum of floats in another order would show.
        let descriptor = OpDescriptor::plain(count, DType::ALL[dtype], ReduceOp::ALL[op]);
        let len = descriptor.size_bytes() as usize;
        let inputs: Vec<Vec<u8>> = (0..world_size as u64).map(|rank| noise(seed ^ rank, len)).collect();
        let mut world = World::new(Shape { seed, eager_bytes, ..shape(world_size) });
        world.start_all(key(1, 5, 0), descriptor, &inputs, in_place);
        world.run();
        world.commit(key(1, 5, 0), &expected(descriptor, &inputs));
        prop_assert_eq!(sent(&world), vec![world_size as u64 - 1; world_size]);
        if !in_place {
            for (rank, input) in inputs.iter().enumerate() {
                prop_assert_eq!(world.memory[&(rank, key(1, 5, 0))].input(), &input[..]);
            }
        }
    }
}

#[test]
fn whoever_starts_last_is_done_at_once_and_no_grant_was_needed() {
    let descriptor = OpDescriptor::plain(50, DType::F32, ReduceOp::Sum);
    let mut world = World::new(shape(4));
    let inputs = inputs(descriptor, 4, 0);
    for (rank, input) in inputs.iter().enumerate().take(3) {
        world.start(rank, key(1, 0, 0), descriptor, input, rank == 1);
        world.run();
    }
    assert_eq!(world.hosts[3].engine.kept().parked_bytes, 3 * 200);
    world.start(3, key(1, 0, 0), descriptor, &inputs[3], true);
    world.drain_outputs();
    assert!(world.hosts[3].done.contains(&key(1, 0, 0)), "all contributions were here");
    assert_eq!(world.hosts[3].engine.kept().parked_bytes, 0);
    world.run();
    for host in &world.hosts {
        let counters = host.engine.counters();
        assert_eq!((counters.grants_sent, counters.eager_sent, counters.eager_received), (0, 3, 3));
        assert_eq!((counters.pieces_sent, counters.bytes_reduced), (0, 3 * 200));
    }
    let copied: Vec<u64> = world.hosts.iter().map(|host| host.engine.counters().bytes_copied).collect();
    assert_eq!(copied, [0, 200, 0, 200], "only what is in place");
    world.commit(key(1, 0, 0), &expected(descriptor, &inputs));
}

#[test]
fn a_contribution_leaves_with_one_call_of_the_system_and_crosses_each_link_once() {
    let descriptor = OpDescriptor::plain(200, DType::F32, ReduceOp::Sum);
    let wide = Shape { step: 1 << 20, capacity: 1 << 20, pump_budget_bytes: 1 << 20, ..shape(3) };
    for in_place in [false, true] {
        let mut world = World::new(wide.clone());
        let inputs = inputs(descriptor, 3, 0);
        world.start_all(key(1, 0, 0), descriptor, &inputs, in_place);
        world.run();
        for host in &world.hosts {
            let counters = host.engine.counters();
            assert_eq!((counters.writes, counters.grants_sent), (2, 0));
            let framed = 2 * (48 + 800 + 8);
            assert_eq!((counters.bytes_written, counters.bytes_read), (framed, framed));
            assert_eq!(counters.bytes_copied, if in_place { 800 } else { 0 });
        }
        world.commit(key(1, 0, 0), &expected(descriptor, &inputs));
    }
}

#[test]
fn beyond_the_allowance_grants_go_out_and_the_contribution_follows() {
    // Room for two operations of 40 bytes; the third waits until the peer has shown itself.
    let descriptor = OpDescriptor::plain(10, DType::U32, ReduceOp::Sum);
    for late in [0, 1] {
        let mut world = World::new(Shape { eager_bytes: 80, ..shape(2) });
        let early = 1 - late;
        let inputs = inputs(descriptor, 2, 0);
        for tag in 0..5 {
            world.start(early, key(1, tag, 0), descriptor, &inputs[early], tag == 2);
            world.run();
        }
        assert_eq!(world.hosts[late].engine.kept().parked_bytes, 80);
        assert_eq!(world.hosts[late].engine.kept().early_grants, 3);
        assert_eq!(sent(&world)[early], 2);
        for tag in [4, 2, 0, 3, 1] {
            world.start(late, key(1, tag, 0), descriptor, &inputs[late], true);
            world.run();
        }
        for tag in 0..5 {
            world.commit(key(1, tag, 0), &expected(descriptor, &inputs));
        }
        // The late one had been met everywhere before it started, and never had to ask.
        assert_eq!(world.hosts[late].engine.counters().grants_sent, 0);
        assert_eq!(world.hosts[late].engine.kept().parked_bytes, 0);
        // What was met counts no more: there is room for two again.
        for tag in 5..8 {
            world.start(early, key(1, tag, 0), descriptor, &inputs[early], false);
        }
        world.run();
        assert_eq!(sent(&world)[early], 7);
    }
}

#[test]
fn with_both_allowances_used_up_operations_in_opposite_orders_come_to_their_end() {
    let descriptor = OpDescriptor::plain(10, DType::U32, ReduceOp::Sum);
    let mut world = World::new(Shape { eager_bytes: 40, links_per_pair: 1, capacity: 60, ..shape(3) });
    let inputs = inputs(descriptor, 3, 0);
    for i in 0..64 {
        for rank in 0..3 {
            let tag = [i, 63 - i, (i * 5 + 7) % 64][rank];
            world.start(rank, key(1, tag, 0), descriptor, &inputs[rank], tag % 2 == 0);
        }
        world.poke();
    }
    world.run();
    assert!(world.hosts.iter().all(|host| host.engine.counters().grants_sent > 0));
    for tag in 0..64 {
        world.commit(key(1, tag, 0), &expected(descriptor, &inputs));
    }
}

/// Bytes of the budget that rank 0 has in use, and all contributions that were sent, when rank 2 begins eight operations long
/// after the others.
fn with_one_late(budget_bytes: usize, in_place: bool) -> (usize, u64) {
    let descriptor = OpDescriptor::plain(10, DType::U32, ReduceOp::Sum);
    let mut world = World::new(Shape { budget_bytes, ..shape(3) });
    let inputs = inputs(descriptor, 3, 0);
    for rank in [0, 1] {
        for tag in 0..8 {
            world.start(rank, key(1, (tag + 3 * rank as u64) % 8, 0), descriptor, &inputs[rank], in_place);
        }
        world.run();
    }
    let used = world.hosts[0].engine.kept().budget_bytes;
    for tag in (0..8).rev() {
        world.start(2, key(1, tag, 0), descriptor, &inputs[2], in_place);
        world.poke();
    }
    world.run();
    for tag in 0..8 {
        world.commit(key(1, tag, 0), &expected(descriptor, &inputs));
    }
    (used, sent(&world).iter().sum())
}

#[test]
fn what_there_is_no_room_for_is_dropped_and_asked_for_again() {
    for in_place in [false, true] {
        // Each takes 80 bytes for what the two others send.
        assert_eq!(with_one_late(1000, in_place), (8 * 80, 8 * 3 * 2));
        let (used, sent) = with_one_late(3 * 80, in_place);
        assert!(used == 3 * 80 && sent > 8 * 3 * 2, "{sent} contributions were sent");
        let (used, sent_more) = with_one_late(0, in_place);
        assert!(used == 0 && sent_more > sent, "{sent_more} contributions were sent");
    }
}

#[test]
fn running_operations_take_no_more_than_their_share_of_the_budget_and_room_beside_it_for_one() {
    let descriptor = OpDescriptor::plain(MAX_EAGER_FRAME_BYTES as u64 / 4, DType::U32, ReduceOp::Sum);
    let operations = 2 * (MAX_EAGER_RUNNING_BYTES / MAX_EAGER_FRAME_BYTES) as u64;
    let huge = 1 << 20;
    let mut world = World::new(Shape {
        budget_bytes: 1 << 30,
        piece_bytes: 64 << 10,
        segment_bytes: 64 << 10,
        capacity: huge,
        step: huge,
        pump_budget_bytes: huge,
        ..shape(2)
    });
    let inputs = inputs(descriptor, 2, 0);
    for tag in 0..operations {
        world.start(0, key(1, tag, 0), descriptor, &inputs[0], false);
    }
    world.run();
    assert_eq!(world.hosts[0].engine.kept().budget_bytes, MAX_EAGER_RUNNING_BYTES);
    // Those that wait, and those that have room.
    for tag in (operations - 8..operations).rev().chain(0..8) {
        world.start(1, key(1, tag, 0), descriptor, &inputs[1], false);
        world.run();
        assert!(world.hosts.iter().all(|host| host.engine.kept().budget_bytes <= MAX_EAGER_RUNNING_BYTES));
        world.commit(key(1, tag, 0), &expected(descriptor, &inputs));
    }
}

#[test]
fn an_operation_that_all_have_begun_waits_for_no_room_of_one_that_lacks_a_member() {
    // Rank 0 begins both at once and has room for the first. Rank 1 begins that only when the second has come to its end.
    let descriptor = OpDescriptor::plain(10, DType::U32, ReduceOp::Sum);
    for links_per_pair in [1, 2] {
        let mut world = World::new(Shape { budget_bytes: 40, links_per_pair, ..shape(2) });
        let inputs = inputs(descriptor, 2, 0);
        let (x, y) = (key(1, 0, 0), key(1, 1, 0));
        for key in [x, y] {
            world.start(0, key, descriptor, &inputs[0], false);
        }
        world.run();
        world.start(1, y, descriptor, &inputs[1], true);
        world.run();
        world.commit(y, &expected(descriptor, &inputs));
        world.start(1, x, descriptor, &inputs[1], true);
        world.run();
        world.commit(x, &expected(descriptor, &inputs));
    }
}

#[test]
fn whatever_order_each_calls_and_waits_in_operations_come_to_their_end() {
    let descriptor = OpDescriptor::plain(10, DType::U32, ReduceOp::Sum);
    for budget_bytes in [0, 80, 160, 1000] {
        for seed in 0..20 {
            let mut world = World::new(Shape { budget_bytes, seed, ..shape(3) });
            let inputs = inputs(descriptor, 3, 0);
            // Ranks 0 and 1 begin all in orders of their own, rank 2 one after the other.
            for i in 0..12 {
                world.start(0, key(1, i, 0), descriptor, &inputs[0], i % 2 == 0);
                world.start(1, key(1, i * 7 % 12, 0), descriptor, &inputs[1], i % 2 == 0);
                (0..seed).for_each(|_| world.poke());
            }
            for i in 0..12 {
                let key = key(1, (i * 5 + seed) % 12, 0);
                world.start(2, key, descriptor, &inputs[2], i % 2 == 0);
                world.run();
                world.commit(key, &expected(descriptor, &inputs));
            }
        }
    }
}

#[test]
fn an_operation_that_is_given_up_leaves_its_room_to_those_that_wait() {
    let descriptor = OpDescriptor::plain(10, DType::U32, ReduceOp::Sum);
    let mut world = World::new(Shape { budget_bytes: 40, ..shape(2) });
    let inputs = inputs(descriptor, 2, 0);
    // The first has room, the second is given up while it waits.
    for tag in 0..3 {
        world.start(0, key(1, tag, 0), descriptor, &inputs[0], false);
    }
    world.run();
    assert_eq!(world.hosts[0].engine.kept().budget_bytes, 40);
    for tag in [1, 0] {
        world.hosts[0].engine.stop(key(1, tag, 0)).unwrap();
    }
    // It begins afterwards, so nothing that it sends is dropped.
    world.run();
    assert_eq!(world.hosts[0].engine.kept().budget_bytes, 40);
    world.start(1, key(1, 2, 0), descriptor, &inputs[1], false);
    world.run();
    assert_eq!(sent(&world), [3, 1]);
    world.commit(key(1, 2, 0), &expected(descriptor, &inputs));
}

#[test]
fn contributions_of_a_newer_epoch_are_kept_and_those_of_older_ones_dropped() {
    let descriptor = OpDescriptor::plain(10, DType::U32, ReduceOp::Sum);
    let mut world = World::new(shape(2));
    let inputs = inputs(descriptor, 2, 0);
    world.start(0, key(1, 0, 0), descriptor, &inputs[0], true);
    world.start(0, key(1, 1, 0), descriptor, &inputs[0], true);
    world.run();
    assert_eq!(world.hosts[1].engine.kept().parked_bytes, 80);
    for tag in [0, 1] {
        world.hosts[0].engine.stop(key(1, tag, 0)).unwrap();
    }
    world.hosts[0].engine.enter_epoch(Epoch(2));
    world.start(0, key(2, 0, 0), descriptor, &inputs[0], true);
    world.run();
    assert_eq!(world.hosts[1].engine.kept().parked_bytes, 40, "the sender has left the old epoch");
    world.hosts[1].engine.enter_epoch(Epoch(2));
    assert_eq!(world.hosts[1].engine.kept().parked_bytes, 40);
    world.start(1, key(2, 0, 0), descriptor, &inputs[1], false);
    world.run();
    world.commit(key(2, 0, 0), &expected(descriptor, &inputs));
    world.start(0, key(2, 1, 0), descriptor, &inputs[0], true);
    world.run();
    world.hosts[1].engine.enter_epoch(Epoch(3));
    assert_eq!(world.hosts[1].engine.kept().parked_bytes, 0, "over here too");
}

#[test]
fn a_later_instance_drops_what_was_parked_for_earlier_ones() {
    let descriptor = OpDescriptor::plain(10, DType::U32, ReduceOp::Sum);
    let mut world = World::new(Shape { eager_bytes: 40, ..shape(2) });
    let inputs = inputs(descriptor, 2, 0);
    world.start(0, key(1, 0, 0), descriptor, &inputs[0], true);
    world.run();
    // A deadlock ended the instance; rank 1 never started it.
    world.hosts[0].engine.stop(key(1, 0, 0)).unwrap();
    world.start(1, key(1, 0, 1), descriptor, &inputs[1], true);
    assert_eq!(world.hosts[1].engine.kept().parked_bytes, 0);
    world.run();
    // Its next one shows that, too: there is room for another contribution.
    world.start(0, key(1, 1, 0), descriptor, &inputs[0], true);
    world.run();
    assert_eq!((sent(&world), received(&world)), (vec![2, 1], vec![1, 2]));
}

#[test]
fn contributions_to_another_plan_are_dropped_and_harm_no_link() {
    let (ours, theirs) = (
        OpDescriptor::plain(10, DType::U32, ReduceOp::Sum),
        [
            OpDescriptor::plain(10, DType::I32, ReduceOp::Sum),
            OpDescriptor::plain(11, DType::U32, ReduceOp::Sum),
            // No small one.
            OpDescriptor::plain(1000, DType::U32, ReduceOp::Sum),
        ],
    );
    for theirs in theirs {
        for (first, eager_bytes) in [(0, 1 << 19), (1, 1 << 19), (0, 0), (1, 0)] {
            let mut world = World::new(Shape { eager_bytes, ..shape(2) });
            for rank in [first, 1 - first] {
                let descriptor = [ours, theirs][rank];
                let input = inputs(descriptor, 2, 0).remove(rank);
                world.start(rank, key(1, 0, 0), descriptor, &input, true);
                world.run();
            }
            for (rank, descriptor) in [ours, theirs].into_iter().enumerate() {
                let host = &mut world.hosts[rank];
                assert_eq!((host.lost.len(), host.done.len(), host.engine.kept().parked_bytes), (0, 0, 0));
                host.engine.stop(key(1, 0, 0)).unwrap();
                assert_eq!(world.memory[&(rank, key(1, 0, 0))].input(), inputs(descriptor, 2, 0)[rank]);
            }
        }
    }
}

/// Pumps `before` times, stops, and checks inputs and the next operation. False if all were done before.
fn abort_after(shape: Shape, in_place: bool, before: usize) -> bool {
    let descriptor = OpDescriptor::plain(6, DType::U32, ReduceOp::Sum);
    let (old, new) = (key(1, 3, 0), key(2, 3, 0));
    let mut world = World::new(shape);
    let inputs = inputs(descriptor, world.hosts.len(), 1);
    world.start_all(old, descriptor, &inputs, in_place);
    (0..before).for_each(|_| world.poke());
    let unfinished = world.hosts.iter().any(|host| !host.done.contains(&old));
    for (rank, input) in inputs.iter().enumerate() {
        assert!(world.hosts[rank].engine.stop(old).is_some());
        let result = world.memory[&(rank, old)].result().to_vec();
        assert_eq!(world.memory[&(rank, old)].input(), input, "rank {rank} after {before}");
        (0..before % 40).for_each(|_| world.poke());
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
    let base = Shape { step: 1, pump_budget_bytes: 1, links_per_pair: 1, ..shape(2) };
    for (shape, stride) in [
        (base.clone(), 1),
        (Shape { eager_bytes: 0, ..base.clone() }, 3),
        (Shape { world_size: 3, links_per_pair: 2, ..base }, 7),
    ] {
        for in_place in [true, false] {
            let mut before = 0;
            while abort_after(shape.clone(), in_place, before) {
                before += stride;
            }
            assert!(before > 100, "the operation was over after {before} pumps");
        }
    }
}

#[test]
fn in_place_a_peers_contribution_survives_the_sum_that_takes_its_place() {
    // Rank 0 has everything and is done while rank 2's link takes nothing of what it has to send there.
    let descriptor = OpDescriptor::plain(20, DType::U32, ReduceOp::Sum);
    let mut world = World::new(Shape { links_per_pair: 1, capacity: 30, step: 30, ..shape(3) });
    let inputs = inputs(descriptor, 3, 4);
    world.start_all(key(1, 0, 0), descriptor, &inputs, true);
    let links = world.hosts[0].links.clone();
    for _ in 0..200 {
        // Everybody but rank 2 reads and writes; rank 2 only writes to rank 0.
        for link in &links {
            world.ready(0, *link);
        }
        let link = world.hosts[1].links[0];
        world.ready(1, link);
        let held: Vec<u8> = {
            let pipe = world.pipes[&links[1]].borrow();
            pipe.bytes.iter().copied().collect()
        };
        world.pipes[&links[1]].borrow_mut().bytes.clear();
        let link = world.hosts[2].links[0];
        world.ready(2, link);
        world.pipes[&links[1]].borrow_mut().bytes.extend(held);
    }
    assert!(world.hosts[0].done.contains(&key(1, 0, 0)));
    assert!(!world.hosts[2].done.contains(&key(1, 0, 0)));
    assert_eq!(world.memory[&(0, key(1, 0, 0))].result(), expected(descriptor, &inputs));
    world.run();
    world.commit(key(1, 0, 0), &expected(descriptor, &inputs));
}

#[test]
fn every_damaged_byte_is_noticed_and_nobody_is_done() {
    let descriptor = OpDescriptor::plain(6, DType::U32, ReduceOp::Sum);
    let inputs = inputs(descriptor, 2, 0);
    for at in 0..48 + 24 + 8 {
        for late in [false, true] {
            let mut world = World::new(Shape { links_per_pair: 1, ..shape(2) });
            let link = world.hosts[0].links[0];
            world.pipes[&link].borrow_mut().damage_at = Some(at);
            world.start(0, key(1, 0, 0), descriptor, &inputs[0], true);
            if late {
                world.run();
            }
            world.start(1, key(1, 0, 0), descriptor, &inputs[1], true);
            world.run();
            assert!(world.hosts.iter().any(|host| !host.lost.is_empty()), "byte {at}");
            assert!(!world.hosts[1].done.contains(&key(1, 0, 0)), "byte {at}");
            for (rank, input) in inputs.iter().enumerate() {
                world.hosts[rank].engine.stop(key(1, 0, 0)).unwrap();
                assert_eq!(world.memory[&(rank, key(1, 0, 0))].input(), input);
            }
        }
    }
}
