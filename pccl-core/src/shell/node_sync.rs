//! The node's part in a synchronization of shared state: hands the tensors to the engine and back, and remembers what a
//! broken transfer has left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::node::{Node, Output};
use crate::exec::{Link, SyncStart};
use crate::proto::peer::{Call, SyncInfo};
use crate::state::{Condition, Survey, Tensors};
use crate::types::{Digest, Election, Needs, Severity, SyncStrategy, Time, WorkId};

/// What a program brings to a synchronization. The survey is of these tensors as they are now.
#[derive(Debug)]
pub struct SyncRequest {
    pub revision: u64,
    pub strategy: SyncStrategy,
    pub tensors: Tensors,
    pub survey: Survey,
    pub report: SyncReport,
}

/// What has become of each tensor, in the order the program gave them: filled in before the call completes, empty if
/// nothing was begun.
#[derive(Clone, Debug, Default)]
pub struct SyncReport(Arc<Mutex<Vec<Condition>>>);

impl SyncReport {
    pub fn conditions(&self) -> Vec<Condition> {
        // A list that is put there whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fill(&self, conditions: Vec<Condition>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = conditions;
    }
}

#[derive(Debug, Default)]
pub(super) struct Syncs {
    /// Not in the engine's hands: before the election.
    resting: BTreeMap<WorkId, SyncRequest>,
    begun: Option<(WorkId, SyncReport)>,
    /// Content sent and received by calls that have ended in the engine, until their `Complete`.
    traffic: BTreeMap<WorkId, (u64, u64)>,
    /// All tensors, as a broken transfer has left them. While they are like that they have no vote; if the program has
    /// put something else there since, they do.
    left: Option<Digest>,
    /// All that was elected in a synchronization that did not succeed, and its revision. Who brings just that to the next
    /// one brings this revision, although the program was not told of it: the run must not fall back.
    holds: Option<(Digest, u64)>,
}

impl Syncs {
    pub fn take_call(&mut self, work: WorkId, request: SyncRequest) -> Call {
        let SyncRequest { revision, strategy, tensors, survey, .. } = &request;
        let held = self.holds.filter(|(full, _)| *full == survey.full()).map(|(_, revision)| revision);
        let revision = held.map_or(*revision, |held| held.max(*revision));
        let offer = survey.offer(revision, *strategy, self.left == Some(survey.full()));
        let keys = tensors.keys().clone();
        self.resting.insert(work, request);
        Call::Synchronize { offer, keys }
    }

    /// Before the call completes: its memory goes back, if it is still here.
    pub fn complete(&mut self, work: WorkId, info: Option<&mut SyncInfo>) {
        self.resting.remove(&work);
        let traffic = self.traffic.remove(&work);
        if let Some(info) = info {
            (info.tx_bytes, info.rx_bytes) = traffic.unwrap_or_default();
            (self.left, self.holds) = (None, None);
        }
    }
}

impl<L: Link> Node<L> {
    pub(super) fn begin_sync(&mut self, work: WorkId, election: Arc<Election>, needs: Needs, now: Time) {
        let Some(SyncRequest { tensors, survey, report, .. }) = self.syncs.resting.remove(&work) else {
            return;
        };
        self.syncs.begun = Some((work, report));
        let start = SyncStart { me: self.peer.id(), election, needs, tensors, survey };
        self.engine.begin_sync(start, now);
    }

    pub(super) fn end_sync(&mut self, work: WorkId) {
        let Some((_, report)) = self.syncs.begun.take_if(|(begun, _)| *begun == work) else { return };
        let Some(end) = self.engine.end_sync() else { return };
        report.fill(end.tensors.in_given_order(&end.conditions));
        self.syncs.traffic.insert(work, (end.tx_bytes, end.rx_bytes));
        self.syncs.holds = end.holds;
        if let Some(left) = end.left {
            self.syncs.left = Some(left);
            let mixed = end.conditions.iter().filter(|c| **c == Condition::Mixed).count();
            let text = format!(
                "a broken transfer left {mixed} of {} tensors in part what they were and in part what was elected; until the \
                 next synchronization repairs them they have no vote",
                end.conditions.len()
            );
            self.outputs.push_back(Output::Log { severity: Severity::Warn, text });
        }
    }
}
