//! The search for a plan: long arithmetic, which whoever drives the machine runs where it holds nobody up.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::io::Input;
use crate::limits::PLANNED_BYTES;
use crate::topo::{self, Optimized, Shape, Steps};
use crate::types::{GroupId, PeerId, Planned};

/// A plan is worth a new epoch if it takes less than this part of the time that the present one does.
const WORTH_AN_EPOCH: f64 = 0.97;

/// An order, and what the network is worth in it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chosen {
    pub order: Vec<PeerId>,
    pub planned: Planned,
}

/// A pure function that waits to be called.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanJob {
    pub(super) number: u64,
    /// Which figures it was made of.
    pub(super) figures: u64,
    /// For all groups together.
    pub(super) steps: u64,
    pub(super) tasks: Vec<PlanTask>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlanTask {
    pub group: GroupId,
    /// By rank.
    pub members: Vec<PeerId>,
    /// What the group has now.
    pub present: Option<Arc<Planned>>,
    /// What its next epoch will have if nothing better is found.
    pub pending: Option<Chosen>,
    pub figures: topo::Figures,
}

/// What it gives.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanResult {
    pub(super) number: u64,
    pub(super) figures: u64,
    /// The search did not come to its end.
    pub(super) broken: bool,
    pub(super) found: Vec<Found>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub task: PlanTask,
    pub better: Better,
}

/// Which plan a group is best off with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Better {
    Present,
    Pending,
    New(Chosen),
}

impl PlanJob {
    /// What to give the machine if the search broke.
    pub fn broken(&self) -> Input {
        let (number, figures) = (self.number, self.figures);
        Input::Planned(PlanResult { number, figures, broken: true, found: Vec::new() })
    }

    /// Takes up to seconds, and soon ends once `stop` says so. The input goes to the machine that gave the job.
    pub fn run(mut self, stop: &dyn Fn() -> bool) -> Input {
        let broken = self.broken();
        let mut steps = Steps::new(self.steps, stop);
        // Whatever the smaller groups do not need the larger ones have.
        self.tasks.sort_by_key(|task| task.members.len());
        let mut found = Vec::new();
        let mut left = self.tasks.len() as u64;
        for task in self.tasks {
            let better = steps.lend(steps.left() / left.max(1), |steps| task.run(steps));
            found.push(Found { task, better });
            left -= 1;
        }
        if steps.are_stopped() {
            return broken;
        }
        let (number, figures) = (self.number, self.figures);
        Input::Planned(PlanResult { number, figures, broken: false, found })
    }
}

#[cfg(test)]
impl PlanJob {
    /// One that only a stop ends: a group too large for the exact search.
    pub fn endless() -> PlanJob {
        let members: Vec<PeerId> = (0..13).map(|n| PeerId([n; 16])).collect();
        let mut figures = topo::Figures::new(members.len());
        figures.set_bandwidth(0, 1, 1e6);
        let task = PlanTask { group: GroupId(0), members, present: None, pending: None, figures };
        PlanJob { number: 0, figures: 0, steps: u64::MAX, tasks: vec![task] }
    }
}

impl PlanTask {
    fn run(&self, steps: &mut Steps<'_>) -> Better {
        let present_us = self.present.as_deref().map(|present| self.time_us(&self.members, present));
        let is_worth = |us: u64, than: u64| (us as f64) < WORTH_AN_EPOCH * than as f64;
        let pending_us = self.pending.as_ref().map(|pending| self.time_us(&pending.order, &pending.planned));
        let pending_us =
            pending_us.filter(|us| present_us.is_none_or(|present_us| is_worth(*us, present_us)));
        // The seed is no secret and need not vary: equal figures give equal plans.
        let Optimized { order, planned } = topo::optimize(&self.figures, 1, steps);
        let new_us = planned.least_us(PLANNED_BYTES);
        match (pending_us, present_us) {
            (Some(us), _) if !is_worth(new_us, us) => Better::Pending,
            (None, Some(us)) if !is_worth(new_us, us) => Better::Present,
            _ => {
                let order = order.iter().map(|index| self.members[*index]).collect();
                Better::New(Chosen { order, planned })
            }
        }
    }

    /// What an operation takes by the present figures, on the schedule that this plan makes members choose.
    fn time_us(&self, order: &[PeerId], planned: &Planned) -> u64 {
        let places: BTreeMap<PeerId, usize> = self.members.iter().copied().zip(0..).collect();
        let order: Vec<usize> = order.iter().filter_map(|peer| places.get(peer).copied()).collect();
        let forest = planned.forest.as_ref().map(|forest| (forest.cost, Shape::Forest(&forest.trees)));
        let shapes = [(planned.mesh, Shape::Mesh), (planned.ring, Shape::Ring)].into_iter().chain(forest);
        let times = shapes.map(|(told, shape)| {
            (told.time_us(PLANNED_BYTES), topo::predict(&self.figures, &order, shape, PLANNED_BYTES))
        });
        // What lacks a link is not chosen.
        let possible = times.filter(|(_, us)| *us < u64::MAX);
        possible.min_by_key(|(told_us, _)| *told_us).map_or(u64::MAX, |(_, us)| us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Cost;

    fn peer(n: u8) -> PeerId {
        PeerId([n; 16])
    }

    /// Four members: a ring in the order 0, 2, 1, 3 is ten times as fast as any other, a mesh a hundred times as slow.
    fn task() -> PlanTask {
        let mut figures = topo::Figures::new(4);
        for (a, b) in (0..4).flat_map(|a| (0..4).filter(move |b| *b != a).map(move |b| (a, b))) {
            let ring = [(0, 2), (2, 1), (1, 3), (3, 0)].contains(&(a, b));
            figures.set_bandwidth(a, b, if ring { 1e8 } else { 1e7 });
            figures.set_delay(a, b, 100);
        }
        figures.set_bandwidth(2, 0, 1e5);
        let members = (0..4).map(peer).collect();
        PlanTask { group: GroupId(0), members, present: None, pending: None, figures }
    }

    fn planned(task: &PlanTask, order: [u8; 4]) -> Chosen {
        let places: Vec<usize> = order.iter().map(|place| usize::from(*place)).collect();
        Chosen { order: order.map(peer).to_vec(), planned: topo::price(&task.figures, &places) }
    }

    fn better(task: &PlanTask, steps: u64) -> Better {
        task.run(&mut Steps::new(steps, &|| false))
    }

    #[test]
    fn a_group_changes_for_what_is_clearly_better_and_for_nothing_else() {
        let good = planned(&task(), [0, 2, 1, 3]);
        let bad = planned(&task(), [0, 1, 2, 3]);
        let with = |present: &Chosen, pending: Option<&Chosen>| {
            let mut figures = topo::Figures::new(4);
            // Members by their rank now.
            let places: Vec<usize> = present.order.iter().map(|peer| usize::from(peer.0[0])).collect();
            for (a, b) in (0..4).flat_map(|a| (0..4).filter(move |b| *b != a).map(move |b| (a, b))) {
                let (from, to) = (places[a], places[b]);
                figures.set_bandwidth(a, b, task().figures.bandwidth(from, to).unwrap());
                figures.set_delay(a, b, 100);
            }
            let members = present.order.clone();
            let present = Some(Arc::new(present.planned.clone()));
            PlanTask { group: GroupId(0), members, present, pending: pending.cloned(), figures }
        };
        let Better::New(found) = better(&with(&bad, None), 0) else { panic!("there is a better order") };
        assert_eq!(found.order, good.order);
        assert_eq!(better(&with(&good, None), 0), Better::Present);
        assert_eq!(better(&with(&bad, Some(&good)), 0), Better::Pending);
        assert_eq!(better(&with(&good, Some(&bad)), 0), Better::Present, "it is worth no epoch any more");
        assert!(matches!(better(&task(), 0), Better::New(_)), "there was none");
    }

    #[test]
    fn a_plan_is_worth_what_members_make_of_it() {
        let mut task = task();
        task.members = [0, 1, 2, 3].map(peer).to_vec();
        // By older figures a mesh seemed best, which members choose as long as the plan says so.
        let cost = |ps_per_byte| Cost { latency_us: 1, ps_per_byte };
        let stale = Planned { ring: cost(20_000), mesh: cost(10_000), forest: None };
        task.present = Some(Arc::new(stale.clone()));
        let shape = |shape| topo::predict(&task.figures, &[0, 1, 2, 3], shape, PLANNED_BYTES);
        assert_eq!(task.time_us(&task.members, &stale), shape(Shape::Mesh));
        assert!(shape(Shape::Ring) < shape(Shape::Mesh));
        assert!(matches!(better(&task, 0), Better::New(_)));
    }

    #[test]
    fn a_search_ends_when_it_is_told_to() {
        let asked = std::cell::Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) >= 1000;
        let job = PlanJob::endless();
        let broken = job.broken();
        assert_eq!(job.run(&stop), broken);
        assert!(asked.get() < 2000, "{}", asked.get());
    }
}
