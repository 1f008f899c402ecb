//! A master that is restarted while a shared state is synchronized.

use super::syncs::{Brought, popular, synchronized};
use super::*;
use crate::types::{SyncNumber, SyncOutcome};

impl World {
    /// Something that the master before had on its way to this peer, and to others not.
    fn hears(&mut self, n: usize, message: MasterMessage) {
        self.peers[n].handle(peer::Input::Control(message), self.now);
        let mut outputs = Vec::new();
        while let Some(output) = self.peers[n].poll_output() {
            outputs.push(output);
        }
        // What it says in turn is lost with its master.
        for output in outputs.into_iter().filter(|o| !matches!(o, peer::Output::Send(_))) {
            self.on_peer_output(n, output);
        }
    }

    fn new_master(&mut self) {
        self.restart_master();
        self.pass(2_000);
    }

    fn all_end(&self, works: &[WorkId], outcome: &dyn Fn(usize, WorkId) -> bool) {
        for (n, work) in works.iter().enumerate().filter(|(n, _)| !self.dead[*n]) {
            assert!(outcome(n, *work), "peer {n}: {:?}; {:?}", self.outcome(n, *work), self.events);
        }
    }

    fn all_synchronized(&self, works: &[WorkId], revision: u64) {
        self.all_end(works, &|n, work| self.outcome(n, work) == synchronized(revision));
    }

    fn all_aborted(&self, works: &[WorkId]) {
        self.all_end(works, &|n, work| self.kind(n, work) == Some(ErrorKind::Aborted));
    }

    /// The next one works, with this revision, and no higher one does.
    fn goes_on_with(mut self, revision: u64) {
        let alive: Vec<usize> = (0..self.peers.len()).filter(|n| !self.dead[*n]).collect();
        self.moves_bytes = true;
        for revision in [revision, revision + 1] {
            let works: Vec<WorkId> = alive.iter().map(|n| self.sync(*n, &popular(revision, 1))).collect();
            for (n, work) in alive.iter().zip(works) {
                assert_eq!(self.outcome(*n, work), synchronized(revision), "{:?}", self.events);
            }
        }
        let ahead = self.sync(alive[0], &popular(revision + 5, 1));
        for n in &alive[1..] {
            self.sync(*n, &popular(revision + 2, 1));
        }
        assert_eq!(self.kind(alive[0], ahead), Some(ErrorKind::MasterConnectionFailed), "{:?}", self.events);
    }
}

const ENDED: fn(u64, SyncOutcome) -> MasterMessage =
    |number, outcome| MasterMessage::SyncEnded { number: SyncNumber(number), outcome };

fn aborted() -> SyncOutcome {
    SyncOutcome::Aborted { text: "for this test".into() }
}

/// Three members that have synchronized revision 6 as number 1, of whom the last holds something else now. `moves`:
/// whether the bytes of the next one are moved.
fn three(moves: bool) -> (World, [Brought; 3]) {
    let mut world = World::of(3);
    let works = world.sync_all(&[popular(6, 9), popular(6, 9), popular(6, 9)]);
    world.all_synchronized(&works, 6);
    world.moves_bytes = moves;
    (world, [popular(7, 1), popular(7, 1), popular(7, 2)])
}

#[test]
fn offers_made_before_count_after() {
    let (mut world, brought) = three(true);
    let mut works = world.sync_all(&brought[..2]);
    world.new_master();
    works.push(world.sync(2, &brought[2]));
    world.all_synchronized(&works, 7);
    assert_eq!(world.begun[&2].last().unwrap().0.number, SyncNumber(2), "a number nobody has heard of");
    world.goes_on_with(8);
}

#[test]
fn offers_made_while_the_master_was_away_count_after() {
    let (mut world, brought) = three(true);
    world.dead.fill(true);
    world.restart_master();
    let works = world.sync_all(&brought);
    world.dead.fill(false);
    world.pass(5_000);
    world.all_synchronized(&works, 7);
    world.goes_on_with(8);
}

#[test]
fn offers_made_while_others_are_awaited_count_once_all_are_back() {
    let (mut world, brought) = three(true);
    world.dead[2] = true;
    world.new_master();
    let mut works = world.sync_all(&brought[..2]);
    assert!(world.outcome(0, works[0]).is_none());
    world.dead[2] = false;
    world.pass(2_000);
    works.push(world.sync(2, &brought[2]));
    world.all_synchronized(&works, 7);
    world.goes_on_with(8);
}

#[test]
fn an_offer_whose_control_link_breaks_twice_around_a_restart_is_one_offer() {
    let (mut world, brought) = three(true);
    world.dead[2] = true;
    world.new_master();
    let mut works = world.sync_all(&brought[..2]);
    let conn = world.conn_of[0].take().expect("peer 0 has found the new master");
    world.conns.remove(&conn);
    world.master.handle(Input::Closed { conn, reason: "reset".into() }, world.now);
    world.peers[0].handle(peer::Input::ControlLost { reason: "reset".into() }, world.now);
    world.pass(200);
    world.dead[2] = false;
    world.pass(2_000);
    works.push(world.sync(2, &brought[2]));
    world.all_synchronized(&works, 7);
    world.goes_on_with(8);
}

#[test]
fn who_does_not_come_back_is_taken_out_of_the_count() {
    let (mut world, brought) = three(true);
    let works = world.sync_all(&brought[..2]);
    world.dead[2] = true;
    world.restart_master();
    world.pass(15_000);
    world.all_synchronized(&works, 7);
    world.goes_on_with(8);
}

#[test]
fn a_transfer_under_way_is_aborted_and_no_step() {
    let (mut world, brought) = three(false);
    let works = world.sync_all(&brought);
    world.new_master();
    world.all_aborted(&works);
    assert!(world.reason_of(0, works[0]).contains("restarted in the middle"));
    world.state_done(2, None); // too late, and no harm
    world.goes_on_with(7);
}

impl World {
    fn reason_of(&self, n: usize, work: WorkId) -> String {
        self.outcome(n, work).and_then(Result::err).map(|e| e.reason).unwrap_or_default()
    }
}

#[test]
fn what_is_all_here_while_the_master_is_away_is_a_success() {
    let (mut world, brought) = three(false);
    let works = world.sync_all(&brought);
    world.dead.fill(true);
    world.restart_master();
    world.state_done(2, None);
    world.dead.fill(false);
    world.pass(5_000);
    world.all_synchronized(&works, 7);
    world.goes_on_with(8);
}

#[test]
fn what_is_all_here_while_others_are_awaited_is_a_success() {
    let (mut world, brought) = three(false);
    let works = world.sync_all(&brought);
    world.dead[0] = true;
    world.new_master();
    world.state_done(2, None);
    world.dead[0] = false;
    world.pass(2_000);
    world.all_synchronized(&works, 7);
    world.goes_on_with(8);
}

#[test]
fn what_cannot_be_had_while_the_master_is_away_is_an_abort() {
    let (mut world, brought) = three(false);
    let works = world.sync_all(&brought);
    world.dead.fill(true);
    world.restart_master();
    world.state_done(2, Some("no source is left"));
    world.dead.fill(false);
    world.pass(5_000);
    world.all_aborted(&works);
    world.goes_on_with(7);
}

#[test]
fn when_those_who_lacked_it_do_not_come_back_it_is_a_success() {
    let (mut world, brought) = three(false);
    let works = world.sync_all(&brought);
    world.dead[2] = true;
    world.restart_master();
    world.pass(15_000);
    world.all_synchronized(&works, 7);
    world.goes_on_with(8);
}

#[test]
fn the_only_one_to_come_back_hears_of_an_abort() {
    let (mut world, brought) = three(true);
    world.moves_bytes = false;
    let works = world.sync_all(&brought);
    (world.dead[1], world.dead[2]) = (true, true);
    world.restart_master();
    world.pass(15_000);
    world.all_aborted(&works);
}

#[test]
fn an_outcome_that_one_peer_saw_holds_for_all() {
    for outcome in [SyncOutcome::Synchronized { revision: 7 }, aborted()] {
        for witness in 0..3 {
            let (mut world, brought) = three(false);
            let works = world.sync_all(&brought);
            let number = world.begun[&2].last().unwrap().0.number;
            world.peers[2].handle(peer::Input::StateDone { number, failed: None }, world.now);
            while world.peers[2].poll_output().is_some() {} // never arrives
            world.hears(witness, ENDED(2, outcome.clone()));
            world.new_master();
            if outcome == aborted() {
                world.all_aborted(&works);
                world.goes_on_with(7);
            } else {
                world.all_synchronized(&works, 7);
                world.goes_on_with(8);
            }
        }
    }
}

#[test]
fn an_outcome_that_one_peer_saw_before_it_called_again_holds_for_the_others_and_its_new_offer_counts() {
    let (mut world, brought) = three(false);
    let works = world.sync_all(&brought);
    world.hears(0, ENDED(2, aborted()));
    let mut again = vec![world.call_unheard(0, &brought[0])];
    world.new_master();
    world.all_aborted(&works);
    assert!(world.outcome(0, again[0]).is_none(), "{:?}", world.events);
    world.moves_bytes = true;
    again.extend([1, 2].map(|n| world.sync(n, &brought[n])));
    world.all_synchronized(&again, 7);
    world.goes_on_with(8);
}

impl World {
    /// A call of which the master of now hears nothing.
    fn call_unheard(&mut self, n: usize, brought: &Brought) -> WorkId {
        let conn = self.conn_of[n].take();
        let work = self.sync(n, brought);
        self.conn_of[n] = conn;
        work
    }
}

#[test]
fn who_had_not_heard_of_an_election_hears_how_it_ended_all_the_same() {
    // Everybody has offered; only peer 0 hears of the election, and maybe of its end.
    for end in [None, Some(aborted())] {
        let (mut world, brought) = three(false);
        let works: Vec<WorkId> = (0..3).map(|n| world.call_unheard(n, &brought[n])).collect();
        let election = Election {
            number: SyncNumber(2),
            revision: 7,
            content: brought[0].offer.content,
            full: brought[0].offer.full,
            winner: id(0),
            sources: vec![Source { peer: id(0), full: true }],
        };
        world.hears(0, MasterMessage::SyncElected { election: Box::new(election) });
        end.into_iter().for_each(|outcome| world.hears(0, ENDED(2, outcome)));
        world.new_master();
        world.all_aborted(&works);
        world.goes_on_with(7);
    }
}

#[test]
fn an_end_without_an_election_that_one_peer_saw_holds_for_those_who_were_members_before() {
    let (mut world, brought) = three(false);
    let works: Vec<WorkId> = (0..3).map(|n| world.call_unheard(n, &brought[n])).collect();
    world.hears(1, ENDED(2, SyncOutcome::NothingOffered { text: "nobody".into() }));
    world.new_master();
    world.all_end(&works, &|n, work| world.kind(n, work) == Some(ErrorKind::NoSharedStateAvailable));
    world.goes_on_with(7);
}

#[test]
fn the_end_of_the_first_one_of_a_run_holds_for_who_has_heard_of_none() {
    let mut world = World::of(3);
    let mut works: Vec<WorkId> = (0..3).map(|n| world.call_unheard(n, &popular(7, 1))).collect();
    world.hears(1, ENDED(1, aborted()));
    let again = world.call_unheard(1, &popular(7, 1));
    world.new_master();
    world.all_aborted(&works);
    assert_eq!(world.outcome(1, again), None, "{:?}", world.events);
    works = vec![world.sync(0, &popular(7, 1)), again, world.sync(2, &popular(7, 1))];
    world.all_synchronized(&works, 7);
    world.goes_on_with(8);
}

#[test]
fn a_newcomers_first_offer_is_not_for_what_was_aborted_before_it_came() {
    let (mut world, brought) = three(false);
    let works = world.sync_all(&brought);
    world.state_done(2, Some("no"));
    world.all_aborted(&works);
    world.join(0);
    world.update(&[0, 1, 2]);
    let first = world.sync(3, &popular(0, 1));
    world.new_master();
    assert_eq!(world.outcome(3, first), None, "{:?}", world.events);
    world.moves_bytes = true;
    for n in 0..3 {
        world.sync(n, &popular(7, 1));
    }
    assert_eq!(world.outcome(3, first), synchronized(7), "{:?}", world.events);
}

#[test]
fn a_newcomers_first_offer_counts_though_it_has_not_heard_of_the_success_before() {
    let (mut world, _) = three(true);
    world.join(0);
    world.update(&[0, 1, 2]);
    let mut works: Vec<WorkId> = vec![world.sync(3, &popular(0, 1))];
    world.new_master();
    works.extend([0, 1, 2].map(|n| world.sync(n, &popular(7, 1))));
    assert_eq!(world.outcome(3, works[0]), synchronized(7), "{:?}", world.events);
}

#[test]
fn a_deadlock_of_before_is_found_by_the_next_master() {
    let (mut world, brought) = three(true);
    world.dead.fill(true);
    world.restart_master();
    let works = world.sync_all(&brought[..2]);
    let phase = world.call(2, Call::Phase(PhaseCall::UpdateTopology));
    world.dead.fill(false);
    world.pass(5_000);
    assert!((0..2).all(|n| world.kind(n, works[n]) == Some(ErrorKind::InvalidUsage)), "{:?}", world.events);
    assert_eq!(world.kind(2, phase), Some(ErrorKind::InvalidUsage));
    world.goes_on_with(7);
}

#[test]
fn two_restarts_in_a_row_end_as_one() {
    let (mut world, brought) = three(false);
    let works = world.sync_all(&brought);
    world.dead[2] = true;
    world.new_master();
    world.dead[2] = false;
    world.new_master();
    world.all_aborted(&works);
    world.goes_on_with(7);
}
