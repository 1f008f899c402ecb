//! Stars: every owner gets its share from everybody and gives it to everybody.

use super::chunks::{after, distance, equal_share};
use super::view::ChunkView;
use crate::types::Rank;

pub fn chunks(world_size: Rank, rank: Rank, count: u64) -> Vec<ChunkView> {
    let others: Vec<Rank> = (1..world_size).map(|steps| after(world_size, rank, steps)).collect();
    (0..world_size)
        .map(|owner| {
            let (first, count) = equal_share(count, world_size, owner);
            if owner == rank {
                return ChunkView {
                    owner,
                    first,
                    count,
                    reduce_parent: None,
                    only_child: false,
                    child_index: 0,
                    siblings: 0,
                    reduce_children: others.clone(),
                    broadcast_parent: None,
                    broadcast_children: others.clone(),
                };
            }
            ChunkView {
                owner,
                first,
                count,
                reduce_parent: Some(owner),
                only_child: world_size == 2,
                child_index: distance(world_size, owner, rank) - 1,
                siblings: world_size - 1,
                reduce_children: vec![],
                broadcast_parent: Some(owner),
                broadcast_children: vec![],
            }
        })
        .filter(|chunk| chunk.count > 0)
        .collect()
}
