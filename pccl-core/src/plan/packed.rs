//! The planner's forest: each tree a chunk, as large as its share.

use super::chunks::after;
use super::view::ChunkView;
use crate::types::{PackedTree, Rank};

/// First element and number of elements of each tree's chunk; some may have none.
fn shares(trees: &[PackedTree], count: u64) -> impl Iterator<Item = (u64, u64)> {
    let sum: u128 = trees.iter().map(|tree| u128::from(tree.share)).sum();
    // The product fits: a count has 64 bits, and a sum of as many shares as memory holds has less than 64.
    let border = move |passed: u128| (passed * u128::from(count)).checked_div(sum).unwrap_or(0) as u64;
    trees.iter().scan(0, move |passed, tree| {
        let first = border(*passed);
        *passed += u128::from(tree.share);
        Some((first, border(*passed) - first))
    })
}

/// Children in their order around the ring from the owner on, as in all other forests.
fn children(owner: Rank, parents: &[Rank], parent: Rank) -> Vec<Rank> {
    let world_size = parents.len() as Rank;
    (1..world_size)
        .map(|steps| after(world_size, owner, steps))
        .filter(|&rank| parents.get(usize::from(rank)) == Some(&parent))
        .collect()
}

pub fn chunks(trees: &[PackedTree], rank: Rank, count: u64) -> Vec<ChunkView> {
    let of_trees = trees.iter().zip(shares(trees, count));
    of_trees
        .filter(|&(_, (_, count))| count > 0)
        .map(|(tree, (first, count))| {
            let parent = |parents: &[Rank]| {
                let parent = parents.get(usize::from(rank)).copied();
                if rank == tree.owner { None } else { parent }
            };
            let reduce_parent = parent(&tree.reduce_parents);
            let siblings =
                reduce_parent.map_or(vec![], |parent| children(tree.owner, &tree.reduce_parents, parent));
            ChunkView {
                owner: tree.owner,
                first,
                count,
                reduce_parent,
                only_child: siblings.len() == 1,
                child_index: siblings.iter().position(|&child| child == rank).unwrap_or(0) as Rank,
                siblings: siblings.len() as Rank,
                reduce_children: children(tree.owner, &tree.reduce_parents, rank),
                broadcast_parent: parent(&tree.broadcast_parents),
                broadcast_children: children(tree.owner, &tree.broadcast_parents, rank),
            }
        })
        .collect()
}
