//! The search for a plan: long arithmetic, which whoever drives the machine runs where it holds nobody up.

use super::super::io::Input;
use crate::topo::{self, Effort, Optimized};
use crate::types::{GroupId, PeerId};

/// A pure function that waits to be called.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanJob {
    pub(super) number: u64,
    pub(super) tasks: Vec<PlanTask>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlanTask {
    pub group: GroupId,
    pub members: Vec<PeerId>,
    pub figures: topo::Figures,
    pub steps: u64,
}

/// What it gives.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanResult {
    pub(super) number: u64,
    pub(super) plans: Vec<(GroupId, Vec<PeerId>, Optimized)>,
}

impl PlanJob {
    /// What to give the machine if the search broke.
    pub fn broken(&self) -> Input {
        Input::Planned(PlanResult { number: self.number, plans: Vec::new() })
    }

    /// Takes up to seconds. The input goes to the machine that gave the job.
    pub fn run(self) -> Input {
        let plan = |task: PlanTask| {
            // The seed is no secret and need not vary: equal figures give equal plans.
            let effort = Effort { steps: task.steps, seed: 1 };
            (task.group, task.members, topo::optimize(&task.figures, effort))
        };
        Input::Planned(PlanResult { number: self.number, plans: self.tasks.into_iter().map(plan).collect() })
    }
}
