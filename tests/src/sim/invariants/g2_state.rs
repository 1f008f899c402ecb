//! G1 and G2 for shared state: a synchronization ends the same at everybody, and after a success all tensors that must
//! not differ are, at everybody, byte by byte what somebody brought.

use std::collections::{HashMap, HashSet};

use pccl_core::proto::peer::SyncInfo;
use pccl_core::state::Condition;
use pccl_core::types::{GroupId, PeerId, SyncNumber, SyncOutcome};

use super::{Verdict, ensure};
use crate::sim::memory::CallMemory;

const G1: &str = "G1 agreement on a shared state";
const G2: &str = "G2 parity of a shared state";
const G5: &str = "G5 no cross-talk";

/// Where something is judged.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    pub peer: PeerId,
    pub run: u32,
    pub group: GroupId,
    /// Who is in the peer's epoch.
    pub survivors: &'a [PeerId],
}

type Model = Vec<Vec<u8>>;
/// Who holds which revision, and what it is.
type Holding = (PeerId, u64, Model);

#[derive(Default)]
pub struct States {
    /// Of the tensors that must not differ, all that was ever brought together; and of each tensor by itself.
    together: HashSet<(GroupId, Model)>,
    alone: HashSet<(GroupId, usize, Vec<u8>)>,
    /// A number may come again in a run whose every present peer had not heard of it: so only those who are in one epoch
    /// are compared.
    ended: HashMap<(u32, SyncNumber), Vec<(PeerId, SyncOutcome)>>,
    held: HashMap<(u32, GroupId, SyncNumber), Vec<Holding>>,
}

fn must_not_differ(model: &Model, kinds: &[(usize, bool)]) -> Model {
    model
        .iter()
        .zip(kinds)
        .filter(|(_, (_, may_differ))| !may_differ)
        .map(|(bytes, _)| bytes.clone())
        .collect()
}

impl States {
    pub fn offered(&mut self, group: GroupId, model: &Model, kinds: &[(usize, bool)]) {
        self.together.insert((group, must_not_differ(model, kinds)));
        for (tensor, bytes) in model.iter().enumerate() {
            self.alone.insert((group, tensor, bytes.clone()));
        }
    }

    pub fn ended(&mut self, at: &At<'_>, number: SyncNumber, outcome: &SyncOutcome) -> Verdict {
        use SyncOutcome::*;
        let same = |known: &SyncOutcome| match (known, outcome) {
            (Synchronized { revision: a }, Synchronized { revision: b }) => a == b,
            // Texts are cut where they pass through a resume.
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        };
        let known = self.ended.entry((at.run, number)).or_default();
        let other = known.iter().find(|(peer, known)| at.survivors.contains(peer) && !same(known));
        ensure(other.is_none(), G1, || {
            format!("{number} ended with {outcome:?} at {}, but {other:?}", at.peer)
        })?;
        known.push((at.peer, outcome.clone()));
        Ok(())
    }

    /// Each tensor is what its condition says.
    pub fn conditions(
        &self,
        at: &At<'_>,
        before: &Model,
        after: &Model,
        conditions: &[Condition],
    ) -> Verdict {
        for (tensor, condition) in conditions.iter().enumerate() {
            let is = match condition {
                Condition::Kept => before[tensor] == after[tensor],
                Condition::Elected => self.alone.contains(&(at.group, tensor, after[tensor].clone())),
                Condition::Mixed => before[tensor] != after[tensor],
            };
            ensure(is, G2, || {
                let (before, after) = (&before[tensor], &after[tensor]);
                format!(
                    "tensor {tensor} at {} is {condition:?}, but was {before:02x?} and is {after:02x?}",
                    at.peer
                )
            })?;
        }
        Ok(())
    }

    pub fn synchronized(
        &mut self,
        at: &At<'_>,
        number: SyncNumber,
        info: SyncInfo,
        after: &Model,
        kinds: &[(usize, bool)],
        conditions: &[Condition],
    ) -> Verdict {
        let (group, peer) = (at.group, at.peer);
        let model = must_not_differ(after, kinds);
        ensure(self.together.contains(&(group, model.clone())), G2, || {
            format!("{number} at {peer} gave what nobody had brought: {model:02x?}")
        })?;
        let held = self.held.entry((at.run, group, number)).or_default();
        let differs = |(other, revision, content): &&Holding| {
            at.survivors.contains(other) && (*revision, content) != (info.revision, &model)
        };
        let other = held.iter().find(differs);
        ensure(other.is_none(), G2, || {
            format!("{number} at {peer} gave revision {} of {after:02x?}, but {other:02x?}", info.revision)
        })?;
        held.push((peer, info.revision, model));
        let received = conditions.contains(&Condition::Elected);
        let whole = !conditions.contains(&Condition::Mixed) && received == (info.rx_bytes > 0);
        ensure(whole, G2, || format!("{number} at {peer}: received {} bytes, {conditions:?}", info.rx_bytes))
    }
}

/// After a success, at a peer that was up to date.
pub fn keeps_what_may_differ(at: &At<'_>, kinds: &[(usize, bool)], conditions: &[Condition]) -> Verdict {
    let mut pairs = kinds.iter().zip(conditions).enumerate();
    let changed =
        pairs.find(|(_, ((_, may_differ), condition))| *may_differ && **condition != Condition::Kept);
    ensure(changed.is_none(), G2, || {
        format!("an up-to-date peer's own tensor was replaced at {}: {changed:?}", at.peer)
    })
}

pub fn nothing_beside(memory: &CallMemory, what: impl FnOnce() -> String) -> Verdict {
    ensure(memory.guards_intact(), G5, || format!("{}: bytes beside the tensor were written", what()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId([1; 16]);
    const AT: At<'_> = At { peer: PEER, run: 1, group: GroupId(0), survivors: &[PEER] };
    const KINDS: [(usize, bool); 2] = [(1, false), (1, true)];

    #[test]
    fn what_nobody_brought_and_what_differs_is_found() {
        let mut states = States::default();
        states.offered(AT.group, &vec![vec![1], vec![9]], &KINDS);
        states.offered(AT.group, &vec![vec![2], vec![8]], &KINDS);
        let info = SyncInfo { revision: 4, tx_bytes: 0, rx_bytes: 0 };
        let mut success = |model: Model| {
            states.synchronized(&AT, SyncNumber(1), info, &model, &KINDS, &[Condition::Kept; 2])
        };
        assert!(success(vec![vec![3], vec![9]]).is_err());
        assert!(success(vec![vec![1], vec![9]]).is_ok());
        assert!(success(vec![vec![1], vec![7]]).is_ok(), "the second may differ");
        assert!(success(vec![vec![2], vec![9]]).is_err());
    }

    #[test]
    fn a_mixture_that_claims_to_be_something_is_found() {
        let mut states = States::default();
        states.offered(AT.group, &vec![vec![1, 2]], &[(2, false)]);
        let judge = |after: u8, condition| {
            states.conditions(&AT, &vec![vec![5, 5]], &vec![vec![after, 2]], &[condition]).is_ok()
        };
        assert!(judge(1, Condition::Elected) && !judge(5, Condition::Elected));
        assert!(judge(5, Condition::Mixed) && !judge(5, Condition::Kept));
    }

    #[test]
    fn what_may_differ_is_not_replaced_where_it_is_current() {
        let judge = |own| keeps_what_may_differ(&AT, &KINDS, &[Condition::Elected, own]).is_ok();
        assert!(judge(Condition::Kept) && !judge(Condition::Elected) && !judge(Condition::Mixed));
    }

    #[test]
    fn two_ends_of_one_synchronization_are_found() {
        let mut states = States::default();
        let aborted = |text: &str| SyncOutcome::Aborted { text: text.to_owned() };
        assert!(states.ended(&AT, SyncNumber(1), &aborted("a long reason")).is_ok());
        assert!(states.ended(&AT, SyncNumber(1), &aborted("a long")).is_ok());
        let success = SyncOutcome::Synchronized { revision: 1 };
        assert!(states.ended(&AT, SyncNumber(1), &success).is_err());
        assert!(
            states.ended(&At { survivors: &[], ..AT }, SyncNumber(1), &success).is_ok(),
            "the other one is gone"
        );
    }
}
