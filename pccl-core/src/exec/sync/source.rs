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
    late: BTreeMap<Block, Owed>,
    /// Bytes that have come of what it was asked for since it was last heard.
    new_bytes: usize,
    pub got_bytes: u64,
    /// When it last sent enough of what it was asked for, or was asked while nothing was due.
    pub heard: Time,
}

/// Of a block that it was late with.
#[derive(Debug, Default)]
struct Owed {
    copies: usize,
    /// Of the one that it sends now.
    sent: usize,
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
            new_bytes: 0,
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

    /// So much more of what it was asked for has come: of all its blocks and lists together it has to be enough.
    pub fn gets_on(&mut self, bytes: usize, now: Time) {
        self.new_bytes += bytes;
        if self.new_bytes >= STATE_LIFE_BYTES {
            (self.new_bytes, self.heard) = (0, now);
        }
    }

    /// The same of a part of a list, if it is due.
    pub fn gets_on_with_part(&mut self, tag: u64, first: u32, bytes: usize, now: Time) {
        if self.parts.contains(&(tag, first)) {
            self.gets_on(bytes, now);
        }
    }

    /// Others are asked for this block from now on, of which it has sent so much.
    pub fn is_late_with(&mut self, block: Block, sent: usize) {
        let owed = self.late.entry(block).or_default();
        // Asked for it anew since it was late for the first time, it sends it twice.
        (owed.copies, owed.sent) = (owed.copies + 1, owed.sent.max(sent));
    }

    /// Up to `end` of a block that is not wanted of it (any more). The same bytes again are no sign of life.
    pub fn sent_late(&mut self, block: Block, end: usize, block_len: usize, now: Time) {
        let Some(owed) = self.late.get_mut(&block) else { return };
        let new = end.saturating_sub(owed.sent);
        owed.sent += new;
        if end < block_len {
            return self.gets_on(new, now);
        }
        (owed.copies, owed.sent) = (owed.copies - 1, 0);
        if owed.copies == 0 {
            self.late.remove(&block);
        }
        self.heard = now;
        self.pace.came_unwanted(block_len as u64, now);
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

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Block = (0, 0);
    const LEN: usize = 256 << 10;

    fn source() -> Source {
        Source::new(PeerId([1; 16]), true, Time(0))
    }

    /// Sixteen blocks side by side, of which none gets on by that much.
    #[test]
    fn bytes_of_all_blocks_together_are_a_sign_of_life() {
        let mut source = source();
        for at in 1..=16 {
            source.gets_on(STATE_LIFE_BYTES / 16, Time(at));
            assert_eq!(source.heard, Time(if at == 16 { 16 } else { 0 }));
        }
    }

    #[test]
    fn the_same_bytes_again_are_none_and_what_had_come_before_counts_once() {
        let mut source = source();
        source.is_late_with(BLOCK, 1000);
        source.sent_late(BLOCK, 1000 + STATE_LIFE_BYTES - 1, LEN, Time(1));
        source.sent_late(BLOCK, 1000 + STATE_LIFE_BYTES - 1, LEN, Time(2));
        assert_eq!(source.heard, Time(0));
        source.sent_late(BLOCK, 1000 + STATE_LIFE_BYTES, LEN, Time(3));
        assert_eq!(source.heard, Time(3));
    }

    #[test]
    fn who_was_asked_twice_for_a_block_and_sends_it_twice_owes_nothing() {
        let mut source = source();
        for _ in 0..2 {
            source.asked_for_block(LEN as u64, Time(0));
            source.is_late_with(BLOCK, 0);
        }
        source.sent_late(BLOCK, LEN, LEN, Time(1));
        assert!(source.owes());
        source.sent_late(BLOCK, LEN, LEN, Time(2));
        assert!(!source.owes());
        source.sent_late(BLOCK, LEN, LEN, Time(3));
        assert_eq!(source.heard, Time(2), "nobody asked for a third one");
    }
}
