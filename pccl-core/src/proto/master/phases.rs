//! The calls that need every accepted peer, and waits that can never meet.

use std::fmt;

use super::io::Event;
use super::{Master, Peer};
use crate::types::{GroupId, OpKey, PeerId, PhaseCall, SyncOutcome};
use crate::wire::message::{MasterMessage, PhaseOutcome};

/// What a peer can do nothing without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Phase(PhaseCall),
    Operation(GroupId, OpKey),
    Sync(GroupId),
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Phase(call) => write!(f, "in {call}"),
            Wait::Operation(group, key) => write!(f, "for {key} of {group}"),
            Wait::Sync(group) => write!(f, "in synchronize_shared_state of {group}"),
        }
    }
}

fn wait_of(peer: &Peer) -> Option<Wait> {
    let phase = peer.phase.map(Wait::Phase);
    let sync = || peer.in_sync.then_some(Wait::Sync(peer.join.group));
    phase.or_else(sync).or(peer.blocked.map(|key| Wait::Operation(peer.join.group, key)))
}

impl Master {
    pub(super) fn on_phase(&mut self, from: PeerId, seq: u64, call: PhaseCall) {
        if self.member_group(from).is_none() {
            return self.kick(from, format!("called {call} without being a member"));
        }
        if seq != self.phase_seq {
            let text = format!("called {call} as phase {seq}, but the run is at phase {}", self.phase_seq);
            return self.kick(from, text);
        }
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if peer.in_sync {
            return self.kick(from, format!("called {call} while in a synchronization"));
        }
        if peer.phase.replace(call).is_some() {
            return self.kick(from, format!("called {call} while in a phase call"));
        }
        self.in_phase += 1;
        if self.in_phase == 1 {
            self.measuring.begin_anew();
        }
        // All the others who are in a phase are in the same one: the first is compared with the next.
        if self.in_phase == 1 || self.phase_call != Some(call) {
            self.phase_call = Some(call);
            self.check_phase_deadlock(from, call);
        }
        self.check_blocked_deadlock();
    }

    pub(super) fn on_blocked(&mut self, from: PeerId, key: OpKey, alone: bool) {
        let Some((group, _)) = self.member_group(from) else { return };
        let live = self.groups.get(&group).and_then(|ops| ops.instances.get(&(key.tag, key.seq)));
        if live.is_none_or(|i| i.verdict.is_some() || !i.announced.contains(&from)) {
            return; // the verdict is on its way
        }
        let Some(peer) = self.peers.get_mut(&from) else { return };
        peer.alone = alone;
        if peer.blocked.replace(key).is_none() {
            self.blocked_peers += 1;
        }
        self.check_blocked_deadlock();
    }

    /// Two peers in different phase calls: neither returns before the other has made the same call.
    fn check_phase_deadlock(&mut self, from: PeerId, call: PhaseCall) {
        let other = self.members().find_map(|(id, p)| p.phase.filter(|c| *c != call).map(|c| (id, c)));
        if let Some((other, other_call)) = other {
            self.end_phase_as_deadlock(format!(
                "calls that can never meet: peer {other} waits in {other_call}, peer {from} in {call}"
            ));
        }
    }

    /// A peer that waits for an operation needs every member of its group to announce it; one in a phase call
    /// needs every member of the run to make it; one in a synchronization needs every member of its group to offer,
    /// and nobody else's call once they have. A peer in a phase call or in a synchronization can announce nothing,
    /// nor begin the other, and one with an operation in flight can begin neither; only a wait for an operation leaves
    /// other threads free to announce another one, unless there are none. So a circle of waits never ends. Waits for
    /// the same thing are one: a circle has at least two of the three kinds in it, or two operations.
    pub(super) fn check_blocked_deadlock(&mut self) {
        let (in_phase, in_sync, blocked) = (self.in_phase, self.syncs.in_call, self.blocked_peers);
        if in_phase + in_sync + blocked < 2 || blocked == 0 && (in_phase == 0 || in_sync == 0) {
            return;
        }
        let mut open: Vec<(Wait, PeerId)> = Vec::new();
        for (id, peer) in self.members() {
            if let Some(wait) = wait_of(peer)
                && open.iter().all(|(known, _)| *known != wait)
            {
                open.push((wait, id));
            }
        }
        // A wait that needs nobody who waits himself is in no circle; nor is one that only needs such waits.
        let mut needs: Vec<Vec<(Wait, PeerId)>> = open.iter().map(|(wait, _)| self.needs(*wait)).collect();
        loop {
            let before = open.len();
            let known: Vec<Wait> = open.iter().map(|(wait, _)| *wait).collect();
            for at in (0..before).rev() {
                needs[at].retain(|(wait, _)| known.contains(wait));
                if needs[at].is_empty() {
                    open.swap_remove(at);
                    needs.swap_remove(at);
                }
            }
            if open.len() == before {
                break;
            }
        }
        if let (Some((wait, peer)), Some(needed)) = (open.first().copied(), needs.first()) {
            let (in_the_way, other) = needed[0];
            let text = format!(
                "calls that can never meet: peer {peer} waits {wait}, peer {other} that it needs waits {in_the_way}"
            );
            self.end_as_deadlock(open.into_iter().map(|(wait, _)| wait).collect(), &text);
        }
    }

    /// The waits that have to end before `wait` can, each with a peer that is in it.
    fn needs(&self, wait: Wait) -> Vec<(Wait, PeerId)> {
        let mut needs: Vec<(Wait, PeerId)> = Vec::new();
        let instance = match wait {
            Wait::Operation(group, key) => {
                let instances = self.groups.get(&group).map(|ops| &ops.instances);
                let Some(instance) = instances.and_then(|i| i.get(&(key.tag, key.seq))) else { return needs };
                Some(instance)
            }
            // All have offered: it ends by itself.
            Wait::Sync(group) if !self.syncs.waits_for_offers(group) => return needs,
            Wait::Phase(_) | Wait::Sync(_) => None,
        };
        for (id, peer) in self.members() {
            let needed = match (wait, instance) {
                (Wait::Operation(group, _), Some(instance)) => {
                    let can_announce = peer.phase.is_none() && !peer.in_sync && !peer.alone;
                    peer.join.group == group && !instance.announced.contains(&id) && !can_announce
                }
                (Wait::Sync(group), _) => peer.join.group == group && !peer.in_sync,
                _ => peer.phase.is_none(),
            };
            if needed
                && let Some(other) = wait_of(peer)
                && needs.iter().all(|(known, _)| *known != other)
            {
                needs.push((other, id));
            }
        }
        needs
    }

    /// Ends all these waits; every one of them depends on a circle.
    fn end_as_deadlock(&mut self, waits: Vec<Wait>, text: &str) {
        let mut in_phase = false;
        for wait in waits {
            match wait {
                Wait::Operation(group, key) => self.judge_deadlocked(group, key, text),
                Wait::Sync(group) => {
                    self.end_sync(group, SyncOutcome::Deadlocked { text: text.to_owned() });
                }
                Wait::Phase(_) => in_phase = true,
            }
        }
        if in_phase {
            self.end_phase_as_deadlock(text.to_owned());
        } else {
            self.event(Event::Deadlock { reason: text.to_owned() });
        }
    }

    /// The phase number stays: peers that were not in the call have not counted it.
    fn end_phase_as_deadlock(&mut self, text: String) {
        self.event(Event::Deadlock { reason: text.clone() });
        self.burn_prepare();
        for (id, call) in self.leave_phase() {
            let outcome = PhaseOutcome::Deadlocked { text: text.clone() };
            self.send(id, MasterMessage::PhaseDone { seq: self.phase_seq, call, outcome });
        }
    }

    /// If every member is in the phase call, does what it asks for. True if something changed.
    pub(super) fn finish_phase(&mut self) -> bool {
        if self.in_phase == 0 || self.in_phase < self.member_count {
            return false;
        }
        let Some(call) = self.members().find_map(|(_, p)| p.phase) else { return false };
        match call {
            PhaseCall::ArePeersPending => {
                let peers_pending = self.ready_newcomers() as u32;
                self.end_phase(PhaseOutcome::Pending { peers_pending });
                true
            }
            PhaseCall::UpdateTopology => self.finish_update(),
            PhaseCall::OptimizeTopology => self.finish_optimize(),
        }
    }

    pub(super) fn end_phase(&mut self, outcome: PhaseOutcome) {
        let seq = self.phase_seq;
        self.phase_seq += 1;
        for (id, call) in self.leave_phase() {
            self.send(id, MasterMessage::PhaseDone { seq, call, outcome: outcome.clone() });
        }
    }

    fn leave_phase(&mut self) -> Vec<(PeerId, PhaseCall)> {
        self.in_phase = 0;
        self.patience = None;
        self.measuring.begin_anew();
        self.peers.iter_mut().filter_map(|(id, p)| p.phase.take().map(|call| (*id, call))).collect()
    }
}
