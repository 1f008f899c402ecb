//! Which pairs of a group have data links: what schedules may use, and what newcomers still lack.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::{LINK_LOSS_GRACE_MS, MAX_TROUBLES, RELINK_RETRY_MS, TROUBLE_MEMORY_MS};
use crate::types::{PeerId, Time};

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
    /// What each end says, lower id first.
    up: [bool; 2],
    failed: [Option<String>; 2],
    /// Until when a link that is being made may take.
    linking_until: Option<Time>,
    /// Until when a reported loss waits for the sign of a death that explains it.
    pub lost_until: Option<Time>,
    pub loss: String,
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
            PairState::Up
        } else if self.linking_until.is_none() || self.failed.iter().all(Option::is_some) {
            PairState::Failed
        } else {
            PairState::Linking
        }
    }

    pub fn failure(&self) -> String {
        let said: Vec<&str> = self.failed.iter().flatten().map(String::as_str).collect();
        if said.is_empty() { "no answer in time".to_owned() } else { said.join("; ") }
    }

    fn new(generation: u32, failed: [Option<String>; 2], linking_until: Option<Time>) -> Pair {
        Pair {
            generation,
            up: [false; 2],
            failed,
            linking_until,
            lost_until: None,
            loss: String::new(),
            troubles: 0,
            troubles_until: Time(0),
            retry_at: Time(0),
        }
    }

    fn troubles(&self, now: Time) -> u32 {
        if now < self.troubles_until { self.troubles } else { 0 }
    }

    /// Trouble again and again: schedules do without this pair wherever they can.
    pub fn is_suspect(&self, now: Time) -> bool {
        self.troubles(now) >= MAX_TROUBLES
    }
}

#[derive(Debug, Default)]
pub struct Pairs {
    pairs: BTreeMap<PairKey, Pair>,
    timers: BTreeSet<(Time, PairKey)>,
}

/// What a report changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    Resolved(PairState),
}

impl Pairs {
    /// A pair that is to be linked. `undialable`: which ends (lower first) nobody can dial.
    pub fn add(&mut self, key: PairKey, undialable: [bool; 2], until: Time) {
        let pair = Pair::new(0, given_up(undialable), Some(until));
        self.timers.insert((until, key));
        self.pairs.insert(key, pair);
    }

    /// A pair as a resuming peer knows it; `side` 0 is the lower id.
    pub fn resume(&mut self, key: PairKey, side: usize, generation: u32) {
        let pair = self.pairs.entry(key).or_insert_with(|| Pair::new(generation, [None, None], None));
        if generation > pair.generation {
            pair.generation = generation;
            pair.up = [false; 2];
        }
        if generation == pair.generation {
            pair.up[side] = true;
        }
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

    pub fn forget(&mut self, peer: PeerId, others: impl Iterator<Item = PeerId>) {
        for other in others {
            self.pairs.remove(&pair_key(peer, other));
        }
    }

    /// Keeps only pairs of peers that are there.
    pub fn retain(&mut self, is_there: impl Fn(PeerId) -> bool) {
        self.pairs.retain(|(a, b), _| is_there(*a) && is_there(*b));
    }

    pub fn link_up(&mut self, from: PeerId, to: PeerId, generation: u32) -> Change {
        self.report(from, to, generation, |pair, side| pair.up[side] = true)
    }

    pub fn link_failed(&mut self, from: PeerId, to: PeerId, generation: u32, reason: String) -> Change {
        self.report(from, to, generation, |pair, side| pair.failed[side] = Some(reason))
    }

    fn report(
        &mut self,
        from: PeerId,
        to: PeerId,
        generation: u32,
        apply: impl FnOnce(&mut Pair, usize),
    ) -> Change {
        let key = pair_key(from, to);
        let Some(pair) = self.pairs.get_mut(&key).filter(|p| p.generation == generation) else {
            return Change::Nothing;
        };
        let before = pair.state();
        apply(pair, usize::from(from != key.0));
        let after = pair.state();
        if before == after { Change::Nothing } else { Change::Resolved(after) }
    }

    /// Takes down a loss, to be judged after a moment. False if it is known, or about an older generation.
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
        if pair.lost_until.is_some() {
            return false;
        }
        let doublings = pair.troubles(now).min(MAX_DOUBLINGS);
        let until = now.plus_ms(LINK_LOSS_GRACE_MS << doublings);
        pair.troubles = pair.troubles(now).saturating_add(1);
        pair.troubles_until = until.plus_ms(TROUBLE_MEMORY_MS);
        pair.lost_until = Some(until);
        pair.loss = reason;
        self.timers.insert((until, key));
        true
    }

    /// Begins a new generation of the pair's links.
    pub fn relink(&mut self, key: PairKey, undialable: [bool; 2], now: Time, until: Time) {
        let Some(pair) = self.pairs.get_mut(&key) else { return };
        pair.generation = pair.generation.saturating_add(1);
        pair.lost_until = None;
        pair.up = [false; 2];
        pair.failed = given_up(undialable);
        pair.linking_until = Some(until);
        pair.retry_at = now.plus_ms(RELINK_RETRY_MS);
        self.timers.insert((until, key));
    }

    /// A pair that lost its link and gets no other one.
    pub fn give_up(&mut self, key: PairKey, reason: &str) {
        if let Some(pair) = self.pairs.get_mut(&key) {
            pair.lost_until = None;
            pair.up = [false; 2];
            pair.failed = [Some(reason.to_owned()), None];
            pair.linking_until = None;
        }
    }

    /// Whether the pair has had so much trouble of late.
    pub fn is_suspect(&self, key: PairKey, now: Time) -> bool {
        self.pairs.get(&key).is_some_and(|p| p.is_suspect(now))
    }

    /// Whether a pair that was given up may be tried again.
    pub fn may_retry(&self, a: PeerId, b: PeerId, now: Time) -> bool {
        self.get(a, b).is_some_and(|p| p.state() == PairState::Failed && p.retry_at <= now)
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// The next pair whose time is over; `true` if it is a loss to be judged, `false` if linking took too long.
    pub fn expired(&mut self, now: Time) -> Option<(PairKey, bool)> {
        while let Some(&(time, key)) = self.timers.first().filter(|(time, _)| *time <= now) {
            self.timers.remove(&(time, key));
            let Some(pair) = self.pairs.get_mut(&key) else { continue };
            if pair.lost_until == Some(time) {
                return Some((key, true));
            }
            if pair.linking_until == Some(time) && pair.state() != PairState::Up {
                pair.linking_until = None;
                return Some((key, false));
            }
        }
        None
    }
}

fn given_up(undialable: [bool; 2]) -> [Option<String>; 2] {
    // Each end speaks of the other: an end whose partner cannot be dialled has nothing to try.
    let text = |dialable_not: bool| dialable_not.then(|| "the other end takes no connections".to_owned());
    [text(undialable[1]), text(undialable[0])]
}
