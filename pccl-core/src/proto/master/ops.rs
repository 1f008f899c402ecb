//! All-reduces as the master sees them: who has announced, who is done, what the verdict is.

use std::collections::{BTreeMap, BTreeSet};

use super::Master;
use super::io::Event;
use crate::limits;
use crate::types::{GroupId, OpDescriptor, OpKey, PeerId, Tag};
use crate::wire::message::{MasterMessage, Verdict};

/// One instance. Lives from the first announcement until all members have the verdict.
#[derive(Debug)]
pub(super) struct Instance {
    pub first: PeerId,
    pub descriptor: OpDescriptor,
    pub announced: BTreeSet<PeerId>,
    pub done: BTreeSet<PeerId>,
    /// A verdict other than commit stays until every member has called this instance and heard it.
    pub verdict: Option<Verdict>,
}

/// The instances of one group's epoch.
#[derive(Debug, Default)]
pub(super) struct GroupOps {
    pub instances: BTreeMap<(Tag, u32), Instance>,
    /// Sequences below these have had their verdicts: in a deadlock, or from the master before this one.
    pub floors: BTreeMap<Tag, u32>,
}

impl Master {
    pub(super) fn on_announce(&mut self, from: PeerId, key: OpKey, descriptor: OpDescriptor) {
        let Some((group, since)) = self.member_group(from) else {
            return self.kick(from, format!("announced {key} without being a member"));
        };
        if key.epoch < since {
            return; // announced before it heard of the new epoch; it will announce again
        }
        if key.epoch > since {
            return self.kick(from, format!("announced {key}, but its group is in {since}"));
        }
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if peer.in_sync {
            return self.kick(from, format!("announced {key} while in a synchronization"));
        }
        peer.open_ops += 1;
        peer.alone = false; // another thread of it has called
        if peer.open_ops > limits::MAX_OPS_IN_FLIGHT {
            return self.kick(from, format!("more than {} operations in flight", limits::MAX_OPS_IN_FLIGHT));
        }
        let ops = self.groups.entry(group).or_default();
        let missed = key.seq < ops.floors.get(&key.tag).copied().unwrap_or(0);
        if missed && !ops.instances.contains_key(&(key.tag, key.seq)) {
            let text = format!("{key}: the other peers have gone on to later operations on this tag");
            return self.deliver(from, key, Verdict::Deadlocked { text });
        }
        let instance = ops.instances.entry((key.tag, key.seq)).or_insert_with(|| Instance {
            first: from,
            descriptor,
            announced: BTreeSet::new(),
            done: BTreeSet::new(),
            verdict: None,
        });
        instance.announced.insert(from);
        if instance.verdict.is_none() && instance.descriptor != descriptor {
            let text = format!(
                "the peers do not agree on {key}: peer {} announced {}, peer {from} announced {descriptor}",
                instance.first, instance.descriptor
            );
            self.event(Event::OpMismatch { reason: text.clone() });
            return self.judge(group, key, Verdict::Mismatched { text });
        }
        if let Some(verdict) = instance.verdict.clone() {
            self.deliver(from, key, verdict);
            self.drop_if_heard_by_all(group, key);
        }
    }

    pub(super) fn on_done(&mut self, from: PeerId, key: OpKey) {
        let Some((group, since)) = self.member_group(from) else {
            return self.kick(from, format!("finished {key} without being a member"));
        };
        if key.epoch < since {
            return;
        }
        let size = self.group_size(group);
        let instances = self.groups.get_mut(&group).map(|ops| &mut ops.instances);
        let instance = instances.and_then(|i| i.get_mut(&(key.tag, key.seq)));
        // Without the instance its verdict is on the way already.
        let Some(instance) = instance else { return };
        if !instance.announced.contains(&from) {
            return self.kick(from, format!("finished {key}, which it never announced"));
        }
        if instance.verdict.is_some() {
            return;
        }
        instance.done.insert(from);
        let done = instance.done.len();
        #[cfg(feature = "seeded-bugs")]
        let done = done + usize::from(self.config.commit_early && instance.announced.len() == size);
        if done >= size {
            self.commit(group, key);
        }
    }

    pub(super) fn commit(&mut self, group: GroupId, key: OpKey) {
        if let Some(ops) = self.groups.get_mut(&group) {
            ops.instances.remove(&(key.tag, key.seq));
        }
        self.has_committed = true;
        self.taken_over = None;
        let verdict =
            Verdict::Committed { world: self.info.world(), peers_pending: self.ready_newcomers() as u32 };
        for member in self.members_of(group) {
            self.deliver(member, key, verdict.clone());
        }
    }

    /// Ends an instance without a result, at everybody who has announced it and who will.
    pub(super) fn judge(&mut self, group: GroupId, key: OpKey, verdict: Verdict) {
        let Some(ops) = self.groups.get_mut(&group) else { return };
        let Some(instance) = ops.instances.get_mut(&(key.tag, key.seq)) else { return };
        instance.verdict = Some(verdict.clone());
        let judged = ops.instances.iter().filter(|(_, i)| i.verdict.is_some()).map(|(at, _)| *at);
        let judged: Vec<_> = judged.filter(|at| *at != (key.tag, key.seq)).collect();
        if judged.len() >= limits::MAX_JUDGED_INSTANCES
            && let Some(oldest) = judged.first()
        {
            // Whoever has not called it hears that the others have gone on.
            let floor = ops.floors.entry(oldest.0).or_default();
            *floor = oldest.1.saturating_add(1).max(*floor);
            ops.instances.remove(oldest);
        }
        let Some(instance) = ops.instances.get_mut(&(key.tag, key.seq)) else { return };
        let heard: Vec<PeerId> = instance.announced.iter().copied().collect();
        for peer in heard {
            self.deliver(peer, key, verdict.clone());
        }
        self.drop_if_heard_by_all(group, key);
    }

    /// Ends an instance as part of a deadlock. Those who have not called it may never do: they are told as well,
    /// and count it, so that the sequences of all agree when the programs begin anew.
    pub(super) fn judge_deadlocked(&mut self, group: GroupId, key: OpKey, text: &str) {
        let Some(ops) = self.groups.get_mut(&group) else { return };
        let Some(instance) = ops.instances.remove(&(key.tag, key.seq)) else { return };
        ops.floors.insert(key.tag, key.seq.saturating_add(1));
        ops.instances.retain(|(tag, seq), _| *tag != key.tag || *seq > key.seq);
        let verdict = Verdict::Deadlocked { text: text.to_owned() };
        for member in self.members_of(group) {
            if instance.announced.contains(&member) {
                self.deliver(member, key, verdict.clone());
            } else {
                self.send(member, MasterMessage::Verdict { key, verdict: verdict.clone() });
            }
        }
    }

    fn drop_if_heard_by_all(&mut self, group: GroupId, key: OpKey) {
        let size = self.group_size(group);
        let Some(ops) = self.groups.get_mut(&group) else { return };
        let at = (key.tag, key.seq);
        if ops.instances.get(&at).is_some_and(|i| i.announced.len() >= size) {
            ops.instances.remove(&at);
        }
    }

    fn deliver(&mut self, to: PeerId, key: OpKey, verdict: Verdict) {
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.open_ops = peer.open_ops.saturating_sub(1);
            if peer.blocked == Some(key) {
                peer.blocked = None;
                self.blocked_peers -= 1;
            }
        }
        self.send(to, MasterMessage::Verdict { key, verdict });
    }

    /// The instances a new epoch of `group` ends: exactly those that all survivors had announced.
    pub(super) fn aborted_by_loss(&mut self, group: GroupId, survivors: &[PeerId]) -> Vec<(Tag, u32)> {
        let ops = self.groups.remove(&group).unwrap_or_default();
        let announced_by_all = |i: &Instance| survivors.iter().all(|peer| i.announced.contains(peer));
        ops.instances
            .iter()
            .filter(|(_, i)| i.verdict.is_none() && announced_by_all(i))
            .map(|(key, _)| *key)
            .collect()
    }
}
