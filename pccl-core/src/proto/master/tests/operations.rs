//! What becomes of all-reduces.

use super::*;

#[test]
fn an_operation_is_committed_when_all_are_done_and_not_before() {
    let mut world = World::of(3);
    world.moves_bytes = false;
    let works: Vec<WorkId> = (0..3).map(|n| world.reduce(n, 7, sum(10))).collect();
    let key = world.started[&0][0];
    world.finish(0, key);
    world.finish(1, key);
    assert!((0..3).all(|n| world.outcome(n, works[n]).is_none()), "committed before all were done");
    world.finish(2, key);
    assert!((0..3).all(|n| reduced(&world.outcome(n, works[n]))));
    let again: Vec<WorkId> = (0..3).map(|n| world.reduce(n, 7, sum(10))).collect();
    assert_eq!(world.started[&0][1].seq, 1);
    assert!(again.iter().all(|w| !works.contains(w)));
}

#[test]
fn peers_that_disagree_on_an_operation_all_hear_both_descriptions() {
    let mut world = World::of(3);
    let works = [world.reduce(0, 1, sum(10)), world.reduce(1, 1, sum(11)), world.reduce(2, 1, sum(10))];
    for (n, work) in works.into_iter().enumerate() {
        let Some(Err(error)) = world.outcome(n, work) else { panic!("peer {n} waits for ever") };
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
        assert!(
            error.reason.contains("sum of 10 × f32") && error.reason.contains("sum of 11 × f32"),
            "{error}"
        );
    }
    let after: Vec<WorkId> = (0..3).map(|n| world.reduce(n, 1, sum(10))).collect();
    assert!((0..3).all(|n| reduced(&world.outcome(n, after[n]))), "the next instance is not disturbed");
}

#[test]
fn a_death_aborts_what_all_survivors_announced_and_carries_the_rest_over() {
    let mut world = World::of(3);
    world.moves_bytes = false;
    let aborted: Vec<WorkId> = (0..2).map(|n| world.reduce(n, 1, sum(10))).collect();
    let carried = world.reduce(0, 2, sum(10));
    world.moves_bytes = true;
    world.kill(2);
    assert!((0..2).all(|n| world.kind(n, aborted[n]) == Some(ErrorKind::Aborted)));
    assert_eq!(world.outcome(0, carried), None);
    let other = world.reduce(1, 2, sum(10));
    assert!(reduced(&world.outcome(0, carried)) && reduced(&world.outcome(1, other)));
}

#[test]
fn a_death_in_one_group_does_not_disturb_another() {
    let mut world = World::of(2);
    for group in [5, 5] {
        world.join(group);
        world.update(&(0..world.peers.len() - 1).collect::<Vec<_>>());
    }
    world.moves_bytes = false;
    let work = world.reduce(0, 1, sum(10));
    world.reduce(1, 1, sum(10));
    let key = world.started[&0][0];
    world.kill(3);
    assert_eq!(world.outcome(0, work), None);
    world.finish(0, key);
    world.finish(1, key);
    assert!(reduced(&world.outcome(0, work)));
    assert_eq!(world.master.epoch().world_size(), 3);
}
