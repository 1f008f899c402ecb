//! The cost model: what a forest takes on a network. `docs/TOPOLOGY.md` derives it.

use super::network::Network;
use crate::types::{Cost, PackedTree, Rank};

/// A chunk whose trees are described, not stored: whom a rank passes its sum to, and whom it gets the result from.
pub struct Chunk<'a> {
    pub owner: usize,
    /// Part of the payload, of 1.
    pub part: f64,
    pub reduce: &'a dyn Fn(usize) -> usize,
    pub broadcast: &'a dyn Fn(usize) -> usize,
}

/// Sums up what a forest puts on each path and machine.
pub struct Loads<'a> {
    network: &'a Network,
    /// Payloads that cross each pair.
    pairs: Vec<f64>,
    /// Seconds until the first piece of the slowest chunk is everywhere.
    fill: f64,
    /// The longest delay of a pair that is used: what the first grant takes.
    farthest: f64,
    impossible: bool,
}

impl<'a> Loads<'a> {
    pub fn new(network: &'a Network) -> Loads<'a> {
        let pairs = vec![0.0; network.size * network.size];
        Loads { network, pairs, fill: 0.0, farthest: 0.0, impossible: false }
    }

    pub fn add(&mut self, chunk: &Chunk<'_>) {
        let up = self.tree(chunk, chunk.reduce, |child, parent| (child, parent));
        let down = self.tree(chunk, chunk.broadcast, |child, parent| (parent, child));
        self.fill = self.fill.max(up + down);
    }

    /// Adds one tree's load; gives the time a piece takes along its longest way.
    fn tree(
        &mut self,
        chunk: &Chunk<'_>,
        parent: &dyn Fn(usize) -> usize,
        direction: fn(usize, usize) -> (usize, usize),
    ) -> f64 {
        let size = self.network.size;
        let hop = |rank: usize| {
            let (from, to) = direction(rank, parent(rank));
            self.network.hop_seconds(from, to)
        };
        // Ways share their upper parts, so each is followed only as far as it is new.
        let mut ways = vec![None; size];
        ways[chunk.owner] = Some(0.0);
        let mut passed = Vec::new();
        for start in 0..size {
            let mut at = start;
            let above = loop {
                match ways[at] {
                    Some(way) => break way,
                    None if passed.len() > size => break f64::INFINITY,
                    None => passed.push(at),
                }
                at = parent(at);
            };
            let mut way = above;
            while let Some(rank) = passed.pop() {
                way += hop(rank);
                ways[rank] = Some(way);
            }
        }
        for rank in (0..size).filter(|&rank| rank != chunk.owner) {
            let (from, to) = direction(rank, parent(rank));
            self.impossible |= !self.network.linked(from, to);
            self.pairs[from * size + to] += chunk.part;
            self.farthest = self.farthest.max(self.network.delay(from, to));
        }
        ways.iter().flatten().copied().fold(0.0, f64::max)
    }

    /// Seconds for each byte of the payload: that of the path or machine with the most to do.
    pub fn seconds_per_byte(&self) -> f64 {
        let size = self.network.size;
        let row = |at: usize| (0..size).map(move |other| at * size + other);
        let column = |at: usize| (0..size).map(move |other| other * size + at);
        let sum = |pairs: &mut dyn Iterator<Item = usize>| pairs.map(|pair| self.pairs[pair]).sum::<f64>();
        let paths = self.pairs.iter().zip(&self.network.rates).filter(|&(&load, _)| load > 0.0);
        let paths = paths.map(|(load, rate)| load / rate).fold(0.0, f64::max);
        let machine = |at: usize| {
            (sum(&mut row(at)) / self.network.up[at]).max(sum(&mut column(at)) / self.network.down[at])
        };
        (0..size).map(machine).fold(paths, f64::max)
    }

    pub fn cost(&self) -> Cost {
        if self.impossible {
            return Cost::NEVER;
        }
        // Casts of floats saturate.
        Cost {
            latency_us: ((self.farthest + self.fill) * 1e6).ceil() as u32,
            ps_per_byte: (self.seconds_per_byte() * 1e12).ceil() as u64,
        }
    }
}

/// Chains around the ranks, as `plan::ring` has them.
pub fn ring(network: &Network) -> Cost {
    let size = network.size;
    let (reduce, broadcast) = (|rank| (rank + 1) % size, |rank| (rank + size - 1) % size);
    equal_shares(network, &reduce, &broadcast)
}

/// Stars with equal shares.
pub fn mesh(network: &Network) -> Cost {
    let mut loads = Loads::new(network);
    for owner in 0..network.size {
        let star = |_| owner;
        loads.add(&Chunk { owner, part: 1.0 / network.size as f64, reduce: &star, broadcast: &star });
    }
    loads.cost()
}

fn equal_shares(
    network: &Network,
    reduce: &dyn Fn(usize) -> usize,
    broadcast: &dyn Fn(usize) -> usize,
) -> Cost {
    let mut loads = Loads::new(network);
    for owner in 0..network.size {
        loads.add(&Chunk { owner, part: 1.0 / network.size as f64, reduce, broadcast });
    }
    loads.cost()
}

pub fn forest(network: &Network, trees: &[PackedTree]) -> Cost {
    let sum: f64 = trees.iter().map(|tree| f64::from(tree.share)).sum();
    let mut loads = Loads::new(network);
    for tree in trees {
        let parent = |parents: &'_ [Rank], rank: usize| parents.get(rank).map_or(0, |&p| usize::from(p));
        loads.add(&Chunk {
            owner: usize::from(tree.owner),
            part: f64::from(tree.share) / sum,
            reduce: &|rank| parent(&tree.reduce_parents, rank),
            broadcast: &|rank| parent(&tree.broadcast_parents, rank),
        });
    }
    loads.cost()
}
