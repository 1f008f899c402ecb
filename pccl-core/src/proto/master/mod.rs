//! The master's machine: who is accepted, which epoch holds, what became of each operation.

pub mod election;
mod epochs;
mod inspect;
mod io;
mod measure;
mod ops;
mod pairs;
mod phases;
mod recovery;
mod roster;
mod state;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

pub use io::{ConnId, Event, Input, MasterConfig, Output};
pub use measure::{PlanJob, PlanResult};
pub use state::{PeerEvent, PeerState, TABLE};

use self::epochs::{Dirty, Patience, Prepare};
use self::measure::Measuring;
use self::ops::GroupOps;
use self::pairs::Pairs;
use self::recovery::Recovery;
use self::sync::Syncs;
use crate::types::{Epoch, EpochInfo, GroupId, OpKey, PeerId, PhaseCall, Time};
use crate::wire::message::{Join, MasterMessage, PeerMessage, RunId};

/// How often within the time of a silence the master looks for it: so exact is the time.
const SILENCE_LOOKS: u32 = 32;

#[derive(Debug)]
struct Conn {
    from: IpAddr,
    peer: Option<PeerId>,
    heard: Time,
}

#[derive(Debug)]
struct Peer {
    conn: ConnId,
    join: Join,
    from: IpAddr,
    state: PeerState,
    /// Grows with each join: newcomers are admitted, and ranked, in this order.
    joined: u64,
    phase: Option<PhaseCall>,
    /// In a synchronization of its group's shared state.
    in_sync: bool,
    /// The operation its program waits for.
    blocked: Option<OpKey>,
    /// Whether it calls nothing else meanwhile.
    alone: bool,
    /// Operations announced and without a verdict.
    open_ops: usize,
}

/// How much is kept for others: to be watched, and to be nothing once all are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub connections: usize,
    pub peers: usize,
    pub pairs: usize,
    pub instances: usize,
    pub syncs: usize,
    /// Described by peers whose tensors are compared.
    pub tensors: usize,
    /// Revisions that a group's next synchronization is expected to bring.
    pub revisions: usize,
    /// Measured directed pairs, and plans made of them.
    pub figures: usize,
}

/// See the four verbs. Everything a run is, apart from its bytes.
#[derive(Debug)]
pub struct Master {
    config: MasterConfig,
    run: RunId,
    conns: BTreeMap<ConnId, Conn>,
    peers: BTreeMap<PeerId, Peer>,
    pairs: Pairs,
    info: EpochInfo,
    next_epoch: Epoch,
    groups: BTreeMap<GroupId, GroupOps>,
    /// Groups whose members or links are no longer what their epoch says.
    dirty: BTreeMap<GroupId, Dirty>,
    /// A pair that schedules avoid has got its link: adopted at the next update.
    links_changed: bool,
    phase_seq: u64,
    in_phase: usize,
    /// Which call those in a phase are in.
    phase_call: Option<PhaseCall>,
    blocked_peers: usize,
    member_count: usize,
    prepare: Option<Prepare>,
    patience: Option<Patience>,
    syncs: Syncs,
    measuring: Measuring,
    recovery: Option<Recovery>,
    /// Whether any operation was committed: then no older run can take this one's place.
    has_committed: bool,
    /// The epoch in which this master found the run, until it commits something itself.
    taken_over: Option<Epoch>,
    joins: u64,
    /// Newcomers that could be admitted now; `None`: to be counted anew.
    ready_newcomers: Option<usize>,
    newcomers_changed: bool,
    next_tick: Time,
    next_heartbeat: Time,
    seen: Time,
    outputs: VecDeque<Output>,
}

impl Master {
    pub fn new(config: MasterConfig, now: Time) -> Master {
        Master {
            run: RunId(config.incarnation.0),
            conns: BTreeMap::new(),
            peers: BTreeMap::new(),
            pairs: Pairs::default(),
            info: EpochInfo {
                schedule: config.schedule,
                piece_bytes: config.piece_bytes,
                ..EpochInfo::default()
            },
            next_epoch: Epoch(1),
            groups: BTreeMap::new(),
            dirty: BTreeMap::new(),
            links_changed: false,
            phase_seq: 0,
            in_phase: 0,
            phase_call: None,
            blocked_peers: 0,
            member_count: 0,
            prepare: None,
            patience: None,
            syncs: Syncs::default(),
            measuring: Measuring::new(config.incarnation),
            recovery: None,
            has_committed: false,
            taken_over: None,
            joins: 0,
            ready_newcomers: None,
            newcomers_changed: false,
            next_tick: now,
            next_heartbeat: now.plus_ms(u64::from(config.heartbeat_ms)),
            seen: now,
            outputs: VecDeque::new(),
            config,
        }
    }

    pub fn handle(&mut self, input: Input, now: Time) {
        self.observe(now);
        match input {
            Input::Connected { conn, from } => self.on_connected(conn, from),
            Input::Message { conn, message } => self.on_message(conn, message),
            Input::Closed { conn, reason } => self.on_closed(conn, &reason),
            Input::Planned(result) => self.on_planned(result),
        }
        self.settle();
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub fn next_deadline(&self) -> Option<Time> {
        let prepare = self.prepare.as_ref().map(|p| p.deadline);
        let recovery = self.recovery.as_ref().map(|r| r.deadline);
        // Nothing is measured while a run is taken over.
        let round = self.measuring.next_deadline().filter(|_| self.recovery.is_none());
        [Some(self.next_tick), self.pairs.next_deadline(), prepare, recovery, round]
            .into_iter()
            .flatten()
            .min()
    }

    pub fn on_deadline(&mut self, now: Time) {
        self.observe(now);
        if now >= self.next_tick {
            self.tick(now);
        }
        self.expire_pairs(now);
        self.expire_prepare(now);
        self.expire_recovery(now);
        self.expire_round(now);
        self.settle();
    }

    /// The epoch that holds; its number is 0 while there is none.
    pub fn epoch(&self) -> &EpochInfo {
        &self.info
    }

    /// What is kept for others.
    pub fn kept(&self) -> Kept {
        let (syncs, tensors, revisions) = self.syncs.kept();
        Kept {
            syncs,
            tensors,
            revisions,
            figures: self.measuring.kept(),
            connections: self.conns.len(),
            peers: self.peers.len(),
            pairs: self.pairs.len(),
            instances: self.groups.values().map(|ops| ops.instances.len()).sum(),
        }
    }

    fn observe(&mut self, now: Time) {
        // A gap in our own clock (a frozen machine) says nothing about the peers: give them all their time again.
        let gap_us = u64::from(self.config.silence_ms / 2) * 1000;
        if now.since_us(self.seen) > gap_us {
            for conn in self.conns.values_mut() {
                conn.heard = now;
            }
            self.restart_sync_patience(now);
        }
        self.seen = now;
    }

    fn tick(&mut self, now: Time) {
        self.next_tick = now.plus_ms(u64::from((self.config.silence_ms / SILENCE_LOOKS).max(1)));
        let silence_us = u64::from(self.config.silence_ms) * 1000;
        let silent = |c: &Conn| now.since_us(c.heard) > silence_us;
        let quiet: Vec<ConnId> = self.conns.iter().filter(|(_, c)| silent(c)).map(|(id, _)| *id).collect();
        for conn in quiet {
            self.outputs.push_back(Output::Close { conn });
            self.on_closed(conn, &format!("silent for more than {} ms", self.config.silence_ms));
        }
        self.expire_syncs(now);
        if now < self.next_heartbeat {
            return;
        }
        self.next_heartbeat = now.plus_ms(u64::from(self.config.heartbeat_ms));
        let everyone: Vec<ConnId> = self.conns.keys().copied().collect();
        for conn in everyone {
            self.outputs.push_back(Output::Send { conn, message: MasterMessage::Heartbeat });
        }
    }

    fn on_message(&mut self, conn: ConnId, message: PeerMessage) {
        let now = self.seen;
        let Some(state) = self.conns.get_mut(&conn) else { return };
        state.heard = now;
        let from = match (state.peer, message) {
            (None, PeerMessage::Join(join)) => return self.on_join(conn, join),
            (None, PeerMessage::Resume(resume)) => return self.on_resume(conn, *resume),
            (None, PeerMessage::Inspect) => return self.on_inspect(conn),
            (None, PeerMessage::Heartbeat) => return,
            (None, other) => {
                return self.refuse(conn, true, format!("{} before join", name(&other)));
            }
            (Some(peer), message) => (peer, message),
        };
        if self.recovery.is_some() {
            return self.hold_message(from.0, from.1);
        }
        self.on_peer_message(from.0, from.1);
    }

    fn on_peer_message(&mut self, from: PeerId, message: PeerMessage) {
        match message {
            PeerMessage::Join(_) | PeerMessage::Resume(_) | PeerMessage::Inspect => {
                self.kick(from, format!("{} after it had joined", name(&message)));
            }
            PeerMessage::LinkUp { peer, generation, rtt_us } => {
                self.on_link_up(from, peer, generation, rtt_us)
            }
            PeerMessage::LinkFailed { peer, generation, reason } => {
                self.on_link_failed(from, peer, generation, reason);
            }
            PeerMessage::LinkDown { peer, generation, reason } => {
                self.on_link_down(from, peer, generation, reason);
            }
            PeerMessage::Prepared { epoch } => self.on_prepared(from, epoch),
            PeerMessage::Phase { seq, call } => self.on_phase(from, seq, call),
            PeerMessage::Announce { key, descriptor } => self.on_announce(from, key, descriptor),
            PeerMessage::Done { key } => self.on_done(from, key),
            PeerMessage::Blocked { key, alone } => self.on_blocked(from, key, alone),
            PeerMessage::SyncOffer { .. } | PeerMessage::SyncKeys { .. } | PeerMessage::SyncDone { .. } => {
                self.on_sync_message(from, message);
            }
            PeerMessage::Observed { heard } => self.on_observed(from, &heard),
            PeerMessage::Probed { report } => self.on_probed(from, report),
            PeerMessage::Heartbeat => {}
            PeerMessage::Leave => self.on_leave(from),
        }
    }

    fn settle(&mut self) {
        if self.recovery.is_some() {
            return;
        }
        loop {
            let renewed = self.renew_groups();
            self.refuse_hopeless();
            if !(renewed || self.advance_syncs() || self.finish_phase() || self.accept_first()) {
                break;
            }
        }
    }

    fn send(&mut self, to: PeerId, message: MasterMessage) {
        if let Some(peer) = self.peers.get(&to) {
            self.outputs.push_back(Output::Send { conn: peer.conn, message });
        }
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn members(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        self.peers.iter().filter(|(_, p)| p.state == PeerState::Member).map(|(id, p)| (*id, p))
    }

    /// The group of a member, and the epoch in which it last changed.
    fn member_group(&self, id: PeerId) -> Option<(GroupId, Epoch)> {
        let peer = self.peers.get(&id).filter(|p| p.state == PeerState::Member)?;
        let group = peer.join.group;
        Some((group, self.info.group(group)?.since))
    }

    fn members_of(&self, group: GroupId) -> Vec<PeerId> {
        self.info.group(group).map(|g| g.order.clone()).unwrap_or_default()
    }

    fn group_size(&self, group: GroupId) -> usize {
        self.info.group(group).map_or(0, |g| g.order.len())
    }

    fn step(&mut self, id: PeerId, event: PeerEvent) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        match crate::proto::table::step(TABLE, peer.state, event) {
            Ok(next) => {
                if next == PeerState::Member {
                    self.member_count += 1;
                }
                peer.state = next;
                true
            }
            Err(illegal) => {
                debug_assert!(false, "peer {id}: {illegal}");
                self.event(Event::Illegal { peer: id, reason: illegal.to_string() });
                false
            }
        }
    }
}

/// For texts about messages that came at the wrong time.
fn name(message: &PeerMessage) -> &'static str {
    match message {
        PeerMessage::Join(_) => "join",
        PeerMessage::Resume(_) => "resume",
        PeerMessage::LinkUp { .. } => "link-up",
        PeerMessage::LinkFailed { .. } => "link-failed",
        PeerMessage::LinkDown { .. } => "link-down",
        PeerMessage::Prepared { .. } => "prepared",
        PeerMessage::Phase { .. } => "phase call",
        PeerMessage::Announce { .. } => "announcement",
        PeerMessage::Done { .. } => "done",
        PeerMessage::Blocked { .. } => "blocked",
        PeerMessage::SyncOffer { .. } => "offer of a shared state",
        PeerMessage::SyncKeys { .. } => "keys of a shared state",
        PeerMessage::SyncDone { .. } => "end of a transfer",
        PeerMessage::Probed { .. } => "report of a measurement",
        PeerMessage::Inspect => "inspect",
        PeerMessage::Observed { .. } => "observations",
        PeerMessage::Heartbeat => "heartbeat",
        PeerMessage::Leave => "leave",
    }
}
