//! What may be sent to one peer of an operation, in the order in which it is sent.

use std::collections::BTreeMap;

use super::piece::{Direction, Item};
use crate::plan::{PlanView, Schedule};

#[derive(Default)]
pub(super) struct Queue {
    items: BTreeMap<(Due, u64), Item>,
    /// Items of one due leave in the order in which they came.
    come: u64,
}

/// When an item is due beside others for the same peer; the least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    /// Nobody waits for it but the peer itself.
    last: bool,
    /// How far its chunk has come before it, of 2³².
    part: u64,
}

impl Queue {
    pub fn push(&mut self, due: Due, item: Item) {
        self.items.insert((due, self.come), item);
        self.come += 1;
    }

    pub fn pop(&mut self) -> Option<Item> {
        self.items.pop_first().map(|(_, item)| item)
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl Due {
    /// A link of a fitted forest carries parts of several chunks, and every chunk goes on from there over other links. All
    /// links are busy from beginning to end only if all chunks advance alike: a chunk that waits for another one to be
    /// through leaves those behind it idle. In a ring and a mesh what comes first is due first.
    pub fn of(item: &Item, view: &PlanView) -> Due {
        if matches!(view.schedule, Schedule::Ring | Schedule::Mesh) {
            return Due::default();
        }
        let chunk = &view.chunks[item.chunk as usize];
        let pieces = u64::from(chunk.pieces(view.piece_elements).max(1));
        // To everybody at once: none of them passes it on.
        let is_star = chunk.broadcast_children.len() + 1 == usize::from(view.world_size);
        let last = item.direction == Direction::Broadcast && is_star;
        Due { last, part: (u64::from(item.piece) << 32) / pieces }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ChunkView;

    /// Rank 0 of 3, in chunks of which others wait for what it sends, and as the owner of a star.
    fn view(schedule: Schedule, counts: &[u64]) -> PlanView {
        let chunk = |(c, &count): (usize, &u64)| ChunkView {
            owner: c as u16,
            first: counts[..c].iter().sum(),
            count,
            reduce_parent: (c > 0).then_some(1),
            only_child: true,
            child_index: 0,
            siblings: 1,
            reduce_children: vec![],
            broadcast_parent: (c > 0).then_some(1),
            broadcast_children: if c == 0 { vec![1, 2] } else { vec![] },
        };
        PlanView {
            schedule,
            rank: 0,
            world_size: 3,
            count: counts.iter().sum(),
            piece_elements: 10,
            digest: 0,
            chunks: counts.iter().enumerate().map(chunk).collect(),
        }
    }

    fn order(schedule: Schedule, counts: &[u64]) -> Vec<(u32, u32)> {
        let view = view(schedule, counts);
        let mut queue = Queue::default();
        for (c, chunk) in view.chunks.iter().enumerate() {
            let direction = if c == 0 { Direction::Broadcast } else { Direction::Reduce };
            for piece in 0..chunk.pieces(view.piece_elements) {
                let item = Item { direction, chunk: c as u32, piece };
                queue.push(Due::of(&item, &view), item);
            }
        }
        std::iter::from_fn(|| queue.pop()).map(|item| (item.chunk, item.piece)).collect()
    }

    #[test]
    fn chunks_of_a_fitted_forest_advance_alike_and_leaves_wait() {
        let sent = order(Schedule::Packed, &[20, 40, 20]);
        assert_eq!(sent, [(1, 0), (2, 0), (1, 1), (1, 2), (2, 1), (1, 3), (0, 0), (0, 1)]);
    }

    #[test]
    fn a_mesh_sends_what_comes_first() {
        let sent = order(Schedule::Mesh, &[20, 20]);
        assert_eq!(sent, [(0, 0), (0, 1), (1, 0), (1, 1)]);
    }
}
