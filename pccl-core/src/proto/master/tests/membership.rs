//! Who is taken in, who is let go.

use super::*;

#[test]
fn the_first_peer_is_accepted_at_once_and_later_ones_when_the_members_agree() {
    let mut world = World::new();
    let first = world.join(0);
    assert_eq!(world.outcome(0, first), Some(Ok(Done::Connected)));
    let second = world.join(0);
    assert_eq!(world.outcome(1, second), None);
    let asked = world.call(0, Call::Phase(PhaseCall::ArePeersPending));
    assert_eq!(world.outcome(0, asked), Some(Ok(Done::PeersPending { peers_pending: 1 })));
    let update = world.update(&[0]);
    assert_eq!(world.outcome(0, update[0]), Some(Ok(Done::Updated)));
    assert_eq!(world.outcome(1, second), Some(Ok(Done::Connected)));
    assert_eq!(world.master.epoch().epoch, Epoch(2));
    assert_eq!(world.peers[1].rank(), Some(1));
}

#[test]
fn a_silent_peer_is_taken_out() {
    let mut world = World::of(2);
    world.dead[1] = true; // frozen: its control link stays open
    world.pass(4_000);
    assert_eq!(world.master.epoch().world_size(), 1);
    assert!(world.events.iter().any(|e| e.contains("silent")), "{:?}", world.events);
}

#[test]
fn a_death_while_others_wait_in_a_phase_call_ends_the_wait() {
    let mut world = World::of(3);
    let waiting = world.update(&[0, 1]);
    world.kill(2);
    assert!((0..2).all(|n| world.outcome(n, waiting[n]) == Some(Ok(Done::Updated))));
}

#[test]
fn a_newcomer_nobody_can_link_with_is_refused_and_the_members_go_on() {
    let mut world = World::of(2);
    world.walls = vec![(0, 2), (1, 2)];
    let connect = world.join(0);
    let update = world.update(&[0, 1]);
    assert_eq!(world.kind(2, connect), Some(ErrorKind::MasterConnectionFailed));
    assert!((0..2).all(|n| world.outcome(n, update[n]) == Some(Ok(Done::Updated))));
    assert_eq!(world.master.epoch().world_size(), 2);
}

#[test]
fn a_newcomer_that_some_can_reach_is_admitted_around_the_missing_pair() {
    let mut world = World::of(3);
    world.walls = vec![(0, 3)];
    let connect = world.join(0);
    world.update(&[0, 1, 2]);
    assert_eq!(world.outcome(3, connect), Some(Ok(Done::Connected)));
    let info = world.master.epoch().group(GroupId(0)).unwrap();
    assert_eq!(info.unlinked.len(), 1);
}

#[test]
fn a_newcomer_that_freezes_in_prepare_is_let_go_and_its_epoch_number_burned() {
    let mut world = World::of(2);
    let connect = world.join(0);
    world.dead[2] = true;
    let before = world.master.epoch().epoch;
    let update = world.update(&[0, 1]);
    assert_eq!(world.outcome(0, update[0]), None);
    world.pass(1_000);
    assert_eq!(world.outcome(0, update[0]), Some(Ok(Done::Updated)));
    assert_eq!(world.outcome(2, connect), None);
    world.join(0);
    world.update(&[0, 1]);
    assert_eq!(world.master.epoch().epoch, Epoch(before.0 + 2));
}

#[test]
fn newcomers_that_freeze_one_after_the_other_cost_two_prepares_at_most() {
    let mut world = World::of(2);
    for _ in 0..3 {
        world.join(0);
    }
    world.dead[2] = true;
    let update = world.update(&[0, 1]);
    // The next two answered once, and freeze before they are asked again.
    world.dead[3] = true;
    world.dead[4] = true;
    let timeout = u64::from(crate::limits::DEFAULT_PREPARE_TIMEOUT_MS);
    world.pass(timeout);
    assert_eq!(world.outcome(0, update[0]), None, "those who had answered are asked again");
    world.pass(timeout);
    assert_eq!(world.outcome(0, update[0]), Some(Ok(Done::Updated)));
}

#[test]
fn a_members_death_during_a_prepare_burns_its_epoch_number() {
    let mut world = World::of(3);
    world.join(0);
    world.dead[3] = true;
    let before = world.master.epoch().epoch;
    world.update(&[0, 1]);
    world.call(2, Call::Phase(PhaseCall::UpdateTopology));
    world.kill(2);
    assert_eq!(world.master.epoch().epoch, Epoch(before.0 + 2), "the number after the burned one");
}

#[test]
fn calls_after_being_put_out_say_so_until_the_next_connect() {
    let mut world = World::of(2);
    let id = world.peers[1].id();
    world.master.kick(id, "for this test".into());
    world.run();
    let work = world.call(1, Call::Phase(PhaseCall::UpdateTopology));
    let Some(Err(error)) = world.outcome(1, work) else { panic!("not refused") };
    assert_eq!(error.kind, ErrorKind::MasterConnectionFailed);
    assert!(error.reason.contains("for this test"), "{error}");
    let connect = world.call(1, Call::Connect);
    world.update(&[0]);
    assert_eq!(world.outcome(1, connect), Some(Ok(Done::Connected)));
}

#[test]
fn what_is_not_in_a_table_is_a_typed_error_that_names_state_and_event() {
    use crate::proto::table::{Illegal, step};
    let states = [PeerState::Pending, PeerState::Preparing, PeerState::Prepared, PeerState::Member];
    let events =
        [PeerEvent::Prepare, PeerEvent::Answer, PeerEvent::Burn, PeerEvent::Commit, PeerEvent::First];
    let mut legal = 0;
    for state in states {
        for event in events {
            match step(TABLE, state, event) {
                Ok(_) => legal += 1,
                Err(illegal) => {
                    assert_eq!(illegal, Illegal { state, event });
                    let text = illegal.to_string();
                    assert!(text.contains(&format!("{state:?}")) && text.contains(&format!("{event:?}")));
                }
            }
        }
    }
    assert_eq!(legal, TABLE.len(), "two transitions from one state by one event");
    assert_eq!(step(TABLE, PeerState::Pending, PeerEvent::Commit).ok(), None, "nobody skips the prepare");
}
