//! When a link is given up. The silence time is 100 ms here.

use super::world::{Shape, World, expected, inputs, key};
use crate::exec::Answers;
use crate::limits::STALL_FACTOR_AMONG_OTHERS;
use crate::types::{DType, LinkId, OpDescriptor, ReduceOp, Time};

const SILENCE_MS: u64 = 100;
const ALL: Answers = Answers { unacked: false, unsent: false, quiet_ms: 0 };
/// Its system acknowledges, and has no room for more.
const NOT_ALL: Answers = Answers { unsent: true, ..ALL };
/// What each rank gets to write on its way to the other: far more than this.
const HALF_A_FRAME: usize = 60;

const DESCRIPTOR: fn() -> OpDescriptor = || OpDescriptor::plain(4_000, DType::U32, ReduceOp::Sum);

/// Two peers over three links, the first of which takes a frame by half and stands still.
fn with_one_stuck(answers: Option<Answers>) -> (World, Vec<Vec<u8>>) {
    let mut world = World::new(Shape { links_per_pair: 3, answers, ..Shape::default() });
    world.pipes[&LinkId(0)].borrow_mut().stands_at = Some(HALF_A_FRAME);
    let inputs = inputs(DESCRIPTOR(), 2, 1);
    world.start_all(key(1, 0, 0), DESCRIPTOR(), &inputs, true);
    while world.pipes[&LinkId(0)].borrow().total < HALF_A_FRAME {
        world.poke();
    }
    // It is found to be blocked.
    world.ready(0, LinkId(0));
    (world, inputs)
}

fn wait_until(world: &mut World, ms: u64) {
    world.now = Time(ms * 1000);
    let now = world.now;
    world.each(|host, _| {
        if host.engine.next_deadline().is_some_and(|at| at <= now) {
            host.engine.on_deadline(now);
        }
    });
    world.drain_outputs();
}

fn lost(world: &World) -> Vec<&str> {
    world.hosts[0].lost.iter().map(|(_, reason)| reason.as_str()).collect()
}

#[test]
fn a_link_that_stands_still_while_others_of_the_pair_move_has_longer_and_not_for_ever() {
    let (mut world, _) = with_one_stuck(None);
    let end_ms = SILENCE_MS * STALL_FACTOR_AMONG_OTHERS;
    for ms in (10..end_ms).step_by(10) {
        wait_until(&mut world, ms);
        for link in [LinkId(2), LinkId(4)] {
            world.ready(0, link);
            world.ready(1, LinkId(link.0 + 1));
        }
        assert!(lost(&world).is_empty(), "after {ms} ms");
    }
    assert!(!world.hosts[0].done.contains(&key(1, 0, 0)), "the others had enough to do");
    wait_until(&mut world, end_ms);
    assert_eq!(lost(&world), ["stalled: took nothing for 400 ms with bytes to send"]);
}

#[test]
fn a_link_that_takes_bytes_again_in_that_time_ends_nothing() {
    let (mut world, inputs) = with_one_stuck(None);
    for ms in (10..300).step_by(10) {
        wait_until(&mut world, ms);
        world.ready(0, LinkId(2));
        world.ready(1, LinkId(3));
    }
    world.pipes[&LinkId(0)].borrow_mut().stands_at = None;
    world.run();
    world.commit(key(1, 0, 0), &expected(DESCRIPTOR(), &inputs));
}

#[test]
fn a_pair_of_which_nothing_moves_has_no_more_than_the_silence_time() {
    let (mut world, _) = with_one_stuck(None);
    let others = [LinkId(2), LinkId(4)];
    for ms in [10, 20, 30, 40] {
        wait_until(&mut world, ms);
        for link in others {
            world.ready(0, link);
            world.ready(1, LinkId(link.0 + 1));
        }
    }
    // From here on the other end reads nothing.
    for ms in (50..140).step_by(10) {
        wait_until(&mut world, ms);
        others.iter().for_each(|link| world.ready(0, *link));
        assert!(lost(&world).is_empty(), "after {ms} ms");
    }
    wait_until(&mut world, 140 + 10);
    assert!(!lost(&world).is_empty());
}

#[test]
fn a_link_alone_has_the_silence_time_also_while_other_pairs_move() {
    let mut world = World::new(Shape { world_size: 3, ..Shape::default() });
    world.pipes[&LinkId(0)].borrow_mut().stands_at = Some(HALF_A_FRAME);
    let inputs = inputs(DESCRIPTOR(), 3, 1);
    world.start_all(key(1, 0, 0), DESCRIPTOR(), &inputs, true);
    while world.pipes[&LinkId(0)].borrow().total < HALF_A_FRAME {
        world.poke();
    }
    world.ready(0, LinkId(0));
    for ms in (10..SILENCE_MS).step_by(10) {
        wait_until(&mut world, ms);
        world.hosts[0].links.clone().into_iter().for_each(|link| world.ready(0, link));
    }
    assert!(lost(&world).is_empty());
    wait_until(&mut world, SILENCE_MS);
    assert_eq!(lost(&world).len(), 1);
}

/// The last pieces of an operation: the others have nothing left to send.
#[test]
fn others_that_are_through_with_theirs_count_if_their_other_end_has_it() {
    let (all_ms, one_ms) = (SILENCE_MS * STALL_FACTOR_AMONG_OTHERS, SILENCE_MS + 10);
    for (answers, end_ms) in [(Some(ALL), all_ms), (Some(NOT_ALL), one_ms), (None, one_ms)] {
        let (mut world, _) = with_one_stuck(answers);
        wait_until(&mut world, 10);
        for _ in 0..10 {
            for link in [LinkId(2), LinkId(4)] {
                world.ready(0, link);
                world.ready(1, LinkId(link.0 + 1));
            }
        }
        world.run();
        for ms in (20..end_ms).step_by(10) {
            wait_until(&mut world, ms);
            assert!(lost(&world).is_empty(), "{answers:?}: after {ms} ms");
        }
        wait_until(&mut world, end_ms);
        assert_eq!(lost(&world).len(), 1, "{answers:?}");
    }
}

/// A link that took everything, and a path that is dead.
#[test]
fn what_was_sent_and_is_not_acknowledged_ends_a_link_although_nothing_more_is_to_be_sent() {
    let descriptor = OpDescriptor::plain(1, DType::U32, ReduceOp::Sum);
    let mut world = World::new(Shape { capacity: 1000, step: 1000, answers: Some(ALL), ..Shape::default() });
    world.now = Time(1_000_000);
    let inputs = inputs(descriptor, 2, 1);
    world.start(0, key(1, 0, 0), descriptor, &inputs[0], false);
    assert!(world.pipes[&LinkId(0)].borrow().total > 0);
    let says = |world: &World, unacked, quiet_ms| {
        let answers = Answers { unacked, unsent: false, quiet_ms };
        world.pipes[&LinkId(0)].borrow_mut().answers = Some(answers);
    };
    assert_eq!(world.hosts[0].engine.next_deadline(), Some(Time(1_100_000)));
    // Something was acknowledged 30 ms ago.
    says(&world, true, 30);
    wait_until(&mut world, 1_100);
    assert_eq!(world.hosts[0].engine.next_deadline(), Some(Time(1_170_000)));
    says(&world, false, 0);
    wait_until(&mut world, 1_170);
    assert_eq!(
        world.hosts[0].engine.next_deadline(),
        None,
        "it has everything, so there is nothing to watch"
    );
    assert!(lost(&world).is_empty());

    // Idle for long, and then the path is dead.
    world.now = Time(9_000_000);
    world.start(0, key(1, 1, 0), descriptor, &inputs[0], false);
    says(&world, true, 8_000);
    wait_until(&mut world, 9_099);
    says(&world, true, 8_099);
    assert!(lost(&world).is_empty());
    wait_until(&mut world, 9_100);
    assert_eq!(lost(&world), ["stalled: acknowledged nothing for 100 ms of what it was sent"]);
}

/// An operation now and then, and a path of 20 ms each way: what was given just before the link is asked cannot be answered yet.
#[test]
fn what_was_given_a_moment_ago_is_not_late_because_of_what_was_answered_long_ago() {
    let descriptor = OpDescriptor::plain(1, DType::U32, ReduceOp::Sum);
    let mut world = World::new(Shape { capacity: 1000, step: 1000, answers: Some(ALL), ..Shape::default() });
    let says = |world: &World, unacked, quiet_ms| {
        let answers = Answers { unacked, unsent: false, quiet_ms };
        world.pipes[&LinkId(0)].borrow_mut().answers = Some(answers);
    };
    let inputs = inputs(descriptor, 2, 1);
    world.now = Time(1_000_000);
    world.start(0, key(1, 0, 0), descriptor, &inputs[0], false);
    // Answered at 1.04 s. The next one begins at 1.095 s.
    wait_until(&mut world, 1_095);
    world.start(0, key(1, 1, 0), descriptor, &inputs[0], false);
    says(&world, true, 60);
    wait_until(&mut world, 1_100);
    says(&world, true, 100);
    wait_until(&mut world, 1_140);
    assert_eq!(lost(&world), [""; 0], "its answer comes at 1.135 s at the soonest");
    assert_eq!(world.hosts[0].engine.next_deadline(), Some(Time(1_195_000)));
    // It never comes.
    says(&world, true, 155);
    wait_until(&mut world, 1_195);
    assert_eq!(lost(&world), ["stalled: acknowledged nothing for 100 ms of what it was sent"]);
}

/// The answer to the first came at once, in the tick in which it was given, and the system says it came a tick before.
#[test]
fn an_answer_in_the_same_tick_of_the_system_is_an_answer() {
    let descriptor = OpDescriptor::plain(1, DType::U32, ReduceOp::Sum);
    let mut world = World::new(Shape { capacity: 1000, step: 1000, answers: Some(ALL), ..Shape::default() });
    let inputs = inputs(descriptor, 2, 1);
    world.now = Time(1_000_000);
    world.start(0, key(1, 0, 0), descriptor, &inputs[0], false);
    wait_until(&mut world, 1_095);
    world.start(0, key(1, 1, 0), descriptor, &inputs[0], false);
    world.pipes[&LinkId(0)].borrow_mut().answers =
        Some(Answers { unacked: true, unsent: false, quiet_ms: 103 });
    wait_until(&mut world, 1_100);
    assert_eq!(lost(&world), [""; 0], "what is not answered was given 5 ms ago");
    assert_eq!(world.hosts[0].engine.next_deadline(), Some(Time(1_195_000)));
}

#[test]
fn a_host_that_was_frozen_itself_gives_everybody_the_time_anew() {
    let (mut world, inputs) = with_one_stuck(Some(ALL));
    wait_until(&mut world, 1_000);
    assert!(lost(&world).is_empty());
    assert_eq!(world.hosts[0].engine.next_deadline(), Some(Time(1_100_000)));
    world.pipes[&LinkId(0)].borrow_mut().stands_at = None;
    world.run();
    world.commit(key(1, 0, 0), &expected(DESCRIPTOR(), &inputs));
}
