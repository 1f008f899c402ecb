//! What it means for a ring to go from one member to another: how slow that makes the ring, and how long a piece takes.

use super::network::Network;

/// Levels of slowness an octave. Within a level, of about four in a hundred, bandwidths count as equal: a measurement
/// tells no more, and the total may decide.
pub const LEVELS_PER_OCTAVE: f64 = 16.0;
/// No path is faster than 2^44 bytes a second, so levels begin at 0.
const FASTEST_OCTAVE: f64 = 44.0;
/// Of a pair without a link: slower than all that have one.
pub const UNLINKED: u32 = u32::MAX;

/// By pair of members.
pub struct Hops {
    pub size: usize,
    levels: Vec<u32>,
    nanoseconds: Vec<u64>,
}

/// How good a ring is: its slowest hop first, then the time a piece takes all the way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Worth {
    pub slowest: u32,
    pub nanoseconds: u64,
}

impl Hops {
    pub fn new(network: &Network) -> Hops {
        let size = network.size;
        let pairs = (0..size).flat_map(|from| (0..size).map(move |to| (from, to)));
        let level = |(from, to)| {
            let octaves = FASTEST_OCTAVE - network.alone(from, to).log2();
            // Casts of floats saturate.
            if network.linked(from, to) { (octaves * LEVELS_PER_OCTAVE) as u32 } else { UNLINKED }
        };
        let nanoseconds = |(from, to)| {
            // At most a quarter of an hour, so that sums of as many as there may be peers fit easily.
            (network.hop_seconds(from, to).min(1000.0) * 1e9) as u64
        };
        Hops {
            size,
            levels: pairs.clone().map(level).collect(),
            nanoseconds: pairs.map(nanoseconds).collect(),
        }
    }

    pub fn level(&self, from: usize, to: usize) -> u32 {
        self.levels[from * self.size + to]
    }

    pub fn nanoseconds(&self, from: usize, to: usize) -> u64 {
        self.nanoseconds[from * self.size + to]
    }

    /// Levels of all pairs that have a link, sorted.
    pub fn all_levels(&self) -> Vec<u32> {
        let mut levels: Vec<u32> = self.levels.iter().copied().filter(|&level| level != UNLINKED).collect();
        levels.sort_unstable();
        levels.dedup();
        levels
    }

    /// No ring is better than this: everybody has a hop to somebody and one from somebody.
    pub fn slowest_at_least(&self) -> u32 {
        let others = |at: usize| (0..self.size).filter(move |&other| other != at);
        let best = |at: usize| {
            let to = others(at).map(|other| self.level(at, other)).min();
            let from = others(at).map(|other| self.level(other, at)).min();
            to.max(from).unwrap_or(0)
        };
        (0..self.size).map(best).max().unwrap_or(0)
    }

    pub fn worth(&self, order: &[usize]) -> Worth {
        let hops = order.iter().zip(order.iter().cycle().skip(1)).filter(|(from, to)| from != to);
        hops.fold(Worth { slowest: 0, nanoseconds: 0 }, |worth, (&from, &to)| Worth {
            slowest: worth.slowest.max(self.level(from, to)),
            nanoseconds: worth.nanoseconds + self.nanoseconds(from, to),
        })
    }
}
