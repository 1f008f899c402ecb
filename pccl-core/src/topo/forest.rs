//! The best forest for a network: which kinds are looked for, how hard, and whether it is worth anything.

use super::cost;
use super::effort::Steps;
use super::network::Network;
use super::packing::{Packing, Pair, Trees, gathered, pack, thinned};
use crate::limits::{MAX_FOREST_TREES, PLANNED_BYTES};
use crate::types::{Cost, ForestKind, PackedTree, PlannedForest, Rank};

/// Up to here the linear program is solved; its matrix has a row and a column for each pair.
const MAX_PROGRAM_MEMBERS: usize = 20;
/// Trees of groups that are larger. Stars need one for each member.
const GATHERED_STARS: usize = 1024;
/// A forest has to be so much better than ring and mesh, in a hundred: less is within the model's error.
const WORTH_PERCENT: u64 = 10;
/// Shares are parts of about this many.
const SHARES: f64 = 1_000_000.0;

/// The forest of the least predicted time, if that is clearly less than what ring and mesh take.
pub fn best(network: &Network, ring: Cost, mesh: Cost, steps: &mut Steps<'_>) -> Option<PlannedForest> {
    if network.size < 2 {
        return None;
    }
    let third = steps.left() / 3;
    let stars = match network.size {
        ..=MAX_FOREST_TREES => steps.lend(third, |steps| found(network, Trees::Stars, steps)),
        _ => None,
    };
    let any = steps.lend(2 * third, |steps| found(network, Trees::Any, steps));
    let planned = |kind, packing: Packing| {
        let trees = weighted(packing);
        PlannedForest { kind, cost: cost::forest(network, &trees), trees }
    };
    let stars = stars.map(|packing| planned(ForestKind::MeshShares, packing));
    let any = any.map(|packing| planned(ForestKind::Packed, packing));
    let best = stars.into_iter().chain(any).min_by_key(|forest| forest.cost.time_us(PLANNED_BYTES))?;
    let simple = ring.time_us(PLANNED_BYTES).min(mesh.time_us(PLANNED_BYTES));
    let enough = simple / 100 * (100 - WORTH_PERCENT);
    (best.cost.time_us(PLANNED_BYTES) < enough).then_some(best)
}

/// Packed by the program where the group is small enough, gathered where it is not.
fn found(network: &Network, trees: Trees, steps: &mut Steps<'_>) -> Option<Packing> {
    let packing = match (network.size, trees) {
        (..=MAX_PROGRAM_MEMBERS, _) => {
            let packing = pack(network, trees, steps)?;
            thinned(network, packing, MAX_FOREST_TREES, steps)
        }
        (_, Trees::Any) => gathered(network, trees, MAX_FOREST_TREES, steps)?,
        (_, Trees::Stars) => merged(gathered(network, trees, GATHERED_STARS, steps)?, network.size),
    };
    Some(packing).filter(|packing| !packing.trees.is_empty())
}

/// All stars of an owner as one.
fn merged(packing: Packing, size: usize) -> Packing {
    let mut rates = vec![0.0; size];
    packing.trees.iter().for_each(|(pair, rate)| rates[pair.owner] += rate);
    let star = |owner| Pair { owner, reduce: vec![owner; size], broadcast: vec![owner; size] };
    let trees = rates.into_iter().enumerate().filter(|&(_, rate)| rate > 0.0);
    Packing { trees: trees.map(|(owner, rate)| (star(owner), rate)).collect(), bound: packing.bound }
}

fn weighted(packing: Packing) -> Vec<PackedTree> {
    let sum: f64 = packing.trees.iter().map(|(_, rate)| rate).sum();
    let ranks = |parents: Vec<usize>| parents.into_iter().map(|parent| parent as Rank).collect();
    let tree = |(pair, rate): (Pair, f64)| PackedTree {
        owner: pair.owner as Rank,
        share: ((rate / sum * SHARES).round() as u32).max(1),
        reduce_parents: ranks(pair.reduce),
        broadcast_parents: ranks(pair.broadcast),
    };
    packing.trees.into_iter().map(tree).collect()
}
