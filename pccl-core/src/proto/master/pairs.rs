//! Which pairs of a group have data links: what schedules may use, and what newcomers still lack.
//!
//! A large run has tens of thousands of pairs, nearly all of them in order. So a pair in order is small, and those
//! that are not are in an index: what an epoch costs does not grow with the square of the peers.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::{
    LINK_LOSS_GRACE_MS, MAX_TEXT_BYTES, MAX_TROUBLES, NEAR_RTT_US, RELINK_RETRY_MS, TROUBLE_MEMORY_MS,
};
use crate::types::{GroupId, PeerId, Time};

/// The wait before a loss is judged doubles with each recent one, so that a flapping pair costs little. So often.
const MAX_DOUBLINGS: u32 = 8;

/// The lower id first.
pub type PairKey = (PeerId, PeerId);

pub fn pair_key(a: PeerId, b: PeerId) -> PairKey {
    if a < b { (a, b) } else { (b, a) }
}

#[derive(Clone, Debug)]
pub struct Pair {
    pub generation: u32,
    group: GroupId,
    /// What each end says, lower id first.
    up: [bool; 2],
    /// Round trip as each end measured it; 0 if it could not.
    rtt_us: [u32; 2],
    /// What a pair in order has nothing of.
    unrest: Option<Box<Unrest>>,
}

#[derive(Clone, Debug, Default)]
struct Unrest {
    failed: [Option<String>; 2],
    /// Until when a link that is being made may take.
    linking_until: Option<Time>,
    /// Until when a reported loss waits for the sign of a death that explains it.
    lost_until: Option<Time>,
    loss: String,
    /// Losses of late, and until when they count.
    troubles: u32,
    troubles_until: Time,
    /// When a pair that was given up may be tried again.
    retry_at: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairState {
    Linking,
    Up,
    Failed,
}

impl Pair {
    pub fn state(&self) -> PairState {
        if self.up == [true, true] {
            return PairState::Up;
        }
        let linking = |u: &&Unrest| u.linking_until.is_some() && !u.failed.iter().all(Option::is_some);
        match self.unrest.as_deref().filter(linking) {
            Some(_) => PairState::Linking,
            None => PairState::Failed,
        }
    }

    pub fn failure(&self) -> String {
        let said: Vec<&str> =
            self.unrest.iter().flat_map(|u| u.failed.iter().flatten()).map(String::as_str).collect();
        if said.is_empty() { "no answer in time".to_owned() } else { said.join("; ") }
    }

    /// Why its link was lost.
    pub fn loss(&self) -> &str {
        self.unrest.as_deref().map_or("", |u| &u.loss)
    }

    /// Trouble again and again: schedules do without this pair wherever they can.
    pub fn is_suspect(&self, now: Time) -> bool {
        self.unrest.as_deref().is_some_and(|u| u.troubles(now) >= MAX_TROUBLES)
    }

    /// The lesser of what its ends measured: whatever disturbs a measurement makes it greater. 0 if unknown.
    fn rtt_us(&self) -> u32 {
        self.rtt_us.into_iter().filter(|us| *us > 0).min().unwrap_or(0)
    }

    pub fn known_rtt_us(&self) -> Option<u32> {
        Some(self.rtt_us()).filter(|us| *us > 0)
    }

    fn in_order(&self) -> bool {
        self.state() == PairState::Up && self.unrest.is_none()
    }
}

impl Unrest {
    fn troubles(&self, now: Time) -> u32 {
        if now < self.troubles_until { self.troubles } else { 0 }
    }
}

#[derive(Debug, Default)]
pub struct Pairs {
    pairs: BTreeMap<PairKey, Pair>,
    index: Index,
}

/// What is to be found without looking at every pair.
#[derive(Debug, Default)]
struct Index {
    timers: BTreeSet<(Time, PairKey)>,
    /// Those not in order: without a link, or with trouble of late.
    odd: BTreeSet<(GroupId, PairKey)>,
    /// Those with a link and a known round trip, the longest (as the bits it takes) of each group last.
    by_rtt: BTreeSet<(GroupId, u32, PairKey)>,
}

/// What a report changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    Resolved(PairState),
    /// The pair is known to be near, or no longer to be.
    Distance,
}

impl Pairs {
    /// A pair that is to be linked. `undialable`: which ends (lower first) nobody can dial.
    pub fn add(&mut self, group: GroupId, key: PairKey, undialable: [bool; 2], until: Time) {
        self.forget_pair(key);
        let unrest = Unrest { failed: given_up(undialable), linking_until: Some(until), ..Unrest::default() };
        let mut pair = Pair::unlinked(group, 0);
        pair.unrest = Some(Box::new(unrest));
        self.index.add(key, &pair);
        self.pairs.insert(key, pair);
    }

    /// A pair without a link that none is made for, unless it is known.
    pub fn take_note(&mut self, group: GroupId, key: PairKey) {
        if !self.pairs.contains_key(&key) {
            let pair = Pair::unlinked(group, 0);
            self.index.add(key, &pair);
            self.pairs.insert(key, pair);
        }
    }

    /// A pair as a resuming peer knows it; `side` 0 is the lower id.
    pub fn resume(&mut self, group: GroupId, key: PairKey, side: usize, generation: u32, rtt_us: u32) {
        self.take_note(group, key);
        self.change(key, |pair| {
            if generation > pair.generation {
                *pair = Pair::unlinked(group, generation);
            }
            if generation == pair.generation {
                pair.up[side] = true;
                pair.rtt_us[side] = rtt_us;
            }
        });
    }

    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    pub fn get(&self, a: PeerId, b: PeerId) -> Option<&Pair> {
        self.pairs.get(&pair_key(a, b))
    }

    pub fn state(&self, a: PeerId, b: PeerId) -> PairState {
        self.get(a, b).map_or(PairState::Failed, Pair::state)
    }

    /// The pairs of a group that are not in order, ends that are no members included.
    pub fn odd(&self, group: GroupId) -> impl Iterator<Item = (PairKey, &Pair)> {
        let of_group = self.index.odd.range((group, FIRST)..=(group, LAST));
        of_group.filter_map(|(_, key)| self.pairs.get(key).map(|pair| (*key, pair)))
    }

    /// The longest known round trip of linked pairs of these peers, rounded up to a power of two so that noise
    /// changes nothing; 0 if none is known.
    pub fn longest_rtt_us(&self, group: GroupId, counts: impl Fn(PeerId) -> bool) -> u32 {
        let of_group = self.index.by_rtt.range((group, 0, FIRST)..=(group, u32::MAX, LAST)).rev();
        let longest = of_group.into_iter().find(|(_, _, (a, b))| counts(*a) && counts(*b));
        longest.map_or(0, |(_, bits, _)| 1 << bits)
    }

    pub fn forget(&mut self, peer: PeerId, others: impl Iterator<Item = PeerId>) {
        for other in others {
            self.forget_pair(pair_key(peer, other));
        }
    }

    /// Keeps only pairs of peers that are there.
    pub fn retain(&mut self, is_there: impl Fn(PeerId) -> bool) {
        let gone = |(a, b): &&PairKey| !is_there(*a) || !is_there(*b);
        let gone: Vec<PairKey> = self.pairs.keys().filter(gone).copied().collect();
        for key in gone {
            self.forget_pair(key);
        }
    }

    /// Told again where a path turns out to be shorter than it looked.
    pub fn link_up(&mut self, from: PeerId, to: PeerId, generation: u32, rtt_us: u32) -> Change {
        let key = pair_key(from, to);
        let is_far = |pairs: &Pairs| pairs.pairs.get(&key).is_some_and(|pair| pair.rtt_us() > NEAR_RTT_US);
        let was_far = is_far(self);
        let change = self.report(from, to, generation, |pair, side| {
            pair.up[side] = true;
            pair.rtt_us[side] = rtt_us;
        });
        let is_up = self.state(from, to) == PairState::Up;
        if change == Change::Nothing && is_up && is_far(self) != was_far { Change::Distance } else { change }
    }

    pub fn link_failed(&mut self, from: PeerId, to: PeerId, generation: u32, reason: String) -> Change {
        self.report(from, to, generation, |pair, side| {
            if pair.state() != PairState::Up {
                pair.unrest.get_or_insert_default().failed[side] = Some(reason);
            }
        })
    }

    fn report(
        &mut self,
        from: PeerId,
        to: PeerId,
        generation: u32,
        apply: impl FnOnce(&mut Pair, usize),
    ) -> Change {
        let key = pair_key(from, to);
        let Some(before) = self.pairs.get(&key).filter(|p| p.generation == generation).map(Pair::state)
        else {
            return Change::Nothing;
        };
        self.change(key, |pair| apply(pair, usize::from(from != key.0)));
        let after = self.state(from, to);
        if before == after { Change::Nothing } else { Change::Resolved(after) }
    }

    /// Takes down a loss, to be judged after a moment. False if it is known, or about an older generation. What
    /// the other end says of a known one is taken down too: one of the two knows what was wrong.
    pub fn link_down(
        &mut self,
        from: PeerId,
        to: PeerId,
        generation: u32,
        reason: String,
        now: Time,
    ) -> bool {
        let key = pair_key(from, to);
        let Some(pair) = self.pairs.get_mut(&key).filter(|p| p.generation == generation) else {
            return false;
        };
        if let Some(known) = pair.unrest.as_deref_mut().filter(|u| u.lost_until.is_some()) {
            if !known.loss.contains(&reason) && known.loss.len() + reason.len() < MAX_TEXT_BYTES {
                known.loss = format!("{}; {reason}", known.loss);
            }
            return false;
        }
        self.change(key, |pair| {
            let unrest = pair.unrest.get_or_insert_default();
            let troubles = unrest.troubles(now);
            let until = now.plus_ms(LINK_LOSS_GRACE_MS << troubles.min(MAX_DOUBLINGS));
            unrest.troubles = troubles.saturating_add(1);
            unrest.troubles_until = until.plus_ms(TROUBLE_MEMORY_MS);
            unrest.lost_until = Some(until);
            unrest.loss = reason;
        });
        true
    }

    /// Begins a new generation of the pair's links.
    pub fn relink(&mut self, key: PairKey, undialable: [bool; 2], now: Time, until: Time) {
        self.change(key, |pair| {
            pair.generation = pair.generation.saturating_add(1);
            pair.up = [false; 2];
            pair.rtt_us = [0; 2];
            let unrest = pair.unrest.get_or_insert_default();
            unrest.lost_until = None;
            unrest.failed = given_up(undialable);
            unrest.linking_until = Some(until);
            unrest.retry_at = now.plus_ms(RELINK_RETRY_MS);
        });
    }

    /// A pair that lost its link and gets no other one.
    pub fn give_up(&mut self, key: PairKey, reason: &str) {
        self.change(key, |pair| {
            pair.up = [false; 2];
            let unrest = pair.unrest.get_or_insert_default();
            unrest.lost_until = None;
            unrest.failed = [Some(reason.to_owned()), None];
            unrest.linking_until = None;
        });
    }

    /// Whether the pair has had so much trouble of late.
    pub fn is_suspect(&self, key: PairKey, now: Time) -> bool {
        self.pairs.get(&key).is_some_and(|p| p.is_suspect(now))
    }

    /// Whether a pair that was given up may be tried again.
    pub fn may_retry(&self, a: PeerId, b: PeerId, now: Time) -> bool {
        let due = |p: &Pair| p.unrest.as_deref().is_none_or(|u| u.retry_at <= now);
        self.get(a, b).is_some_and(|p| p.state() == PairState::Failed && due(p))
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.index.timers.first().map(|(time, _)| *time)
    }

    /// The next pair whose time is over; `true` if it is a loss to be judged, `false` if linking took too long.
    pub fn expired(&mut self, now: Time) -> Option<(PairKey, bool)> {
        while let Some(&(time, key)) = self.index.timers.first().filter(|(time, _)| *time <= now) {
            self.index.timers.remove(&(time, key));
            let Some(pair) = self.pairs.get(&key) else { continue };
            let Some(unrest) = pair.unrest.as_deref() else { continue };
            if unrest.lost_until == Some(time) {
                return Some((key, true));
            }
            if unrest.linking_until == Some(time) && pair.state() != PairState::Up {
                self.change(key, |pair| {
                    if let Some(unrest) = &mut pair.unrest {
                        unrest.linking_until = None;
                    }
                });
                return Some((key, false));
            }
        }
        None
    }

    /// The one way to change a pair: keeps the index in step with it.
    fn change(&mut self, key: PairKey, change: impl FnOnce(&mut Pair)) {
        let Some(pair) = self.pairs.get_mut(&key) else { return };
        self.index.remove(key, pair);
        change(pair);
        pair.settle();
        self.index.add(key, pair);
    }

    fn forget_pair(&mut self, key: PairKey) {
        if let Some(pair) = self.pairs.remove(&key) {
            self.index.remove(key, &pair);
        }
    }
}

impl Index {
    fn add(&mut self, key: PairKey, pair: &Pair) {
        if !pair.in_order() {
            self.odd.insert((pair.group, key));
        }
        self.by_rtt.extend(pair.rtt_entry(key));
        self.timers.extend(pair.times().map(|time| (time, key)));
    }

    fn remove(&mut self, key: PairKey, pair: &Pair) {
        if !pair.in_order() {
            self.odd.remove(&(pair.group, key));
        }
        if let Some(entry) = pair.rtt_entry(key) {
            self.by_rtt.remove(&entry);
        }
        for time in pair.times() {
            self.timers.remove(&(time, key));
        }
    }
}

/// The least and the greatest key.
const FIRST: PairKey = (PeerId([0; 16]), PeerId([0; 16]));
const LAST: PairKey = (PeerId([u8::MAX; 16]), PeerId([u8::MAX; 16]));

impl Pair {
    fn unlinked(group: GroupId, generation: u32) -> Pair {
        Pair { generation, group, up: [false; 2], rtt_us: [0; 2], unrest: None }
    }

    /// Where there is a link, how it was made is forgotten; losses of late are not.
    fn settle(&mut self) {
        if self.state() != PairState::Up {
            return;
        }
        if let Some(unrest) = &mut self.unrest {
            unrest.linking_until = None;
            unrest.failed = [None, None];
            if unrest.troubles == 0 {
                self.unrest = None;
            }
        }
    }

    fn times(&self) -> impl Iterator<Item = Time> + use<> {
        let unrest = self.unrest.as_deref();
        unrest.map_or([None; 2], |u| [u.linking_until, u.lost_until]).into_iter().flatten()
    }

    fn rtt_entry(&self, key: PairKey) -> Option<(GroupId, u32, PairKey)> {
        let rtt_us = self.rtt_us();
        // Nothing is gained by telling days from hours.
        let bits = rtt_us.min(1 << 31).next_power_of_two().trailing_zeros();
        (self.state() == PairState::Up && rtt_us > 0).then_some((self.group, bits, key))
    }
}

fn given_up(undialable: [bool; 2]) -> [Option<String>; 2] {
    // Each end speaks of the other: an end whose partner cannot be dialled has nothing to try.
    let text = |dialable_not: bool| dialable_not.then(|| "the other end takes no connections".to_owned());
    [text(undialable[1]), text(undialable[0])]
}

#[cfg(test)]
mod tests;
