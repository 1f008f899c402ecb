//! G1 and G2 for shared state: a synchronization ends the same at everybody, and after a success all tensors that must
//! not differ are, at everybody, byte by byte what the winner of the election had brought.

use std::collections::{BTreeMap, HashMap, HashSet};

use pccl_core::proto::peer::SyncInfo;
use pccl_core::state::Condition;
use pccl_core::types::{Election, GroupId, PeerId, SyncNumber, SyncOutcome, SyncStrategy};

use super::{Verdict, ensure};
use crate::sim::memory::CallMemory;
use crate::sim::sync::{Brings, TensorKind};

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

/// The bytes of each tensor, in the order the programs list them.
pub type Model = Vec<Vec<u8>>;

/// An election as the master sent it, and what its winner had brought.
#[derive(Clone, Debug)]
pub struct Choice {
    pub election: Election,
    pub brings: Brings,
    pub model: Model,
}

impl Choice {
    pub fn may_win(&self, at: &At<'_>) -> Verdict {
        let Brings { revision, strategy, held_back, .. } = self.brings;
        let has_vote = strategy != SyncStrategy::ReceiveOnly && !held_back;
        let may = has_vote && revision == self.election.revision;
        ensure(may, G2, || {
            format!("{:?}, heard by {}, was won with {:?}", self.election.number, at.peer, self.brings)
        })
    }
}

/// What a program finds in its tensors when its call has returned.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    pub kinds: &'a [TensorKind],
    pub before: &'a Model,
    pub after: &'a Model,
    pub conditions: &'a [Condition],
}

impl Found<'_> {
    /// Each tensor is what its condition says, after a failure too.
    pub fn conditions(&self, at: &At<'_>, choice: Option<&Choice>) -> Verdict {
        for (tensor, condition) in self.conditions.iter().enumerate() {
            let (before, after) = (&self.before[tensor], &self.after[tensor]);
            let elected = choice.map(|choice| &choice.model[tensor]);
            let is = match condition {
                Condition::Kept => before == after,
                Condition::Elected => Some(after) == elected,
                Condition::Mixed => before != after,
            };
            ensure(is, G2, || {
                let (changed, wrong) =
                    (first_difference(before, after), elected.map(|e| first_difference(e, after)));
                let peer = at.peer;
                format!(
                    "tensor {tensor} at {peer} is {condition:?}; its first byte that is not as before: {changed:?}, that is \
                     not as elected: {wrong:?}"
                )
            })?;
        }
        Ok(())
    }

    pub fn success(
        &self,
        at: &At<'_>,
        number: SyncNumber,
        info: SyncInfo,
        choice: &Choice,
        block_bytes: usize,
    ) -> Verdict {
        let same = (info.revision, number) == (choice.election.revision, choice.election.number);
        ensure(same, G2, || {
            format!("{number} at {} gave {info:?}, but {:?}", at.peer, choice.election.number)
        })?;
        let must_be_same = (0..self.kinds.len()).filter(|tensor| !self.kinds[*tensor].may_differ);
        let other = must_be_same.into_iter().find(|tensor| self.after[*tensor] != choice.model[*tensor]);
        ensure(other.is_none(), G2, || {
            format!(
                "{number} at {}: tensor {other:?} is not what was elected, {:?}",
                at.peer, self.conditions
            )
        })?;
        let needed_bytes = self.differing_bytes(block_bytes);
        let whole = !self.conditions.contains(&Condition::Mixed) && info.rx_bytes == needed_bytes;
        ensure(whole, G2, || {
            format!("{number} at {}: {needed_bytes} bytes differed, {info:?}, {:?}", at.peer, self.conditions)
        })
    }

    /// Bytes of the blocks that are not what they were.
    fn differing_bytes(&self, block_bytes: usize) -> u64 {
        let blocks = |model: &Model| -> Vec<Vec<u8>> {
            model.iter().flat_map(|bytes| bytes.chunks(block_bytes)).map(<[u8]>::to_vec).collect()
        };
        let (before, after) = (blocks(self.before), blocks(self.after));
        let differing = before.iter().zip(&after).filter(|(before, after)| before != after);
        differing.map(|(block, _)| block.len() as u64).sum()
    }

    /// After a success nothing is what a broken transfer had made of it, but where just that was elected: what a source has
    /// sent that was not what it had offered, say, and offers now. That no mixture was elected `may_win` says. `mixed`: the
    /// mixtures that were there.
    pub fn keeps_no_mixture(
        &self,
        at: &At<'_>,
        mixed: &BTreeMap<usize, Vec<u8>>,
        choice: &Choice,
    ) -> Verdict {
        let is_elected = |tensor: usize| self.after[tensor] == choice.model[tensor];
        let kept =
            mixed.iter().find(|(tensor, bytes)| self.after[**tensor] == **bytes && !is_elected(**tensor));
        ensure(kept.is_none(), G2, || {
            format!("tensor {kept:?} at {} is the mixture that was left there", at.peer)
        })
    }

    /// After a success, at a peer that was up to date.
    pub fn keeps_what_may_differ(&self, at: &At<'_>) -> Verdict {
        let replaced =
            |tensor: &usize| self.kinds[*tensor].may_differ && self.conditions[*tensor] != Condition::Kept;
        let replaced = (0..self.kinds.len()).find(replaced);
        ensure(replaced.is_none(), G2, || {
            format!("an up-to-date peer's own tensor was replaced at {}: {replaced:?}", at.peer)
        })
    }
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    a.iter().zip(b).position(|(a, b)| a != b)
}

#[derive(Default)]
pub struct States {
    /// A number may come again in a run whose every present peer had not heard of it: so only those who are in one epoch
    /// are compared.
    ended: HashMap<(u32, SyncNumber), Vec<(PeerId, SyncOutcome)>>,
    /// The successes of a step.
    steps: HashMap<(u32, GroupId, u64), Vec<(PeerId, SyncNumber)>>,
    /// Groups in which a program's tensors went wrong.
    harmed: HashSet<GroupId>,
}

impl States {
    pub fn harmed(&mut self, group: GroupId) {
        self.harmed.insert(group);
    }

    /// Programs that do as they should are never put out over a shared state, but for a mixture that nobody in reach can
    /// mend. Where a program's tensors went wrong, of two who only send one has to go: it may be either.
    pub fn may_kick(&self, at: &At<'_>, text: &str) -> Verdict {
        let about_state = text.starts_with("shared state:") && !text.contains("has left a mixture");
        let differ = text.contains("this peer only sends, but its content is not that of");
        let may = !about_state || differ && self.harmed.contains(&at.group);
        ensure(may, G1, || format!("{} was put out: {text}", at.peer))
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

    /// The synchronization of a step is the same one at all.
    pub fn step_synchronized(&mut self, at: &At<'_>, step: u64, number: SyncNumber) -> Verdict {
        let known = self.steps.entry((at.run, at.group, step)).or_default();
        let other = known.iter().find(|(peer, other)| at.survivors.contains(peer) && *other != number);
        ensure(other.is_none(), G1, || {
            format!("that of step {step} is {number} at {}, but {other:?}", at.peer)
        })?;
        known.push((at.peer, number));
        Ok(())
    }
}

pub fn nothing_beside(memory: &CallMemory, what: impl FnOnce() -> String) -> Verdict {
    ensure(memory.guards_intact(), G5, || format!("{}: bytes beside the tensor were written", what()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pccl_core::types::{DType, Digest};

    const PEER: PeerId = PeerId([1; 16]);
    const AT: At<'_> = At { peer: PEER, run: 1, group: GroupId(0), survivors: &[PEER] };
    const OWN: TensorKind = TensorKind { size_bytes: 2, dtype: DType::U8, may_differ: true };
    const SAME: TensorKind = TensorKind { may_differ: false, ..OWN };

    fn choice(model: Model) -> Choice {
        let digest = Digest::default();
        let number = SyncNumber(1);
        let election =
            Election { number, revision: 4, content: digest, full: digest, winner: PEER, sources: vec![] };
        let strategy = SyncStrategy::SendOnly;
        let brings = Brings {
            revision: 4,
            strategy,
            worked_at: None,
            corrupt: false,
            moved_on: false,
            scribbles: false,
            mischief: None,
            oddity: None,
            held_back: false,
        };
        Choice { election, brings, model }
    }

    #[test]
    fn what_was_not_elected_and_bytes_that_were_not_needed_are_found() {
        let choice = choice(vec![vec![1, 1], vec![9, 9]]);
        let before = vec![vec![1, 2], vec![7, 7]];
        let judge = |after: Model, rx_bytes, number| {
            let found = Found {
                kinds: &[SAME, OWN],
                before: &before,
                after: &after,
                conditions: &[Condition::Elected, Condition::Kept],
            };
            let info = SyncInfo { revision: 4, tx_bytes: 0, rx_bytes };
            found.success(&AT, SyncNumber(number), info, &choice, 1).is_ok()
        };
        let good = vec![vec![1, 1], vec![7, 7]];
        assert!(judge(good.clone(), 1, 1));
        assert!(!judge(good.clone(), 2, 1) && !judge(good, 1, 2));
        assert!(!judge(vec![vec![1, 3], vec![7, 7]], 1, 1));
    }

    #[test]
    fn a_mixture_that_claims_to_be_something_is_found() {
        let choice = choice(vec![vec![1, 2]]);
        let judge = |after: u8, condition| {
            let (before, after) = (vec![vec![5, 5]], vec![vec![after, 2]]);
            let found = Found { kinds: &[SAME], before: &before, after: &after, conditions: &[condition] };
            found.conditions(&AT, Some(&choice)).is_ok()
        };
        assert!(judge(1, Condition::Elected) && !judge(5, Condition::Elected));
        assert!(judge(5, Condition::Mixed) && !judge(5, Condition::Kept));
    }

    #[test]
    fn what_may_differ_is_not_replaced_where_it_is_current() {
        let model = vec![vec![1, 2], vec![1, 2]];
        let judge = |own| {
            let conditions = &[Condition::Elected, own];
            let found = Found { kinds: &[SAME, OWN], before: &model, after: &model, conditions };
            found.keeps_what_may_differ(&AT).is_ok()
        };
        assert!(judge(Condition::Kept) && !judge(Condition::Elected) && !judge(Condition::Mixed));
    }

    #[test]
    fn a_mixture_that_stays_is_found() {
        let model = vec![vec![1, 2]];
        let judge = |mixture: u8, elected: u8| {
            let conditions = &[Condition::Kept];
            let found = Found { kinds: &[OWN], before: &model, after: &model, conditions };
            let mixed = BTreeMap::from([(0, vec![mixture, 2])]);
            found.keeps_no_mixture(&AT, &mixed, &choice(vec![vec![elected, 2]])).is_ok()
        };
        assert!(!judge(1, 7) && judge(7, 7) && judge(1, 1));
    }

    #[test]
    fn a_winner_without_a_vote_and_a_kick_without_cause_are_found() {
        let mut choice = choice(vec![]);
        assert!(choice.may_win(&AT).is_ok());
        choice.brings.revision = 3;
        assert!(choice.may_win(&AT).is_err());
        choice.brings = Brings { revision: 4, strategy: SyncStrategy::ReceiveOnly, ..choice.brings };
        assert!(choice.may_win(&AT).is_err());
        choice.brings = Brings { strategy: SyncStrategy::SendOnly, held_back: true, ..choice.brings };
        assert!(choice.may_win(&AT).is_err(), "a mixture");
        choice.brings.held_back = false;
        assert!(choice.may_win(&AT).is_ok());
        let mut states = States::default();
        assert!(states.may_kick(&AT, "shared state: a broken transfer has left a mixture").is_ok());
        assert!(states.may_kick(&AT, "silent").is_ok() && states.may_kick(&AT, "shared state: odd").is_err());
        let sends = "shared state: this peer only sends, but its content is not that of peer 1";
        assert!(states.may_kick(&AT, sends).is_err());
        states.harmed(AT.group);
        assert!(states.may_kick(&AT, sends).is_ok() && states.may_kick(&AT, "shared state: odd").is_err());
    }

    #[test]
    fn two_ends_of_one_synchronization_and_two_of_one_step_are_found() {
        let mut states = States::default();
        let aborted = |text: &str| SyncOutcome::Aborted { text: text.to_owned() };
        assert!(states.ended(&AT, SyncNumber(1), &aborted("a long reason")).is_ok());
        assert!(states.ended(&AT, SyncNumber(1), &aborted("a long")).is_ok());
        let success = SyncOutcome::Synchronized { revision: 1 };
        assert!(states.ended(&AT, SyncNumber(1), &success).is_err());
        let alone = At { survivors: &[], ..AT };
        assert!(states.ended(&alone, SyncNumber(1), &success).is_ok(), "the other one is gone");
        assert!(states.step_synchronized(&AT, 3, SyncNumber(1)).is_ok());
        assert!(states.step_synchronized(&AT, 3, SyncNumber(2)).is_err());
        assert!(states.step_synchronized(&alone, 3, SyncNumber(2)).is_ok());
    }
}
