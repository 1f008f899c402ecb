//! When a link is given up: it takes nothing though there is something to write, or what it took is not acknowledged.
//!
//! A pair is given up after the run's silence time. One of its links may have had bad luck (each time a lost segment is
//! lost again its system waits twice as long), so it gets more where others of the pair get through meanwhile.

use super::engine::Engine;
#[cfg(feature = "seeded-bugs")]
use super::engine::SeededBug;
use super::link::{Answers, Link};
use super::tx::Freight;
use crate::limits::STALL_FACTOR_AMONG_OTHERS;
use crate::types::Time;

/// A system counts in ticks (10 ms at most): what it says it heard was heard up to so much later.
const HEARD_LATER_BY_US: u64 = 10_000;

/// Of one link.
#[derive(Debug)]
pub(super) struct Patience {
    /// Since when it takes nothing although there is something to write.
    stuck_since: Option<Time>,
    /// It was given bytes then, or its other end said something, and was not asked since for what it has of them.
    unasked_since: Option<Time>,
    /// It has longer, for others get through.
    spared_until: Option<Time>,
    /// When it last took bytes.
    took_at: Option<Time>,
    /// Its system tells what the other end has.
    is_told: bool,
}

impl Patience {
    pub fn new(is_told: bool) -> Patience {
        Patience { stuck_since: None, unasked_since: None, spared_until: None, took_at: None, is_told }
    }

    pub fn took(&mut self, now: Time) {
        self.took_at = Some(now);
        if self.stuck_since.take().is_some() {
            // It has room because something was acknowledged.
            (self.spared_until, self.unasked_since) = (None, None);
        }
        if self.is_told {
            self.unasked_since.get_or_insert(now);
        }
    }

    pub fn took_nothing(&mut self, now: Time) {
        self.stuck_since.get_or_insert(now);
    }

    /// Nothing waits to be written here any more.
    pub fn has_nothing(&mut self) {
        if let Some(since) = self.stuck_since.take() {
            self.unasked_since = self.unasked_since.map(|given| given.max(since));
            self.spared_until = None;
        }
    }

    /// For how long it takes nothing although there is something to write.
    pub fn stuck_us(&self, now: Time) -> u64 {
        self.stuck_since.map_or(0, |since| now.since_us(since))
    }

    fn since(&self) -> Option<Time> {
        self.stuck_since.or(self.unasked_since)
    }

    /// Of what is not acknowledged, when something was last heard. What it was given before may be what was acknowledged; of what
    /// it was given after that the last is known and, if it was not heard of since it was asked, the first.
    fn unanswered_since(&self, heard: Time) -> Time {
        match (self.unasked_since, self.took_at) {
            (Some(first), _) if first >= heard.plus_us(HEARD_LATER_BY_US) => first,
            (_, Some(last)) => last.max(heard),
            _ => heard,
        }
    }

    fn deadline(&self, stall_ms: u64) -> Option<Time> {
        let since = self.since()?;
        Some(self.spared_until.unwrap_or(since.plus_ms(stall_ms)))
    }

    fn begin_anew(&mut self, now: Time) {
        self.stuck_since = self.stuck_since.map(|_| now);
        self.unasked_since = self.unasked_since.map(|_| now);
        self.spared_until = None;
    }
}

impl<L: Link> Engine<L> {
    pub(super) fn next_stall(&self) -> Option<Time> {
        let stall_ms = self.core.cx.config.stall_ms;
        self.conns.iter().flatten().filter_map(|conn| conn.patience.deadline(stall_ms)).min()
    }

    /// When we come much too late ourselves (the process was frozen), the time says nothing about the others, and they get
    /// it anew.
    pub(super) fn judge_links(&mut self, now: Time) {
        let stall_ms = self.core.cx.config.stall_ms;
        let late = now.since_us(self.next_stall().unwrap_or(now)) > stall_ms * 500;
        for slot in 0..self.conns.len() {
            let Some(conn) = &mut self.conns[slot] else { continue };
            if late {
                conn.patience.begin_anew(now);
            }
            if conn.patience.deadline(stall_ms).is_some_and(|at| at <= now) {
                match conn.patience.stuck_since {
                    Some(_) => self.judge_stuck(slot, now),
                    None => self.judge_unanswered(slot, now),
                }
            }
        }
    }

    /// One last attempt: the host may have been too busy to tell us that the link takes bytes again.
    fn judge_stuck(&mut self, slot: usize, now: Time) {
        self.pump += 1;
        let Some(conn) = &mut self.conns[slot] else { return };
        conn.wake();
        if let Err(reason) = conn.write(Freight::Any, &mut self.core, self.pump, now) {
            return self.lose(slot, reason);
        }
        if let Some(since) = self.conns[slot].as_ref().and_then(|conn| conn.patience.stuck_since) {
            self.spare_or_lose(slot, since, now, |ms| format!("took nothing for {ms} ms with bytes to send"));
        }
    }

    fn judge_unanswered(&mut self, slot: usize, now: Time) {
        let stall_ms = self.core.cx.config.stall_ms;
        let Some(conn) = &mut self.conns[slot] else { return };
        match conn.answers() {
            Some(answers) if answers.unacked => {
                let heard = Time(now.0.saturating_sub(answers.quiet_ms * 1000));
                let since = conn.patience.unanswered_since(heard);
                conn.patience.unasked_since = Some(since);
                if since.plus_ms(stall_ms) <= now {
                    let reason = |ms| format!("acknowledged nothing for {ms} ms of what it was sent");
                    self.spare_or_lose(slot, since, now, reason);
                } else {
                    conn.patience.spared_until = None;
                }
            }
            _ => (conn.patience.unasked_since, conn.patience.spared_until) = (None, None),
        }
    }

    fn spare_or_lose(&mut self, slot: usize, since: Time, now: Time, reason: impl Fn(u64) -> String) {
        let until = self.others_get_through(slot, since, now);
        #[cfg(feature = "seeded-bugs")]
        let until = match self.core.cx.config.bug {
            Some(SeededBug::DeadLinkKept) => Some(now.plus_ms(self.core.cx.config.stall_ms)),
            _ => until,
        };
        let Some(conn) = &mut self.conns[slot] else { return };
        if until.is_some_and(|until| until > now) {
            conn.patience.spared_until = until;
        } else {
            self.lose(slot, format!("stalled: {}", reason(now.since_us(since) / 1000)));
        }
    }

    /// Until when a link that makes no progress since then has time because of the pair's others. What one has taken since
    /// may still be in our own system only, so it counts for a silence time, and where the system tells only if its other
    /// end was heard since; but for all that a link may have if the other end is known to have it.
    fn others_get_through(&self, slot: usize, since: Time, now: Time) -> Option<Time> {
        let stall_ms = self.core.cx.config.stall_ms;
        let most = since.plus_ms(stall_ms * STALL_FACTOR_AMONG_OTHERS);
        let peer = self.conns[slot].as_ref()?.speaker.peer;
        let others = self.core.cx.peers.links(peer).iter().filter(|other| **other != slot);
        let until = others.filter_map(|other| self.conns[*other].as_ref()).filter_map(|other| {
            let took_at = other.patience.took_at.filter(|at| *at > since)?;
            let is_heard = |answers: Answers| {
                answers.has_all() || now.0.saturating_sub(answers.quiet_ms * 1000) > since.0
            };
            if !other.answers().is_none_or(is_heard) {
                return None;
            }
            Some(if other.has_all() { most } else { most.min(took_at.plus_ms(stall_ms)) })
        });
        until.max()
    }
}
