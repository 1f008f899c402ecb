//! Waits that can never meet.

use super::*;

#[test]
fn calls_that_can_never_meet_end_with_the_list_of_who_called_what() {
    let mut world = World::of(2);
    world.moves_bytes = false;
    let waits = world.reduce(0, 1, sum(10));
    let phase = world.call(1, Call::Phase(PhaseCall::UpdateTopology));
    assert_eq!(world.outcome(0, waits), None, "not proven yet: peer 0 may do something else");
    world.peers[0].handle(peer::Input::Blocked { work: waits, alone: false }, world.now);
    world.run();
    assert_eq!(world.kind(0, waits), Some(ErrorKind::InvalidUsage));
    assert_eq!(world.kind(1, phase), Some(ErrorKind::InvalidUsage));
    let update = world.update(&[0, 1]);
    assert!((0..2).all(|n| world.outcome(n, update[n]) == Some(Ok(Done::Updated))), "the run goes on");
}

#[test]
fn peers_that_wait_for_each_others_operations_end_with_invalid_usage_and_stay_in_step() {
    let mut world = World::of(2);
    world.moves_bytes = false;
    let ours = [world.reduce(0, 1, sum(10)), world.reduce(1, 2, sum(10))];
    for (n, work) in ours.iter().enumerate() {
        world.peers[n].handle(peer::Input::Blocked { work: *work, alone: true }, world.now);
        world.run();
    }
    assert!((0..2).all(|n| world.kind(n, ours[n]) == Some(ErrorKind::InvalidUsage)));
    world.moves_bytes = true;
    for tag in [1, 2] {
        let again = [world.reduce(0, tag, sum(10)), world.reduce(1, tag, sum(10))];
        assert!((0..2).all(|n| world.kind(n, again[n]).is_none()), "the next instance is the same for both");
        assert!((0..2).all(|n| world.outcome(n, again[n]).is_some()));
    }
}

#[test]
fn waits_that_another_thread_may_end_are_no_deadlock() {
    let mut world = World::of(2);
    let ours = [world.reduce(0, 1, sum(10)), world.reduce(1, 2, sum(10))];
    for (n, work) in ours.iter().enumerate() {
        world.peers[n].handle(peer::Input::Blocked { work: *work, alone: false }, world.now);
        world.run();
    }
    let theirs = [world.reduce(0, 2, sum(10)), world.reduce(1, 1, sum(10))];
    assert!((0..2).all(|n| reduced(&world.outcome(n, ours[n])) && reduced(&world.outcome(n, theirs[n]))));
}

#[test]
fn a_peer_that_missed_a_mismatch_is_in_step_again_after_the_deadlock_that_follows() {
    let mut world = World::of(3);
    world.moves_bytes = false;
    let phase = world.call(2, Call::Phase(PhaseCall::UpdateTopology));
    world.reduce(0, 1, sum(10));
    world.reduce(1, 1, sum(11));
    let waits = world.reduce(0, 1, sum(10));
    world.reduce(1, 1, sum(10));
    world.peers[0].handle(peer::Input::Blocked { work: waits, alone: false }, world.now);
    world.run();
    assert_eq!(world.kind(2, phase), Some(ErrorKind::InvalidUsage));
    world.moves_bytes = true;
    let again: Vec<WorkId> = (0..3).map(|n| world.reduce(n, 1, sum(10))).collect();
    assert!((0..3).all(|n| reduced(&world.outcome(n, again[n]))));
}

#[test]
fn different_phase_calls_end_with_invalid_usage() {
    let mut world = World::of(2);
    let a = world.call(0, Call::Phase(PhaseCall::UpdateTopology));
    let b = world.call(1, Call::Phase(PhaseCall::ArePeersPending));
    assert_eq!(world.kind(0, a), Some(ErrorKind::InvalidUsage));
    assert_eq!(world.kind(1, b), Some(ErrorKind::InvalidUsage));
}
