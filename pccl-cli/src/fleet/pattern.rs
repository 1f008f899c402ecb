//! Numbers whose exact sum over any members is known: how every result is checked, whoever took part.
//!
//! A peer contributes `value × w(i) + counter × u(i)` with fixed small whole w and u. The first elements carry 1,
//! the value, the counter and a nonce as they are, so their sums say how many took part and what the rest must be:
//! result(i) = Σvalue × w(i) + Σcounter × u(i), with no knowledge of who they were. Everything stays below 2²⁴,
//! where f32 adds whole numbers exactly in any order. The sums of the nonces name the instance: all who took part
//! see the same, and no other instance has them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Elements that describe the contribution; the pattern follows.
pub const HEADER: usize = 8;
pub const MAX_PEERS: u32 = 64;
pub const MAX_VALUE: u32 = 4095;
const MAX_COUNTER: u32 = 1023;
const MAX_NONCE: u32 = 1 << 17;
/// w and u are below this.
const WEIGHTS: u32 = 16;
/// Elements looked at where a full check would disturb what is measured.
const WINDOW: usize = 4096;

const _: () = assert!(MAX_PEERS * (MAX_VALUE + MAX_COUNTER) * (WEIGHTS - 1) < 1 << 24);
const _: () = assert!(MAX_PEERS * MAX_NONCE < 1 << 24);

/// What one peer puts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contribution {
    pub value: u32,
    counter: u32,
    nonce: [u32; 4],
}

/// What the header of a result says: sums over all who took part. Names the instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Instance {
    pub world: u32,
    pub value: u32,
    pub counter: u32,
    pub nonce: [u32; 4],
}

/// A peer's value; peers with different numbers have different ones (the factor has no divisor in common).
pub fn value_of(number: u32, seed: u64) -> u32 {
    1 + (number * 1237 + (seed % u64::from(MAX_VALUE)) as u32) % MAX_VALUE
}

#[inline]
fn weights(i: usize) -> (f32, f32) {
    let hash = (i as u32).wrapping_mul(0x9E37_79B1);
    ((hash >> 28) as f32, ((hash >> 24) & (WEIGHTS - 1)) as f32)
}

impl Contribution {
    pub fn first(value: u32, random: &mut fastrand::Rng) -> Contribution {
        Contribution { value, counter: 0, nonce: [0; 4] }.next(random)
    }

    pub fn next(self, random: &mut fastrand::Rng) -> Contribution {
        let counter = 1 + self.counter % MAX_COUNTER;
        self.renamed(random).with_counter(counter)
    }

    /// The same pattern under a new name: only the header has to be written again.
    pub fn renamed(self, random: &mut fastrand::Rng) -> Contribution {
        Contribution { nonce: std::array::from_fn(|_| random.u32(0..MAX_NONCE)), ..self }
    }

    fn with_counter(self, counter: u32) -> Contribution {
        Contribution { counter, ..self }
    }

    pub fn write_header(&self, out: &mut [f32]) {
        let [a, b, c, d] = self.nonce;
        let header = [1, self.value, self.counter, a, b, c, d, 0];
        for (out, value) in out.iter_mut().zip(header) {
            *out = value as f32;
        }
    }

    pub fn write(&self, out: &mut [f32]) {
        self.write_header(out);
        let (value, counter) = (self.value as f32, self.counter as f32);
        for (i, out) in out.iter_mut().enumerate().skip(HEADER) {
            let (w, u) = weights(i);
            *out = value * w + counter * u;
        }
    }
}

impl Instance {
    /// Reads the header. An error names the first element that no sum of contributions can have.
    pub fn read(result: &[f32]) -> Result<Instance, String> {
        let most = [
            MAX_PEERS,
            MAX_PEERS * MAX_VALUE,
            MAX_PEERS * MAX_COUNTER,
            MAX_PEERS * MAX_NONCE,
            MAX_PEERS * MAX_NONCE,
            MAX_PEERS * MAX_NONCE,
            MAX_PEERS * MAX_NONCE,
            0,
        ];
        let mut sums = [0; HEADER];
        for (i, most) in most.into_iter().enumerate() {
            let sum = result.get(i).copied().unwrap_or(f32::NAN);
            if !(0.0..=most as f32).contains(&sum) || sum.fract() != 0.0 {
                return Err(format!("element {i} is {sum}, which no sum of contributions can be"));
            }
            sums[i] = sum as u32;
        }
        let [world, value, counter, a, b, c, d, _] = sums;
        Ok(Instance { world, value, counter, nonce: [a, b, c, d] })
    }

    /// Compares elements with what they must be, bit by bit. An error names the first that differs.
    pub fn check(&self, result: &[f32], range: Range<usize>) -> Result<(), String> {
        let (value, counter) = (self.value as f32, self.counter as f32);
        let must_be = |i| {
            let (w, u) = weights(i);
            value * w + counter * u
        };
        let from = range.start.max(HEADER);
        let part = result.get(from..range.end).unwrap_or(&[]);
        let wrong = part
            .iter()
            .enumerate()
            .fold(0u32, |wrong, (i, x)| wrong + u32::from(x.to_bits() != must_be(from + i).to_bits()));
        if wrong == 0 {
            return Ok(());
        }
        let first = (from..range.end).find(|&i| result[i].to_bits() != must_be(i).to_bits()).unwrap_or(from);
        Err(format!(
            "{wrong} of {} elements are wrong, the first at {first}: {} instead of {}, {self:?}",
            part.len(),
            result[first],
            must_be(first)
        ))
    }

    /// Where to look if not everywhere: elsewhere each time, at all peers the same.
    pub fn window(&self, count: usize) -> Range<usize> {
        let [a, b, ..] = self.nonce;
        let places = count.saturating_sub(WINDOW) + 1;
        let from = (a as usize * 8191 + b as usize) % places;
        from..(from + WINDOW).min(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum_of(numbers: &[u32], count: usize) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut sum = vec![0.0; count];
        for &number in numbers {
            let mut mine = vec![0.0; count];
            let first = Contribution::first(value_of(number, 7), &mut random);
            first.next(&mut random).write(&mut mine);
            sum.iter_mut().zip(mine).for_each(|(sum, x)| *sum += x);
        }
        sum
    }

    #[test]
    fn the_sum_over_any_members_passes_and_says_how_many() {
        for numbers in [&[1u32][..], &[1, 2], &[3, 9, 27, 81], &(0..MAX_PEERS).collect::<Vec<_>>()] {
            let sum = sum_of(numbers, 5000);
            let instance = Instance::read(&sum).unwrap();
            assert_eq!(instance.world as usize, numbers.len());
            instance.check(&sum, 0..sum.len()).unwrap();
            instance.check(&sum, instance.window(sum.len())).unwrap();
        }
    }

    #[test]
    fn one_wrong_element_anywhere_is_named() {
        for i in [HEADER, 777, 4999] {
            let mut sum = sum_of(&[1, 2, 3], 5000);
            sum[i] += 1.0;
            let error = Instance::read(&sum).unwrap().check(&sum, 0..5000).unwrap_err();
            assert!(error.contains(&format!("the first at {i}:")), "{error}");
        }
    }

    #[test]
    fn a_piece_in_the_wrong_place_and_a_contribution_left_out_are_noticed() {
        let sum = sum_of(&[1, 2, 3], 5000);
        let instance = Instance::read(&sum).unwrap();
        let mut moved = sum.clone();
        moved.copy_within(1024..2048, 3072);
        assert!(instance.check(&moved, 0..5000).is_err());
        let mut partial = sum.clone();
        partial[2000..2100].copy_from_slice(&sum_of(&[1, 2], 5000)[2000..2100]);
        assert!(instance.check(&partial, 0..5000).is_err());
    }

    #[test]
    fn a_header_that_is_no_sum_is_refused() {
        for (i, bad) in [(0, 65.0), (1, 0.5), (2, -1.0), (3, f32::NAN), (7, 1.0)] {
            let mut sum = sum_of(&[1, 2], 64);
            sum[i] = bad;
            assert!(Instance::read(&sum).unwrap_err().starts_with(&format!("element {i} is")));
        }
        assert!(Instance::read(&[1.0; 3]).is_err());
    }

    #[test]
    fn values_differ_between_peers() {
        let values: std::collections::BTreeSet<u32> = (0..MAX_VALUE).map(|n| value_of(n, 99)).collect();
        assert_eq!(values.len() as u32, MAX_VALUE);
    }
}
