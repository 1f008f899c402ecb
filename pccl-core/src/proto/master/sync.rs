//! The synchronization of a group's shared state as the master sees it: who has offered what, who won, who is done.
//!
//! What a peer says out of turn puts it out, but where two messages may have passed each other it is ignored. Those
//! are the end of a transfer and a description: both may come after the master has ended the synchronization.

mod conclude;
mod describe;
mod patience;
mod resume;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};

use self::describe::Describing;
use self::transfer::Transfer;
use super::Master;
use super::election::elect;
use super::io::Event;
use crate::types::{GroupId, Offer, PeerId, SyncNumber, SyncOutcome};
use crate::wire::message::{MasterMessage, PeerMessage};

#[derive(Debug, Default)]
pub(super) struct Syncs {
    /// Of the latest one of the run.
    pub number: SyncNumber,
    groups: BTreeMap<GroupId, Sync>,
    /// The revision of a group's next one, once one has succeeded.
    expected: BTreeMap<GroupId, u64>,
    /// Groups to be looked at, as somebody offered, finished or went.
    touched: BTreeSet<GroupId>,
    /// Peers in one, of all groups.
    pub in_call: usize,
}

/// One under way.
#[derive(Debug)]
struct Sync {
    /// Of those in it. Who dies is taken out.
    offers: BTreeMap<PeerId, Offer>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Not everybody has offered, or it is to be said in which tensors they differ.
    Collecting(Describing),
    Moving(Transfer),
}

impl Sync {
    fn new() -> Sync {
        Sync { offers: BTreeMap::new(), stage: Stage::Collecting(Describing::default()) }
    }
}

impl Syncs {
    fn describing(&mut self, group: GroupId) -> Option<&mut Describing> {
        match &mut self.groups.get_mut(&group)?.stage {
            Stage::Collecting(describing) => Some(describing),
            Stage::Moving(_) => None,
        }
    }

    fn transfer(&mut self, group: GroupId) -> Option<&mut Transfer> {
        match &mut self.groups.get_mut(&group)?.stage {
            Stage::Collecting(_) => None,
            Stage::Moving(transfer) => Some(transfer),
        }
    }

    /// Whether members of the group that have not offered keep those who have waiting.
    pub fn waits_for_offers(&self, group: GroupId) -> bool {
        self.groups.get(&group).is_some_and(|sync| matches!(sync.stage, Stage::Collecting(_)))
    }

    pub fn next_number(&mut self) -> SyncNumber {
        self.number = SyncNumber(self.number.0.saturating_add(1));
        self.number
    }

    /// Synchronizations, tensors described, and revisions expected.
    pub fn kept(&self) -> (usize, usize, usize) {
        let tensors = self.groups.values().map(|sync| match &sync.stage {
            Stage::Collecting(describing) => describing.kept(),
            Stage::Moving(_) => 0,
        });
        (self.groups.len(), tensors.sum(), self.expected.len())
    }
}

impl Master {
    pub(super) fn on_sync_message(&mut self, from: PeerId, message: PeerMessage) {
        match message {
            PeerMessage::SyncOffer { offer } => self.on_sync_offer(from, offer),
            PeerMessage::SyncKeys { first, last, keys } => self.on_sync_keys(from, first, last, keys),
            PeerMessage::SyncDone { number, failed } => self.on_sync_done(from, number, failed),
            _ => {}
        }
    }

    pub(super) fn on_sync_offer(&mut self, from: PeerId, offer: Offer) {
        let Some((group, _)) = self.member_group(from) else {
            return self.kick(from, "offered a shared state without being a member".to_owned());
        };
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if let Some(call) = peer.phase {
            return self.kick(from, format!("offered a shared state while in {call}"));
        }
        // Whoever calls again has heard the end of the one before.
        if std::mem::replace(&mut peer.in_sync, true) {
            return self.kick(from, "offered a shared state while in a synchronization".to_owned());
        }
        self.syncs.in_call += 1;
        let sync = self.syncs.groups.entry(group).or_insert_with(Sync::new);
        sync.offers.insert(from, offer);
        self.syncs.touched.insert(group);
        self.check_blocked_deadlock();
    }

    /// Before the epoch that admits these: a peer that has not heard of a number was in the synchronization of its
    /// group that has it, which a restarted master may have to know.
    pub(super) fn tell_sync_number(&mut self, newcomers: &[PeerId]) {
        let number = self.syncs.number;
        if number == SyncNumber::default() {
            return;
        }
        let outcome = SyncOutcome::Aborted { text: "it ended before this peer was admitted".to_owned() };
        for id in newcomers {
            self.send(*id, MasterMessage::SyncEnded { number, outcome: outcome.clone() });
        }
    }

    /// A member is gone.
    pub(super) fn leave_sync(&mut self, group: GroupId, peer: PeerId, was_in_sync: bool) {
        self.syncs.touched.insert(group);
        if !was_in_sync {
            return;
        }
        self.syncs.in_call -= 1;
        let Some(sync) = self.syncs.groups.get_mut(&group) else { return };
        sync.offers.remove(&peer);
        match &mut sync.stage {
            Stage::Collecting(describing) => describing.forget(peer),
            Stage::Moving(transfer) => transfer.forget(peer),
        }
    }

    /// Which pairs have a link, or who is a member, has changed.
    pub(super) fn group_changed(&mut self, group: GroupId) {
        self.syncs.touched.insert(group);
    }

    /// Goes on with what can go on. True if somebody had to go for it.
    pub(super) fn advance_syncs(&mut self) -> bool {
        for group in std::mem::take(&mut self.syncs.touched) {
            self.advance_sync(group);
        }
        !self.syncs.touched.is_empty()
    }

    fn advance_sync(&mut self, group: GroupId) {
        if let Some(sync) = self.syncs.groups.get(&group)
            && matches!(sync.stage, Stage::Collecting(_))
            && sync.offers.len() < self.group_size(group)
            && !self.dirty.contains_key(&group)
        {
            return; // all are there, and not all have offered: no need to look at each of them
        }
        let members: Vec<PeerId> =
            self.members_of(group).into_iter().filter(|id| self.peers.contains_key(id)).collect();
        if members.is_empty() {
            // Whoever comes next begins anew, with whatever revision.
            self.syncs.groups.remove(&group);
            self.syncs.expected.remove(&group);
            return;
        }
        let Some(sync) = self.syncs.groups.get(&group) else { return };
        match &sync.stage {
            _ if sync.offers.is_empty() => {
                self.syncs.groups.remove(&group);
            }
            _ if members.len() < 2 => {
                let text = format!("only this peer is left in {group}");
                self.end_sync(group, SyncOutcome::Aborted { text });
            }
            Stage::Collecting(_) if sync.offers.len() < members.len() => {}
            Stage::Collecting(_) => self.hold_election(group, &members),
            Stage::Moving(_) => self.advance_transfer(group),
        }
    }

    /// Everybody has offered.
    fn hold_election(&mut self, group: GroupId, members: &[PeerId]) {
        let Some(sync) = self.syncs.groups.get(&group) else { return };
        let offers: Vec<(PeerId, Offer)> =
            members.iter().filter_map(|id| sync.offers.get(id).map(|offer| (*id, *offer))).collect();
        let ballot = elect(&offers, self.syncs.expected.get(&group).copied());
        if self.asks_for_descriptions(group, &ballot.kicks) {
            return;
        }
        if !ballot.kicks.is_empty() {
            let kicks: Vec<(PeerId, String)> =
                ballot.kicks.into_iter().map(|(id, kick)| (id, self.kick_text(group, id, &kick))).collect();
            for (id, text) in kicks {
                self.kick(id, text);
            }
            return; // without them nobody else has to go: the election follows in the epoch of those who are left
        }
        match ballot.result {
            Ok(elected) => self.begin_transfer(group, elected, ballot.note),
            Err(nothing) => {
                self.end_sync(group, SyncOutcome::NothingOffered { text: nothing.to_string() });
            }
        }
    }

    /// Ends the group's synchronization at everybody in it.
    pub(super) fn end_sync(&mut self, group: GroupId, outcome: SyncOutcome) {
        let Some(sync) = self.syncs.groups.remove(&group) else { return };
        let number = match &sync.stage {
            Stage::Collecting(_) => self.syncs.next_number(),
            Stage::Moving(transfer) => transfer.number,
        };
        for id in sync.offers.into_keys() {
            if let Some(peer) = self.peers.get_mut(&id) {
                self.syncs.in_call -= usize::from(std::mem::take(&mut peer.in_sync));
            }
            self.send(id, MasterMessage::SyncEnded { number, outcome: outcome.clone() });
        }
        self.sync_has_ended(group, number, outcome);
    }

    fn sync_has_ended(&mut self, group: GroupId, number: SyncNumber, outcome: SyncOutcome) {
        match outcome {
            SyncOutcome::Synchronized { revision } => {
                self.syncs.expected.insert(group, revision.saturating_add(1));
                self.has_committed = true;
                self.taken_over = None;
                self.event(Event::StateSynced { group, number, revision });
            }
            SyncOutcome::NothingOffered { text } | SyncOutcome::Aborted { text } => {
                self.event(Event::StateNotSynced { group, number, reason: text });
            }
            // The event of the deadlock says it.
            SyncOutcome::Deadlocked { .. } => {}
        }
    }

    /// A run that makes way for another, and has no members left, leaves nothing behind.
    pub(super) fn forget_syncs(&mut self) {
        self.syncs = Syncs { number: self.syncs.number, ..Syncs::default() };
    }
}
