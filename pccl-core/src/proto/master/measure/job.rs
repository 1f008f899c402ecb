//! The search for a plan: long arithmetic, which whoever drives the machine runs where it holds nobody up.

use std::sync::Arc;

use super::super::io::Input;
use crate::topo::{self, Effort, Optimized, Shape};
use crate::types::{GroupId, PeerId, Planned};

/// The operation that plans are compared by.
pub(super) const COMPARED_BYTES: u64 = 64 << 20;
/// A plan is worth a new epoch if it takes less than this part of the time that the present one does.
const WORTH_AN_EPOCH: f64 = 0.97;

/// A pure function that waits to be called.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanJob {
    pub(super) number: u64,
    pub(super) tasks: Vec<PlanTask>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlanTask {
    pub group: GroupId,
    /// By rank.
    pub members: Vec<PeerId>,
    /// What the group has now.
    pub present: Option<Arc<Planned>>,
    pub figures: topo::Figures,
    pub steps: u64,
}

/// What it gives.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanResult {
    pub(super) number: u64,
    /// The search did not come to its end.
    pub(super) broken: bool,
    /// Of the groups that are better off with another plan.
    pub(super) plans: Vec<(GroupId, Vec<PeerId>, Optimized)>,
}

impl PlanJob {
    /// What to give the machine if the search broke.
    pub fn broken(&self) -> Input {
        Input::Planned(PlanResult { number: self.number, broken: true, plans: Vec::new() })
    }

    /// Takes up to seconds. The input goes to the machine that gave the job.
    pub fn run(self) -> Input {
        let plans = self.tasks.into_iter().filter_map(PlanTask::run).collect();
        Input::Planned(PlanResult { number: self.number, broken: false, plans })
    }
}

impl PlanTask {
    fn run(self) -> Option<(GroupId, Vec<PeerId>, Optimized)> {
        // The seed is no secret and need not vary: equal figures give equal plans.
        let optimized = topo::optimize(&self.figures, Effort { steps: self.steps, seed: 1 });
        let present_us = self.present.as_deref().map(|present| self.time_us(present));
        let better =
            |us: u64| (optimized.planned.least_us(COMPARED_BYTES) as f64) < WORTH_AN_EPOCH * us as f64;
        present_us.is_none_or(better).then_some((self.group, self.members, optimized))
    }

    /// What the present order and forest take by the present figures.
    fn time_us(&self, present: &Planned) -> u64 {
        let order: Vec<usize> = (0..self.members.len()).collect();
        let forest = present.forest.as_ref().map(|forest| Shape::Forest(&forest.trees));
        let shapes = [Shape::Ring, Shape::Mesh].into_iter().chain(forest);
        let times = shapes.map(|shape| topo::predict(&self.figures, &order, shape, COMPARED_BYTES));
        times.min().unwrap_or(u64::MAX)
    }
}
