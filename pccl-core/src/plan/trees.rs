//! Breadth-first trees over the pairs that have a link; reduction and broadcast use the same tree.

use super::chunks::equal_share;
use super::links::Links;
use super::view::ChunkView;
use crate::types::{GroupInfo, Rank};

/// The group is connected.
pub fn chunks(group: &GroupInfo, rank: Rank, count: u64) -> Vec<ChunkView> {
    let links = Links::of(group);
    let world_size = group.order.len() as Rank;
    (0..world_size)
        .map(|owner| (owner, equal_share(count, world_size, owner)))
        .filter(|&(_, (_, count))| count > 0)
        .map(|(owner, (first, count))| {
            let tree = links.tree(owner);
            let children = tree.children(rank);
            let parent = tree.parents[usize::from(rank)];
            let siblings = parent.map_or(vec![], |parent| tree.children(parent));
            ChunkView {
                owner,
                first,
                count,
                reduce_parent: parent,
                only_child: siblings.len() == 1,
                child_index: siblings.iter().position(|&child| child == rank).unwrap_or(0) as Rank,
                siblings: siblings.len() as Rank,
                reduce_children: children.clone(),
                broadcast_parent: parent,
                broadcast_children: children,
            }
        })
        .collect()
}
