//! Which pairs of a group a schedule may use.

use std::collections::VecDeque;

use super::chunks::after;
use crate::types::{GroupInfo, Rank};

/// A bit for each ordered pair of ranks.
pub struct Links {
    world_size: Rank,
    words_per_rank: usize,
    unlinked: Vec<u64>,
}

/// The breadth-first tree of one owner: index is rank.
pub struct Tree {
    pub owner: Rank,
    /// `None` at the owner and at ranks that cannot be reached.
    pub parents: Vec<Option<Rank>>,
}

impl Links {
    pub fn of(group: &GroupInfo) -> Links {
        let world_size = group.order.len() as Rank;
        let words_per_rank = usize::from(world_size).div_ceil(64);
        let mut links =
            Links { world_size, words_per_rank, unlinked: vec![0; words_per_rank * usize::from(world_size)] };
        for &(a, b) in &group.unlinked {
            if a < world_size && b < world_size {
                links.unlink(a, b);
                links.unlink(b, a);
            }
        }
        links
    }

    fn unlink(&mut self, from: Rank, to: Rank) {
        let word = usize::from(from) * self.words_per_rank + usize::from(to) / 64;
        self.unlinked[word] |= 1 << (to % 64);
    }

    pub fn linked(&self, a: Rank, b: Rank) -> bool {
        let word = usize::from(a) * self.words_per_rank + usize::from(b) / 64;
        self.unlinked[word] & 1 << (b % 64) == 0
    }

    /// Looks at ranks in their order around the ring from the owner on, so that different owners burden
    /// different relays, and each parent's children are in that order too.
    pub fn tree(&self, owner: Rank) -> Tree {
        let mut parents = vec![None; usize::from(self.world_size)];
        let mut missing: Vec<Rank> =
            (1..self.world_size).map(|steps| after(self.world_size, owner, steps)).collect();
        let mut reached = VecDeque::from([owner]);
        while let Some(parent) = reached.pop_front() {
            missing.retain(|&rank| {
                let adopted = self.linked(parent, rank);
                if adopted {
                    parents[usize::from(rank)] = Some(parent);
                    reached.push_back(rank);
                }
                !adopted
            });
        }
        Tree { owner, parents }
    }
}

impl Tree {
    /// In their order around the ring from the owner on.
    pub fn children(&self, parent: Rank) -> Vec<Rank> {
        let world_size = self.parents.len() as Rank;
        (1..world_size)
            .map(|steps| after(world_size, self.owner, steps))
            .filter(|&rank| self.parents[usize::from(rank)] == Some(parent))
            .collect()
    }

    /// The first rank there is no way to.
    pub fn unreached(&self) -> Option<Rank> {
        (0..self.parents.len() as Rank)
            .find(|&rank| rank != self.owner && self.parents[usize::from(rank)].is_none())
    }
}
