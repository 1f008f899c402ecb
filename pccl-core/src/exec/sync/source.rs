//! A peer that holds the elected content, as the one that fetches sees it.

use super::pace::Pace;
use crate::types::{PeerId, Time};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    /// A link to it was lost, and maybe answers with it: it is asked again once all its links are new.
    Torn,
    /// It sent something else than what was elected, or nothing for too long.
    Bad,
}

#[derive(Debug)]
pub(super) struct Source {
    pub peer: PeerId,
    /// Whether it also holds the tensors that may differ.
    pub full: bool,
    pub standing: Standing,
    pub pace: Pace,
    /// Parts of lists of digests that it was asked for and has not sent.
    pub parts_due: usize,
    pub got_bytes: u64,
    /// When it last sent something, or was asked while nothing was due.
    pub heard: Time,
}

impl Source {
    pub fn new(peer: PeerId, full: bool, now: Time) -> Source {
        Source {
            peer,
            full,
            standing: Standing::Good,
            pace: Pace::new(now),
            parts_due: 0,
            got_bytes: 0,
            heard: now,
        }
    }

    /// Whether it was asked for anything that has not come.
    pub fn owes(&self) -> bool {
        self.parts_due > 0 || !self.pace.is_idle()
    }

    pub fn asked_for_parts(&mut self, parts: usize, now: Time) {
        if !self.owes() {
            self.heard = now;
        }
        self.parts_due += parts;
    }

    pub fn asked_for_block(&mut self, bytes: u64, now: Time) {
        if !self.owes() {
            self.heard = now;
        }
        self.pace.asked(bytes, now);
    }
}
