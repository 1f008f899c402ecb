//! A master that is restarted.

use super::*;

#[test]
fn an_operation_whose_link_broke_is_aborted_by_a_restarted_master_too() {
    let mut world = World::of(2);
    world.moves_bytes = false;
    let works: Vec<WorkId> = (0..2).map(|n| world.reduce(n, 1, sum(10))).collect();
    for (n, other) in [(0, 1), (1, 0)] {
        let peer = world.peers[other].id();
        let lost = peer::Input::LinkLost { peer, reason: "reset".into(), others_left: 0 };
        world.peers[n].handle(lost, world.now);
    }
    world.restart_master();
    world.pass(2_000);
    assert!((0..2).all(|n| world.kind(n, works[n]) == Some(ErrorKind::Aborted)), "{:?}", world.events);
}

#[test]
fn a_restarted_master_takes_the_run_over_without_aborting_anything() {
    let mut world = World::of(3);
    world.moves_bytes = false;
    let works: Vec<WorkId> = (0..3).map(|n| world.reduce(n, 1, sum(10))).collect();
    let key = world.started[&0][0];
    world.finish(0, key);
    world.restart_master();
    world.pass(2_000);
    assert_eq!(world.master.epoch().world_size(), 3, "{:?}", world.events);
    world.finish(1, key);
    world.finish(2, key);
    assert!((0..3).all(|n| reduced(&world.outcome(n, works[n]))));
}

#[test]
fn a_verdict_that_one_peer_saw_before_the_master_died_holds_for_all() {
    let mut world = World::of(2);
    world.moves_bytes = false;
    let works: Vec<WorkId> = (0..2).map(|n| world.reduce(n, 1, sum(10))).collect();
    let key = world.started[&0][0];
    for n in 0..2 {
        world.peers[n].handle(peer::Input::OpDone { key }, world.now);
    }
    // The verdict reaches peer 0 only.
    let world_sizes = world.master.epoch().world();
    let verdict = crate::wire::message::Verdict::Committed { world: world_sizes, peers_pending: 0 };
    world.peers[0].handle(peer::Input::Control(MasterMessage::Verdict { key, verdict }), world.now);
    while world.peers[0].poll_output().is_some() {}
    world.restart_master();
    world.pass(2_000);
    assert!(reduced(&world.outcome(1, works[1])));
}

#[test]
fn who_does_not_come_back_to_a_restarted_master_is_lost() {
    let mut world = World::of(3);
    world.dead[2] = true;
    world.restart_master();
    world.pass(15_000);
    assert_eq!(world.master.epoch().world_size(), 2, "{:?}", world.events);
    let works: Vec<WorkId> = (0..2).map(|n| world.reduce(n, 1, sum(10))).collect();
    assert!((0..2).all(|n| reduced(&world.outcome(n, works[n]))));
}

#[test]
fn a_newcomer_that_came_while_the_run_was_recovered_survives_the_next_restart() {
    let mut world = World::of(3);
    world.dead[2] = true;
    world.restart_master();
    world.pass(2_000);
    world.join(0);
    world.pass(15_000);
    world.update(&[0, 1]);
    assert_eq!(world.master.epoch().world_size(), 3, "{:?}", world.events);
    world.restart_master();
    world.pass(2_000);
    let works = [0, 1, 3].map(|n| (n, world.reduce(n, 1, sum(10))));
    assert!(works.iter().all(|(n, w)| reduced(&world.outcome(*n, *w))), "{:?}", world.events);
}

#[test]
fn a_lone_newcomer_that_reaches_a_restarted_master_first_takes_no_runs_place() {
    let mut world = World::of(2);
    world.restart_master();
    world.join(0);
    world.restart_master();
    for slow in [true, false] {
        (world.dead[0], world.dead[1]) = (slow, slow);
        world.pass(2_000);
    }
    assert_eq!(world.master.epoch().world_size(), 2, "{:?}", world.events);
    let works: Vec<WorkId> = (0..2).map(|n| world.reduce(n, 1, sum(10))).collect();
    assert!((0..2).all(|n| reduced(&world.outcome(n, works[n]))), "{:?}", world.events);
}

#[test]
fn a_phase_call_survives_a_restart_of_the_master() {
    let mut world = World::of(3);
    let waiting = world.update(&[0, 1]);
    world.restart_master();
    world.pass(2_000);
    let last = world.update(&[2]);
    assert_eq!(world.outcome(2, last[0]), Some(Ok(Done::Updated)));
    assert!((0..2).all(|n| world.outcome(n, waiting[n]) == Some(Ok(Done::Updated))));
}

#[test]
fn a_control_link_that_breaks_twice_around_a_restart_costs_nobody_the_membership() {
    let mut world = World::of(2);
    world.dead[1] = true; // not back yet, so the new master waits
    world.restart_master();
    world.pass(200);
    let conn = world.conn_of[0].take().expect("peer 0 has found the new master");
    world.conns.remove(&conn);
    world.master.handle(Input::Closed { conn, reason: "reset".into() }, world.now);
    world.peers[0].handle(peer::Input::ControlLost { reason: "reset".into() }, world.now);
    world.dead[1] = false;
    world.pass(3_000);
    assert_eq!(world.master.epoch().world_size(), 2, "{:?}", world.events);
}

#[test]
fn a_wait_reported_before_the_master_died_is_known_to_the_next_one() {
    let mut world = World::of(2);
    world.moves_bytes = false;
    let waits = world.reduce(0, 1, sum(10));
    world.peers[0].handle(peer::Input::Blocked { work: waits, alone: false }, world.now);
    world.run();
    world.restart_master();
    world.pass(2_000);
    let phase = world.call(1, Call::Phase(PhaseCall::UpdateTopology));
    assert_eq!(world.kind(0, waits), Some(ErrorKind::InvalidUsage));
    assert_eq!(world.kind(1, phase), Some(ErrorKind::InvalidUsage));
}
