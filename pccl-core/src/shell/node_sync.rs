//! The node's part in a synchronization of shared state: hands the tensors to the engine and back, and remembers what a
//! broken transfer has left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::node::{Node, Output};
use crate::exec::{Link, SyncEnd, SyncStart};
use crate::proto::peer::{Call, SyncInfo};
use crate::state::{Condition, Survey, Tensors};
use crate::types::{Digest, Election, Needs, Severity, SyncStrategy, Time, WorkId};

/// What a program brings to a synchronization. The survey is of these tensors as they are now.
#[derive(Debug)]
pub struct SyncRequest {
    pub revision: u64,
    pub strategy: SyncStrategy,
    /// The program knows of these tensors that a broken transfer has left them.
    pub is_broken: bool,
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

/// What broken transfers have left, by the names of the tensors they have changed. While one of them is the mixture it was
/// left as, or all are as they were left, there is no vote; else the program has put something else there since.
#[derive(Debug, Default)]
struct Leavings(BTreeMap<String, Left>);

#[derive(Debug)]
struct Left {
    digest: Digest,
    is_mixed: bool,
}

impl Left {
    fn stays(&self, name: &str, tensors: &Tensors, survey: &Survey) -> bool {
        let at = tensors.keys().binary_search_by(|key| key.name.as_str().cmp(name));
        at.is_ok_and(|at| survey.digests()[at] == self.digest)
    }
}

impl Leavings {
    /// Whether these tensors are what was left.
    fn are_there(&self, tensors: &Tensors, survey: &Survey) -> bool {
        let stays = |(name, left): (&String, &Left)| left.stays(name, tensors, survey);
        let all = !self.0.is_empty() && self.0.iter().all(stays);
        all || self.0.iter().any(|(name, left)| left.is_mixed && stays((name, left)))
    }

    /// An election was held with these tensors. What the program has replaced is over; if that is enough for a vote, all is. A
    /// call that was refused changes nothing: it may have been made with other tensors.
    fn were_brought(&mut self, tensors: &Tensors, survey: &Survey) {
        let are_there = self.are_there(tensors, survey);
        self.0.retain(|name, left| are_there && left.stays(name, tensors, survey));
    }

    /// After a synchronization that has not succeeded.
    fn follow(&mut self, end: &SyncEnd) {
        if end.holds.is_some() || !end.is_mixture && !end.touched.is_empty() {
            self.0.clear();
            return;
        }
        for (tensor, digest) in &end.touched {
            let left = Left { digest: *digest, is_mixed: end.conditions[*tensor] == Condition::Mixed };
            self.0.insert(end.tensors.keys()[*tensor].name.clone(), left);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Syncs {
    /// Not in the engine's hands: before the election.
    resting: BTreeMap<WorkId, SyncRequest>,
    begun: Option<(WorkId, SyncReport)>,
    /// Content sent and received by calls that have ended in the engine, until their `Complete`.
    traffic: BTreeMap<WorkId, (u64, u64)>,
    left: Leavings,
    /// All that was elected in a synchronization that did not succeed, and its revision. Who brings just that to the next
    /// one brings this revision, although the program was not told of it: the run must not fall back.
    holds: Option<(Digest, u64)>,
}

impl Syncs {
    pub fn take_call(&mut self, work: WorkId, request: SyncRequest) -> Call {
        let SyncRequest { revision, strategy, is_broken, tensors, survey, .. } = &request;
        let held = self.holds.filter(|(full, _)| *full == survey.full()).map(|(_, revision)| revision);
        let revision = held.map_or(*revision, |held| held.max(*revision));
        // Who holds all that was elected is whole, which the program was not told.
        let left_behind = *is_broken && held.is_none() || self.left.are_there(tensors, survey);
        let offer = survey.offer(revision, *strategy, left_behind);
        let keys = tensors.keys().clone();
        self.resting.insert(work, request);
        Call::Synchronize { offer, keys }
    }

    /// The membership is over: another run need not know of what was elected in this one.
    pub fn forget_run(&mut self) {
        self.holds = None;
    }

    /// Before the call completes: its memory goes back, if it is still here.
    pub fn complete(&mut self, work: WorkId, info: Option<&mut SyncInfo>) {
        self.resting.remove(&work);
        let traffic = self.traffic.remove(&work);
        if let Some(info) = info {
            (info.tx_bytes, info.rx_bytes) = traffic.unwrap_or_default();
            (self.left, self.holds) = (Leavings::default(), None);
        }
    }
}

impl<L: Link> Node<L> {
    pub(super) fn begin_sync(&mut self, work: WorkId, election: Arc<Election>, needs: Needs, now: Time) {
        let Some(SyncRequest { tensors, survey, report, .. }) = self.syncs.resting.remove(&work) else {
            return;
        };
        self.syncs.left.were_brought(&tensors, &survey);
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
        self.syncs.left.follow(&end);
        if end.is_mixture {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::TestMemory;
    use crate::types::{DType, TensorKey};

    struct State([TestMemory; 3]);

    impl State {
        fn of(bytes: [u8; 3]) -> State {
            State(bytes.map(|byte| TestMemory::new(&[byte; 8], true)))
        }

        /// Tensors "a", "b" and "c".
        fn lend(&mut self) -> (Tensors, Survey) {
            let key = |name: &str| TensorKey {
                name: name.into(),
                dtype: DType::U8,
                count: 8,
                may_differ: name == "c",
            };
            let given = ["a", "b", "c"].map(key).into_iter().zip(self.0.iter_mut().map(TestMemory::lend));
            let tensors = Tensors::new(given.collect()).unwrap();
            let survey = tensors.survey(4, 1);
            (tensors, survey)
        }
    }

    /// The end of a transfer that has left these bytes.
    fn ends(left: &mut Leavings, bytes: [u8; 3], conditions: [Condition; 3], holds_all: bool) {
        let mut state = State::of(bytes);
        let (tensors, survey) = state.lend();
        let touched = (0..3).filter(|tensor| conditions[*tensor] != Condition::Kept);
        let touched: Vec<(usize, Digest)> =
            touched.map(|tensor| (tensor, survey.digests()[tensor])).collect();
        let is_mixture = !touched.is_empty() && !holds_all;
        let holds = holds_all.then(|| (survey.full(), 5));
        let conditions = conditions.to_vec();
        let (tx_bytes, rx_bytes) = (0, 0);
        left.follow(&SyncEnd { tensors, tx_bytes, rx_bytes, conditions, touched, is_mixture, holds });
    }

    /// In a call that comes to an election.
    fn are_there(left: &mut Leavings, bytes: [u8; 3]) -> bool {
        let are_there = would_be_there(left, bytes);
        let mut state = State::of(bytes);
        let (tensors, survey) = state.lend();
        left.were_brought(&tensors, &survey);
        are_there
    }

    fn would_be_there(left: &Leavings, bytes: [u8; 3]) -> bool {
        let mut state = State::of(bytes);
        let (tensors, survey) = state.lend();
        left.are_there(&tensors, &survey)
    }

    use Condition::{Elected, Kept, Mixed};

    #[test]
    fn what_the_program_knows_to_be_broken_has_no_vote_unless_it_is_all_that_was_elected() {
        let mut syncs = Syncs::default();
        let mut is_offered = |is_broken, holds: bool| {
            let mut state = State::of([1, 2, 3]);
            let (tensors, survey) = state.lend();
            syncs.holds = holds.then(|| (survey.full(), 5));
            let report = SyncReport::default();
            let strategy = SyncStrategy::EnforcePopular;
            let call = syncs.take_call(
                WorkId(1),
                SyncRequest { revision: 0, strategy, is_broken, tensors, survey, report },
            );
            syncs.complete(WorkId(1), None);
            let Call::Synchronize { offer, .. } = call else { panic!("{call:?}") };
            !offer.left_behind
        };
        assert!(is_offered(false, false));
        assert!(!is_offered(true, false));
        assert!(is_offered(true, true));
    }

    #[test]
    fn a_mixture_has_no_vote_whatever_else_the_program_changes() {
        let mut left = Leavings::default();
        assert!(!are_there(&mut left, [1, 2, 3]));
        ends(&mut left, [7, 8, 3], [Elected, Mixed, Kept], false);
        assert!(are_there(&mut left, [7, 8, 3]));
        assert!(are_there(&mut left, [7, 8, 9]), "what the transfer has not touched");
        assert!(are_there(&mut left, [6, 8, 9]), "or has brought whole");
        assert!(!are_there(&mut left, [6, 5, 9]), "the mixture was replaced");
        assert!(!are_there(&mut left, [7, 8, 3]), "and then it was the program that put this there");
    }

    #[test]
    fn a_call_that_is_refused_makes_no_mixture_forgotten() {
        let mut left = Leavings::default();
        ends(&mut left, [7, 8, 3], [Elected, Mixed, Kept], false);
        assert!(
            !would_be_there(&left, [1, 1, 1]),
            "a scratch state, turned down as operations are in flight"
        );
        assert!(are_there(&mut left, [7, 8, 3]));
    }

    /// As much as can be told: what was touched is as the broken transfer left it.
    #[test]
    fn a_checkpoint_that_equals_what_was_left_is_taken_for_it() {
        let mut left = Leavings::default();
        ends(&mut left, [7, 2, 3], [Elected, Kept, Kept], false);
        assert!(are_there(&mut left, [7, 9, 9]));
        assert!(!are_there(&mut left, [6, 9, 9]));
    }

    #[test]
    fn tensors_that_have_come_whole_and_others_that_have_not_are_a_mixture_together() {
        let mut left = Leavings::default();
        ends(&mut left, [7, 8, 3], [Elected, Elected, Kept], false);
        assert!(are_there(&mut left, [7, 8, 9]));
        assert!(!are_there(&mut left, [7, 5, 9]), "one of them was replaced");
        assert!(!are_there(&mut left, [7, 8, 9]));
    }

    #[test]
    fn what_several_broken_transfers_leave_adds_up_until_all_of_it_is_there() {
        let mut left = Leavings::default();
        ends(&mut left, [7, 2, 3], [Mixed, Kept, Kept], false);
        assert!(are_there(&mut left, [7, 2, 3]));
        ends(&mut left, [7, 8, 3], [Kept, Mixed, Kept], false);
        assert!(are_there(&mut left, [7, 1, 3]) && !are_there(&mut left, [6, 1, 3]));
        ends(&mut left, [7, 8, 3], [Elected, Kept, Kept], false);
        assert!(are_there(&mut left, [7, 8, 3]));
        ends(&mut left, [7, 6, 5], [Kept, Elected, Elected], true);
        assert!(!are_there(&mut left, [7, 6, 5]), "it has a vote, and brings the revision elected");
    }
}
