//! From figures to a plan, and from a plan to the epoch that has it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::Master;
use super::super::io::{Event, Output};
use super::super::pairs::PairState;
use super::job::{Better, Chosen, Found, PlanTask};
use super::{Network, PlanJob, PlanResult, Stage};
use crate::limits::{BACKGROUND_PLAN_EFFORT, PLANNED_BYTES};
use crate::topo;
use crate::types::{GroupId, GroupInfo, PeerId, Planned};

impl Master {
    pub(super) fn network(&self) -> Network {
        (self.measuring.figures.version(), self.info.epoch)
    }

    pub(super) fn begin_plan(&mut self) {
        if self.measuring.planned_for == Some(self.network()) {
            // As chosen before, or as found in the background since.
            self.measuring.stage = Stage::Chosen;
            self.adopt_links();
            return;
        }
        let any_figure = |group: &&GroupInfo| {
            let order = &group.order;
            let known = |from| order.iter().any(|to| self.measuring.figures.rate((from, *to)).is_some());
            order.len() > 1 && order.iter().copied().any(known)
        };
        let tasks: Vec<PlanTask> =
            self.info.groups.iter().filter(any_figure).map(|group| self.plan_task(group)).collect();
        if tasks.is_empty() {
            return self.end_without_plan("no link could be measured: all paths are too slow, or were cut");
        }
        let number = self.order_plan(tasks, self.config.plan_steps);
        self.measuring.stage = Stage::Planning(number);
    }

    fn order_plan(&mut self, tasks: Vec<PlanTask>, steps: u64) -> u64 {
        let number = self.measuring.next_number();
        let figures = self.measuring.figures.version();
        self.outputs.push_back(Output::Plan(PlanJob { number, figures, steps, tasks }));
        number
    }

    #[cfg(test)]
    pub(in super::super) fn figures_tell(&self, from: PeerId, to: PeerId) -> bool {
        self.measuring.figures.rate((from, to)).is_some()
    }

    fn plan_task(&self, group: &GroupInfo) -> PlanTask {
        PlanTask {
            group: group.group,
            members: group.order.clone(),
            present: group.planned.clone(),
            pending: self.pending(group).cloned(),
            figures: self.figures_of(&group.order),
        }
    }

    /// What is chosen for a group, and no epoch has yet.
    fn pending(&self, group: &GroupInfo) -> Option<&Chosen> {
        let chosen = self.measuring.chosen.get(&group.group)?;
        let adopted =
            chosen.order == group.order && group.planned.as_deref().is_some_and(|p| *p == chosen.planned);
        (!adopted && are_the_same(&chosen.order, &group.order)).then_some(chosen)
    }

    /// The measured network between these peers of one group, by their place among them.
    fn figures_of(&self, members: &[PeerId]) -> topo::Figures {
        let store = &self.measuring.figures;
        let mut figures = topo::Figures::new(members.len());
        let mut hosts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (i, &a) in members.iter().enumerate() {
            if let Some(peer) = self.peers.get(&a) {
                figures.set_host(i, *hosts.entry(peer.from).or_insert(i));
            }
            store.up(a).into_iter().for_each(|rate| figures.set_up(i, rate));
            store.down(a).into_iter().for_each(|rate| figures.set_down(i, rate));
            for (j, &b) in members.iter().enumerate().filter(|(j, _)| *j != i) {
                store.rate((a, b)).into_iter().for_each(|rate| figures.set_bandwidth(i, j, rate));
                if i < j {
                    if self.pairs.state(a, b) != PairState::Up {
                        figures.unlink(i, j);
                    }
                    let measured = store.round_trip_us(a, b);
                    let known =
                        measured.or_else(|| self.pairs.get(a, b).and_then(|pair| pair.known_rtt_us()));
                    known.into_iter().for_each(|rtt_us| figures.set_delay(i, j, rtt_us / 2));
                }
            }
        }
        figures.alike()
    }

    pub(in super::super) fn on_planned(&mut self, result: PlanResult) {
        let in_background = self.measuring.background.take_if(|number| *number == result.number).is_some();
        let in_call = matches!(self.measuring.stage, Stage::Planning(number) if number == result.number);
        if !in_call && !in_background {
            return; // the network it was made for is gone
        }
        if in_call && result.broken {
            return self
                .end_without_plan("the search for a plan broke: this is a bug; the order stays as it is");
        }
        // By other figures it might be no better than what there is now.
        let holds = in_call || result.figures == self.measuring.figures.version();
        for found in result.found.into_iter().filter(|_| holds) {
            self.take_up(found, in_call);
        }
        if in_call {
            self.measuring.stage = Stage::Chosen;
            self.adopt_links();
        }
    }

    fn take_up(&mut self, found: Found, in_call: bool) {
        let Found { task, better } = found;
        // It was held against these two, and no others.
        let stands = self.info.group(task.group).is_some_and(|group| {
            (&group.order, &group.planned) == (&task.members, &task.present)
                && self.pending(group) == task.pending.as_ref()
        });
        if !stands {
            return;
        }
        match (better, task.present) {
            (Better::New(chosen), _) => {
                let text = chosen.planned.in_words(PLANNED_BYTES);
                self.event(Event::Optimized { group: task.group, text });
                self.measuring.chosen.insert(task.group, chosen);
                // What is found in the background is taken up by the next call that everybody makes.
                self.links_changed |= !in_call;
            }
            (Better::Pending, _) => {}
            // What had been chosen and not taken up yet is not worth an epoch any more.
            (Better::Present, Some(present)) if task.pending.is_some() => {
                let chosen = Chosen { order: task.members, planned: (*present).clone() };
                self.measuring.chosen.insert(task.group, chosen);
            }
            (Better::Present, _) => {}
        }
    }

    /// A search that may take longer than programs like to wait; `update_topology` and the next call here adopt it.
    pub(super) fn improve_in_background(&mut self) {
        let network = self.network();
        if self.measuring.background.is_some()
            || self.measuring.improved_for.replace(network) == Some(network)
        {
            return;
        }
        let groups = self.info.groups.iter().filter(|g| g.order.len() > 2 && g.planned.is_some());
        let tasks: Vec<PlanTask> = groups.map(|group| self.plan_task(group)).collect();
        if !tasks.is_empty() {
            let steps = self.config.plan_steps.saturating_mul(BACKGROUND_PLAN_EFFORT);
            self.measuring.background = Some(self.order_plan(tasks, steps));
        }
    }

    /// What the measured network is worth to a group in this order; the chosen one if it is for just these peers and links.
    pub(in super::super) fn planned_for(&self, group: &GroupInfo) -> Option<Planned> {
        if let Some(chosen) = self.measuring.chosen.get(&group.group)
            && chosen.order == group.order
            && runs_on(&chosen.planned, group)
        {
            return Some(chosen.planned.clone());
        }
        // Figures change a little all the time: as long as the same links are there, that is no reason for other prices.
        if let Some(present) = self.info.group(group.group)
            && (&present.order, &present.unlinked) == (&group.order, &group.unlinked)
            && let Some(planned) = &present.planned
        {
            return Some((**planned).clone());
        }
        // A part of a measured group needs no new measurement to be priced.
        let store = &self.measuring.figures;
        let order = &group.order;
        let known = |(a, b): (usize, usize)| {
            let unlinked = group.unlinked.binary_search(&(a as u16, b as u16)).is_ok();
            let rate = |from: usize, to: usize| store.rate((order[from], order[to]));
            unlinked || rate(a, b).is_some() && rate(b, a).is_some()
        };
        let mut pairs = (0..order.len()).flat_map(|a| (a + 1..order.len()).map(move |b| (a, b)));
        if order.len() < 2 || !pairs.all(known) {
            return None;
        }
        let kept: Vec<usize> = (0..order.len()).collect();
        Some(topo::price(&self.figures_of(order), &kept))
    }

    /// The wished order of a group: as chosen if the chosen one is of just these peers.
    pub(in super::super) fn wished_order(&self, group: GroupId, members: Vec<PeerId>) -> Vec<PeerId> {
        match self.measuring.chosen.get(&group) {
            Some(chosen) if are_the_same(&chosen.order, &members) => chosen.order.clone(),
            _ => members,
        }
    }

    /// A restarted master finds in the epoch what the one before had chosen; its figures are lost.
    pub(in super::super) fn take_up_chosen(&mut self) {
        for group in &self.info.groups {
            if let Some(planned) = &group.planned {
                let chosen = Chosen { order: group.order.clone(), planned: (**planned).clone() };
                self.measuring.chosen.insert(group.group, chosen);
            }
        }
    }
}

/// The same peers, in whatever order.
fn are_the_same(a: &[PeerId], b: &[PeerId]) -> bool {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    a.sort_unstable();
    b.sort_unstable();
    a == b
}

/// Whether the forest uses only links there are. Ring and mesh give way by themselves where they lack one.
fn runs_on(planned: &Planned, group: &GroupInfo) -> bool {
    planned.forest.as_ref().is_none_or(|forest| forest.check(group.order.len(), &group.unlinked).is_ok())
}
