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

fn needs_the_other(n: usize, other: usize, reason: &str) -> bool {
    reason.contains("can never meet")
        && reason.contains(&id(n).to_string())
        && reason.contains(&id(other).to_string())
}

#[test]
fn a_synchronization_and_a_phase_call_in_one_group_end_at_once_whoever_called_first() {
    for sync_first in [true, false] {
        let mut world = World::of(3);
        let update = Call::Phase(PhaseCall::UpdateTopology);
        let (sync, phase) = if sync_first {
            let sync = world.sync(0, &syncs::popular(0, 1));
            assert!(world.outcome(0, sync).is_none());
            (sync, world.call(1, update))
        } else {
            let phase = world.call(1, update);
            (world.sync(0, &syncs::popular(0, 1)), phase)
        };
        for (n, work) in [(0, sync), (1, phase)] {
            let Some(Err(error)) = world.outcome(n, work) else {
                panic!("peer {n} waits: {:?}", world.events)
            };
            assert_eq!(error.kind, ErrorKind::InvalidUsage);
            assert!(needs_the_other(0, 1, &error.reason), "{error}");
            assert!(error.reason.contains("in synchronize_shared_state of group 0"), "{error}");
        }
        let works = [0, 1, 2].map(|n| (n, world.sync(n, &syncs::popular(0, 1))));
        assert!(works.iter().all(|(n, work)| world.outcome(*n, *work) == syncs::synchronized(0)));
        assert!(
            (0..3).zip(world.update(&[0, 1, 2])).all(|(n, w)| world.outcome(n, w) == Some(Ok(Done::Updated)))
        );
    }
}

/// Two groups of two: peers 0 and 1, peers 2 and 3.
fn two_groups() -> World {
    let mut world = World::of(2);
    for _ in 0..2 {
        world.join(5);
        world.update(&(0..world.peers.len() - 1).collect::<Vec<_>>());
    }
    world
}

#[test]
fn a_synchronization_in_another_group_is_waited_for() {
    let mut world = two_groups();
    let sync = world.sync(2, &syncs::popular(0, 1));
    let mut updates: Vec<(usize, WorkId)> = [0, 1].into_iter().zip(world.update(&[0, 1])).collect();
    assert!(updates.iter().all(|(n, work)| world.outcome(*n, *work).is_none()), "{:?}", world.events);
    world.moves_bytes = false;
    let other = world.sync(3, &syncs::popular(0, 2));
    assert!(world.outcome(2, sync).is_none(), "{:?}", world.events);
    world.state_done(3, None);
    assert_eq!(
        (world.outcome(2, sync), world.outcome(3, other)),
        (syncs::synchronized(0), syncs::synchronized(0))
    );
    updates.extend([2, 3].into_iter().zip(world.update(&[2, 3])));
    assert!(updates.iter().all(|(n, work)| world.outcome(*n, *work) == Some(Ok(Done::Updated))));
}

#[test]
fn whoever_waits_for_a_circle_ends_with_it() {
    let mut world = two_groups();
    let bystanders = [0, 1].into_iter().zip(world.update(&[0, 1]));
    let mut works: Vec<(usize, WorkId)> = bystanders.collect();
    works.push((2, world.sync(2, &syncs::popular(0, 1))));
    works.extend([3].into_iter().zip(world.update(&[3])));
    assert!(
        works.iter().all(|(n, work)| world.kind(*n, *work) == Some(ErrorKind::InvalidUsage)),
        "{:?}",
        world.events
    );
}

#[test]
fn a_synchronization_and_a_long_wait_for_an_operation_end_both() {
    for sync_first in [true, false] {
        let mut world = World::of(2);
        world.moves_bytes = false;
        let wait = |world: &mut World| {
            let work = world.reduce(0, 1, sum(10));
            world.peers[0].handle(peer::Input::Blocked { work, alone: false }, world.now);
            world.run();
            work
        };
        let (waits, sync) = if sync_first {
            let sync = world.sync(1, &syncs::popular(0, 1));
            (wait(&mut world), sync)
        } else {
            let waits = wait(&mut world);
            (waits, world.sync(1, &syncs::popular(0, 1)))
        };
        assert_eq!(world.kind(0, waits), Some(ErrorKind::InvalidUsage), "{:?}", world.events);
        assert_eq!(world.kind(1, sync), Some(ErrorKind::InvalidUsage));
        world.moves_bytes = true;
        let works = [0, 1].map(|n| (n, world.reduce(n, 1, sum(10))));
        assert!(works.iter().all(|(n, work)| reduced(&world.outcome(*n, *work))), "they are in step");
    }
}

#[test]
fn an_operation_in_flight_that_nobody_waits_for_proves_nothing() {
    let mut world = World::of(2);
    world.moves_bytes = false;
    world.reduce(0, 1, sum(10));
    let sync = world.sync(1, &syncs::popular(0, 1));
    assert!(world.outcome(1, sync).is_none());
}

#[test]
fn a_wait_for_an_operation_of_whoever_is_computing_is_no_deadlock_beside_a_synchronization() {
    let mut world = two_groups();
    world.moves_bytes = false;
    let waits = world.reduce(0, 1, sum(10));
    world.peers[0].handle(peer::Input::Blocked { work: waits, alone: true }, world.now);
    let sync = world.sync(2, &syncs::popular(0, 1));
    assert!(world.outcome(0, waits).is_none() && world.outcome(2, sync).is_none(), "{:?}", world.events);
    let update = world.update(&[1]);
    assert!(world.outcome(2, sync).is_none(), "peer 3 may offer: {:?}", world.events);
    assert_eq!(world.kind(1, update[0]), Some(ErrorKind::InvalidUsage));
}
