//! The calls that need every accepted peer, and waits that can never meet.

use super::Master;
use super::io::Event;
use crate::types::{GroupId, OpKey, PeerId, PhaseCall};
use crate::wire::message::{MasterMessage, PhaseOutcome, Verdict};

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
        if peer.phase.replace(call).is_some() {
            return self.kick(from, format!("called {call} while in a phase call"));
        }
        self.in_phase += 1;
        self.check_phase_deadlock(from, call);
        self.check_blocked_deadlock();
    }

    pub(super) fn on_blocked(&mut self, from: PeerId, key: OpKey) {
        let Some((group, _)) = self.member_group(from) else { return };
        let live = self.groups.get(&group).and_then(|ops| ops.instances.get(&(key.tag, key.seq)));
        if live.is_none_or(|i| i.verdict.is_some() || !i.announced.contains(&from)) {
            return; // the verdict is on its way
        }
        let Some(peer) = self.peers.get_mut(&from) else { return };
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

    /// A peer in a phase call can announce nothing; a peer of its group that waits for an operation it has not
    /// announced cannot make the phase call.
    fn check_blocked_deadlock(&mut self) {
        if self.in_phase == 0 || self.blocked_peers == 0 {
            return;
        }
        let stuck = self.members().find_map(|(id, peer)| {
            let key = peer.blocked?;
            let (other, call) = self.in_phase_without(peer.join.group, key)?;
            Some((id, peer.join.group, key, other, call))
        });
        if let Some((id, group, key, other, call)) = stuck {
            let text = format!(
                "calls that can never meet: peer {id} waits for {key}, peer {other} of the same group waits in {call}"
            );
            self.judge(group, key, Verdict::Deadlocked { text: text.clone() });
            self.end_phase_as_deadlock(text);
        }
    }

    fn in_phase_without(&self, group: GroupId, key: OpKey) -> Option<(PeerId, PhaseCall)> {
        let instance = self.groups.get(&group)?.instances.get(&(key.tag, key.seq))?;
        let mut members = self.members();
        members.find_map(|(id, p)| {
            let call = p.phase.filter(|_| p.join.group == group && !instance.announced.contains(&id))?;
            Some((id, call))
        })
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
        self.peers.iter_mut().filter_map(|(id, p)| p.phase.take().map(|call| (*id, call))).collect()
    }
}
