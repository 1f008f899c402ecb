//! A good ring of a large group: nearest neighbour, then moves that keep hops' directions as they are (Or-opt and
//! 3-opt without reversal, which fit asymmetric hops) and reversals (2-opt), then the same again from shaken orders.

use super::effort::Steps;
use super::hops::{Hops, UNLINKED};
use super::random::Random;

/// Costs more than any hop that fits, so that no number of those outweighs one that does not.
const MISFIT: u64 = 1 << 50;
/// How much worse than wanted a hop may be and still count by how much.
const MAX_MISFIT_LEVELS: u32 = 200;
/// In larger groups only short segments move: all of them would be N³ moves to look at.
const FULL_MOVES_MEMBERS: usize = 100;
const SHORT_SEGMENT: usize = 3;

/// The search for rings whose hops are of a level or better.
struct Search<'a, 'b> {
    hops: &'a Hops,
    level: u32,
    steps: &'a mut Steps<'b>,
}

/// A good order within a number of steps (looks at a move); begins with member 0.
pub fn good(hops: &Hops, steps: &mut Steps<'_>, seed: u64) -> Vec<usize> {
    let mut random = Random::new(seed);
    let levels = hops.all_levels();
    let mut best = nearest_neighbours(hops, 0);
    let mut low = levels.partition_point(|&level| level < hops.slowest_at_least());
    let mut high = levels.partition_point(|&level| level < hops.worth(&best).slowest);
    // Half of the steps to make the slowest hop as fast as can be, half for the total.
    let tries = u64::from((high.saturating_sub(low)).max(1).ilog2() + 2);
    let share = steps.left() / 2 / tries;
    while low < high {
        let middle = (low + high) / 2;
        let order = steps.lend(share, |steps| {
            let mut search = Search { hops, level: levels[middle], steps };
            search.improve(nearest_neighbours(hops, levels[middle]), &mut random, true)
        });
        let slowest = levels.partition_point(|&level| level < hops.worth(&order).slowest);
        if slowest <= middle {
            (high, best) = (slowest, order);
        } else {
            low = middle + 1;
            best = best_of(hops, best, order);
        }
    }
    let level = hops.worth(&best).slowest;
    let order = Search { hops, level, steps }.improve(best.clone(), &mut random, false);
    let mut best = best_of(hops, best, order);
    let zero = best.iter().position(|&member| member == 0).unwrap_or(0);
    best.rotate_left(zero);
    best
}

fn best_of(hops: &Hops, a: Vec<usize>, b: Vec<usize>) -> Vec<usize> {
    if hops.worth(&b) < hops.worth(&a) { b } else { a }
}

fn cost(hops: &Hops, level: u32, from: usize, to: usize) -> u64 {
    let misfit = match hops.level(from, to) {
        UNLINKED => u64::from(MAX_MISFIT_LEVELS) * 4,
        this => u64::from(this.saturating_sub(level).min(MAX_MISFIT_LEVELS)),
    };
    hops.nanoseconds(from, to) + misfit * MISFIT
}

fn nearest_neighbours(hops: &Hops, level: u32) -> Vec<usize> {
    let mut missing: Vec<usize> = (1..hops.size).collect();
    let mut order = vec![0];
    let mut at = 0;
    while let Some(next) = (0..missing.len()).min_by_key(|&i| cost(hops, level, at, missing[i])) {
        at = missing.remove(next);
        order.push(at);
    }
    order
}

impl Search<'_, '_> {
    fn cost(&self, from: usize, to: usize) -> i128 {
        i128::from(cost(self.hops, self.level, from, to))
    }

    fn total(&self, order: &[usize]) -> i128 {
        order.iter().zip(order.iter().cycle().skip(1)).map(|(&a, &b)| self.cost(a, b)).sum()
    }

    /// Local optima from ever newly shaken orders, until steps are spent; or until all hops fit, if that is enough.
    fn improve(&mut self, order: Vec<usize>, random: &mut Random, fitting_is_enough: bool) -> Vec<usize> {
        let mut best = order;
        self.descend(&mut best);
        let mut best_total = self.total(&best);
        while self.steps.left() > 0 {
            if fitting_is_enough && self.hops.worth(&best).slowest <= self.level {
                break;
            }
            let mut order = shaken(&best, random);
            self.descend(&mut order);
            let total = self.total(&order);
            if total <= best_total {
                (best, best_total) = (order, total);
            }
        }
        best
    }

    fn descend(&mut self, order: &mut [usize]) {
        while self.steps.left() > 0 && (self.move_segment(order) || self.reverse_segment(order)) {
            // Where the last hop closes the ring is no place of its own: elsewhere moves see it too.
            let half = order.len() / 2;
            order.rotate_left(half);
        }
    }

    /// Swaps two neighbouring segments where that helps most, for each place where the first begins.
    fn move_segment(&mut self, order: &mut [usize]) -> bool {
        let size = order.len();
        let longest = if size <= FULL_MOVES_MEMBERS { size } else { SHORT_SEGMENT };
        let mut moved = false;
        for i in 0..size.saturating_sub(2) {
            let mut best = (0, 0, 0);
            for j in i + 1..(i + 1 + longest).min(size - 1) {
                let (a, b) = (order[i], order[i + 1]);
                let (c, d) = (order[j], order[j + 1]);
                let gone = self.cost(a, b) + self.cost(c, d);
                let fixed = self.cost(a, d) - gone;
                for k in j + 1..size {
                    let (e, f) = (order[k], order[(k + 1) % size]);
                    let change = fixed + self.cost(e, b) + self.cost(c, f) - self.cost(e, f);
                    if change < best.0 {
                        best = (change, j, k);
                    }
                }
                self.steps.spend((size - j) as u64);
            }
            let (change, j, k) = best;
            if change < 0 {
                order[i + 1..=k].rotate_left(j - i);
                moved = true;
            }
            if self.steps.left() == 0 {
                break;
            }
        }
        moved
    }

    /// Turns one segment round where that helps most, for each place where it begins.
    fn reverse_segment(&mut self, order: &mut [usize]) -> bool {
        let size = order.len();
        let mut moved = false;
        for i in 0..size.saturating_sub(2) {
            let mut best = (0, 0);
            // By how much the hops within the segment cost more the other way round.
            let mut within = 0;
            for j in i + 2..size {
                let (a, b) = (order[j - 1], order[j]);
                within += self.cost(b, a) - self.cost(a, b);
                let (before, first) = (order[i], order[i + 1]);
                let after = order[(j + 1) % size];
                let old = self.cost(before, first) + self.cost(b, after);
                let change = within + self.cost(before, b) + self.cost(first, after) - old;
                // Turned round as a whole, the ring has other neighbours at its ends than these.
                if change < best.0 && (i > 0 || j + 1 < size) {
                    best = (change, j);
                }
            }
            self.steps.spend((size - i) as u64);
            let (change, j) = best;
            if change < 0 {
                order[i + 1..=j].reverse();
                moved = true;
            }
            if self.steps.left() == 0 {
                break;
            }
        }
        moved
    }
}

/// Two neighbouring segments swapped at random, not far from each other: the moves above undo it only with others.
fn shaken(order: &[usize], random: &mut Random) -> Vec<usize> {
    let mut shaken = order.to_vec();
    let size = order.len();
    shaken.rotate_left(random.below(size));
    let reach = size.min(30);
    for _ in 0..2 {
        let mut cuts = [random.below(reach), random.below(reach), random.below(reach)];
        cuts.sort_unstable();
        let [a, b, c] = cuts;
        shaken[a..c].rotate_left(b - a);
    }
    shaken
}
