//! Which operations run, and which are over.

use std::collections::BTreeMap;

use super::running::Running;
use crate::types::{Epoch, OpKey, Tag};

#[derive(Default)]
pub(super) struct Ops {
    slots: Vec<Option<Running>>,
    by_key: BTreeMap<OpKey, usize>,
    /// The last sequence of each tag that is over in this epoch.
    retired: BTreeMap<Tag, u32>,
    pub epoch: Epoch,
}

/// What a frame's key means here.
pub(super) enum Lookup {
    Running(usize),
    /// Over: of an older epoch, or an instance with a verdict.
    Stale,
    /// Not started yet.
    Ahead,
}

impl Ops {
    pub fn lookup(&self, key: OpKey) -> Lookup {
        if key.epoch < self.epoch {
            return Lookup::Stale;
        }
        match self.by_key.get(&key) {
            Some(slot) => Lookup::Running(*slot),
            None if key.epoch == self.epoch && self.retired.get(&key.tag).is_some_and(|s| key.seq <= *s) => {
                Lookup::Stale
            }
            None => Lookup::Ahead,
        }
    }

    /// The planted bug: an operation of this epoch with the same tag.
    #[cfg(feature = "seeded-bugs")]
    pub fn by_tag_alone(&self, tag: Tag) -> Option<&Running> {
        let first = OpKey { epoch: self.epoch, tag, seq: 0 };
        let last = OpKey { seq: u32::MAX, ..first };
        self.by_key.range(first..=last).next().map(|(_, slot)| self.get(*slot))
    }

    pub fn get(&self, slot: usize) -> &Running {
        self.slots[slot].as_ref().expect("ending an operation takes back every mention of its slot")
    }

    pub fn get_mut(&mut self, slot: usize) -> &mut Running {
        self.slots[slot].as_mut().expect("ending an operation takes back every mention of its slot")
    }

    pub fn free_slot(&self) -> usize {
        self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len())
    }

    /// Puts an operation into the slot that `free_slot` gave.
    pub fn insert(&mut self, slot: usize, op: Running) {
        let key = op.key();
        let before = self.by_key.insert(key, slot);
        assert!(before.is_none(), "{key} was started twice");
        // Earlier instances of the tag had their verdicts, whether or not they were ever started here.
        if let Some(last) = key.seq.checked_sub(1) {
            self.retire(OpKey { seq: last, ..key });
        }
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(op);
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub fn find(&self, key: OpKey) -> Option<usize> {
        self.by_key.get(&key).copied()
    }

    pub fn remove(&mut self, slot: usize) -> Option<Running> {
        let op = self.slots[slot].take()?;
        self.by_key.remove(&op.key());
        Some(op)
    }

    pub fn retire(&mut self, key: OpKey) {
        if key.epoch == self.epoch {
            let last = self.retired.entry(key.tag).or_insert(key.seq);
            *last = key.seq.max(*last);
        }
    }

    /// Epochs count anew. Nothing runs.
    pub fn reset(&mut self) {
        assert!(self.by_key.is_empty(), "operations are stopped before their epochs are forgotten");
        self.epoch = Epoch::default();
        self.retired.clear();
    }

    /// Slots of the operations of epochs before `epoch`, which begins here.
    pub fn enter(&mut self, epoch: Epoch) -> Vec<usize> {
        self.epoch = epoch;
        self.retired.clear();
        let first = OpKey { epoch, tag: Tag(0), seq: 0 };
        self.by_key.range(..first).map(|(_, slot)| *slot).collect()
    }
}
