//! The peer's machine: its place in the run, and the calls of its program that wait for a decision.

mod control;
mod io;
mod links;
mod op_state;
mod ops;
mod phases;
mod state;
mod sync;
mod sync_state;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

pub use io::{Admission, Call, Done, Input, Output, PeerConfig, ReduceInfo, SyncInfo};
pub use op_state::{OP_TABLE, OpEvent, OpState};
pub use ops::check_descriptor;
pub use state::{Event, State, TABLE};
pub use sync_state::{SYNC_TABLE, SyncEvent, SyncState};

use self::control::Control;
use self::links::Links;
use self::ops::Ops;
use self::phases::Phases;
use self::sync::Syncs;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{Epoch, EpochInfo, GroupInfo, PeerId, Rank, Severity, Time, WorkId};
use crate::wire::message::PeerMessage;

/// See the four verbs. What one peer knows of the run, apart from bytes.
#[derive(Debug)]
pub struct Peer {
    config: PeerConfig,
    state: State,
    control: Control,
    links: Links,
    ops: Ops,
    phases: Phases,
    syncs: Syncs,
    epoch: Option<Arc<EpochInfo>>,
    /// How the last membership ended, if not by own will: the answer to calls until the next `connect`.
    ended: Option<Error>,
    seen: Time,
    outputs: VecDeque<Output>,
}

impl Peer {
    pub fn new(config: PeerConfig, now: Time) -> Peer {
        Peer {
            config,
            state: State::Idle,
            control: Control::default(),
            links: Links::default(),
            ops: Ops::default(),
            phases: Phases::default(),
            syncs: Syncs::default(),
            epoch: None,
            ended: None,
            seen: now,
            outputs: VecDeque::new(),
        }
    }

    pub fn handle(&mut self, input: Input, now: Time) {
        self.observe(now);
        match input {
            Input::Call { work, call } => self.on_call(work, call),
            Input::ControlUp => self.on_control_up(),
            Input::ControlLost { reason } => self.on_control_lost(&reason),
            Input::Control(message) => self.on_master_message(message),
            Input::LinkUp { peer, generation, dialled, rtt_us, pool } => {
                self.on_link_up(peer, generation, dialled, (rtt_us, pool))
            }
            Input::PathLength { peer, rtt_us, pool } => self.on_path_length(peer, (rtt_us, pool)),
            Input::LinkLost { peer, reason, others_left } => self.on_link_lost(peer, reason, others_left),
            Input::DialFailed { peer, generation, reason } => self.on_dial_failed(peer, generation, reason),
            Input::OpDone { key } => self.on_op_done(key),
            Input::StateDone { number, failed } => self.on_state_done(number, failed),
            Input::Observed(heard) if !heard.is_empty() && self.state == State::Member => {
                self.send(PeerMessage::Observed { heard });
            }
            Input::Observed(_) => {}
            Input::Probed(report) => {
                self.note_rates(&report);
                self.send(PeerMessage::Probed { report });
            }
            Input::Blocked { work, alone } => self.on_blocked(work, alone),
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub fn next_deadline(&self) -> Option<Time> {
        [self.control.next_deadline(self.state), self.links.next_deadline()].into_iter().flatten().min()
    }

    pub fn on_deadline(&mut self, now: Time) {
        self.observe(now);
        self.control_deadline();
        self.widen_pools();
    }

    pub fn id(&self) -> PeerId {
        self.config.join.peer
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// The epoch this peer is a member of.
    pub fn epoch(&self) -> Option<&Arc<EpochInfo>> {
        self.epoch.as_ref()
    }

    pub fn group(&self) -> Option<&GroupInfo> {
        self.epoch.as_ref()?.group(self.config.join.group)
    }

    pub fn rank(&self) -> Option<Rank> {
        let id = self.id();
        self.group()?.order.iter().position(|o| *o == id).map(|r| r as Rank)
    }

    fn since(&self) -> Epoch {
        self.group().map_or(Epoch(0), |g| g.since)
    }

    fn on_call(&mut self, work: WorkId, call: Call) {
        let refused = match call {
            Call::Connect => self.call_connect(work),
            Call::Phase(call) => self.call_phase(work, call),
            Call::AllReduce { tag, descriptor } => self.call_all_reduce(work, tag, descriptor),
            Call::Synchronize { offer, keys } => self.call_synchronize(work, offer, keys),
            Call::Leave => {
                self.leave();
                self.complete(work, Ok(Done::Left));
                Ok(())
            }
        };
        if let Err(error) = refused {
            self.complete(work, Err(error));
        }
    }

    fn must_be_member(&self, what: &str) -> Result<()> {
        match self.state {
            State::Member | State::Searching | State::Resuming => Ok(()),
            State::Gone => Err(usage(format!("{what}: this peer has left the run"))),
            State::Idle if let Some(ended) = &self.ended => Err(ended.clone()),
            State::Idle | State::Dialling | State::Greeting | State::Pending => {
                Err(usage(format!("{what}: this peer is not in a run; connect first")))
            }
        }
    }

    fn observe(&mut self, now: Time) {
        self.control.observe(self.seen, now);
        self.seen = now;
    }

    fn step(&mut self, event: Event) -> bool {
        match crate::proto::table::step(TABLE, self.state, event) {
            Ok(next) => {
                self.state = next;
                true
            }
            Err(illegal) => {
                self.log(illegal.to_string());
                false
            }
        }
    }

    fn send(&mut self, message: PeerMessage) {
        // While the master is away everything is part of the resume message instead.
        if matches!(self.state, State::Pending | State::Member) {
            self.outputs.push_back(Output::Send(message));
        }
    }

    fn complete(&mut self, work: WorkId, outcome: Result<Done>) {
        self.outputs.push_back(Output::Complete { work, outcome });
    }

    fn log(&mut self, text: String) {
        self.outputs.push_back(Output::Log { severity: Severity::Info, text });
    }

    fn warn(&mut self, text: String) {
        self.outputs.push_back(Output::Log { severity: Severity::Warn, text });
    }

    /// Ends every waiting call with this error, and all data links.
    fn end_everything(&mut self, kind: ErrorKind, reason: &str) {
        self.end_ops(kind, reason);
        self.end_sync(kind, reason);
        let waiting = [self.control.connect.take(), self.phases.take_waiting()];
        for work in waiting.into_iter().flatten() {
            self.complete(work, Err(Error::new(kind, reason)));
        }
        self.drop_links();
        self.outputs.push_back(Output::Reset);
        self.phases = Phases::default();
        self.epoch = None;
    }
}

fn usage(reason: String) -> Error {
    Error::new(ErrorKind::InvalidUsage, reason)
}
