//! A measured network in rank order, with something assumed where nothing was measured.

use super::Figures;
use crate::limits::DEFAULT_PIECE_BYTES;

/// Assumed of every pair where no pair was measured: 100 Mbit/s.
const UNMEASURED_BYTES_PER_SECOND: f64 = 12.5e6;
/// Assumed of every pair where no delay was measured.
const UNMEASURED_DELAY_US: u32 = 50_000;

/// Caution: a pair without a figure counts as slow as the slowest that has one, and as far as the farthest, so a
/// schedule comes to depend on it only where nothing measured would do.
#[derive(Clone, Debug)]
pub struct Network {
    pub size: usize,
    /// Bytes a second by pair, from × size + to; 0 where there is no link.
    pub rates: Vec<f64>,
    /// Seconds by pair.
    pub delays: Vec<f64>,
    /// Bytes a second by machine, infinite where nothing is known to limit it.
    pub up: Vec<f64>,
    pub down: Vec<f64>,
}

impl Network {
    /// `order` holds members by rank.
    pub fn new(figures: &Figures, order: &[usize]) -> Network {
        let size = order.len();
        let pairs = || {
            let all = order.iter().flat_map(|&a| order.iter().map(move |&b| (a, b)));
            all.map(|(a, b)| (a != b && figures.linked(a, b)).then_some((a, b)))
        };
        let known = |(a, b)| figures.bandwidth(a, b);
        let slowest = pairs().flatten().filter_map(known).min_by(f64::total_cmp);
        let farthest = pairs().flatten().filter_map(|(a, b)| figures.delay_us(a, b)).max();
        let slowest = slowest.unwrap_or(UNMEASURED_BYTES_PER_SECOND);
        let farthest = farthest.unwrap_or(UNMEASURED_DELAY_US);
        let rate = |pair: Option<(usize, usize)>| pair.map_or(0.0, |pair| known(pair).unwrap_or(slowest));
        let delay = |pair: Option<(usize, usize)>| {
            let us = pair.map_or(0, |(a, b)| figures.delay_us(a, b).unwrap_or(farthest));
            f64::from(us) / 1e6
        };
        let limit = |figure: Option<f64>| figure.unwrap_or(f64::INFINITY);
        Network {
            size,
            rates: pairs().map(rate).collect(),
            delays: pairs().map(delay).collect(),
            up: order.iter().map(|&member| limit(figures.up(member))).collect(),
            down: order.iter().map(|&member| limit(figures.down(member))).collect(),
        }
    }

    /// What one flow from here to there gets, if it is the only one of both machines.
    pub fn alone(&self, from: usize, to: usize) -> f64 {
        self.rates[from * self.size + to].min(self.up[from]).min(self.down[to])
    }

    pub fn linked(&self, from: usize, to: usize) -> bool {
        self.rates[from * self.size + to] > 0.0
    }

    /// What a piece takes over this hop, if nothing else is on it.
    pub fn hop_seconds(&self, from: usize, to: usize) -> f64 {
        self.delay(from, to) + f64::from(DEFAULT_PIECE_BYTES) / self.alone(from, to)
    }

    pub fn delay(&self, from: usize, to: usize) -> f64 {
        self.delays[from * self.size + to]
    }
}
