//! `optimize_topology`: rounds of measurements, a plan made of their figures, and the epoch that adopts it.
//!
//! Everybody waits in the call meanwhile, so nothing else is on the links. Whoever goes away ends the round; what is still
//! unknown is measured then among those who are left, and what is known is not measured again.

mod figures;
mod job;
mod rounds;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use self::job::{PlanJob, PlanResult};

use self::figures::FigureStore;
use self::job::{COMPARED_BYTES, PlanTask};
use self::rounds::{Flow, packed, together, tournament};
use super::Master;
use super::io::{Event, Output};
use super::pairs::PairState;
use crate::limits::PROBE_REPORT_MS;
use crate::topo::{self, Optimized};
use crate::types::{Epoch, GroupId, GroupInfo, Heard, PeerId, Planned, ProbeOrder, ProbeReport, Time};
use crate::wire::message::{Incarnation, MasterMessage, PhaseOutcome};

/// What the master knows of the network, and how far the call under way has come.
#[derive(Debug, Default)]
pub(super) struct Measuring {
    pub(super) figures: FigureStore,
    /// By group: the order that its measured network is worth, with what it is worth.
    chosen: BTreeMap<GroupId, Chosen>,
    stage: Stage,
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

#[derive(Debug, PartialEq)]
struct Chosen {
    order: Vec<PeerId>,
    planned: Planned,
}

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

#[derive(Debug, Default)]
struct Rounds {
    left: VecDeque<Round>,
    /// Comes last, when what each path carries alone is known.
    everybody: Option<Round>,
    done: u32,
    /// What told nothing, to be tried once more.
    failed: Vec<Flow>,
    retrying: bool,
    now: Round,
    waiting: BTreeSet<PeerId>,
    deadline: Time,
    heard: BTreeMap<Flow, u64>,
}

#[derive(Debug, Default)]
struct Round {
    flows: BTreeSet<Flow>,
    /// All flows of a group at once: tells what the peers' own links carry.
    everybody: bool,
}

impl Round {
    fn of_pairs(flows: Vec<Flow>) -> Round {
        Round { flows: flows.into_iter().collect(), everybody: false }
    }
}

impl Rounds {
    /// These peers have not reported in time: once is enough, or each of their rounds would hold everybody up.
    fn do_without(&mut self, mute: &BTreeSet<PeerId>) {
        let heard = |(from, to): &Flow| !mute.contains(from) && !mute.contains(to);
        self.failed.retain(heard);
        for round in self.left.iter_mut().chain(&mut self.everybody) {
            round.flows.retain(heard);
        }
        self.left.retain(|round| !round.flows.is_empty());
        self.everybody = self.everybody.take().filter(|round| !round.flows.is_empty());
    }
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
    }

    /// Those who took part in the round are others now.
    pub fn stop(&mut self) {
        if matches!(self.stage, Stage::Rounds(_) | Stage::Planning(_)) {
            self.stage = Stage::Idle;
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
            Stage::Rounds(_) | Stage::Planning(_) => false,
            Stage::Idle => self.begin_rounds(),
            Stage::Chosen => {
                self.measuring.stage = Stage::Idle;
                self.measuring.planned_for = Some(self.network());
                self.end_phase(PhaseOutcome::Optimized);
                self.improve_in_background();
                true
            }
        }
    }

    fn begin_rounds(&mut self) -> bool {
        if self.info.groups.iter().all(|group| group.order.len() < 2) {
            let text = "no group has two peers left: there are no links to measure".to_owned();
            self.end_phase(PhaseOutcome::NotOptimized { text });
            return true;
        }
        let now = self.seen;
        let groups = self.info.groups.iter();
        let stale =
            |from, to| self.may_measure(from, to) && !self.measuring.figures.is_fresh((from, to), now);
        let pairs = together(groups.map(|group| tournament(&group.order, stale)).collect());
        let left: VecDeque<Round> = pairs.into_iter().map(Round::of_pairs).collect();
        let everybody = self.round_of_everybody();
        self.measuring.stage = Stage::Rounds(Rounds { left, everybody, ..Rounds::default() });
        self.next_round();
        true
    }

    fn may_measure(&self, from: PeerId, to: PeerId) -> bool {
        self.pairs.state(from, to) == PairState::Up
    }

    /// Of the groups where it tells something new: with two peers a pair is all there is.
    fn round_of_everybody(&self) -> Option<Round> {
        let fresh = |peer: &PeerId| self.measuring.figures.is_fresh_together(*peer, self.seen);
        let groups = self.info.groups.iter().filter(|g| g.order.len() > 2 && !g.order.iter().all(fresh));
        let flows: BTreeSet<Flow> = groups
            .flat_map(|group| tournament(&group.order, |from, to| self.may_measure(from, to)).concat())
            .collect();
        (!flows.is_empty()).then_some(Round { flows, everybody: true })
    }

    /// The next round, or the plan if there is none left.
    fn next_round(&mut self) {
        let number = self.measuring.next_number();
        let Stage::Rounds(rounds) = &mut self.measuring.stage else { return };
        if rounds.left.is_empty() && !std::mem::replace(&mut rounds.retrying, true) {
            let failed = std::mem::take(&mut rounds.failed);
            rounds.left.extend(packed(&failed).into_iter().map(Round::of_pairs));
        }
        let next = rounds.left.pop_front().or_else(|| rounds.everybody.take());
        let Some(round) = next else { return self.begin_plan() };
        rounds.done += 1;
        rounds.heard.clear();
        rounds.deadline = self.seen.plus_ms(PROBE_REPORT_MS);
        let mut orders: BTreeMap<PeerId, ProbeOrder> = BTreeMap::new();
        let (round_number, of) =
            (rounds.done, rounds.done + rounds.left.len() as u32 + u32::from(rounds.everybody.is_some()));
        let order =
            |orders: &mut BTreeMap<PeerId, ProbeOrder>, of_peer: PeerId, change: &dyn Fn(&mut ProbeOrder)| {
                let empty =
                    ProbeOrder { number, round: round_number, rounds: of, to: Vec::new(), from: Vec::new() };
                change(orders.entry(of_peer).or_insert(empty));
            };
        for &(from, to) in &round.flows {
            order(&mut orders, from, &|order| order.to.push(to));
            order(&mut orders, to, &|order| order.from.push(from));
        }
        rounds.waiting = orders.keys().copied().collect();
        rounds.now = round;
        for (peer, order) in orders {
            self.send(peer, MasterMessage::Probe { order });
        }
    }

    /// A peer tells of its own links only, so that a lie harms nobody else's.
    pub(super) fn on_probed(&mut self, from: PeerId, report: ProbeReport) {
        let Measuring { stage: Stage::Rounds(rounds), figures, number, .. } = &mut self.measuring else {
            return;
        };
        if report.number != *number || !rounds.waiting.remove(&from) {
            return; // of a round that was given up
        }
        for heard in report.heard {
            if rounds.now.flows.contains(&(heard.from, from)) {
                rounds.heard.insert((heard.from, from), heard.bytes_per_second);
            }
        }
        // With everybody sending, answers to pings wait behind load.
        for trip in report.round_trips.iter().filter(|_| !rounds.now.everybody) {
            if rounds.now.flows.contains(&(from, trip.to)) {
                figures.round_trip((from, trip.to), trip.rtt_us);
            }
        }
        if rounds.waiting.is_empty() {
            self.end_round();
        }
    }

    /// Operations have used these links, too: what was as fast as the figure says is known anew, and what was faster better.
    pub(super) fn on_observed(&mut self, from: PeerId, heard: &[Heard]) {
        let now = self.seen;
        for heard in heard {
            self.measuring.figures.observed((heard.from, from), heard.bytes_per_second, now);
        }
    }

    pub(super) fn expire_round(&mut self, now: Time) {
        let due = self.measuring.next_deadline().is_some_and(|deadline| deadline <= now);
        if due && self.recovery.is_none() {
            self.end_round();
        }
    }

    fn end_round(&mut self) {
        let now = self.seen;
        let Measuring { stage: Stage::Rounds(rounds), figures, .. } = &mut self.measuring else { return };
        if rounds.now.everybody {
            figures.measured_together(&rounds.now.flows, &rounds.heard, now);
        } else {
            for flow in &rounds.now.flows {
                let bytes_per_second = rounds.heard.get(flow).copied().unwrap_or(0);
                figures.measured(*flow, bytes_per_second, now);
                if bytes_per_second == 0 {
                    rounds.failed.push(*flow);
                }
            }
        }
        let mute = std::mem::take(&mut rounds.waiting);
        rounds.do_without(&mute);
        self.next_round();
    }

    fn network(&self) -> Network {
        (self.measuring.figures.version(), self.info.epoch)
    }

    fn begin_plan(&mut self) {
        if self.measuring.planned_for == Some(self.network()) {
            // As chosen before, or as found in the background since.
            self.measuring.stage = Stage::Chosen;
            self.adopt_links();
            return;
        }
        let groups: Vec<&GroupInfo> = self.info.groups.iter().filter(|g| g.order.len() > 1).collect();
        let any_figure = |group: &&&GroupInfo| {
            let order = &group.order;
            let known = |from| order.iter().any(|to| self.measuring.figures.rate((from, *to)).is_some());
            order.iter().copied().any(known)
        };
        let tasks: Vec<PlanTask> = groups
            .iter()
            .filter(any_figure)
            .map(|group| self.plan_task(group, self.config.plan_steps))
            .collect();
        if tasks.is_empty() {
            self.measuring.stage = Stage::Idle;
            let text = "no link could be measured: all paths are too slow, or were cut".to_owned();
            return self.end_phase(PhaseOutcome::NotOptimized { text });
        }
        let number = self.measuring.next_number();
        self.measuring.stage = Stage::Planning(number);
        self.outputs.push_back(Output::Plan(PlanJob { number, tasks }));
    }

    #[cfg(test)]
    pub(super) fn figures_tell(&self, from: PeerId, to: PeerId) -> bool {
        self.measuring.figures.rate((from, to)).is_some()
    }

    fn plan_task(&self, group: &GroupInfo, steps: u64) -> PlanTask {
        let figures = self.figures_of(&group.order);
        PlanTask {
            group: group.group,
            members: group.order.clone(),
            present: group.planned.clone(),
            figures,
            steps,
        }
    }

    /// The measured network between these peers of one group, by their place among them.
    fn figures_of(&self, members: &[PeerId]) -> topo::Figures {
        let store = &self.measuring.figures;
        let mut figures = topo::Figures::new(members.len());
        for (i, &a) in members.iter().enumerate() {
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
        figures
    }

    pub(super) fn on_planned(&mut self, result: PlanResult) {
        let in_background = self.measuring.background.take_if(|number| *number == result.number).is_some();
        let in_call = matches!(self.measuring.stage, Stage::Planning(number) if number == result.number);
        if !in_call && !in_background {
            return; // the network it was made for is gone
        }
        if in_call && result.broken {
            self.measuring.stage = Stage::Idle;
            let text = "the search for a plan broke: this is a bug; the order stays as it is".to_owned();
            return self.end_phase(PhaseOutcome::NotOptimized { text });
        }
        for (group, members, optimized) in result.plans {
            if self.info.group(group).is_some_and(|info| info.order == members) {
                self.choose(group, &members, optimized);
                // What is found in the background is taken up by the next call that everybody makes.
                self.links_changed |= !in_call;
            }
        }
        if in_call {
            self.measuring.stage = Stage::Chosen;
            self.adopt_links();
        }
    }

    fn choose(&mut self, group: GroupId, members: &[PeerId], optimized: Optimized) {
        let order: Vec<PeerId> = optimized.order.iter().map(|index| members[*index]).collect();
        let chosen = Chosen { order, planned: optimized.planned };
        self.event(Event::Optimized { group, text: chosen.planned.in_words(COMPARED_BYTES) });
        self.measuring.chosen.insert(group, chosen);
    }

    /// A search that may take longer than programs like to wait; `update_topology` and the next call here adopt it.
    fn improve_in_background(&mut self) {
        let network = self.network();
        if self.measuring.background.is_some()
            || self.measuring.improved_for.replace(network) == Some(network)
        {
            return;
        }
        let groups: Vec<&GroupInfo> =
            self.info.groups.iter().filter(|g| g.order.len() > 2 && g.planned.is_some()).collect();
        let tasks: Vec<PlanTask> = groups
            .into_iter()
            .map(|group| self.plan_task(group, self.config.plan_steps.saturating_mul(BACKGROUND_EFFORT)))
            .collect();
        if !tasks.is_empty() {
            let number = self.measuring.next_number();
            self.measuring.background = Some(number);
            self.outputs.push_back(Output::Plan(PlanJob { number, tasks }));
        }
    }

    /// What the measured network is worth to a group in this order; the chosen one if it is for just these peers and links.
    pub(super) fn planned_for(&self, group: &GroupInfo) -> Option<Planned> {
        if let Some(chosen) = self.measuring.chosen.get(&group.group)
            && chosen.order == group.order
            && runs_on(&chosen.planned, group)
        {
            return Some(chosen.planned.clone());
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
    pub(super) fn wished_order(&self, group: GroupId, members: Vec<PeerId>) -> Vec<PeerId> {
        let Some(chosen) = self.measuring.chosen.get(&group) else { return members };
        let (mut now, mut then) = (members.clone(), chosen.order.clone());
        now.sort_unstable();
        then.sort_unstable();
        if now == then { chosen.order.clone() } else { members }
    }

    /// A restarted master finds in the epoch what the one before had chosen; its figures are lost.
    pub(super) fn take_up_chosen(&mut self) {
        for group in &self.info.groups {
            if let Some(planned) = &group.planned {
                let chosen = Chosen { order: group.order.clone(), planned: (**planned).clone() };
                self.measuring.chosen.insert(group.group, chosen);
            }
        }
    }
}

/// How much longer than in the call the background may search.
const BACKGROUND_EFFORT: u64 = 16;

/// Whether the forest uses only links there are. Ring and mesh give way by themselves where they lack one.
fn runs_on(planned: &Planned, group: &GroupInfo) -> bool {
    planned.forest.as_ref().is_none_or(|forest| forest.check(group.order.len(), &group.unlinked).is_ok())
}
