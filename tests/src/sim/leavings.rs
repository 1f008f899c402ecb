//! What broken transfers have left in a process's tensors, as its node has to know it.

use std::collections::BTreeMap;

use pccl_core::state::Condition;

use super::invariants::g2_state::{Choice, Model};

/// What broken transfers have left in a process's tensors.
#[derive(Clone, Debug, Default)]
pub struct Leavings {
    /// Those that were changed, and whether they are a mixture in themselves.
    touched: BTreeMap<usize, (Vec<u8>, bool)>,
    /// Those that were a mixture and are in place.
    pub mixed: BTreeMap<usize, Vec<u8>>,
    /// All that was elected, and its revision.
    pub holds: Option<(Model, u64)>,
    /// The program has written there during a call, or named a tensor otherwise: what its node takes for left need not be
    /// what lies there.
    pub is_unsure: bool,
}

impl Leavings {
    /// Whether a program that brings this has no vote for it.
    pub fn hold_back(&self, model: &Model) -> bool {
        let stays = |(tensor, (bytes, _)): (&usize, &(Vec<u8>, bool))| model[*tensor] == *bytes;
        let all = !self.touched.is_empty() && self.touched.iter().all(stays);
        all || self.touched.iter().any(|left| left.1.1 && stays(left))
    }

    /// What a program has brought to one that was decided.
    pub fn brought(&mut self, model: &Model) {
        let holds_back = self.hold_back(model);
        self.touched.retain(|tensor, (bytes, _)| holds_back && model[*tensor] == *bytes);
    }

    /// What a synchronization that has not succeeded has left.
    pub fn follow(&mut self, after: &Model, conditions: &[Condition], choice: &Choice, all_here: bool) {
        let touched = (0..after.len()).filter(|tensor| conditions[*tensor] != Condition::Kept);
        let touched: BTreeMap<usize, (Vec<u8>, bool)> = touched
            .map(|tensor| (tensor, (after[tensor].clone(), conditions[tensor] == Condition::Mixed)))
            .collect();
        self.holds = (*after == choice.model).then(|| (choice.model.clone(), choice.election.revision));
        if self.holds.is_some() || all_here && !touched.is_empty() {
            self.touched.clear();
        } else {
            self.touched.extend(touched);
        }
        // What was replaced since, by whomever, is no mixture any more.
        self.mixed.retain(|tensor, bytes| after[*tensor] == *bytes);
        let mixed = (0..after.len()).filter(|tensor| conditions[*tensor] == Condition::Mixed);
        self.mixed.extend(mixed.map(|tensor| (tensor, after[tensor].clone())));
    }
}
