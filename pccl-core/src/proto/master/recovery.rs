//! A restarted master rebuilds the run from what its peers remember.
//!
//! It waits until the members of the newest epoch are back, or the grace time is over. Every verdict and every
//! phase outcome that anybody saw holds and is told to those who missed it; operations without a verdict go on
//! where they stood. Whoever is missing then is treated as lost.

use std::collections::{BTreeMap, BTreeSet};

use super::io::{ConnId, Event};
use super::ops::Instance;
use super::pairs::pair_key;
use super::{Master, PeerState};
use crate::limits;
use crate::types::{Epoch, EpochInfo, GroupId, OpKey, PeerId, PhaseCall, Tag, Time};
use crate::wire::message::{
    EpochCause, MasterMessage, PeerMessage, PhaseOutcome, Resume, ResumedOp, RunId, Verdict,
};

#[derive(Debug)]
pub(super) struct Recovery {
    run: RunId,
    pub deadline: Time,
    reports: BTreeMap<PeerId, Resume>,
    /// What came before the run was whole again, in the order it came, and how much of it from whom.
    held: Vec<(PeerId, PeerMessage)>,
    held_of: BTreeMap<PeerId, usize>,
}

impl Recovery {
    fn newest(&self) -> Option<&EpochInfo> {
        self.reports.values().map(|r| &r.epoch).max_by_key(|e| e.epoch)
    }

    fn is_whole(&self) -> bool {
        let Some(newest) = self.newest() else { return false };
        newest.groups.iter().flat_map(|g| &g.order).all(|id| self.reports.contains_key(id))
    }

    /// Who was in one epoch with somebody of this run belongs to it, whatever its run was called when it came: a
    /// newcomer may have met the master before that knew which run it continues.
    fn is_of_this_run(&self, resume: &Resume) -> bool {
        self.run == resume.run
            || self
                .reports
                .values()
                .any(|known| lists(&known.epoch, resume.join.peer) || lists(&resume.epoch, known.join.peer))
    }
}

impl Master {
    pub(super) fn on_resume(&mut self, conn: ConnId, resume: Resume) {
        let id = resume.join.peer;
        if self.recovery.is_some()
            && let Some(before) = self.peers.get(&id).map(|p| p.conn)
        {
            // Its control link broke again while we wait for the others; the newer one counts.
            self.outputs.push_back(super::Output::Close { conn: before });
            self.on_closed(before, "came back on a newer connection");
        }
        if self.peers.contains_key(&id) {
            return self.refuse(conn, false, format!("a peer with id {id} is already here; connect again"));
        }
        if self.peers.len() >= limits::MAX_PEERS {
            return self.refuse(conn, false, format!("the run has its {} peers", limits::MAX_PEERS));
        }
        if self.recovery.is_none() && self.info.epoch != Epoch(0) {
            let older_run = !self.has_committed && resume.run != self.run;
            // Somebody who had been put out came back first, and nothing was decided since: the others count.
            let newer_epoch =
                resume.run == self.run && self.taken_over.is_some_and(|found| resume.epoch.epoch > found);
            if !older_run && !newer_epoch {
                let text = if resume.incarnation == self.config.incarnation {
                    "this peer was put out of the run when its control link broke; connect again"
                } else {
                    "the run has gone on without this peer; connect again"
                };
                return self.refuse(conn, false, text.to_owned());
            }
            self.give_way();
        }
        if self.recovery.as_ref().is_some_and(|r| !r.is_of_this_run(&resume)) {
            let text = "this master has taken over another run; connect again";
            return self.refuse(conn, false, text.to_owned());
        }
        if resume.epoch.group(resume.join.group).is_none_or(|g| !g.order.contains(&id)) {
            return self.refuse(conn, false, "resume without an epoch; connect again".to_owned());
        }
        let deadline = self.seen.plus_ms(u64::from(self.config.resume_grace_ms));
        if self.recovery.is_none() {
            // Who joins while we wait for the others joins that run.
            self.run = resume.run;
            let expected = resume.epoch.world_size();
            self.event(Event::Recovering { epoch: resume.epoch.epoch, expected });
        }
        let recovery = self.recovery.get_or_insert_with(|| Recovery {
            run: resume.run,
            deadline,
            reports: BTreeMap::new(),
            held: Vec::new(),
            held_of: BTreeMap::new(),
        });
        let join = resume.join.clone();
        // What it said on an older connection is in what it says now.
        recovery.held.retain(|(from, _)| *from != id);
        recovery.held_of.remove(&id);
        recovery.reports.insert(id, resume);
        self.enlist(conn, join, PeerState::Member);
        if self.recovery.as_ref().is_some_and(Recovery::is_whole) {
            self.recover();
        }
    }

    /// A run that has committed nothing makes room for an older one, or for a newer epoch of itself.
    fn give_way(&mut self) {
        let members: Vec<PeerId> = self.members().map(|(id, _)| id).collect();
        for id in members {
            self.kick(
                id,
                "others, who outrank this peer, came back to this master; connect again".to_owned(),
            );
        }
        self.burn_prepare();
        self.dirty.clear();
        self.measuring.forget_run();
        self.groups.clear();
        self.forget_syncs();
        self.info.groups.clear();
        self.info.epoch = Epoch(0);
        self.taken_over = None;
    }

    pub(super) fn hold_message(&mut self, from: PeerId, message: PeerMessage) {
        let Some(recovery) = &mut self.recovery else { return };
        match message {
            // This master has asked nobody for tensors, so nobody is kept waiting for the answer.
            PeerMessage::Heartbeat | PeerMessage::SyncKeys { .. } => return,
            PeerMessage::Join(_) | PeerMessage::Resume(_) => {
                return self.kick(from, format!("{} after it had joined", super::name(&message)));
            }
            _ => {}
        }
        let held_of = recovery.held_of.entry(from).or_default();
        *held_of += 1;
        if *held_of > limits::MAX_HELD_MESSAGES_PER_PEER || recovery.held.len() >= limits::MAX_HELD_MESSAGES {
            return self.kick(from, "too many messages while the run is being recovered".to_owned());
        }
        recovery.held.push((from, message));
    }

    pub(super) fn expire_recovery(&mut self, now: Time) {
        if self.recovery.as_ref().is_some_and(|r| r.deadline <= now) {
            self.recover();
        }
    }

    fn recover(&mut self) {
        let Some(mut recovery) = self.recovery.take() else { return };
        // Some may have come and gone again while we waited.
        recovery.reports.retain(|id, _| self.peers.contains_key(id));
        self.dirty.clear();
        let Some(newest) = recovery.newest().cloned() else { return self.introduce_pending() };
        self.run = recovery.run;
        // In the first epoch there is one peer: a run that got no further has nothing to lose.
        self.has_committed = newest.epoch > Epoch(1);
        self.taken_over = Some(newest.epoch);
        self.next_epoch = newest.epoch.next();
        self.phase_seq = recovery.reports.values().map(|r| r.phase_seq).max().unwrap_or(0);
        self.resume_sync_number(recovery.reports.values());
        // With schedule and piece size as they were: the plans of running operations depend on them.
        self.info = newest;
        self.take_up_chosen();

        self.part_with_the_outdated(&recovery.reports);
        recovery.reports.retain(|id, _| self.peers.contains_key(id));
        self.resume_pairs(&recovery.reports);
        let groups: Vec<GroupId> = self.info.groups.iter().map(|g| g.group).collect();
        for group in groups {
            self.resume_group(group, &recovery.reports);
        }
        for group in self.info.groups.iter().map(|g| g.group).collect::<Vec<_>>() {
            let back = recovery
                .reports
                .iter()
                .filter(|(id, r)| r.join.group == group && self.peers.contains_key(id));
            let back: Vec<(PeerId, &Resume)> = back.map(|(id, r)| (*id, r)).collect();
            self.resume_sync(group, &back, &recovery.held);
        }
        self.resume_phase(&recovery.reports);
        let expected = self.info.world_size();
        let present = recovery.reports.len();
        self.event(Event::Recovered {
            epoch: self.info.epoch,
            present,
            missing: expected.saturating_sub(present),
        });
        for (from, message) in recovery.held {
            self.on_peer_message(from, message);
        }
        self.introduce_pending();
    }

    /// Those who joined while the run was being recovered.
    fn introduce_pending(&mut self) {
        let pending: Vec<PeerId> =
            self.peers.iter().filter(|(_, p)| p.state == PeerState::Pending).map(|(id, _)| *id).collect();
        for id in pending {
            self.introduce(id);
        }
    }

    /// Peers that the newest epoch does not have, or that missed more than one epoch of their group.
    fn part_with_the_outdated(&mut self, reports: &BTreeMap<PeerId, Resume>) {
        for (id, report) in reports {
            let group = report.join.group;
            let now = self.info.group(group).filter(|g| g.order.contains(id)).map(|g| g.since);
            let theirs = report.epoch.group(group).map(|g| g.since);
            let told = self.witness(group, reports).map(|w| w.since_before);
            // Where nobody of the group has seen its newest epoch, those at the newest one seen stand.
            let seen = reports.values().filter(|r| r.join.group == group);
            let seen = seen.filter_map(|r| r.epoch.group(group).map(|g| g.since)).max();
            let stands = told.or(seen);
            let keeps_up = now.is_some() && (theirs == now || theirs == stands);
            if !keeps_up {
                self.kick(*id, "the run went on without this peer; connect again".to_owned());
            }
        }
    }

    /// A peer that has seen the newest epoch of its group.
    fn witness<'a>(&self, group: GroupId, reports: &'a BTreeMap<PeerId, Resume>) -> Option<&'a Resume> {
        let since = self.info.group(group)?.since;
        let of_group = reports.values().filter(|r| r.join.group == group);
        of_group.into_iter().find(|r| r.epoch.group(group).is_some_and(|g| g.since == since))
    }

    fn resume_pairs(&mut self, reports: &BTreeMap<PeerId, Resume>) {
        for (id, report) in reports {
            for link in &report.linked {
                let (group, key) = (report.join.group, pair_key(*id, link.peer));
                self.pairs.resume(group, key, usize::from(*id != key.0), link.generation, link.rtt_us);
            }
        }
        self.pairs.retain(|id| self.peers.contains_key(&id));
        for group in &self.info.groups {
            let present: Vec<PeerId> =
                group.order.iter().copied().filter(|id| self.peers.contains_key(id)).collect();
            for (i, a) in present.iter().enumerate() {
                present[i + 1..].iter().for_each(|b| self.pairs.take_note(group.group, pair_key(*a, *b)));
            }
        }
        let used: Vec<(PeerId, PeerId)> = self.info.groups.iter().flat_map(used_pairs).collect();
        for (a, b) in used {
            let both = self.peers.contains_key(&a) && self.peers.contains_key(&b);
            if both && self.pairs.state(a, b) != super::pairs::PairState::Up {
                let generation = self.pairs.get(a, b).map_or(0, |p| p.generation);
                let reason = "lost while the master was away".to_owned();
                self.pairs.link_down(a, b, generation, reason, self.seen);
            }
        }
    }

    /// Settles what is in doubt in one group, and takes the rest up where it stood.
    fn resume_group(&mut self, group: GroupId, reports: &BTreeMap<PeerId, Resume>) {
        let Some(info) = self.info.group(group).cloned() else { return };
        let of_group: Vec<(PeerId, &Resume)> =
            reports.iter().filter(|(_, r)| r.join.group == group).map(|(id, r)| (*id, r)).collect();
        let verdicts = known_verdicts(&of_group);
        let mut open: Vec<(PeerId, ResumedOp)> = Vec::new();
        for (id, report) in &of_group {
            for op in &report.ops {
                match verdicts.get(&op.key) {
                    Some(verdict) => {
                        self.send(*id, MasterMessage::Verdict { key: op.key, verdict: verdict.clone() });
                    }
                    None => open.push((*id, op.clone())),
                }
            }
        }
        let stands = |r: &Resume| r.epoch.group(group).map(|g| g.since);
        let behind: Vec<PeerId> =
            of_group.iter().filter(|(_, r)| stands(r) != Some(info.since)).map(|(id, _)| *id).collect();
        let aborted = match self.witness(group, reports) {
            Some(witness) => witness.aborted.clone(),
            None => announced_by_all(&open, &of_group),
        };
        for id in &behind {
            self.send(
                *id,
                MasterMessage::NewEpoch {
                    info: self.info.clone(),
                    aborted: aborted.clone(),
                    cause: EpochCause::Lost { text: "an epoch that the master before had begun".to_owned() },
                },
            );
        }
        self.tell_world(&of_group, &behind);
        self.rebuild_instances(group, info.since, open, &verdicts, &of_group);
        for id in info.order.iter().filter(|id| !self.peers.contains_key(id)) {
            let reason = format!("peer {id} did not come back after the master was restarted");
            self.dirty.entry(group).or_default().lost(reason);
            for (other, _) in &of_group {
                self.outputs.extend(self.peers.get(other).map(|p| super::Output::Send {
                    conn: p.conn,
                    message: MasterMessage::Unlink { peer: *id },
                }));
            }
        }
    }

    /// A peer whose group stands, but that missed a change elsewhere.
    fn tell_world(&mut self, of_group: &[(PeerId, &Resume)], behind: &[PeerId]) {
        for (id, report) in of_group {
            if report.epoch.epoch != self.info.epoch && !behind.contains(id) {
                let cause = EpochCause::Lost { text: "an epoch that the master before had begun".to_owned() };
                self.send(
                    *id,
                    MasterMessage::NewEpoch { info: self.info.clone(), aborted: Vec::new(), cause },
                );
            }
        }
    }

    fn rebuild_instances(
        &mut self,
        group: GroupId,
        since: Epoch,
        open: Vec<(PeerId, ResumedOp)>,
        verdicts: &BTreeMap<OpKey, Verdict>,
        of_group: &[(PeerId, &Resume)],
    ) {
        // A verdict other than commit is still owed to members that have not called that instance.
        for (key, verdict) in verdicts.iter().filter(|(key, _)| key.epoch == since) {
            let ops = self.groups.entry(group).or_default();
            let floor = ops.floors.entry(key.tag).or_default();
            *floor = key.seq.saturating_add(1).max(*floor);
            if matches!(verdict, Verdict::Committed { .. }) {
                continue;
            }
            // Whoever has it in flight was told the verdict just now.
            let told = |r: &Resume| has_heard(r, *key) || r.ops.iter().any(|op| op.key == *key);
            let heard: BTreeSet<PeerId> =
                of_group.iter().filter(|(_, r)| told(r)).map(|(id, _)| *id).collect();
            let Some(first) = heard.first().copied().filter(|_| heard.len() < of_group.len()) else {
                continue;
            };
            ops.instances.insert(
                (key.tag, key.seq),
                Instance {
                    first,
                    descriptor: crate::types::OpDescriptor::plain(
                        1,
                        crate::types::DType::U8,
                        crate::types::ReduceOp::Sum,
                    ),
                    announced: heard,
                    done: BTreeSet::new(),
                    verdict: Some(verdict.clone()),
                },
            );
        }
        for (id, op) in open {
            if op.key.epoch != since {
                continue; // its peer is told the new epoch, and announces it again or lets it go
            }
            self.on_announce(id, op.key, op.descriptor);
            if op.done {
                self.on_done(id, op.key);
            }
        }
    }

    fn resume_phase(&mut self, reports: &BTreeMap<PeerId, Resume>) {
        let last = self.phase_seq;
        let seen = reports.values().find(|r| r.phase_seq == last && r.phase_last.is_some());
        // A newcomer counts from the update that admitted it, whose outcome it never saw.
        let outcome = seen.and_then(|r| r.phase_last.clone()).unwrap_or(PhaseOutcome::Updated);
        for (id, report) in reports {
            let Some(call) = report.phase else { continue };
            if report.phase_seq == last {
                self.on_phase(*id, last, call);
            } else if report.phase_seq + 1 == last && fits(call, &outcome) {
                let done = MasterMessage::PhaseDone { seq: report.phase_seq, call, outcome: outcome.clone() };
                self.send(*id, done);
            } else {
                self.kick(*id, "the run went on without this peer; connect again".to_owned());
            }
        }
    }
}

fn lists(epoch: &EpochInfo, id: PeerId) -> bool {
    epoch.groups.iter().any(|g| g.order.contains(&id))
}

fn fits(call: PhaseCall, outcome: &PhaseOutcome) -> bool {
    match outcome {
        PhaseOutcome::Updated => call == PhaseCall::UpdateTopology,
        PhaseOutcome::Pending { .. } => call == PhaseCall::ArePeersPending,
        PhaseOutcome::Optimized | PhaseOutcome::NotOptimized { .. } => call == PhaseCall::OptimizeTopology,
        PhaseOutcome::Deadlocked { .. } => true,
    }
}

fn known_verdicts(of_group: &[(PeerId, &Resume)]) -> BTreeMap<OpKey, Verdict> {
    of_group.iter().flat_map(|(_, r)| r.verdicts.iter().cloned()).collect()
}

fn has_heard(report: &Resume, key: OpKey) -> bool {
    report.verdicts.iter().any(|(k, _)| k.epoch == key.epoch && k.tag == key.tag && k.seq >= key.seq)
}

fn announced_by_all(open: &[(PeerId, ResumedOp)], of_group: &[(PeerId, &Resume)]) -> Vec<(Tag, u32)> {
    let mut count: BTreeMap<(Tag, u32), usize> = BTreeMap::new();
    for (_, op) in open {
        *count.entry((op.key.tag, op.key.seq)).or_default() += 1;
    }
    count.into_iter().filter(|(_, n)| *n == of_group.len()).map(|(key, _)| key).collect()
}

fn used_pairs(group: &crate::types::GroupInfo) -> Vec<(PeerId, PeerId)> {
    let n = group.order.len();
    let all = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b)));
    all.filter(|(a, b)| group.unlinked.binary_search(&(*a as u16, *b as u16)).is_err())
        .map(|(a, b)| (group.order[a], group.order[b]))
        .collect()
}
