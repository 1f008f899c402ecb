//! G1: an operation succeeds at all its surviving participants or aborts at all.
//!
//! A survivor, seen from a peer, is whoever is in this peer's epoch after its own outcome.

use std::collections::HashMap;

use pccl_core::proto::peer::ReduceInfo;
use pccl_core::types::{GroupId, PeerId};

use super::{Instance, Verdict, ensure};

const G1: &str = "G1 agreement";

#[derive(Default)]
struct Outcomes {
    succeeded: Vec<PeerId>,
    /// As the first that succeeded was told.
    info: Option<(u32, u32)>,
    aborted: Vec<PeerId>,
    /// In flight when the epoch ended, and taken along silently.
    carried: Vec<PeerId>,
}

#[derive(Default)]
pub struct Agreement {
    instances: HashMap<Instance, Outcomes>,
    /// Operations as programs name them (step and index): with which instance they succeeded, and where.
    steps: HashMap<(GroupId, u64, u64), (Instance, Vec<PeerId>)>,
}

fn conflict(others: &[PeerId], survivors: &[PeerId]) -> Option<PeerId> {
    others.iter().find(|peer| survivors.contains(peer)).copied()
}

impl Agreement {
    pub fn succeeded(
        &mut self,
        at: PeerId,
        instance: Instance,
        info: ReduceInfo,
        survivors: &[PeerId],
    ) -> Verdict {
        let outcomes = self.instances.entry(instance).or_default();
        for (others, what) in [(&outcomes.aborted, "aborted"), (&outcomes.carried, "was carried over")] {
            let other = conflict(others, survivors);
            ensure(other.is_none(), G1, || format!("{instance} succeeded at {at} but {what} at {other:?}"))?;
        }
        let told = (info.group_world_size, info.peers_pending);
        let first = *outcomes.info.get_or_insert(told);
        ensure(first == told, G1, || {
            format!("{instance}: {at} was told (world, pending) {told:?}, another one {first:?}")
        })?;
        outcomes.succeeded.push(at);
        Ok(())
    }

    pub fn aborted(&mut self, at: PeerId, instance: Instance, survivors: &[PeerId]) -> Verdict {
        let outcomes = self.instances.entry(instance).or_default();
        for (others, what) in [(&outcomes.succeeded, "succeeded"), (&outcomes.carried, "was carried over")] {
            let other = conflict(others, survivors);
            ensure(other.is_none(), G1, || format!("{instance} aborted at {at} but {what} at {other:?}"))?;
        }
        outcomes.aborted.push(at);
        Ok(())
    }

    pub fn carried(&mut self, at: PeerId, instance: Instance, survivors: &[PeerId]) -> Verdict {
        let outcomes = self.instances.entry(instance).or_default();
        for (others, what) in [(&outcomes.succeeded, "succeeded"), (&outcomes.aborted, "aborted")] {
            let other = conflict(others, survivors);
            ensure(other.is_none(), G1, || {
                format!("{instance} was carried over at {at} but {what} at {other:?}")
            })?;
        }
        outcomes.carried.push(at);
        Ok(())
    }

    /// Programs in the documented order: the same operation of the same step is the same instance everywhere.
    pub fn step_done(
        &mut self,
        at: PeerId,
        name: (GroupId, u64, u64),
        instance: Instance,
        survivors: &[PeerId],
    ) -> Verdict {
        let (known, peers) = self.steps.entry(name).or_insert_with(|| (instance, Vec::new()));
        if *known != instance {
            let other = conflict(peers, survivors);
            ensure(other.is_none(), G1, || {
                let (_, step, index) = name;
                format!("operation {index} of step {step} is {instance} at {at} but {known} at {other:?}")
            })?;
            *known = instance;
            peers.clear();
        }
        peers.push(at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pccl_core::types::{Epoch, Tag};

    const A: PeerId = PeerId([1; 16]);
    const B: PeerId = PeerId([2; 16]);
    const ONE: Instance =
        Instance { run: 1, group: GroupId(0), since: Epoch(1), tag: Tag(1), verdicts_before: 0 };

    #[test]
    fn success_here_and_abort_there_is_found_between_survivors_only() {
        let mut agreement = Agreement::default();
        assert!(agreement.succeeded(A, ONE, ReduceInfo::default(), &[A, B]).is_ok());
        assert!(agreement.aborted(B, ONE, &[B]).is_ok(), "A has not survived");
        assert!(agreement.aborted(B, ONE, &[A, B]).is_err());
    }

    #[test]
    fn a_silent_repetition_of_what_another_one_saw_abort_is_found() {
        let mut agreement = Agreement::default();
        assert!(agreement.aborted(A, ONE, &[A, B]).is_ok());
        assert!(agreement.carried(B, ONE, &[A, B]).is_err());
    }
}
