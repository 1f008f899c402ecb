//! From who can reach whom, and what was measured, to a rank order and schedules.
//!
//! `order` is for groups that nobody measured, `optimize` for those that somebody did. `docs/TOPOLOGY.md` has the model.

mod alike;
mod arborescence;
mod cost;
mod cycle;
mod effort;
mod exact;
mod figures;
mod forest;
mod graph;
mod hops;
mod hosts;
mod network;
mod optimize;
mod packing;
mod random;
mod search;
mod simplex;

#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod packing_tests;
#[cfg(test)]
mod ring_tests;
#[cfg(test)]
mod test_networks;
#[cfg(test)]
mod tests;

use crate::types::PeerId;
pub use effort::Steps;
pub use figures::Figures;
use graph::Graph;
pub use optimize::{Optimized, Shape, optimize, predict, price};

/// What schedules an order allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderKind {
    /// Neighbours have a link, the last and the first too: a ring runs.
    ClosedRing,
    /// No ring was found, but everybody can be reached over links: trees run.
    Connected,
    /// No schedule exists. `without` has to go: everybody outside the largest part that holds together (of
    /// equal ones, the part with the earliest member).
    Disconnected { without: Vec<PeerId> },
}

/// The order of a group, and what it is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// All members, those that have to go included.
    pub order: Vec<PeerId>,
    pub kind: OrderKind,
}

/// Orders a group so that a ring runs, if it can be had within a fixed number of steps.
///
/// `members` come in the wished order, which stays wherever the ring closes over linked pairs, or where no
/// ring is found. Pairs that name others are ignored. A pure function: equal arguments, equal order.
pub fn order(members: &[PeerId], unlinked: &[(PeerId, PeerId)]) -> Order {
    let graph = Graph::new(members, unlinked);
    let part = graph.largest_part();
    if part.len() < members.len() {
        let without = (0..members.len()).filter(|index| part.binary_search(index).is_err());
        let without = without.map(|index| members[index]).collect();
        return Order { order: members.to_vec(), kind: OrderKind::Disconnected { without } };
    }
    match cycle::find(&graph) {
        Some(cycle) => Order {
            order: cycle.into_iter().map(|index| members[index]).collect(),
            kind: OrderKind::ClosedRing,
        },
        None => Order { order: members.to_vec(), kind: OrderKind::Connected },
    }
}
