//! From the election to the end: who receives, from whom, and when nobody can go on.

use std::collections::BTreeMap;

use super::Stage;
use crate::limits::SYNC_AWAITED_MS;
use crate::proto::master::Master;
use crate::proto::master::election::{Elected, Older, names};
use crate::proto::master::io::Event;
use crate::types::{
    Digest, Election, FetchFailure, GroupId, GroupInfo, Needs, Offer, PeerId, Rank, Source, SyncNumber,
    SyncOutcome, Time,
};
use crate::wire::message::MasterMessage;

const MIXTURE_STAYS: &str = "shared state: a broken transfer has left a mixture in this peer's tensors, and it has no data \
                             link to anybody who holds all of what was elected; connect again";

#[derive(Debug)]
pub(super) struct Transfer {
    pub number: SyncNumber,
    pub revision: u64,
    pub since: Time,
    /// So long after that the log says who is awaited.
    pub tell_at_us: u64,
    /// As elected.
    pub sources: Vec<Source>,
    /// Those who have not said that they hold it.
    waiting: BTreeMap<PeerId, Waiting>,
    /// Those who have, and whether they hold everything.
    pub holders: BTreeMap<PeerId, bool>,
    /// Those who have said that they cannot have it. The others go on: what has come is there in the next call.
    pub failed: BTreeMap<PeerId, FetchFailure>,
    /// Whether a peer waits that can reach no source: whoever is done next may become one.
    starved: bool,
}

#[derive(Debug)]
struct Waiting {
    needs: Needs,
    /// Whether it will hold the tensors that may differ, too.
    full: bool,
    /// Whether it may keep its own of those, if it reaches nobody who holds them: not where they may be a mixture.
    may_settle: bool,
    /// Sources it was told of since the election.
    told: Vec<Source>,
}

impl Waiting {
    fn new(offer: &Offer, revision: u64, content: Digest, full: Digest) -> Waiting {
        let needs = offer.needs(revision, content, full);
        // Who receives only what must not differ may hold other things in the rest.
        let full = needs == Needs::All || needs == Needs::Nothing && offer.full == full;
        Waiting { needs, full, may_settle: !offer.left_behind, told: Vec::new() }
    }
}

impl Transfer {
    /// Those who hold it since the election and have not said so.
    pub fn silent(&self) -> impl Iterator<Item = PeerId> {
        self.waiting.iter().filter(|(_, waiting)| waiting.needs == Needs::Nothing).map(|(id, _)| *id)
    }

    /// Those who have not said that they hold it, whether they have to receive it or not.
    pub fn awaited(&self) -> impl Iterator<Item = PeerId> {
        self.waiting.keys().copied()
    }

    pub fn forget(&mut self, peer: PeerId) {
        self.sources.retain(|source| source.peer != peer);
        self.waiting.remove(&peer);
        self.holders.remove(&peer);
        self.failed.remove(&peer);
        for waiting in self.waiting.values_mut() {
            waiting.told.retain(|source| source.peer != peer);
        }
    }
}

/// Which pairs of a group have a link.
pub(super) struct Linked<'a> {
    unlinked: &'a [(Rank, Rank)],
    ranks: BTreeMap<PeerId, Rank>,
}

impl Linked<'_> {
    pub fn of(group: &GroupInfo) -> Linked<'_> {
        let unlinked = &group.unlinked[..];
        // Mostly there is no such pair, and nobody's rank is asked for.
        let order = if unlinked.is_empty() { &[] } else { &group.order[..] };
        Linked { unlinked, ranks: order.iter().copied().zip(0..).collect() }
    }

    pub fn holds(&self, a: PeerId, b: PeerId) -> bool {
        if self.unlinked.is_empty() {
            return true;
        }
        let (Some(a), Some(b)) = (self.ranks.get(&a), self.ranks.get(&b)) else { return false };
        self.unlinked.binary_search(&(*a.min(b), *a.max(b))).is_err()
    }
}

impl Master {
    pub(super) fn begin_transfer(&mut self, group: GroupId, elected: Elected, note: Option<Older>) {
        let number = self.syncs.next_number();
        let Elected { revision, content, full, winner, sources, votes, voters } = elected;
        let Some(sync) = self.syncs.groups.get_mut(&group) else { return };
        let waiting = sync.offers.iter();
        let waiting: BTreeMap<PeerId, Waiting> =
            waiting.map(|(id, offer)| (*id, Waiting::new(offer, revision, content, full))).collect();
        let lacks = waiting.iter().filter(|(_, w)| w.needs != Needs::Nothing);
        let receivers: Vec<PeerId> = lacks.map(|(id, _)| *id).collect();
        let everybody: Vec<PeerId> = waiting.keys().copied().collect();
        sync.stage = Stage::Moving(Transfer {
            number,
            revision,
            since: self.seen,
            tell_at_us: SYNC_AWAITED_MS * 1000,
            sources: sources.clone(),
            waiting,
            holders: BTreeMap::new(),
            failed: BTreeMap::new(),
            starved: false,
        });
        self.event(Event::StateElected { group, number, revision, winner, votes, voters, receivers, note });
        let election = Election { number, revision, content, full, winner, sources };
        for id in everybody {
            let election = Box::new(election.clone());
            self.send(id, MasterMessage::SyncElected { election });
        }
        self.advance_transfer(group);
    }

    pub(super) fn on_sync_done(&mut self, from: PeerId, number: SyncNumber, failed: Option<FetchFailure>) {
        let Some((group, _)) = self.member_group(from) else {
            return self.kick(from, format!("finished {number} without being a member"));
        };
        if number > self.syncs.number {
            return self
                .kick(from, format!("finished {number}, but there was none after {}", self.syncs.number));
        }
        let Some(transfer) = self.syncs.transfer(group).filter(|t| t.number == number) else {
            return; // it was ended, and that is on its way to the peer
        };
        let Some(waiting) = transfer.waiting.remove(&from) else {
            return self
                .kick(from, format!("finished {number}, which it has finished already, or was not in"));
        };
        match failed {
            None => drop(transfer.holders.insert(from, waiting.full)),
            Some(FetchFailure::NotHere { text }) => {
                return self
                    .kick(from, format!("shared state: this peer cannot hold what was elected: {text}"));
            }
            Some(failed) => drop(transfer.failed.insert(from, failed)),
        }
        if transfer.waiting.is_empty() || transfer.starved {
            self.group_changed(group);
        }
    }

    /// Ends it where all hold the content, or nobody who does not can get it. Tells those who can reach no source of
    /// others that hold it by now.
    pub(super) fn advance_transfer(&mut self, group: GroupId) {
        let Some(info) = self.info.group(group) else { return };
        let linked = Linked::of(info);
        let Some(transfer) = self.syncs.transfer(group) else { return };
        if transfer.waiting.is_empty() {
            return self.conclude(group);
        }
        let Transfer { number, revision, sources, waiting, holders, .. } = transfer;
        let (number, revision) = (*number, *revision);
        let mut starved: Vec<PeerId> = Vec::new();
        let mut news: Vec<(PeerId, Source)> = Vec::new();
        for (id, receiver) in waiting.iter_mut().filter(|(_, w)| w.needs != Needs::Nothing) {
            let reaches = |peer: PeerId| peer != *id && linked.holds(*id, peer);
            let serves = |s: &Source| reaches(s.peer) && (s.full || receiver.needs == Needs::Content);
            if sources.iter().chain(&receiver.told).any(serves) {
                continue;
            }
            let knows = |new: &Source| {
                let mut known = sources.iter().chain(&receiver.told);
                known.any(|s| s.peer == new.peer && s.full >= new.full)
            };
            let holding = holders.iter().map(|(peer, full)| Source { peer: *peer, full: *full });
            let new: Vec<Source> = holding.filter(|s| reaches(s.peer) && !knows(s) && serves(s)).collect();
            if new.is_empty() {
                starved.push(*id);
            }
            news.extend(new.iter().map(|source| (*id, *source)));
            receiver.told.extend(new);
        }
        // Who lacks nothing needs no source; who has one gets on, and then may be one for the others.
        let mut stuck = starved.len() == waiting.len();
        let mut hopeless: Vec<PeerId> = Vec::new();
        if stuck {
            // Then those who need everything settle for what must not differ, where somebody in reach holds that: told
            // of a source that has less, they do. The rest stays as it is with them.
            let holding = holders.iter().map(|(peer, full)| Source { peer: *peer, full: *full });
            let held: Vec<Source> = sources.iter().copied().chain(holding).collect();
            for (id, receiver) in waiting.iter_mut().filter(|(_, w)| w.needs == Needs::All) {
                let Some(less) = held.iter().find(|s| s.peer != *id && linked.holds(*id, s.peer)) else {
                    continue;
                };
                if !receiver.may_settle {
                    hopeless.push(*id);
                    continue;
                }
                let source = Source { full: false, ..*less };
                (receiver.needs, receiver.full) = (Needs::Content, false);
                receiver.told.push(source);
                news.push((*id, source));
                stuck = false;
            }
        }
        transfer.starved = !starved.is_empty();
        for (to, source) in news {
            self.send(to, MasterMessage::SyncSource { number, source });
        }
        if stuck && !hopeless.is_empty() {
            // Calling again would change nothing, and the others are not to wait for ever.
            for id in hopeless {
                self.kick(id, MIXTURE_STAYS.to_owned());
            }
            return;
        }
        if stuck {
            let text = format!(
                "{} can reach nobody who holds revision {revision} as it was elected: whoever did is gone, or has no \
                 data link there",
                names(&starved)
            );
            self.end_sync(group, SyncOutcome::Aborted { text });
        }
    }
}
