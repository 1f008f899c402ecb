//! Members that share a host, and so its link: a ring should come to each host once.

use super::figures::Figures;
use super::hops::{Hops, LEVELS_PER_OCTAVE};

/// Hosts by member.
pub struct Hosts(Vec<usize>);

/// How good a ring is, in this order of what counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shared {
    /// The slowest hop, as slow as it becomes where the hops from and to one host share its link.
    slowest: u32,
    /// Hops from one host to another.
    crossings: usize,
    nanoseconds: u64,
}

impl Hosts {
    pub fn new(figures: &Figures) -> Hosts {
        Hosts((0..figures.members()).map(|member| figures.host(member)).collect())
    }

    /// The same ring, with all of a host where it first comes to it.
    pub fn gathered(&self, order: &[usize]) -> Vec<usize> {
        let mut first_at = vec![usize::MAX; self.0.len()];
        for (at, &member) in order.iter().enumerate() {
            let first = &mut first_at[self.0[member]];
            *first = at.min(*first);
        }
        let mut gathered = order.to_vec();
        gathered.sort_by_key(|&member| first_at[self.0[member]]);
        gathered
    }

    pub fn worth(&self, hops: &Hops, order: &[usize]) -> Shared {
        let mut visits = vec![0usize; self.0.len()];
        let hosts = order.iter().map(|&member| self.0[member]);
        let crossings = hosts.clone().zip(hosts.cycle().skip(1)).filter(|(from, to)| from != to);
        crossings.for_each(|(_, to)| visits[to] += 1);
        let most = visits.iter().copied().max().unwrap_or(0).max(1);
        let worth = hops.worth(order);
        Shared {
            slowest: worth.slowest.saturating_add((LEVELS_PER_OCTAVE * (most as f64).log2()) as u32),
            crossings: visits.iter().sum(),
            nanoseconds: worth.nanoseconds,
        }
    }
}
