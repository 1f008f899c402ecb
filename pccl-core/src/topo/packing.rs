//! Forests fitted to a network: how much of a payload goes by which trees, so that no path and no machine has more to do
//! than it must.
//!
//! It is a linear program: the most trees a second, each using each path and machine as often as it crosses it, none of
//! them beyond what it carries. There are far too many trees to write down; the next one worth having is the cheapest at the
//! prices the program puts on paths and machines (`arborescence`), and when none is, the prices prove it.

use super::arborescence;
use super::effort::Steps;
use super::network::Network;
use super::simplex::{Column, Program};

/// A chunk's two trees; parents by rank, the owner is its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    pub owner: usize,
    pub reduce: Vec<usize>,
    pub broadcast: Vec<usize>,
}

/// Trees with what each carries, in bytes a second of payload.
pub struct Packing {
    pub trees: Vec<(Pair, f64)>,
    /// No forest moves more bytes a second of payload.
    pub bound: f64,
}

/// What can be the limit: pairs, uplinks, downlinks.
pub struct Resources {
    size: usize,
    /// By pair its row, and where both ends' machines have theirs.
    pair_rows: Vec<Option<usize>>,
    up_rows: Vec<Option<usize>>,
    down_rows: Vec<Option<usize>>,
    /// In units of `unit`.
    capacities: Vec<f64>,
    unit: f64,
}

/// Of the length of a whole forest's tree at which the program stops: what trees cost beyond it is this much at most.
const GAP: f64 = 0.01;
/// How much of a pair's price is its distance, so that of equal trees the flat and near one is taken.
const DISTANCE_PART: f64 = 0.02;
/// Of so many owners, in turn, the next gathered tree may be.
const GATHERED_OWNERS: usize = 8;
/// How far prices follow the program's at each turn: those of a basis alone jump about.
const FOLLOW: f64 = 0.4;

impl Resources {
    pub fn new(network: &Network) -> Resources {
        let size = network.size;
        let unit = network.rates.iter().copied().fold(1.0, f64::max);
        let mut capacities = Vec::new();
        let mut row = |rate: f64| {
            (rate > 0.0 && rate.is_finite()).then(|| {
                capacities.push(rate / unit);
                capacities.len() - 1
            })
        };
        let pair_rows = network.rates.iter().map(|&rate| row(rate)).collect();
        let up_rows = network.up.iter().map(|&rate| row(rate)).collect();
        let down_rows = network.down.iter().map(|&rate| row(rate)).collect();
        Resources { size, pair_rows, up_rows, down_rows, capacities, unit }
    }

    fn edges(pair: &Pair) -> impl Iterator<Item = (usize, usize)> + '_ {
        let up = pair.reduce.iter().enumerate().map(|(child, &parent)| (child, parent));
        let down = pair.broadcast.iter().enumerate().map(|(child, &parent)| (parent, child));
        up.chain(down).filter(|(from, to)| from != to)
    }

    fn column(&self, pair: &Pair) -> Column {
        let mut used = vec![0.0; self.capacities.len()];
        for (from, to) in Resources::edges(pair) {
            let rows = [self.pair_rows[from * self.size + to], self.up_rows[from], self.down_rows[to]];
            rows.into_iter().flatten().for_each(|row| used[row] += 1.0);
        }
        used.into_iter().enumerate().filter(|&(_, uses)| uses > 0.0).collect()
    }

    /// What an edge costs at these prices; infinite without a link.
    fn edge_prices(&self, prices: &[f64]) -> Vec<f64> {
        let price = |row: Option<usize>| row.map_or(0.0, |row| prices[row].max(0.0));
        let edges = (0..self.size).flat_map(|from| (0..self.size).map(move |to| (from, to)));
        edges
            .map(|(from, to)| match self.pair_rows[from * self.size + to] {
                Some(row) => price(Some(row)) + price(self.up_rows[from]) + price(self.down_rows[to]),
                None => f64::INFINITY,
            })
            .collect()
    }

    /// All capacity at these prices.
    fn worth(&self, prices: &[f64]) -> f64 {
        self.capacities.iter().zip(prices).map(|(capacity, price)| capacity * price.max(0.0)).sum()
    }
}

/// What a hop adds to its price: more the longer a piece takes over it, at most `DISTANCE_PART` for a whole pair of trees.
fn distances(network: &Network) -> Vec<f64> {
    let size = network.size;
    let hop = |(from, to): (usize, usize)| network.hop_seconds(from, to);
    let pairs = (0..size).flat_map(|from| (0..size).map(move |to| (from, to)));
    let mut hops: Vec<f64> = pairs.clone().filter(|&(a, b)| network.linked(a, b)).map(hop).collect();
    hops.sort_by(f64::total_cmp);
    let middle = hops.get(hops.len() / 2).copied().unwrap_or(1.0);
    let part = DISTANCE_PART / (2 * (size - 1)) as f64;
    let part_of = |pair: (usize, usize)| match network.linked(pair.0, pair.1) {
        true => part * hop(pair) / (hop(pair) + middle),
        false => 0.0,
    };
    pairs.map(part_of).collect()
}

fn transposed(size: usize, costs: &[f64]) -> Vec<f64> {
    (0..size * size).map(|at| costs[at % size * size + at / size]).collect()
}

fn length(size: usize, costs: &[f64], pair: &Pair) -> f64 {
    Resources::edges(pair).map(|(from, to)| costs[from * size + to]).sum()
}

/// The cheapest pair of trees of this owner.
fn cheapest_of(size: usize, costs: &[f64], turned: &[f64], owner: usize) -> Option<Pair> {
    let broadcast = arborescence::cheapest(size, costs, owner)?;
    let reduce = arborescence::cheapest(size, turned, owner)?;
    Some(Pair { owner, reduce, broadcast })
}

/// Which forests are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trees {
    Any,
    /// Every owner's children are all others.
    Stars,
}

/// The cheapest pair of trees for edges of these costs, of any of these owners.
fn cheapest(
    size: usize,
    costs: &[f64],
    trees: Trees,
    owners: impl Iterator<Item = usize>,
) -> Option<(Pair, f64)> {
    let turned = transposed(size, costs);
    let of_owner = |owner: usize| match trees {
        Trees::Any => cheapest_of(size, costs, &turned, owner),
        Trees::Stars => Some(Pair { owner, reduce: vec![owner; size], broadcast: vec![owner; size] }),
    };
    let priced = owners.filter_map(of_owner).map(|pair| {
        let length = length(size, costs, &pair);
        (pair, length)
    });
    priced.min_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, length)| length.is_finite())
}

/// The best packing that can be found within so many steps.
pub fn pack(network: &Network, trees: Trees, steps: &mut Steps<'_>) -> Option<Packing> {
    let (size, resources) = (network.size, Resources::new(network));
    let mut program = Program::new(&resources.capacities);
    // Where every path is as dear as it is slow, all are equally wanted: a first guess.
    let inverse: Vec<f64> = resources.capacities.iter().map(|capacity| 1.0 / capacity).collect();
    let (_, first) = cheapest(size, &resources.edge_prices(&inverse), trees, 0..size)?;
    let mut prices: Vec<f64> = inverse.iter().map(|price| price / first).collect();
    let distance = distances(network);
    let mut bound = f64::INFINITY;
    let mut pairs: Vec<Pair> = Vec::new();
    // Stars are the flattest trees. What they can carry they may; the rest is for others.
    for owner in (0..size).filter(|_| trees == Trees::Any) {
        let pair = Pair { owner, reduce: vec![owner; size], broadcast: vec![owner; size] };
        let column = resources.column(&pair);
        let linked = Resources::edges(&pair).all(|(from, to)| network.linked(from, to));
        if linked && program.welcomes(&column) {
            pairs.push(pair);
            if !program.enter(column) {
                return None;
            }
        }
    }
    let round_steps = (size * size * size * 8) as u64 + 2 * program.pivot_steps();
    while steps.left() > round_steps {
        steps.spend(round_steps);
        let pure = resources.edge_prices(&prices);
        let costs: Vec<f64> = pure.iter().zip(&distance).map(|(price, extra)| price + extra).collect();
        let (pair, with_distance) = cheapest(size, &costs, trees, 0..size)?;
        // No tree is shorter than the cheapest one less all the distance a tree can have.
        let shortest = (with_distance - DISTANCE_PART).max(0.0);
        if shortest > 0.0 {
            bound = bound.min(resources.worth(&prices) / shortest);
        }
        let column = resources.column(&pair);
        let welcome = program.welcomes(&column);
        if welcome {
            pairs.push(pair);
            // The tree stays: the program may already name it, and a failed pivot leaves no share to it.
            if !program.enter(column) {
                break;
            }
        }
        if program.sum() >= bound * (1.0 - GAP - DISTANCE_PART) {
            break;
        }
        let exact = program.prices();
        let follow = if welcome { FOLLOW } else { 0.8 };
        let moved = prices.iter().zip(exact).map(|(old, new)| old + follow * (new.max(0.0) - old));
        prices = moved.collect();
    }
    let trees = program.solution().into_iter().map(|(at, rate)| (pairs[at].clone(), rate * resources.unit));
    Some(Packing { trees: trees.collect(), bound: bound * resources.unit })
}

/// What the forests of larger groups are put together from, one tree after the other: for all of them at once the
/// program's matrix would be too large. Each tree is the cheapest at prices that grow with what lies on a path already
/// (multiplicative weights: Plotkin, Shmoys & Tardos 1995), and gives way to a better one while steps last.
pub fn gathered(network: &Network, trees: Trees, most: usize, steps: &mut Steps<'_>) -> Option<Packing> {
    let (size, resources) = (network.size, Resources::new(network));
    let rows = resources.capacities.len();
    let sharpness = 1.5 * (rows as f64).ln();
    let mut loads = vec![0.0; rows];
    let mut found: Vec<Pair> = Vec::new();
    let mut best: Option<(f64, Vec<Pair>)> = None;
    let fullness = |loads: &[f64]| {
        loads.iter().zip(&resources.capacities).map(|(load, capacity)| load / capacity).fold(0.0, f64::max)
    };
    let owners = if trees == Trees::Any { GATHERED_OWNERS.min(size) } else { size };
    let per_owner = if trees == Trees::Any { 16 * size * size } else { 2 * size };
    let round_steps = (owners * per_owner + 4 * size * size) as u64;
    let mut place = most - 1;
    while steps.left() >= round_steps {
        steps.spend(round_steps);
        place = (place + 1) % most;
        if found.len() == most {
            resources.column(&found[place]).into_iter().for_each(|(row, uses)| loads[row] -= uses);
        }
        // What the fullest will have when all trees are there, so that the first ones do not shun what they need not.
        let ahead = most as f64 / found.len().max(1) as f64;
        let full = fullness(&loads).max(f64::MIN_POSITIVE) * ahead;
        // As full as one more tree would make it: nothing goes over what is too slow for a whole one.
        let price = |(load, capacity): (&f64, &f64)| {
            (sharpness * (load + 1.0) / capacity / full).min(100.0).exp() / capacity
        };
        let prices: Vec<f64> = loads.iter().zip(&resources.capacities).map(price).collect();
        let costs = resources.edge_prices(&prices);
        let owners = (0..owners).map(|at| (place * owners + at) % size);
        let (pair, _) = cheapest(size, &costs, trees, owners)?;
        resources.column(&pair).into_iter().for_each(|(row, uses)| loads[row] += uses);
        if found.len() < most {
            found.push(pair)
        } else {
            found[place] = pair
        }
        let rate = found.len() as f64 / fullness(&loads);
        if found.len() == most && best.as_ref().is_none_or(|(best, _)| rate > *best) {
            best = Some((rate, found.clone()));
        }
    }
    let (rate, pairs) = best?;
    let each = rate * resources.unit / pairs.len() as f64;
    Some(Packing { trees: pairs.into_iter().map(|pair| (pair, each)).collect(), bound: f64::INFINITY })
}

/// The same packing with at most so many trees. The lightest go a few at a time, and what is left is weighed anew each
/// time, whether or not there are steps for it: only with few trees is it of any use.
pub fn thinned(network: &Network, mut packing: Packing, most: usize, steps: &mut Steps<'_>) -> Packing {
    packing.trees.sort_by(|a, b| b.1.total_cmp(&a.1));
    while packing.trees.len() > most {
        let kept = (packing.trees.len() * 3 / 4).max(most);
        packing.trees.truncate(kept);
        let resources = Resources::new(network);
        let mut program = Program::new(&resources.capacities);
        let columns: Vec<Column> = packing.trees.iter().map(|(pair, _)| resources.column(pair)).collect();
        let mut came = Vec::new();
        for _ in 0..8 * kept {
            let price =
                |column: &Column| column.iter().map(|&(row, uses)| program.prices()[row] * uses).sum::<f64>();
            let best = (0..kept).min_by(|&a, &b| price(&columns[a]).total_cmp(&price(&columns[b])));
            let Some(best) = best.filter(|&best| program.welcomes(&columns[best])) else { break };
            came.push(best);
            steps.spend(program.pivot_steps());
            if steps.are_stopped() || !program.enter(columns[best].clone()) {
                break;
            }
        }
        let mut rates = vec![0.0; kept];
        program.solution().into_iter().for_each(|(at, rate)| rates[came[at]] += rate * resources.unit);
        packing.trees.iter_mut().zip(rates).for_each(|((_, rate), new)| *rate = new);
        packing.trees.retain(|&(_, rate)| rate > 0.0);
        packing.trees.sort_by(|a, b| b.1.total_cmp(&a.1));
    }
    packing
}
