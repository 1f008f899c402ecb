//! Networks of the kinds a planner meets, for tests.

use super::random::Random;
use super::{Figures, Optimized, Steps};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each direction of each pair has a bandwidth of its own.
    Pairs,
    /// Only the machines' own links limit, each by its own.
    Machines,
    /// Fast inside two sites, slow between them.
    TwoSites,
    /// All alike but one direction of one pair.
    BadPair,
}

pub const KINDS: [Kind; 4] = [Kind::Pairs, Kind::Machines, Kind::TwoSites, Kind::BadPair];

const MBIT: f64 = 125_000.0;

/// Deterministic for equal arguments.
pub fn network(kind: Kind, members: usize, seed: u64) -> Figures {
    let mut random = Random::new(seed);
    let mut between = |low: usize, high: usize| (low + random.below(high - low)) as f64 * MBIT;
    let mut figures = Figures::new(members);
    for a in 0..members {
        for b in (0..members).filter(|&b| b != a) {
            let same_site = (a % 2) == (b % 2);
            let (rate, delay_us) = match kind {
                Kind::Pairs => (between(10, 1000), 20_000),
                Kind::Machines => (10_000.0 * MBIT, 5_000),
                Kind::TwoSites if same_site => (between(900, 1000), 300),
                Kind::TwoSites => (between(40, 60), 40_000),
                Kind::BadPair if (a, b) == (0, members - 1) => (2.0 * MBIT, 10_000),
                Kind::BadPair => (200.0 * MBIT, 10_000),
            };
            figures.set_bandwidth(a, b, rate);
            figures.set_delay(a, b, delay_us);
        }
        if kind == Kind::Machines {
            figures.set_up(a, between(50, 1000));
            figures.set_down(a, between(50, 1000));
        }
    }
    figures
}

/// How long to look, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub steps: u64,
    pub seed: u64,
}

pub fn optimize(figures: &Figures, effort: Effort) -> Optimized {
    super::optimize(figures, effort.seed, &mut steps(effort.steps))
}

/// That nobody stops.
pub fn steps(count: u64) -> Steps<'static> {
    Steps::new(count, &|| false)
}
