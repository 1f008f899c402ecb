//! Members as indices, and which pairs of them have a link.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::PeerId;

pub struct Graph {
    size: usize,
    /// Both directions of every pair without a link.
    unlinked: BTreeSet<(usize, usize)>,
}

impl Graph {
    pub fn new(members: &[PeerId], unlinked: &[(PeerId, PeerId)]) -> Graph {
        let indices: BTreeMap<PeerId, usize> =
            members.iter().enumerate().map(|(index, &peer)| (peer, index)).collect();
        let mut pairs = BTreeSet::new();
        for (a, b) in unlinked {
            if let (Some(&a), Some(&b)) = (indices.get(a), indices.get(b)) {
                pairs.extend([(a, b), (b, a)]);
            }
        }
        Graph { size: members.len(), unlinked: pairs }
    }

    pub fn size(&self) -> usize {
        self.size
    }

    pub fn linked(&self, a: usize, b: usize) -> bool {
        !self.unlinked.contains(&(a, b))
    }

    /// How many others this member has a link to.
    pub fn degree(&self, index: usize) -> usize {
        let missing = self.unlinked.range((index, 0)..=(index, usize::MAX));
        self.size - 1 - missing.filter(|&&(a, b)| a != b).count()
    }

    /// The largest set of members that can reach each other; of equal ones, the one with the earliest
    /// member. Sorted.
    pub fn largest_part(&self) -> Vec<usize> {
        let mut largest = Vec::new();
        let mut missing: Vec<usize> = (0..self.size).collect();
        while let Some(&first) = missing.first() {
            let part = self.part_of(first, &mut missing);
            if part.len() > largest.len() {
                largest = part;
            }
        }
        largest
    }

    /// Takes what `first` can reach out of `missing`.
    fn part_of(&self, first: usize, missing: &mut Vec<usize>) -> Vec<usize> {
        missing.retain(|&index| index != first);
        let mut part = vec![first];
        let mut looked_at = 0;
        while let Some(&from) = part.get(looked_at) {
            looked_at += 1;
            missing.retain(|&index| {
                let reached = self.linked(from, index);
                if reached {
                    part.push(index);
                }
                !reached
            });
        }
        part.sort_unstable();
        part
    }
}
