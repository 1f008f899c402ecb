//! A peer that holds the elected content, as the one that fetches sees it.

use std::collections::{BTreeMap, BTreeSet};

use super::fetch::Block;
use super::pace::Pace;
use crate::limits::STATE_LIFE_BYTES;
use crate::types::{PeerId, Time};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    /// A link to it was lost, and maybe answers with it: it is asked again once all its links are new.
    Torn,
    /// It sent something else than what was elected, or nothing for too long.
    Bad,
    /// It has left the group.
    Gone,
}

#[derive(Debug)]
pub(super) struct Source {
    pub peer: PeerId,
    /// Whether it also holds the tensors that may differ.
    pub full: bool,
    pub standing: Standing,
    pub pace: Pace,
    /// Parts of lists of digests that it was asked for and has not sent: the tag of the frame, and the first digest.
    parts: BTreeSet<(u64, u32)>,
    /// Blocks that it was asked for and others since, and how much of each it has sent all the same. No more than it may be
    /// asked for at once.
    late: BTreeMap<Block, usize>,
    pub got_bytes: u64,
    /// When it last sent enough of what it was asked for, or was asked while nothing was due.
    pub heard: Time,
}

impl Source {
    pub fn new(peer: PeerId, full: bool, now: Time) -> Source {
        Source {
            peer,
            full,
            standing: Standing::Good,
            pace: Pace::new(now),
            parts: BTreeSet::new(),
            late: BTreeMap::new(),
            got_bytes: 0,
            heard: now,
        }
    }

    /// Whether it was asked for anything that has not come.
    pub fn owes(&self) -> bool {
        !self.parts.is_empty() || !self.pace.is_idle()
    }

    pub fn parts_due(&self) -> usize {
        self.parts.len()
    }

    pub fn asked_for_part(&mut self, tag: u64, first: u32, now: Time) {
        if !self.owes() {
            self.heard = now;
        }
        self.parts.insert((tag, first));
    }

    /// Whether this part was due. What nobody asked for says nothing about a source.
    pub fn sent_part(&mut self, tag: u64, first: u32, now: Time) -> bool {
        let was_due = self.parts.remove(&(tag, first));
        if was_due {
            self.heard = now;
        }
        was_due
    }

    /// Others are asked for this block from now on.
    pub fn is_late_with(&mut self, block: Block) {
        self.late.insert(block, 0);
    }

    /// A segment, up to `end`, of a block that is not wanted of it (any more). The same bytes again are no sign of life.
    pub fn sent_late(&mut self, block: Block, end: usize, block_len: usize, now: Time) {
        let Some(sent) = self.late.get_mut(&block) else { return };
        if end == block_len {
            self.heard = now;
            self.late.remove(&block);
            self.pace.came_unwanted(block_len as u64, now);
        } else if end >= *sent + STATE_LIFE_BYTES {
            self.heard = now;
            *sent = end;
        }
    }

    /// What it was asked for may be lost.
    pub fn forget_asks(&mut self) {
        self.parts.clear();
        self.late.clear();
    }

    pub fn asked_for_block(&mut self, bytes: u64, now: Time) {
        if !self.owes() {
            self.heard = now;
        }
        self.pace.asked(bytes, now);
    }
}
