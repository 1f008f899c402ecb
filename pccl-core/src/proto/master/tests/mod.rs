//! A master and its peers' machines, wired to each other without sockets. Data links come up at once, and an
//! operation's bytes are moved by saying so.

mod deadlocks;
mod links;
mod membership;
mod operations;
mod planning;
mod recovery;
mod sync_patience;
mod sync_random;
mod sync_recovery;
mod syncs;
mod topology;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::error::{Error, ErrorKind};
use crate::proto::peer::{self, Call, Done, PeerConfig};
use crate::types::{
    DType, Digest, Election, Needs, Offer, OpDescriptor, ReduceOp, Source, SyncStrategy, Tag, TensorKey,
    WorkId,
};
use crate::wire::message::{Incarnation, LinkToken};

struct World {
    master: Master,
    conns: BTreeMap<ConnId, usize>,
    peers: Vec<peer::Peer>,
    conn_of: Vec<Option<ConnId>>,
    dead: Vec<bool>,
    /// Pairs whose data links cannot be made.
    walls: Vec<(usize, usize)>,
    /// Round trips that are known, lower peer first.
    rtts: BTreeMap<(usize, usize), u32>,
    /// Bytes per second from one peer to another; peers without any report nothing.
    rates: BTreeMap<(usize, usize), u64>,
    /// Peers that are told to measure and never report.
    mute: std::collections::BTreeSet<usize>,
    probes: Vec<(usize, crate::types::ProbeOrder)>,
    /// Searches for a plan.
    plans: usize,
    /// So many give their plan at once, what others gave is held back.
    plans_at_once: usize,
    held_plans: Vec<Input>,
    works: BTreeMap<(usize, WorkId), Option<Result<Done, Error>>>,
    started: BTreeMap<usize, Vec<OpKey>>,
    /// Elections as peers were told of them, and what each lacks.
    begun: BTreeMap<usize, Vec<(std::sync::Arc<Election>, Needs)>>,
    added: BTreeMap<usize, Vec<Source>>,
    /// Synchronizations whose tensors nobody touches any more.
    released: std::collections::BTreeSet<(usize, WorkId)>,
    /// Whether started operations and transfers finish at once.
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
            rtts: BTreeMap::new(),
            rates: BTreeMap::new(),
            mute: Default::default(),
            probes: Vec::new(),
            plans: 0,
            plans_at_once: usize::MAX,
            held_plans: Vec::new(),
            works: BTreeMap::new(),
            started: BTreeMap::new(),
            begun: BTreeMap::new(),
            added: BTreeMap::new(),
            released: Default::default(),
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
        let join = Join { peer: id(n), group: GroupId(group), data_port: 1, announced: None, pool: 2 };
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
            Output::Plan(job) => {
                self.plans += 1;
                let planned = job.run(&|| false);
                match self.plans > self.plans_at_once {
                    true => self.held_plans.push(planned),
                    false => self.master.handle(planned, self.now),
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
            peer::Output::BeginSync { election, needs, .. } => {
                let number = election.number;
                self.begun.entry(n).or_default().push((election, needs));
                if needs != Needs::Nothing && self.moves_bytes {
                    self.peers[n].handle(peer::Input::StateDone { number, failed: None }, self.now);
                }
            }
            peer::Output::Probe(order) => self.probe(n, order),
            peer::Output::AddSource { source, .. } => self.added.entry(n).or_default().push(source),
            peer::Output::EndSync { work } => {
                assert_eq!(
                    self.works.get(&(n, work)),
                    Some(&None),
                    "a call of peer {n} ended before its tensors"
                );
                self.released.insert((n, work));
            }
            peer::Output::Complete { work, outcome } => {
                let is_sync = matches!(outcome, Ok(Done::Synchronized(_)));
                assert!(!is_sync || self.released.contains(&(n, work)), "peer {n} still touches its tensors");
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
            let ends = (self.peers[n].id(), self.peers[m].id());
            let rtt_us = self.rtts.get(&(n.min(m), n.max(m))).copied().unwrap_or(0);
            let up =
                |peer, dialled, rtt_us| peer::Input::LinkUp { peer, generation, dialled, rtt_us, pool: 1 };
            self.peers[n].handle(up(ends.1, true, rtt_us), now);
            // Something disturbed the measurement of the end that was dialled.
            self.peers[m].handle(up(ends.0, false, rtt_us * 10), now);
        }
    }
}

fn reduced(outcome: &Option<Result<Done, Error>>) -> bool {
    matches!(outcome, Some(Ok(Done::Reduced(_))))
}
