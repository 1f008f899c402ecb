//! A master and its peers' machines, wired to each other without sockets. Data links come up at once, and an
//! operation's bytes are moved by saying so.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::error::{Error, ErrorKind};
use crate::proto::peer::{self, Call, Done, PeerConfig};
use crate::types::{DType, OpDescriptor, ReduceOp, Tag, WorkId};
use crate::wire::message::{Incarnation, LinkToken};

struct World {
    master: Master,
    conns: BTreeMap<ConnId, usize>,
    peers: Vec<peer::Peer>,
    conn_of: Vec<Option<ConnId>>,
    dead: Vec<bool>,
    /// Pairs whose data links cannot be made.
    walls: Vec<(usize, usize)>,
    works: BTreeMap<(usize, WorkId), Option<Result<Done, Error>>>,
    started: BTreeMap<usize, Vec<OpKey>>,
    /// Whether started operations finish at once.
    moves_bytes: bool,
    next: u64,
    now: Time,
    events: Vec<String>,
}

fn id(n: usize) -> PeerId {
    PeerId([n as u8 + 1; 16])
}

fn master(incarnation: u64, now: Time) -> Master {
    Master::new(MasterConfig::new(Incarnation(incarnation), LinkToken(u128::from(incarnation))), now)
}

fn sum(count: u64) -> OpDescriptor {
    OpDescriptor::plain(count, DType::F32, ReduceOp::Sum)
}

impl World {
    fn new() -> World {
        World {
            master: master(1, Time(0)),
            conns: BTreeMap::new(),
            peers: Vec::new(),
            conn_of: Vec::new(),
            dead: Vec::new(),
            walls: Vec::new(),
            works: BTreeMap::new(),
            started: BTreeMap::new(),
            moves_bytes: true,
            next: 0,
            now: Time(0),
            events: Vec::new(),
        }
    }

    /// So many members of one group.
    fn of(n: usize) -> World {
        let mut world = World::new();
        for i in 0..n {
            let connect = world.join(0);
            if i > 0 {
                world.update(&(0..i).collect::<Vec<_>>());
            }
            assert_eq!(world.outcome(i, connect), Some(Ok(Done::Connected)), "peer {i} was not admitted");
        }
        world
    }

    fn join(&mut self, group: u32) -> WorkId {
        let n = self.peers.len();
        let join = Join { peer: id(n), group: GroupId(group), data_port: 1, announced: None, pool: 1 };
        self.peers.push(peer::Peer::new(PeerConfig::new(join), self.now));
        self.conn_of.push(None);
        self.dead.push(false);
        self.call(n, Call::Connect)
    }

    fn call(&mut self, n: usize, call: Call) -> WorkId {
        self.next += 1;
        let work = WorkId(self.next);
        self.works.insert((n, work), None);
        self.peers[n].handle(peer::Input::Call { work, call }, self.now);
        self.run();
        work
    }

    fn reduce(&mut self, n: usize, tag: u64, descriptor: OpDescriptor) -> WorkId {
        self.call(n, Call::AllReduce { tag: Tag(tag), descriptor })
    }

    fn update(&mut self, who: &[usize]) -> Vec<WorkId> {
        who.iter().map(|n| self.call(*n, Call::Phase(PhaseCall::UpdateTopology))).collect()
    }

    fn outcome(&self, n: usize, work: WorkId) -> Option<Result<Done, Error>> {
        self.works[&(n, work)].clone()
    }

    fn kind(&self, n: usize, work: WorkId) -> Option<ErrorKind> {
        self.outcome(n, work).and_then(Result::err).map(|e| e.kind)
    }

    fn kill(&mut self, n: usize) {
        self.dead[n] = true;
        if let Some(conn) = self.conn_of[n].take() {
            self.conns.remove(&conn);
            self.master.handle(Input::Closed { conn, reason: "closed by the peer".into() }, self.now);
        }
        self.run();
    }

    fn finish(&mut self, n: usize, key: OpKey) {
        self.peers[n].handle(peer::Input::OpDone { key }, self.now);
        self.run();
    }

    fn pass(&mut self, ms: u64) {
        let until = self.now.plus_ms(ms);
        loop {
            let peers = (0..self.peers.len())
                .filter(|n| !self.dead[*n])
                .filter_map(|n| self.peers[n].next_deadline());
            let Some(next) = peers.chain(self.master.next_deadline()).min().filter(|t| *t <= until) else {
                break;
            };
            self.now = next.max(self.now);
            for n in 0..self.peers.len() {
                if !self.dead[n] && self.peers[n].next_deadline().is_some_and(|t| t <= self.now) {
                    self.peers[n].on_deadline(self.now);
                }
            }
            if self.master.next_deadline().is_some_and(|t| t <= self.now) {
                self.master.on_deadline(self.now);
            }
            self.run();
        }
        self.now = until;
    }

    fn restart_master(&mut self) {
        self.next += 1;
        self.master = master(1 + self.next, self.now);
        let lost: Vec<usize> = std::mem::take(&mut self.conns).into_values().collect();
        for n in lost {
            self.conn_of[n] = None;
            self.peers[n].handle(peer::Input::ControlLost { reason: "reset".into() }, self.now);
        }
        self.run();
    }

    /// Carries messages to and fro until nobody has anything to say.
    fn run(&mut self) {
        loop {
            let mut busy = false;
            while let Some(output) = self.master.poll_output() {
                busy = true;
                self.on_master_output(output);
            }
            for n in 0..self.peers.len() {
                let mut outputs = VecDeque::new();
                while let Some(output) = self.peers[n].poll_output() {
                    outputs.push_back(output);
                }
                busy |= !outputs.is_empty();
                for output in outputs {
                    if !self.dead[n] {
                        self.on_peer_output(n, output);
                    }
                }
            }
            if !busy {
                break;
            }
        }
    }

    fn on_master_output(&mut self, output: Output) {
        match output {
            Output::Send { conn, message } => {
                if let Some(n) = self.conns.get(&conn) {
                    self.peers[*n].handle(peer::Input::Control(message), self.now);
                }
            }
            Output::Close { conn } => {
                if let Some(n) = self.conns.remove(&conn) {
                    self.conn_of[n] = None;
                    self.peers[n].handle(peer::Input::ControlLost { reason: "closed".into() }, self.now);
                }
            }
            Output::Event(event) => self.events.push(event.to_string()),
        }
    }

    fn on_peer_output(&mut self, n: usize, output: peer::Output) {
        match output {
            peer::Output::DialMaster => {
                self.next += 1;
                let conn = ConnId(self.next);
                self.conns.insert(conn, n);
                self.conn_of[n] = Some(conn);
                self.peers[n].handle(peer::Input::ControlUp, self.now);
                self.master
                    .handle(Input::Connected { conn, from: IpAddr::V4(Ipv4Addr::LOCALHOST) }, self.now);
            }
            peer::Output::HangUp => {
                if let Some(conn) = self.conn_of[n].take() {
                    self.conns.remove(&conn);
                    self.master.handle(Input::Closed { conn, reason: "hung up".into() }, self.now);
                }
            }
            peer::Output::Send(message) => {
                if let Some(conn) = self.conn_of[n] {
                    self.master.handle(Input::Message { conn, message }, self.now);
                }
            }
            peer::Output::Dial { to, .. } => self.dial(n, &to),
            peer::Output::Start { key, .. } => {
                self.started.entry(n).or_default().push(key);
                if self.moves_bytes {
                    self.peers[n].handle(peer::Input::OpDone { key }, self.now);
                }
            }
            peer::Output::Complete { work, outcome } => {
                let before = self.works.insert((n, work), Some(outcome));
                assert_eq!(before, Some(None), "a call of peer {n} ended twice");
            }
            _ => {}
        }
    }

    fn dial(&mut self, n: usize, to: &crate::wire::message::PeerAddress) {
        let m = (0..self.peers.len()).find(|m| self.peers[*m].id() == to.peer).expect("known peer");
        let (generation, now) = (to.generation, self.now);
        if self.walls.contains(&(n.min(m), n.max(m))) || self.dead[m] {
            let reason = "no route".to_owned();
            self.peers[n].handle(peer::Input::DialFailed { peer: to.peer, generation, reason }, now);
        } else {
            let me = self.peers[n].id();
            self.peers[n].handle(peer::Input::LinkUp { peer: to.peer, generation, dialled: true }, now);
            self.peers[m].handle(peer::Input::LinkUp { peer: me, generation, dialled: false }, now);
        }
    }
}

fn reduced(outcome: &Option<Result<Done, Error>>) -> bool {
    matches!(outcome, Some(Ok(Done::Reduced(_))))
}

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
