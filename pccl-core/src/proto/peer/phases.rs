//! The calls that need every accepted peer, as one of them makes them.

use super::io::{Done, Output};
use super::{Peer, usage};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{PhaseCall, ProbeOrder, WorkId};
use crate::wire::message::{PeerMessage, PhaseOutcome};

#[derive(Debug, Default)]
pub(super) struct Phases {
    /// Outcomes seen in this run.
    pub seq: u64,
    waiting: Option<(WorkId, PhaseCall)>,
    /// The outcome of phase `seq` − 1: a restarted master may need it for those who missed it.
    pub last: Option<PhaseOutcome>,
}

impl Phases {
    pub fn waiting_for(&self) -> Option<PhaseCall> {
        self.waiting.map(|(_, call)| call)
    }

    pub fn take_waiting(&mut self) -> Option<WorkId> {
        self.waiting.take().map(|(work, _)| work)
    }
}

impl Peer {
    pub(super) fn call_phase(&mut self, work: WorkId, call: PhaseCall) -> Result<()> {
        self.must_be_member(&call.to_string())?;
        if let Some(other) = self.phases.waiting_for() {
            return Err(usage(format!("{call}: this peer is in {other} already")));
        }
        self.must_not_be_in_sync(&call.to_string())?;
        if let Some(tags) = self.ops.tags_in_flight() {
            return Err(Error::new(
                ErrorKind::PendingAsyncOps,
                format!("{call}: operations are in flight ({tags}); await them first"),
            ));
        }
        let run = self.epoch.as_ref().map_or(0, |info| info.world_size());
        if call == PhaseCall::OptimizeTopology && run < 2 {
            return Err(usage(format!("{call}: this peer is alone, there are no links to measure")));
        }
        self.phases.waiting = Some((work, call));
        self.send(PeerMessage::Phase { seq: self.phases.seq, call });
        Ok(())
    }

    pub(super) fn on_phase_done(&mut self, seq: u64, call: PhaseCall, outcome: PhaseOutcome) {
        if seq != self.phases.seq || self.phases.waiting_for() != Some(call) {
            return self.log(format!("an outcome of {call} (phase {seq}) that nobody waits for"));
        }
        let Some(work) = self.phases.take_waiting() else { return };
        let done = match &outcome {
            PhaseOutcome::Updated => Ok(Done::Updated),
            PhaseOutcome::Pending { peers_pending } => {
                Ok(Done::PeersPending { peers_pending: *peers_pending })
            }
            PhaseOutcome::Optimized => Ok(Done::Optimized),
            PhaseOutcome::NotOptimized { text } => {
                Err(Error::new(ErrorKind::TopologyOptimizationFailed, text.clone()))
            }
            PhaseOutcome::Deadlocked { text } => Err(usage(text.clone())),
        };
        // Peers that were not in a deadlocked call have not counted it.
        if !matches!(outcome, PhaseOutcome::Deadlocked { .. }) {
            self.phases.seq += 1;
            self.phases.last = Some(outcome);
        }
        self.complete(work, done);
    }

    /// A round that was ordered before this peer's call ended otherwise is of no use any more.
    pub(super) fn on_probe(&mut self, order: ProbeOrder) {
        if self.phases.waiting_for() == Some(PhaseCall::OptimizeTopology) {
            self.log(format!("measuring links, round {} of {}", order.round, order.rounds));
            self.outputs.push_back(Output::Probe(order));
        }
    }

    pub(super) fn must_not_be_in_phase(&self, what: &str) -> Result<()> {
        match self.phases.waiting_for() {
            Some(call) => Err(usage(format!("{what}: this peer is in {call}"))),
            None => Ok(()),
        }
    }
}
