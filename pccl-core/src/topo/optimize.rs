//! From figures to an order and what it is worth.

use super::effort::Steps;
use super::figures::Figures;
use super::hops::Hops;
use super::hosts::Hosts;
use super::network::Network;
use super::{cost, exact, forest, search};
use crate::types::{PackedTree, Planned};

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

/// The best order and schedules that can be found in so many steps; the order of up to 12 is the best of all. A pure
/// function as long as nobody stops it: equal arguments, equal result. Another seed may find something else.
pub fn optimize(figures: &Figures, seed: u64, steps: &mut Steps<'_>) -> Optimized {
    let members: Vec<usize> = (0..figures.members()).collect();
    let hops = Hops::new(&Network::new(figures, &members));
    let total = steps.left();
    let found = match members.len() {
        0..3 => members.clone(),
        3..=exact::MAX_EXACT_MEMBERS => exact::best(&hops).unwrap_or_else(|| members.clone()),
        _ => steps.lend(total / 4, |steps| search::good(&hops, steps, seed)),
    };
    let hosts = Hosts::new(figures);
    let gathered = hosts.gathered(&found);
    // Of equal rings the present one: a second search over the same figures changes nothing.
    let mut order = members;
    for other in [found, gathered] {
        if hosts.worth(&hops, &other) < hosts.worth(&hops, &order) {
            order = other;
        }
    }
    let network = Network::new(figures, &order);
    let (ring, mesh) = (cost::ring(&network), cost::mesh(&network));
    let forest = steps.lend(total / 4 * 3, |steps| forest::best(&network, ring, mesh, steps));
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
