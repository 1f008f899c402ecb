//! Chains around the ring of ranks: each peer talks to two neighbours.

use super::chunks::{after, equal_share};
use super::view::ChunkView;
use crate::types::Rank;

/// Chunk `c` starts at rank `c + 1`, is summed on the way round to `c`, and goes round once more.
pub fn chunks(world_size: Rank, rank: Rank, count: u64) -> Vec<ChunkView> {
    let before = after(world_size, rank, world_size - 1);
    let next = after(world_size, rank, 1);
    (0..world_size)
        .map(|owner| {
            let (first, count) = equal_share(count, world_size, owner);
            let owned = owner == rank;
            let starts_here = before == owner;
            ChunkView {
                owner,
                first,
                count,
                reduce_parent: (!owned).then_some(next),
                only_child: !owned,
                child_index: 0,
                siblings: Rank::from(!owned),
                reduce_children: if starts_here { vec![] } else { vec![before] },
                broadcast_parent: (!owned).then_some(before),
                broadcast_children: if next == owner { vec![] } else { vec![next] },
            }
        })
        .filter(|chunk| chunk.count > 0)
        .collect()
}
