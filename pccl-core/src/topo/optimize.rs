//! From figures to an order and what it is worth.

use super::figures::Figures;
use super::hops::Hops;
use super::network::Network;
use super::{cost, exact, forest, search};
use crate::types::{PackedTree, Planned};

/// How hard to look. More never makes the exact parts better, which groups of up to 12 consist of for their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Elementary looks at a figure or a move; a hundred million are about a second.
    pub steps: u64,
    /// Equal seeds, equal results; another one may find something else.
    pub seed: u64,
}

/// An order, and what the network is worth in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimized {
    /// Members by rank.
    pub order: Vec<usize>,
    pub planned: Planned,
}

/// A schedule whose time is to be predicted.
#[derive(Clone, Copy, Debug)]
pub enum Shape<'a> {
    Ring,
    Mesh,
    Forest(&'a [PackedTree]),
}

/// The best order and schedules that can be found with this effort. A pure function: equal arguments, equal result.
pub fn optimize(figures: &Figures, effort: Effort) -> Optimized {
    let members: Vec<usize> = (0..figures.members()).collect();
    let hops = Hops::new(&Network::new(figures, &members));
    let found = match members.len() {
        0..3 => members.clone(),
        3..=exact::MAX_EXACT_MEMBERS => exact::best(&hops).unwrap_or_else(|| members.clone()),
        _ => search::good(&hops, effort.steps / 4, effort.seed),
    };
    // Of equal rings the present one: a second search over the same figures changes nothing.
    let order = if hops.worth(&found) < hops.worth(&members) { found } else { members };
    let network = Network::new(figures, &order);
    let (ring, mesh) = (cost::ring(&network), cost::mesh(&network));
    let forest = forest::best(&network, ring, mesh, effort.steps);
    Optimized { order, planned: Planned { ring, mesh, forest } }
}

/// What ring and mesh take in an order that is kept. Cheap, and without a forest.
pub fn price(figures: &Figures, order: &[usize]) -> Planned {
    let network = Network::new(figures, order);
    Planned { ring: cost::ring(&network), mesh: cost::mesh(&network), forest: None }
}

/// Microseconds an operation of so many bytes is predicted to take.
pub fn predict(figures: &Figures, order: &[usize], shape: Shape<'_>, size_bytes: u64) -> u64 {
    let network = Network::new(figures, order);
    let cost = match shape {
        Shape::Ring => cost::ring(&network),
        Shape::Mesh => cost::mesh(&network),
        Shape::Forest(trees) => cost::forest(&network, trees),
    };
    cost.time_us(size_bytes)
}
