//! `optimize_topology`: rounds of measurements, a plan made of their figures, and the epoch that adopts it.
//!
//! Everybody waits in the call meanwhile, so nothing else is on the links. Whoever goes away ends the round; what is still
//! unknown is measured then among those who are left, and what is known is not measured again.

mod figures;
mod job;
mod own_links;
mod planning;
mod probing;
mod rounds;

use std::collections::BTreeMap;

pub use self::job::{PlanJob, PlanResult};

use self::figures::FigureStore;
use self::job::Chosen;
use self::probing::Rounds;
use super::Master;
use crate::limits::MAX_MEASURE_RESTARTS;
use crate::types::{Epoch, GroupId, PeerId, Time};
use crate::wire::message::{Incarnation, PhaseOutcome};

/// What the master knows of the network, and how far the call under way has come.
#[derive(Debug, Default)]
pub(super) struct Measuring {
    pub(super) figures: FigureStore,
    /// By group: the order that its measured network is worth, with what it is worth. Its epoch has it, or its next
    /// one will.
    chosen: BTreeMap<GroupId, Chosen>,
    stage: Stage,
    /// How often an epoch has come in between since the call began.
    disturbed: u32,
    /// What the latest plan in a call was made of; and the latest in the background.
    planned_for: Option<Network>,
    improved_for: Option<Network>,
    /// The search that is under way there: one at a time.
    background: Option<u64>,
    /// Of rounds and of plans, so that late answers are known as such.
    number: u64,
}

/// Which figures of which links, in which order: the epoch has the two latter.
type Network = (u64, Epoch);

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    Rounds(Rounds),
    /// The plan with this number is being made.
    Planning(u64),
    /// Chosen; the epoch that has it comes, or has come.
    Chosen,
}

impl Measuring {
    pub fn next_deadline(&self) -> Option<Time> {
        match &self.stage {
            Stage::Rounds(rounds) => Some(rounds.deadline),
            _ => None,
        }
    }

    /// Numbers begin somewhere else with each master, so that what peers keep of another one's round is no part of ours.
    pub fn new(incarnation: Incarnation) -> Measuring {
        Measuring { number: incarnation.0 << 20, ..Measuring::default() }
    }

    /// Another call, or another run: nothing that is under way counts any more.
    pub fn begin_anew(&mut self) {
        self.stage = Stage::Idle;
        self.disturbed = 0;
    }

    /// This run makes room for another one.
    pub fn forget_run(&mut self) {
        self.begin_anew();
        self.chosen.clear();
        (self.planned_for, self.improved_for, self.background) = (None, None, None);
    }

    /// Those who took part in the round are others now.
    pub fn stop(&mut self) {
        if matches!(self.stage, Stage::Rounds(_) | Stage::Planning(_)) {
            self.stage = Stage::Idle;
            self.disturbed = self.disturbed.saturating_add(1);
        }
    }

    pub fn forget(&mut self, peer: PeerId) {
        self.figures.forget(peer);
    }

    /// No member of this group is left.
    pub fn forget_group(&mut self, group: GroupId) {
        self.chosen.remove(&group);
    }

    pub fn kept(&self) -> usize {
        self.figures.len() + self.chosen.len()
    }

    fn next_number(&mut self) -> u64 {
        self.number = self.number.wrapping_add(1);
        self.number
    }
}

impl Master {
    /// Everybody is in `optimize_topology`. True if something changed.
    pub(super) fn finish_optimize(&mut self) -> bool {
        if !self.dirty.is_empty() {
            return false;
        }
        match self.measuring.stage {
            Stage::Rounds(_) | Stage::Planning(_) => return false,
            Stage::Idle => self.begin_measuring(),
            Stage::Chosen => {
                self.measuring.stage = Stage::Idle;
                self.measuring.planned_for = Some(self.network());
                self.end_phase(PhaseOutcome::Optimized);
                self.improve_in_background();
            }
        }
        true
    }

    /// Where links or peers go again and again, the plan is made of what is known by then; where even the search for it
    /// is not left in peace, the call ends without one.
    fn begin_measuring(&mut self) {
        if self.info.groups.iter().all(|group| group.order.len() < 2) {
            return self.end_without_plan("no group has two peers left: there are no links to measure");
        }
        match self.measuring.disturbed {
            0..=MAX_MEASURE_RESTARTS => self.begin_rounds(),
            times if times <= 2 * MAX_MEASURE_RESTARTS => self.begin_plan(),
            _ => self.end_without_plan("links and peers kept going away: nothing could be planned in peace"),
        }
    }

    fn end_without_plan(&mut self, text: &str) {
        self.measuring.stage = Stage::Idle;
        self.end_phase(PhaseOutcome::NotOptimized { text: text.to_owned() });
    }
}
