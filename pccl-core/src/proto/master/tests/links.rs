//! Lost data links.

use super::*;

#[test]
fn a_lost_data_link_makes_a_new_epoch_around_it_and_the_pair_is_linked_anew() {
    let mut world = World::of(3);
    world.moves_bytes = false;
    let works: Vec<WorkId> = (0..3).map(|n| world.reduce(n, 1, sum(10))).collect();
    let peer = world.peers[1].id();
    let lost = peer::Input::LinkLost { peer, reason: "reset".into(), others_left: 0 };
    world.peers[0].handle(lost, world.now);
    world.run();
    assert_eq!(world.outcome(0, works[0]), None, "a death might explain the loss");
    world.pass(100);
    assert!((0..3).all(|n| world.kind(n, works[n]) == Some(ErrorKind::Aborted)));
    world.update(&[0, 1, 2]);
    assert!(world.master.epoch().group(GroupId(0)).unwrap().unlinked.is_empty(), "linked anew");
}

#[test]
fn what_both_ends_say_of_a_lost_link_is_written_down_and_told_to_the_program() {
    let mut world = World::of(2);
    world.moves_bytes = false;
    let works: Vec<WorkId> = (0..2).map(|n| world.reduce(n, 1, sum(10))).collect();
    for (n, reason) in ["closed by the peer", "a segment arrived damaged"].into_iter().enumerate() {
        let peer = world.peers[1 - n].id();
        let lost = peer::Input::LinkLost { peer, reason: reason.into(), others_left: 0 };
        world.peers[n].handle(lost, world.now);
        world.run();
    }
    world.pass(100);
    let both = "closed by the peer; a segment arrived damaged";
    assert!(world.events.iter().any(|event| event.to_string().contains(both)), "{:?}", world.events);
    let told = |n: usize| world.outcome(n, works[n]).unwrap().unwrap_err();
    assert!((0..2).all(|n| told(n).reason.contains(both)));
}

#[test]
fn the_only_pair_of_a_group_is_healed_before_anybody_has_to_go() {
    let mut world = World::of(2);
    let peer = world.peers[1].id();
    let lost = peer::Input::LinkLost { peer, reason: "reset".into(), others_left: 0 };
    world.peers[0].handle(lost, world.now);
    world.pass(100);
    assert_eq!(world.master.epoch().world_size(), 2);
    let works: Vec<WorkId> = (0..2).map(|n| world.reduce(n, 1, sum(10))).collect();
    assert!((0..2).all(|n| reduced(&world.outcome(n, works[n]))));
}

#[test]
fn a_link_that_breaks_now_and_then_never_costs_the_only_pair_its_membership() {
    let mut world = World::of(2);
    let peer = world.peers[1].id();
    for _ in 0..6 {
        let lost = peer::Input::LinkLost { peer, reason: "reset".into(), others_left: 0 };
        world.peers[0].handle(lost, world.now);
        world.pass(20_000);
        assert_eq!(world.master.epoch().world_size(), 2, "{:?}", world.events);
    }
}

#[test]
fn an_epoch_carries_the_longest_known_round_trip_of_its_members_after_a_restart_of_the_master_too() {
    let figure = |world: &World| world.master.epoch().group(GroupId(0)).unwrap().rtt_us;
    let mut world = World::of(3);
    assert_eq!(figure(&world), 0, "nobody knows any");
    world.rtts = BTreeMap::from([((0, 3), 100), ((1, 3), 7_000)]);
    world.join(0);
    world.update(&[0, 1, 2]);
    assert!((8_192..=131_072).contains(&figure(&world)) && figure(&world).is_power_of_two());
    let before = figure(&world);
    world.restart_master();
    world.pass(2_000);
    world.rtts = BTreeMap::from([((1, 4), 300)]);
    world.join(0);
    world.update(&[0, 1, 2, 3]);
    assert_eq!((world.master.epoch().world_size(), figure(&world)), (5, before), "{:?}", world.events);
    world.kill(3);
    assert!((300..8_192).contains(&figure(&world)), "whoever was far away is gone: {}", figure(&world));
}

#[test]
fn a_path_that_turns_out_to_be_near_brings_an_epoch_and_other_news_of_it_brings_none() {
    let mut world = World::of(1);
    world.rtts = BTreeMap::from([((0, 1), 6_000)]);
    world.join(0);
    world.update(&[0]);
    let group = |world: &World| world.master.epoch().group(GroupId(0)).unwrap().clone();
    assert_eq!((group(&world).order.len(), group(&world).rtt_us), (2, 8_192));
    for (rtt_us, since_changes, in_epoch) in [(3_000, false, 8_192), (60, true, 64), (30, false, 64)] {
        let before = group(&world).since;
        for n in 0..2 {
            let peer = world.peers[1 - n].id();
            world.peers[n].handle(peer::Input::PathLength { peer, rtt_us, pool: 1 }, world.now);
        }
        world.run();
        world.update(&[0, 1]);
        assert_eq!(
            (group(&world).since != before, group(&world).rtt_us),
            (since_changes, in_epoch),
            "{rtt_us}"
        );
    }
}
