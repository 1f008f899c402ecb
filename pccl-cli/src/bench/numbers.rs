//! Numbers whose exact result is known for every type and operation.
//!
//! Rank r contributes small whole numbers that repeat with a prime period, so that a piece that landed in another
//! place does not look right. Sums over `MAX_WORLD` stay below 256, which every type but i8 holds exactly; whole
//! types wrap, here as in the library.

use half::{bf16, f16};
use pccl_core::api::{Element, ReduceOp};

pub const MAX_WORLD: u32 = 64;
/// Prime, and no piece size is a small multiple of it.
const PERIOD: usize = 8191;
/// Contributions are below this.
const VALUES: u32 = 5;

const _: () = assert!(MAX_WORLD * (VALUES - 1) <= 256);

pub trait Number: Element + PartialEq + Default {
    /// Whole types take the whole part and wrap.
    fn of(value: f64) -> Self;

    fn value(self) -> f64;
}

macro_rules! whole {
    ($($type:ty),*) => {$(
        impl Number for $type {
            fn of(value: f64) -> Self {
                value as i64 as $type
            }

            fn value(self) -> f64 {
                self as f64
            }
        }
    )*};
}
whole!(u8, i8, u16, i16, u32, i32, u64, i64);

impl Number for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }

    fn value(self) -> f64 {
        f64::from(self)
    }
}
impl Number for f64 {
    fn of(value: f64) -> Self {
        value
    }

    fn value(self) -> f64 {
        self
    }
}
impl Number for f16 {
    fn of(value: f64) -> Self {
        f16::from_f32(value as f32)
    }

    fn value(self) -> f64 {
        self.to_f64()
    }
}
impl Number for bf16 {
    fn of(value: f64) -> Self {
        bf16::from_f32(value as f32)
    }

    fn value(self) -> f64 {
        self.to_f64()
    }
}

/// One period of what a rank contributes, and of the result.
pub struct Numbers<T> {
    own: Vec<T>,
    result: Vec<T>,
    /// The same, not rounded to the type.
    exact: Vec<f64>,
}

impl<T: Number> Numbers<T> {
    pub fn new(op: ReduceOp, world: u32, rank: u32) -> Numbers<T> {
        Numbers {
            own: (0..PERIOD).map(|i| T::of(contribution(op, i, rank))).collect(),
            result: (0..PERIOD).map(|i| result::<T>(op, i, world)).collect(),
            exact: Vec::new(),
        }
    }

    /// Of all sizes from -1 to 1, for operations whose results are near the exact ones and not the same.
    pub fn for_quantization(op: ReduceOp, world: u32, rank: u32) -> Numbers<T> {
        let own = |rank| (0..PERIOD).map(move |i| T::of(between(i, rank)));
        let mut exact: Vec<f64> = own(0).map(T::value).collect();
        for rank in 1..world {
            for (so_far, next) in exact.iter_mut().zip(own(rank)) {
                *so_far = match op {
                    ReduceOp::Sum | ReduceOp::Avg => *so_far + next.value(),
                    ReduceOp::Prod => *so_far * next.value(),
                    ReduceOp::Max => so_far.max(next.value()),
                    ReduceOp::Min => so_far.min(next.value()),
                };
            }
        }
        if op == ReduceOp::Avg {
            exact.iter_mut().for_each(|sum| *sum /= f64::from(world));
        }
        Numbers { own: own(rank).collect(), result: Vec::new(), exact }
    }

    /// How far the worst element is from the exact one, by the range of those.
    pub fn error(&self, found: &[T]) -> f64 {
        let fold = |start, f: fn(f64, f64) -> f64| self.exact.iter().copied().fold(start, f);
        let range = fold(f64::NEG_INFINITY, f64::max) - fold(f64::INFINITY, f64::min);
        let pairs = found.chunks(PERIOD).flat_map(|part| part.iter().zip(&self.exact));
        // NaN is as wrong as can be, and `max` would pass over it.
        let off = pairs.map(|(found, exact)| (found.value() - exact).abs());
        off.fold(0.0, |worst, off| if off.is_nan() || off > worst { off } else { worst }) / range
    }

    pub fn fill(&self, into: &mut [T]) {
        for part in into.chunks_mut(PERIOD) {
            part.copy_from_slice(&self.own[..part.len()]);
        }
    }

    /// How many elements are not the result.
    pub fn wrong(&self, found: &[T]) -> u64 {
        let wrong_in = |part: &[T]| {
            let pairs = part.iter().zip(&self.result);
            pairs.fold(0u32, |wrong, (found, right)| wrong + u32::from(found != right))
        };
        found.chunks(PERIOD).map(|part| u64::from(wrong_in(part))).sum()
    }
}

fn contribution(op: ReduceOp, i: usize, rank: u32) -> f64 {
    let hash = (i as u32).wrapping_mul(0x9E37_79B1) >> 16;
    match op {
        // Mostly ones: a product of many ranks must still be a number.
        ReduceOp::Prod => f64::from(1 + u32::from((hash + rank).is_multiple_of(8))),
        _ => f64::from((hash + 3 * rank) % VALUES),
    }
}

fn between(i: usize, rank: u32) -> f64 {
    let hash = (i as u32 + 1).wrapping_mul(0x9E37_79B1).wrapping_mul(2 * rank + 1) >> 8;
    f64::from(hash) / f64::from(1 << 23) - 1.0
}

fn result<T: Number>(op: ReduceOp, i: usize, world: u32) -> T {
    let all = (0..world).map(|rank| contribution(op, i, rank));
    T::of(match op {
        ReduceOp::Sum => all.sum(),
        ReduceOp::Avg => {
            let sum: f64 = all.sum();
            // A sum that has wrapped is divided as it is.
            wrapped::<T>(sum) / f64::from(world)
        }
        ReduceOp::Prod => all.product(),
        ReduceOp::Max => all.fold(f64::NEG_INFINITY, f64::max),
        ReduceOp::Min => all.fold(f64::INFINITY, f64::min),
    })
}

/// Only i8 cannot hold the sums.
fn wrapped<T: Number>(sum: f64) -> f64 {
    if T::DTYPE == pccl_core::api::DType::I8 { f64::from(sum as i64 as i8) } else { sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum_of<T: Number + std::ops::Add<Output = T>>(world: u32, count: usize) -> Vec<T> {
        let mut sum = vec![T::default(); count];
        for rank in 0..world {
            let mut own = vec![T::default(); count];
            Numbers::<T>::new(ReduceOp::Sum, world, rank).fill(&mut own);
            sum.iter_mut().zip(own).for_each(|(sum, own)| *sum = *sum + own);
        }
        sum
    }

    #[test]
    fn the_true_sum_passes_in_every_width() {
        fn check<T: Number + std::ops::Add<Output = T>>(world: u32) {
            let wrong = Numbers::<T>::new(ReduceOp::Sum, world, 0).wrong(&sum_of::<T>(world, 20_000));
            assert_eq!(wrong, 0, "{:?} of {world}", T::DTYPE);
        }
        for world in [2, 3, 16, 60] {
            check::<f32>(world);
            check::<f16>(world);
            check::<bf16>(world);
            check::<u8>(world);
            check::<i64>(world);
        }
        check::<i8>(16);
    }

    #[test]
    fn every_wrong_element_counts_and_so_does_a_piece_in_the_wrong_place() {
        let numbers = Numbers::<f32>::new(ReduceOp::Sum, 3, 0);
        let mut sum = sum_of::<f32>(3, 200_000);
        sum[17] += 1.0;
        sum[199_999] = f32::NAN;
        assert_eq!(numbers.wrong(&sum), 2);
        let mut moved = sum_of::<f32>(3, 200_000);
        moved.copy_within(0..65_536, 65_536);
        assert!(numbers.wrong(&moved) > 10_000);
        assert!(numbers.wrong(&vec![0.0; 100]) > 50);
    }

    #[test]
    fn the_error_is_that_of_the_worst_element() {
        let numbers = Numbers::<f64>::for_quantization(ReduceOp::Max, 2, 0);
        let mut found: Vec<f64> = (0..20_000).map(|i| numbers.exact[i % PERIOD]).collect();
        assert_eq!(numbers.error(&found), 0.0);
        found[9000] += 0.5;
        let error = numbers.error(&found);
        assert!(0.25 < error && error < 0.3, "{error}: the range is nearly 2");
        found[3] = f64::NAN;
        assert!(numbers.error(&found).is_nan());
    }

    #[test]
    fn results_of_the_other_operations_are_those_of_the_contributions() {
        for i in 0..100 {
            let all: Vec<f64> = (0..4).map(|rank| contribution(ReduceOp::Max, i, rank)).collect();
            assert_eq!(result::<f64>(ReduceOp::Max, i, 4), all.iter().copied().fold(0.0, f64::max));
            assert_eq!(result::<f64>(ReduceOp::Min, i, 4), all.iter().copied().fold(9.0, f64::min));
            assert_eq!(result::<u8>(ReduceOp::Avg, i, 4), (all.iter().sum::<f64>() / 4.0) as u8);
            let factors = (0..4).map(|rank| contribution(ReduceOp::Prod, i, rank));
            assert_eq!(result::<f32>(ReduceOp::Prod, i, 4), factors.product::<f64>() as f32);
        }
    }
}
