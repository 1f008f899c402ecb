//! The rounds of a call: who is told to send to whom, and what is heard of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::Master;
use super::super::pairs::PairState;
use super::figures::Together;
use super::rounds::{Flow, packed, together, tournament};
use super::{Measuring, Stage};
use crate::limits::PROBE_REPORT_MS;
use crate::types::{Heard, PeerId, ProbeOrder, ProbeReport, Time};
use crate::wire::message::MasterMessage;

/// The rounds of a call.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    left: VecDeque<Round>,
    /// Comes last, when what each path carries alone is known.
    everybody: Option<Round>,
    done: u32,
    /// What told nothing, to be tried once more.
    failed: Vec<Flow>,
    retrying: bool,
    now: Round,
    waiting: BTreeSet<PeerId>,
    pub(super) deadline: Time,
    told: Together,
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

impl Master {
    pub(super) fn begin_rounds(&mut self) {
        let now = self.seen;
        let groups = self.info.groups.iter();
        let stale =
            |from, to| self.may_measure(from, to) && !self.measuring.figures.is_fresh((from, to), now);
        let pairs = together(groups.map(|group| tournament(&group.order, stale)).collect());
        let left: VecDeque<Round> = pairs.into_iter().map(Round::of_pairs).collect();
        let everybody = self.round_of_everybody();
        self.measuring.stage = Stage::Rounds(Rounds { left, everybody, ..Rounds::default() });
        self.next_round();
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
        rounds.told = Together::default();
        rounds.deadline = self.seen.plus_ms(PROBE_REPORT_MS);
        // Whom each sends to, and whom it hears from.
        let mut ends: BTreeMap<PeerId, (Vec<PeerId>, Vec<PeerId>)> = BTreeMap::new();
        for &(from, to) in &round.flows {
            ends.entry(from).or_default().0.push(to);
            ends.entry(to).or_default().1.push(from);
        }
        rounds.waiting = ends.keys().copied().collect();
        rounds.now = round;
        let (round, left) = (rounds.done, rounds.left.len() as u32 + u32::from(rounds.everybody.is_some()));
        for (peer, (to, from)) in ends {
            let order = ProbeOrder { number, round, rounds: round + left, to, from };
            self.send(peer, MasterMessage::Probe { order });
        }
    }

    /// A peer tells of its own links only, so that a lie harms nobody else's.
    pub(in super::super) fn on_probed(&mut self, from: PeerId, report: ProbeReport) {
        let Measuring { stage: Stage::Rounds(rounds), figures, number, .. } = &mut self.measuring else {
            return;
        };
        if report.number != *number || !rounds.waiting.remove(&from) {
            return; // of a round that was given up
        }
        for heard in report.heard {
            if rounds.now.flows.contains(&(heard.from, from)) {
                rounds.told.heard.insert((heard.from, from), heard.bytes_per_second);
            }
        }
        for sent in report.sent {
            if rounds.now.flows.contains(&(from, sent.to)) {
                rounds.told.sent.insert((from, sent.to), sent.bytes_per_second);
            }
        }
        // With everybody sending, answers to pings would wait behind load.
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
    pub(in super::super) fn on_observed(&mut self, from: PeerId, heard: &[Heard]) {
        let now = self.seen;
        for heard in heard {
            self.measuring.figures.observed((heard.from, from), heard.bytes_per_second, now);
        }
    }

    pub(in super::super) fn expire_round(&mut self, now: Time) {
        let due = self.measuring.next_deadline().is_some_and(|deadline| deadline <= now);
        if due && self.recovery.is_none() {
            self.end_round();
        }
    }

    fn end_round(&mut self) {
        let now = self.seen;
        let Measuring { stage: Stage::Rounds(rounds), figures, .. } = &mut self.measuring else { return };
        if rounds.now.everybody {
            figures.measured_together(&rounds.now.flows, &rounds.told, now);
        } else {
            for flow in &rounds.now.flows {
                let bytes_per_second = rounds.told.heard.get(flow).copied().unwrap_or(0);
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
}
