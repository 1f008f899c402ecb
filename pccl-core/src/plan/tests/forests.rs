//! Proofs over small worlds: all views together are forests, and executing them gives the sum.

use std::sync::Arc;

use proptest::prelude::*;

use super::execution::{check_result, execute};
use super::{bytes, group};
use crate::plan::links::Links;
use crate::plan::{ChunkView, PlanView, Schedule, child_at_turn, turn_of_child, view};
use crate::types::{Cost, ForestKind, GroupInfo, PackedTree, Planned, PlannedForest, Rank};

fn views(group: &GroupInfo, schedule: Schedule, piece: u32, count: u64) -> Vec<PlanView> {
    (0..group.order.len() as Rank).map(|rank| view(group, schedule, piece, rank, &bytes(count))).collect()
}

/// What one peer believes of its neighbours, they believe too; together it is two trees over all peers.
fn check_views(group: &GroupInfo, views: &[PlanView]) {
    let links = Links::of(group);
    for (rank, view) in views.iter().enumerate() {
        assert_eq!((usize::from(view.rank), usize::from(view.world_size)), (rank, views.len()));
        assert_eq!((view.digest, view.chunks.len()), (views[0].digest, views[0].chunks.len()));
    }
    let mut end = 0;
    for index in 0..views[0].chunks.len() {
        let chunk: Vec<&ChunkView> = views.iter().map(|v| &v.chunks[index]).collect();
        assert!(chunk.iter().all(|c| (c.owner, c.first, c.count) == (chunk[0].owner, end, chunk[0].count)));
        assert!(chunk[0].count > 0);
        end += chunk[0].count;
        check_chunk(&links, &chunk);
    }
    assert_eq!(end, views[0].count, "chunks tile the payload");
}

fn check_chunk(links: &Links, chunk: &[&ChunkView]) {
    let owner = chunk[0].owner;
    for (rank, mine) in chunk.iter().enumerate() {
        let rank = rank as Rank;
        match (mine.reduce_parent, mine.broadcast_parent) {
            (Some(reduce), Some(broadcast)) => {
                assert_ne!(rank, owner);
                assert!(links.linked(rank, reduce) && links.linked(rank, broadcast));
                let siblings = &chunk[usize::from(reduce)].reduce_children;
                assert_eq!(siblings[usize::from(mine.child_index)], rank);
                assert_eq!(usize::from(mine.siblings), siblings.len());
                assert_eq!(mine.only_child, siblings.len() == 1);
                assert!(chunk[usize::from(broadcast)].broadcast_children.contains(&rank));
            }
            (None, None) => {
                assert_eq!(rank, owner);
                assert_eq!((mine.only_child, mine.child_index, mine.siblings), (false, 0, 0));
            }
            one_only => panic!("a parent in one tree only: {one_only:?}"),
        }
    }
    check_tree(owner, chunk, |c| (&c.reduce_children, c.reduce_parent));
    check_tree(owner, chunk, |c| (&c.broadcast_children, c.broadcast_parent));
}

/// From the owner over the children everybody is met once, each under its own parent.
fn check_tree(owner: Rank, chunk: &[&ChunkView], edges: impl Fn(&ChunkView) -> (&Vec<Rank>, Option<Rank>)) {
    let mut met = vec![owner];
    let mut next = 0;
    while let Some(&rank) = met.get(next) {
        next += 1;
        for &child in edges(chunk[usize::from(rank)]).0 {
            assert_eq!(edges(chunk[usize::from(child)]).1, Some(rank));
            met.push(child);
        }
        assert!(met.len() <= chunk.len(), "somebody is met twice");
    }
    met.sort_unstable();
    assert!(met.iter().copied().eq(0..chunk.len() as Rank));
}

/// The whole proof for one world: views fit, results are right, and no order of arrival changes them.
fn prove(group: &GroupInfo, schedule: Schedule, piece: u32, count: u64) {
    let views = views(group, schedule, piece, count);
    check_views(group, &views);
    let first = execute(&views, 1);
    check_result(&first);
    for seed in 2..4 {
        assert_eq!(execute(&views, seed), first, "an order of arrival changed the order of additions");
    }
}

fn counts(world_size: Rank) -> Vec<u64> {
    let n = u64::from(world_size);
    let mut counts = vec![1, 2, n - 1, n, n + 1, 7, 64, 100];
    counts.sort_unstable();
    counts.dedup();
    counts
}

fn prove_all(group: &GroupInfo, schedule: Schedule) {
    for count in counts(group.order.len() as Rank) {
        for piece in [1, 3, 16] {
            prove(group, schedule, piece, count);
        }
    }
}

fn all_pairs(world_size: Rank) -> Vec<(Rank, Rank)> {
    (0..world_size).flat_map(|a| (a + 1..world_size).map(move |b| (a, b))).collect()
}

/// A forest over all pairs, from numbers: each rank's parent is one of those before it in an order of the tree's own.
fn packed(world_size: Rank, trees: usize, mut number: impl FnMut() -> u32) -> GroupInfo {
    let mut below = |limit: usize| number() as usize % limit;
    let mut parents = |owner: Rank| {
        let mut line: Vec<Rank> = (0..world_size).filter(|&rank| rank != owner).collect();
        (1..line.len()).rev().for_each(|at| line.swap(at, below(at + 1)));
        line.insert(0, owner);
        let mut parents = vec![owner; usize::from(world_size)];
        for at in 1..line.len() {
            parents[usize::from(line[at])] = line[below(at)];
        }
        parents
    };
    let trees = (0..trees)
        .map(|index| {
            let owner = (index * 3) as Rank % world_size;
            let (reduce_parents, broadcast_parents) = (parents(owner), parents(owner));
            PackedTree { owner, share: 1 + index as u32 % 4 * 5, reduce_parents, broadcast_parents }
        })
        .collect();
    let forest = PlannedForest { kind: ForestKind::Packed, cost: Cost::default(), trees };
    assert_eq!(forest.check(world_size.into(), &[]), Ok(()));
    let planned = Planned { ring: Cost::NEVER, mesh: Cost::NEVER, forest: Some(forest) };
    GroupInfo { planned: Some(Arc::new(planned)), ..group(world_size, &[]) }
}

fn counting() -> impl FnMut() -> u32 {
    let mut state = 1u32;
    move || {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        state >> 8
    }
}

#[test]
fn packed_forests_of_two_to_nine_give_the_sum() {
    for world_size in 2..=9 {
        for trees in [1, 2, 5, 12] {
            prove_all(&packed(world_size, trees, counting()), Schedule::Packed);
        }
    }
}

#[test]
fn a_packed_forest_of_two_hundred_gives_the_sum() {
    let group = packed(200, 64, counting());
    let views = views(&group, Schedule::Packed, 2, 333);
    check_views(&group, &views);
    check_result(&execute(&views, 1));
}

#[test]
fn a_trees_chunk_is_as_large_as_its_share() {
    // Shares of 1, 6, 11, 16 and 1 of 35.
    let group = packed(3, 5, counting());
    let view = &views(&group, Schedule::Packed, 8, 350)[0];
    let spans: Vec<(u64, u64)> = view.chunks.iter().map(|c| (c.first, c.count)).collect();
    assert_eq!(spans, [(0, 10), (10, 60), (70, 110), (180, 160), (340, 10)]);
    let few = &views(&group, Schedule::Packed, 8, 3)[0];
    assert_eq!(few.chunks.iter().map(|c| c.count).sum::<u64>(), 3);
}

fn is_connected(group: &GroupInfo) -> bool {
    Links::of(group).tree(0).unreached().is_none()
}

#[test]
fn rings_of_two_to_nine_give_the_sum() {
    (2..=9).for_each(|world_size| prove_all(&group(world_size, &[]), Schedule::Ring));
}

#[test]
fn meshes_of_two_to_nine_give_the_sum() {
    (2..=9).for_each(|world_size| prove_all(&group(world_size, &[]), Schedule::Mesh));
}

#[test]
fn trees_over_lines_hubs_circles_and_all_links_give_the_sum() {
    for world_size in 2..=9 {
        let without = |keep: fn(Rank, Rank, Rank) -> bool| -> Vec<(Rank, Rank)> {
            all_pairs(world_size).into_iter().filter(|&(a, b)| !keep(world_size, a, b)).collect()
        };
        let line = without(|_, a, b| b == a + 1);
        let hub = without(|n, a, b| a == n / 2 || b == n / 2);
        let circle = without(|n, a, b| b == a + 1 || b - a == n - 1);
        let halves = without(|n, a, b| (a < n / 2) == (b < n / 2) || b == a + n / 2);
        for unlinked in [line, hub, circle, halves, vec![]] {
            prove_all(&group(world_size, &unlinked), Schedule::Trees);
        }
    }
}

#[test]
fn trees_over_every_connected_group_of_up_to_four_give_the_sum() {
    for world_size in 2..=4 {
        let pairs = all_pairs(world_size);
        for mask in 0..1u32 << pairs.len() {
            let lost: Vec<_> =
                pairs.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1).map(|(_, &p)| p).collect();
            let group = group(world_size, &lost);
            if is_connected(&group) {
                [1, 3, 9].into_iter().for_each(|count| prove(&group, Schedule::Trees, 2, count));
            }
        }
    }
}

#[test]
fn two_hundred_peers_with_missing_links_give_the_sum() {
    let lost: Vec<(Rank, Rank)> = all_pairs(200).into_iter().filter(|&(a, b)| (a * 7 + b) % 5 == 0).collect();
    for (schedule, lost) in [(Schedule::Ring, vec![]), (Schedule::Mesh, vec![]), (Schedule::Trees, lost)] {
        let group = group(200, &lost);
        let views = views(&group, schedule, 2, 333);
        check_views(&group, &views);
        check_result(&execute(&views, 1));
    }
}

#[test]
fn a_ring_talks_to_its_neighbours_only_and_a_mesh_has_no_forwarders() {
    for view in views(&group(6, &[]), Schedule::Ring, 8, 60) {
        let next = Some((view.rank + 1) % 6);
        let before = Some((view.rank + 5) % 6);
        for chunk in view.chunks.iter().filter(|c| c.owner != view.rank) {
            assert_eq!((chunk.reduce_parent, chunk.broadcast_parent), (next, before));
        }
    }
    for view in views(&group(6, &[]), Schedule::Mesh, 8, 60) {
        for chunk in view.chunks.iter().filter(|c| c.owner != view.rank) {
            assert_eq!((chunk.reduce_parent, chunk.broadcast_parent), (Some(chunk.owner), Some(chunk.owner)));
            assert!(chunk.reduce_children.is_empty() && chunk.broadcast_children.is_empty());
        }
    }
}

#[test]
fn turns_are_a_permutation_at_every_piece_and_rotate_over_the_children() {
    for children in 1..20 {
        for piece in (0..50).chain([u32::MAX - 1, u32::MAX]) {
            for turn in 0..children {
                let child = child_at_turn(children, piece, turn);
                assert!(child < children);
                assert_eq!(turn_of_child(children, piece, child), turn);
            }
        }
        let first: Vec<usize> = (0..children as u32).map(|piece| child_at_turn(children, piece, 0)).collect();
        assert!(first.into_iter().eq(0..children), "every child is first in one piece of as many");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn random_packed_forests_give_the_sum(
        world_size in 2u16..=12,
        trees in 1usize..20,
        numbers in prop::collection::vec(any::<u32>(), 97),
        piece in 1u32..6,
        count in 1u64..90,
    ) {
        let mut numbers = numbers.into_iter().cycle();
        prove(&packed(world_size, trees, || numbers.next().unwrap_or(0)), Schedule::Packed, piece, count);
    }

    #[test]
    fn trees_over_random_connected_groups_give_the_sum(
        world_size in 2u16..=14,
        parents in prop::collection::vec(any::<u16>(), 14),
        kept in prop::collection::vec(prop::bool::weighted(0.3), 91),
        piece in 1u32..6,
        count in 1u64..60,
    ) {
        // A random tree keeps the group connected; of the other pairs some have links.
        let spans = |a: Rank, b: Rank| parents[usize::from(b)] % b == a;
        let lost: Vec<_> = all_pairs(world_size)
            .into_iter()
            .zip(kept)
            .filter(|&((a, b), kept)| !kept && !spans(a, b))
            .map(|(pair, _)| pair)
            .collect();
        prove(&group(world_size, &lost), Schedule::Trees, piece, count);
    }
}
