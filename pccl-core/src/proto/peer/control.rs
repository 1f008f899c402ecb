//! The control link: joining, staying, looking for a master that went away, leaving.

use std::sync::Arc;

use super::io::{Done, Output};
use super::{Event, Peer, State, usage};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{EpochInfo, Tag, Time, WorkId};
use crate::wire::message::{EpochCause, Incarnation, LinkToken, MasterMessage, PeerMessage, Resume, RunId};

const REDIAL_FIRST_MS: u64 = 50;
const REDIAL_MAX_MS: u64 = 1_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct Welcome {
    pub incarnation: Incarnation,
    pub run: RunId,
    pub token: LinkToken,
    pub heartbeat_ms: u32,
    pub silence_ms: u32,
}

#[derive(Debug, Default)]
pub(super) struct Control {
    /// The `connect` call that waits.
    pub connect: Option<WorkId>,
    connect_until: Time,
    pub welcome: Option<Welcome>,
    /// The token of the master before: peers hear of a new one at different times.
    pub token_before: Option<LinkToken>,
    heard: Time,
    next_heartbeat: Time,
    redial_at: Option<Time>,
    redial_ms: u64,
    give_up_at: Time,
    lost_reason: String,
    /// How often this peer has begun to connect.
    attempts: u32,
}

impl Control {
    pub fn next_deadline(&self, state: State) -> Option<Time> {
        match state {
            State::Dialling | State::Greeting => Some(self.connect_until),
            State::Pending | State::Member => {
                let silence_ms = self.welcome.map_or(0, |w| w.silence_ms);
                Some(self.next_heartbeat.min(self.heard.plus_ms(u64::from(silence_ms))))
            }
            State::Searching => Some(self.redial_at.unwrap_or(self.give_up_at).min(self.give_up_at)),
            State::Resuming => Some(self.give_up_at),
            State::Idle | State::Gone => None,
        }
    }

    /// A gap in our own clock says nothing about the master: it gets all its time again.
    pub fn observe(&mut self, seen: Time, now: Time) {
        let silence_ms = self.welcome.map_or(u32::MAX, |w| w.silence_ms);
        if now.since_us(seen) > u64::from(silence_ms) * 500 {
            self.heard = now;
        }
    }
}

impl Peer {
    pub(super) fn call_connect(&mut self, work: WorkId) -> Result<()> {
        if !self.step(Event::Connect) {
            return Err(usage(match self.state {
                State::Gone => "connect: this peer has left the run; create a new one".to_owned(),
                _ => "connect: this peer is connected already, or a connect is under way".to_owned(),
            }));
        }
        self.ended = None;
        self.control.attempts += 1;
        if self.control.attempts > 1 {
            self.take_new_id();
        }
        self.control.connect = Some(work);
        self.control.connect_until = self.seen.plus_ms(u64::from(self.config.connect_timeout_ms));
        self.outputs.push_back(Output::DialMaster);
        Ok(())
    }

    /// The id of a past membership may still be known to others: a new membership gets a new one.
    fn take_new_id(&mut self) {
        let id = &mut self.config.join.peer.0;
        let mut counter = [id[12], id[13], id[14], id[15]];
        counter = u32::from_le_bytes(counter).wrapping_add(1).to_le_bytes();
        id[12..].copy_from_slice(&counter);
    }

    pub(super) fn on_control_up(&mut self) {
        if self.step(Event::ControlUp) {
            self.control.heard = self.seen;
            self.control.redial_at = None;
        }
    }

    pub(super) fn on_control_lost(&mut self, reason: &str) {
        let before = self.state;
        if !self.step(Event::ControlLost) {
            return;
        }
        match (before, self.state) {
            (_, State::Idle) => self.end_everything(ErrorKind::MasterConnectionFailed, reason),
            (State::Searching, _) => self.redial_later(),
            (_, State::Searching) => {
                self.warn(format!("lost the master: {reason}; looking for it"));
                self.control.lost_reason = reason.to_owned();
                if before == State::Member {
                    self.control.redial_ms = 0;
                    self.control.give_up_at = self.seen.plus_ms(u64::from(self.config.reconnect_timeout_ms));
                }
                self.redial_later();
            }
            _ => {}
        }
    }

    fn redial_later(&mut self) {
        let ms = self.control.redial_ms;
        self.control.redial_at = Some(self.seen.plus_ms(ms));
        self.control.redial_ms = (ms * 2).clamp(REDIAL_FIRST_MS, REDIAL_MAX_MS);
    }

    pub(super) fn control_deadline(&mut self) {
        let now = self.seen;
        match self.state {
            State::Dialling | State::Greeting if now >= self.control.connect_until => {
                let ms = self.config.connect_timeout_ms;
                self.out(
                    ErrorKind::MasterConnectionFailed,
                    &format!("the master did not answer within {ms} ms"),
                );
            }
            State::Searching | State::Resuming if now >= self.control.give_up_at => {
                let ms = self.config.reconnect_timeout_ms;
                let reason = format!(
                    "lost the master ({}), and found none within {ms} ms; connect again",
                    self.control.lost_reason
                );
                self.out(ErrorKind::MasterConnectionFailed, &reason);
            }
            State::Searching if self.control.redial_at.is_some_and(|at| at <= now) => {
                self.control.redial_at = None;
                self.outputs.push_back(Output::DialMaster);
            }
            State::Pending | State::Member => self.stay_in_touch(),
            _ => {}
        }
    }

    fn stay_in_touch(&mut self) {
        let Some(welcome) = self.control.welcome else { return };
        if self.seen >= self.control.heard.plus_ms(u64::from(welcome.silence_ms)) {
            self.outputs.push_back(Output::HangUp);
            return self.on_control_lost(&format!("the master was silent for {} ms", welcome.silence_ms));
        }
        if self.seen >= self.control.next_heartbeat {
            self.control.next_heartbeat = self.seen.plus_ms(u64::from(welcome.heartbeat_ms));
            self.send(PeerMessage::Heartbeat);
        }
    }

    pub(super) fn on_master_message(&mut self, message: MasterMessage) {
        self.control.heard = self.seen;
        match message {
            MasterMessage::Welcome { incarnation, run, token, heartbeat_ms, silence_ms } => {
                self.on_welcome(Welcome { incarnation, run, token, heartbeat_ms, silence_ms });
            }
            MasterMessage::Refused { text, .. } => {
                self.out(ErrorKind::MasterConnectionFailed, &format!("the master refused this peer: {text}"));
            }
            MasterMessage::Kicked { text } => {
                self.out(ErrorKind::MasterConnectionFailed, &format!("put out of the run: {text}"));
            }
            MasterMessage::Pending => self.log("joined; waiting until the others agree".to_owned()),
            MasterMessage::LinkTo { peers } => {
                for peer in peers {
                    self.on_link_to(peer);
                }
            }
            MasterMessage::Unlink { peer } => self.on_unlink(peer),
            MasterMessage::Prepare { epoch } => self.send(PeerMessage::Prepared { epoch }),
            MasterMessage::NewEpoch { info, aborted, cause } => self.on_new_epoch(info, aborted, &cause),
            MasterMessage::PhaseDone { seq, call, outcome } => self.on_phase_done(seq, call, outcome),
            MasterMessage::Verdict { key, verdict } => self.on_verdict(key, verdict),
            MasterMessage::SyncDescribe
            | MasterMessage::SyncElected { .. }
            | MasterMessage::SyncSource { .. }
            | MasterMessage::SyncEnded { .. } => self.on_sync_message(message),
            MasterMessage::Probe { order } => self.on_probe(order),
            // Answers to a question that no peer asks.
            MasterMessage::Run { .. } | MasterMessage::Figures { .. } => {}
            MasterMessage::Heartbeat => {}
        }
    }

    fn on_welcome(&mut self, welcome: Welcome) {
        let before = self.state;
        if !self.step(Event::Welcome) {
            return;
        }
        self.control.token_before = self.control.welcome.map(|w| w.token);
        let known = self.control.welcome.replace(welcome);
        self.control.next_heartbeat = self.seen.plus_ms(u64::from(welcome.heartbeat_ms));
        match (before, known) {
            (State::Resuming, Some(known)) => {
                if let Some(resume) = self.resume(known) {
                    self.send(PeerMessage::Resume(Box::new(resume)));
                    self.report_links_anew();
                    self.report_blocked_anew();
                }
                if let Some(welcome) = &mut self.control.welcome {
                    welcome.run = known.run;
                }
            }
            _ => self.send(PeerMessage::Join(self.config.join.clone())),
        }
    }

    fn resume(&self, known: Welcome) -> Option<Resume> {
        Some(Resume {
            join: self.config.join.clone(),
            run: known.run,
            incarnation: known.incarnation,
            epoch: (**self.epoch.as_ref()?).clone(),
            since_before: self.ops.since_before,
            aborted: self.ops.aborted.clone(),
            ops: self.ops.resumed(),
            verdicts: self.ops.verdicts(),
            phase_seq: self.phases.seq,
            phase: self.phases.waiting_for(),
            phase_last: self.phases.last.clone(),
            sync_number: self.syncs.number,
            sync: self.syncs.resumed(),
            sync_last: self.syncs.last.clone(),
            synced: self.syncs.synced,
            linked: self.links.linked(),
        })
    }

    fn on_new_epoch(&mut self, info: EpochInfo, aborted: Vec<(Tag, u32)>, cause: &EpochCause) {
        let (id, group) = (self.id(), self.config.join.group);
        if info.group(group).is_none_or(|g| !g.order.contains(&id)) {
            return self
                .out(ErrorKind::Internal, "the master began an epoch without this peer but told it so");
        }
        let first = self.state == State::Pending;
        if !self.step(Event::Accepted) {
            return;
        }
        if first {
            self.phases.seq = info.phase_seq;
        }
        let reason = match cause {
            EpochCause::Admitted => "newcomers were admitted".to_owned(),
            EpochCause::Lost { text } | EpochCause::Relinked { text } => text.clone(),
        };
        self.log(format!("{} begins with {} peers: {reason}", info.epoch, info.world_size()));
        let before = self.since();
        self.epoch = Some(Arc::new(info));
        self.change_epoch(before, aborted, &reason);
        if let Some(work) = self.control.connect.take() {
            self.complete(work, Ok(Done::Connected));
        }
    }

    /// Out of the run, not by own will.
    pub(super) fn out(&mut self, kind: ErrorKind, reason: &str) {
        if self.step(Event::Out) {
            self.ended = Some(Error::new(kind, reason));
            self.outputs.push_back(Output::HangUp);
            self.warn(reason.to_owned());
            self.end_everything(kind, reason);
            self.control.welcome = None;
        }
    }

    pub(super) fn leave(&mut self) {
        self.end_ops(ErrorKind::Aborted, "this peer left the run");
        self.end_sync(ErrorKind::Aborted, "this peer left the run");
        self.send(PeerMessage::Leave);
        if !matches!(self.state, State::Idle | State::Gone) {
            self.outputs.push_back(Output::HangUp);
        }
        self.end_everything(ErrorKind::Aborted, "this peer left the run");
        self.step(Event::Leave);
    }

    pub(super) fn must_have_company(&self) -> Result<()> {
        match self.group() {
            Some(group) if group.order.len() < 2 => Err(Error::new(
                ErrorKind::TooFewPeers,
                format!("{} has only this peer; wait for others and call update_topology", group.group),
            )),
            _ => Ok(()),
        }
    }
}
