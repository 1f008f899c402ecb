//! How one epoch follows another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Master;
use super::PeerEvent;
use super::io::Event;
use super::pairs::{Pair, PairKey, PairState};
use crate::limits::NEAR_RTT_US;
use crate::topo;
use crate::types::{Epoch, GroupId, GroupInfo, PeerId, Rank, Tag, Time};
use crate::wire::message::{EpochCause, MasterMessage, PhaseOutcome};

/// Why a group's epoch can no longer hold.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    reasons: Vec<String>,
    lost: bool,
}

impl Dirty {
    pub fn lost(&mut self, reason: String) {
        self.reasons.push(reason);
        self.lost = true;
    }

    pub fn relinked(&mut self, reason: String) {
        self.reasons.push(reason);
    }
}

/// An epoch that newcomers have been asked about.
#[derive(Debug)]
pub(super) struct Prepare {
    pub epoch: Epoch,
    pub newcomers: Vec<PeerId>,
    pub waiting: BTreeSet<PeerId>,
    pub begun: Time,
    pub deadline: Time,
}

/// The waiting for newcomers in one `update_topology`, over all its prepares: newcomers that do not answer cost
/// the members two prepare time-outs at most, however many they are.
#[derive(Debug)]
pub(super) struct Patience {
    until: Time,
    /// Once the first time-out is over: those who had answered by then. Nobody else gets a second chance.
    proven: Option<Vec<PeerId>>,
}

enum Layout {
    Empty,
    Ready(GroupInfo),
    /// No schedule exists, but a link that would make one is being made.
    Healing,
    MustGo(Vec<PeerId>),
}

/// What a new epoch means for one group, beyond its order.
type Aborted = Vec<(GroupId, Vec<(Tag, u32)>)>;

impl Master {
    /// A new epoch for the groups that lost somebody or something. True if there is one.
    pub(super) fn renew_groups(&mut self) -> bool {
        if self.prepare.is_some() && self.next_layout().is_some() {
            // The newcomers were asked about an epoch that can no longer be; those who still wait are asked again.
            self.burn_prepare();
        }
        let mut aborted: Aborted = Vec::new();
        let mut reasons = Vec::new();
        let mut lost = false;
        while let Some((group, layout)) = self.next_layout() {
            let info = match layout {
                Layout::MustGo(peers) => {
                    for peer in peers {
                        self.kick(
                            peer,
                            "no schedule exists: its data links to the rest of its group are gone".into(),
                        );
                    }
                    continue;
                }
                Layout::Ready(info) => Some(info),
                Layout::Empty | Layout::Healing => None,
            };
            if let Some(dirty) = self.dirty.remove(&group) {
                reasons.extend(dirty.reasons);
                lost |= dirty.lost;
            }
            let survivors = info.as_ref().map(|g| g.order.clone()).unwrap_or_default();
            aborted.push((group, self.aborted_by_loss(group, &survivors)));
            self.set_group(group, info);
        }
        if aborted.is_empty() {
            return false;
        }
        let text = reasons.join("; ");
        let cause = if lost { EpochCause::Lost { text } } else { EpochCause::Relinked { text } };
        let epoch = self.next_epoch;
        self.begin_epoch(epoch, aborted, cause);
        true
    }

    /// The first dirty group that can be laid out anew (or must lose somebody first).
    fn next_layout(&self) -> Option<(GroupId, Layout)> {
        let layouts = self.dirty.keys().map(|group| (*group, self.layout(*group, &[], self.next_epoch)));
        layouts.into_iter().find(|(_, layout)| !matches!(layout, Layout::Healing))
    }

    fn set_group(&mut self, group: GroupId, info: Option<GroupInfo>) {
        self.info.groups.retain(|g| g.group != group);
        if info.is_none() {
            self.measuring.forget_group(group);
        }
        self.info.groups.extend(info);
        self.info.groups.sort_by_key(|g| g.group);
        for peer in self.peers.values_mut().filter(|p| p.join.group == group) {
            peer.open_ops = 0;
            self.blocked_peers -= usize::from(peer.blocked.take().is_some());
        }
        self.newcomers_changed();
        self.group_changed(group);
    }

    /// The group's remaining members in their order, then the newcomers, over the links there are.
    fn layout(&self, group: GroupId, newcomers: &[PeerId], since: Epoch) -> Layout {
        let mut members = self.members_of(group);
        members.retain(|id| self.peers.contains_key(id));
        members.extend(newcomers);
        if members.is_empty() {
            return Layout::Empty;
        }
        let members = self.wished_order(group, members);
        let present: BTreeSet<PeerId> = members.iter().copied().collect();
        let odd = || {
            let of_members = |(a, b): &PairKey| present.contains(a) && present.contains(b);
            self.pairs.odd(group).filter(move |(key, _)| of_members(key))
        };
        let unusable = |suspects: bool| -> Vec<PairKey> {
            let avoid = |p: &Pair| p.state() != PairState::Up || suspects && p.is_suspect(self.seen);
            odd().filter(|(_, pair)| avoid(pair)).map(|(key, _)| key).collect()
        };
        debug_assert!(self.all_pairs_are_known(&members));
        let mut unlinked = unusable(true);
        let mut order = topo::order(&members, &unlinked);
        if matches!(order.kind, topo::OrderKind::Disconnected { .. }) {
            unlinked = unusable(false);
            order = topo::order(&members, &unlinked);
        }
        if let topo::OrderKind::Disconnected { without } = order.kind {
            let linking = odd().any(|(_, pair)| pair.state() == PairState::Linking);
            return if linking { Layout::Healing } else { Layout::MustGo(without) };
        }
        let ranks: BTreeMap<PeerId, Rank> = order.order.iter().copied().zip(0..).collect();
        let mut unlinked: Vec<(Rank, Rank)> = unlinked
            .iter()
            .filter_map(|(a, b)| Some((*ranks.get(a)?, *ranks.get(b)?)))
            .map(|(a, b)| (a.min(b), a.max(b)))
            .collect();
        unlinked.sort_unstable();
        let rtt_us = self.pairs.longest_rtt_us(group, |id| present.contains(&id));
        let mut info = GroupInfo { group, since, order: order.order, unlinked, rtt_us, planned: None };
        info.planned = self.planned_for(&info).map(Arc::new);
        Layout::Ready(info)
    }

    /// The index of pairs can tell nothing of a pair that is not in it.
    fn all_pairs_are_known(&self, members: &[PeerId]) -> bool {
        let known = |a: &PeerId, b: &PeerId| self.pairs.get(*a, *b).is_some();
        members.iter().enumerate().all(|(i, a)| members[i + 1..].iter().all(|b| known(a, b)))
    }

    /// Whether the present epoch's schedules may use this pair.
    pub(super) fn uses(&self, group: GroupId, a: PeerId, b: PeerId) -> bool {
        let Some(info) = self.info.group(group) else { return false };
        let rank = |id| info.order.iter().position(|o| *o == id).map(|r| r as Rank);
        match (rank(a), rank(b)) {
            (Some(a), Some(b)) => info.unlinked.binary_search(&(a.min(b), a.max(b))).is_err(),
            _ => false,
        }
    }

    pub(super) fn begin_first_epoch(&mut self, first: PeerId) {
        let Some(group) = self.peers.get(&first).map(|p| p.join.group) else { return };
        let epoch = self.next_epoch;
        self.set_group(
            group,
            Some(GroupInfo {
                group,
                since: epoch,
                order: vec![first],
                unlinked: Vec::new(),
                rtt_us: 0,
                planned: None,
            }),
        );
        self.begin_epoch(epoch, Vec::new(), EpochCause::Admitted);
    }

    /// Tells every member. `aborted` has the groups that changed; a group not in it goes on undisturbed.
    fn begin_epoch(&mut self, epoch: Epoch, aborted: Aborted, cause: EpochCause) {
        self.info.epoch = epoch;
        self.info.phase_seq = self.phase_seq;
        self.next_epoch = epoch.next();
        self.measuring.stop();
        let reason = match &cause {
            EpochCause::Admitted => "newcomers admitted".to_owned(),
            EpochCause::Lost { text } | EpochCause::Relinked { text } => text.clone(),
        };
        let count = aborted.iter().map(|(_, list)| list.len()).sum();
        self.event(Event::EpochBegan { epoch, world_size: self.info.world_size(), aborted: count, reason });
        let members: Vec<(PeerId, GroupId)> = self.members().map(|(id, p)| (id, p.join.group)).collect();
        for (id, group) in members {
            let list = aborted.iter().find(|(g, _)| *g == group).map(|(_, list)| list.clone());
            self.send(
                id,
                MasterMessage::NewEpoch {
                    info: self.info.clone(),
                    aborted: list.unwrap_or_default(),
                    cause: cause.clone(),
                },
            );
        }
    }

    /// All members are in `update_topology`. True if something changed.
    pub(super) fn finish_update(&mut self) -> bool {
        if !self.dirty.is_empty() {
            return false;
        }
        if let Some(prepare) = &self.prepare {
            if prepare.waiting.is_empty() {
                self.commit_prepare();
                return true;
            }
            return false;
        }
        let mut newcomers = self.admissible();
        if let Some(proven) = self.patience.as_ref().and_then(|p| p.proven.as_ref()) {
            newcomers.retain(|id| proven.contains(id));
        }
        if !newcomers.is_empty() {
            self.begin_prepare(newcomers);
            return false;
        }
        if std::mem::take(&mut self.links_changed) && self.adopt_links() {
            return true;
        }
        self.end_phase(PhaseOutcome::Updated);
        self.retry_failed_pairs();
        true
    }

    /// Marks the groups whose order or plan would be another with the links and figures there are now.
    pub(super) fn adopt_links(&mut self) -> bool {
        let stale: Vec<GroupId> = self
            .info
            .groups
            .iter()
            .filter(|g| {
                let layout = self.layout(g.group, &[], g.since);
                let what_counts = |g: &GroupInfo| {
                    // Of a round trip only this decides between plans: noise brings no epoch.
                    (g.order.clone(), g.unlinked.clone(), g.planned.clone(), g.rtt_us > NEAR_RTT_US)
                };
                matches!(layout, Layout::Ready(info) if what_counts(&info) != what_counts(g))
            })
            .map(|g| g.group)
            .collect();
        for group in &stale {
            self.dirty
                .entry(*group)
                .or_default()
                .relinked("links, or what is known of them, have changed for the better".to_owned());
        }
        !stale.is_empty()
    }

    /// Members whose pair had to be given up try once more, in the background.
    fn retry_failed_pairs(&mut self) {
        let until = self.seen.plus_ms(u64::from(self.config.link_timeout_ms));
        let unlinked: Vec<(PeerId, PeerId)> = self
            .info
            .groups
            .iter()
            .flat_map(|g| {
                g.unlinked.iter().map(|(a, b)| (g.order[usize::from(*a)], g.order[usize::from(*b)]))
            })
            .filter(|(a, b)| self.pairs.may_retry(*a, *b, self.seen))
            .collect();
        for (a, b) in unlinked {
            self.pairs.relink(super::pairs::pair_key(a, b), self.undialable(a, b), self.seen, until);
            self.tell_to_link(a, b);
        }
    }

    fn begin_prepare(&mut self, newcomers: Vec<PeerId>) {
        let epoch = self.next_epoch;
        for id in &newcomers {
            self.step(*id, PeerEvent::Prepare);
            self.send(*id, MasterMessage::Prepare { epoch });
        }
        let until = self.seen.plus_ms(u64::from(self.config.prepare_timeout_ms));
        let deadline = self.patience.get_or_insert(Patience { until, proven: None }).until;
        let waiting = newcomers.iter().copied().collect();
        self.prepare = Some(Prepare { epoch, newcomers, waiting, begun: self.seen, deadline });
    }

    pub(super) fn on_prepared(&mut self, from: PeerId, epoch: Epoch) {
        let Some(prepare) = self.prepare.as_mut().filter(|p| p.epoch == epoch) else { return };
        if prepare.waiting.remove(&from) {
            self.step(from, PeerEvent::Answer);
        }
    }

    /// Calls off a prepare; its epoch number is never used.
    pub(super) fn burn_prepare(&mut self) {
        let Some(prepare) = self.prepare.take() else { return };
        self.next_epoch = prepare.epoch.next();
        for id in prepare.newcomers {
            self.step(id, PeerEvent::Burn);
        }
        self.newcomers_changed();
    }

    pub(super) fn expire_prepare(&mut self, now: Time) {
        let Some(prepare) = self.prepare.as_ref().filter(|p| p.deadline <= now) else { return };
        let ms = u64::from(self.config.prepare_timeout_ms);
        let (late, mut proven): (Vec<PeerId>, Vec<PeerId>) =
            prepare.newcomers.iter().partition(|id| prepare.waiting.contains(id));
        let had_their_time = now >= prepare.begun.plus_ms(ms);
        if self.patience.take().is_some_and(|p| p.proven.is_some()) {
            proven.clear();
        }
        // Where all have answered, something else holds the update up, and nobody has used up any patience.
        if !late.is_empty() {
            self.patience = Some(Patience { until: now.plus_ms(ms), proven: Some(proven) });
        }
        self.burn_prepare();
        for id in late.into_iter().filter(|_| had_their_time) {
            self.kick(id, format!("did not answer within {ms} ms when it was to be admitted"));
        }
    }

    fn commit_prepare(&mut self) {
        let Some(prepare) = self.prepare.take() else { return };
        self.tell_sync_number(&prepare.newcomers);
        let mut by_group: BTreeMap<GroupId, Vec<PeerId>> = Default::default();
        for id in prepare.newcomers {
            if let Some(peer) = self.peers.get(&id) {
                by_group.entry(peer.join.group).or_default().push(id);
            }
        }
        let mut changed: Aborted = Vec::new();
        for (group, newcomers) in by_group {
            let layout = self.layout(group, &newcomers, prepare.epoch);
            let event = if matches!(layout, Layout::Ready(_)) { PeerEvent::Commit } else { PeerEvent::Burn };
            for id in newcomers {
                self.step(id, event);
            }
            let Layout::Ready(info) = layout else {
                // Their last link may have been given up while they were asked: then they wait for nothing.
                self.newcomers_changed();
                continue;
            };
            // All members wait in this call, so there is nothing in flight to abort.
            self.groups.remove(&group);
            changed.push((group, Vec::new()));
            self.set_group(group, Some(info));
        }
        let callers_seq = self.phase_seq;
        self.phase_seq += 1; // a newcomer begins to count after this call
        self.begin_epoch(prepare.epoch, changed, EpochCause::Admitted);
        self.phase_seq = callers_seq;
        self.end_phase(PhaseOutcome::Updated);
        self.retry_failed_pairs();
    }
}
