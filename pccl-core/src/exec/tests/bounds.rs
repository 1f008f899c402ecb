//! How far results are from the exact ones: the bounds of `docs/QUANTIZATION.md`, added up along each schedule.

use super::quantized::{ALL, Walk, inputs};
use super::world::Shape;
use crate::plan::{PlanView, Schedule};
use crate::types::{DType, OpDescriptor, Quantization, Rank, ReduceOp, ScheduleChoice};

/// Between which numbers elements lie, and how far they may be from what they would be unquantized.
#[derive(Clone, Copy, Debug)]
struct Reach {
    low: f64,
    high: f64,
    off: f64,
}

/// How far each element of a result may be off, from the ranges of the contributions alone.
struct Bounds<'a> {
    descriptor: OpDescriptor,
    views: &'a [PlanView],
    contributions: Vec<Reach>,
}

/// Unit roundoff and least subnormal.
fn precision(dtype: DType) -> (f64, f64) {
    let power = |p: i32| 2f64.powi(p);
    match dtype {
        DType::F16 => (power(-11), power(-24)),
        DType::BF16 => (power(-8), power(-133)),
        DType::F32 => (power(-24), power(-149)),
        _ => (power(-53), f64::from_bits(1)),
    }
}

impl Bounds<'_> {
    fn encoded(&self, Reach { low, high, off }: Reach) -> Reach {
        let OpDescriptor { dtype, quantization, .. } = self.descriptor;
        let (unit, least) = precision(dtype);
        let (work_unit, _) = precision(if dtype == DType::F64 { DType::F64 } else { DType::F32 });
        let most = low.abs().max(high.abs());
        let rounding = 4.0 * unit * most + 2.0 * least;
        let grid = |range: f64, top: f64| {
            let half_step = range / (2.0 * top);
            half_step * (1.0 + 8.0 * top * work_unit) + rounding
        };
        let top = |code: DType| if code.size_bytes() == 1 { 255.0 } else { 65_535.0 };
        let with_zero = high.max(0.0) - low.min(0.0);
        let by = match quantization {
            Quantization::None => 0.0,
            Quantization::MinMax(code) => grid(high - low, top(code)),
            Quantization::ZeroPointScale(code) => grid(with_zero, top(code)),
            Quantization::Bits4 => grid(with_zero, 15.0),
            Quantization::Float8E4M3 => most * 2f64.powi(-4) * (1.0 + 1e-6) + rounding,
            Quantization::Float8E5M2 => most * 2f64.powi(-3) * (1.0 + 1e-6) + rounding,
            Quantization::Float16 => most * 2f64.powi(-11) + 2f64.powi(-25),
            Quantization::BFloat16 => most * 2f64.powi(-8) + 2f64.powi(-133),
        };
        Reach { low: low - by, high: high + by, off: off + by }
    }

    fn rounded(&self, Reach { low, high, off }: Reach) -> Reach {
        let (unit, least) = precision(self.descriptor.dtype);
        let by = unit * low.abs().max(high.abs()) + least;
        Reach { low: low - by, high: high + by, off: off + by }
    }

    fn added(&self, a: Reach, b: Reach) -> Reach {
        let chosen = |of: fn(f64, f64) -> f64| Reach {
            low: of(a.low, b.low),
            high: of(a.high, b.high),
            off: a.off.max(b.off),
        };
        match self.descriptor.op {
            ReduceOp::Max => chosen(f64::max),
            ReduceOp::Min => chosen(f64::min),
            _ => self.rounded(Reach { low: a.low + b.low, high: a.high + b.high, off: a.off + b.off }),
        }
    }

    fn finished(&self, sum: Reach) -> Reach {
        if self.descriptor.op != ReduceOp::Avg {
            return sum;
        }
        let n = self.views.len() as f64;
        self.rounded(Reach { low: sum.low / n, high: sum.high / n, off: sum.off / n })
    }

    fn sum(&self, rank: Rank, chunk: usize) -> Reach {
        let children = &self.views[usize::from(rank)].chunks[chunk].reduce_children;
        let own = self.contributions[usize::from(rank)];
        children.iter().fold(own, |sum, child| self.added(sum, self.encoded(self.sum(*child, chunk))))
    }

    /// Of each element in turn.
    fn of_result(&self) -> Vec<f64> {
        if self.views[0].schedule == Schedule::Small {
            let encoded: Vec<_> = self.contributions.iter().map(|reach| self.encoded(*reach)).collect();
            let sum = encoded[1..].iter().fold(encoded[0], |sum, other| self.added(sum, *other));
            return vec![self.finished(sum).off; self.descriptor.count as usize];
        }
        let mut offs = Vec::new();
        for (c, chunk) in self.views[0].chunks.iter().enumerate() {
            let off = self.encoded(self.finished(self.sum(chunk.owner, c))).off;
            offs.resize(offs.len() + chunk.count as usize, off);
        }
        offs
    }
}

fn numbers(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    let of = |bytes: &[u8]| match *bytes {
        [a, b] if dtype == DType::F16 => half::f16::from_le_bytes([a, b]).to_f64(),
        [a, b] => half::bf16::from_le_bytes([a, b]).to_f64(),
        [a, b, c, d] => f32::from_le_bytes([a, b, c, d]).into(),
        _ => f64::from_le_bytes(bytes.try_into().unwrap()),
    };
    bytes.chunks(dtype.size_bytes()).map(of).collect()
}

fn exact(op: ReduceOp, contributions: &[Vec<f64>], i: usize) -> f64 {
    let all = contributions.iter().map(|numbers| numbers[i]);
    match op {
        ReduceOp::Max => all.fold(f64::MIN, f64::max),
        ReduceOp::Min => all.fold(f64::MAX, f64::min),
        ReduceOp::Avg => all.sum::<f64>() / contributions.len() as f64,
        _ => all.sum(),
    }
}

/// The worst element's part of what it may be off by.
fn part_of_bound(shape: &Shape, descriptor: OpDescriptor) -> f64 {
    let inputs = inputs(descriptor, shape.world_size);
    let walk = Walk::new(shape, descriptor, &inputs);
    let contributions: Vec<_> = inputs.iter().map(|input| numbers(descriptor.dtype, input)).collect();
    let reach = |numbers: &Vec<f64>| {
        let (low, high) = (
            numbers.iter().copied().fold(f64::MAX, f64::min),
            numbers.iter().copied().fold(f64::MIN, f64::max),
        );
        Reach { low, high, off: 0.0 }
    };
    let bounds =
        Bounds { descriptor, views: &walk.views, contributions: contributions.iter().map(reach).collect() };
    let result = numbers(descriptor.dtype, &walk.result());
    let part = |(i, (found, bound)): (usize, (&f64, f64))| {
        (found - exact(descriptor.op, &contributions, i)).abs() / bound
    };
    result.iter().zip(bounds.of_result()).enumerate().map(part).fold(0.0, f64::max)
}

#[test]
fn no_result_is_farther_off_than_the_bounds_that_add_up_along_its_schedule() {
    let mut case = 0;
    let mut met = std::collections::BTreeSet::new();
    for world_size in [2, 3, 5, 16] {
        // Pieces of more than one block, and of less.
        let base = Shape { world_size, piece_bytes: 3 << 13, ..Shape::default() };
        for (schedule, count) in
            [(ScheduleChoice::Ring, 9_000), (ScheduleChoice::Mesh, 9_000), (ScheduleChoice::Auto, 300)]
        {
            for quantization in ALL {
                for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
                    case += 1;
                    let op = [ReduceOp::Sum, ReduceOp::Avg, ReduceOp::Max, ReduceOp::Min][case / 4 % 4];
                    if quantization.refusal(dtype, op).is_some() {
                        continue;
                    }
                    let shape = Shape { schedule, ..base.clone() };
                    let descriptor = OpDescriptor { count, dtype, op, quantization };
                    let part = part_of_bound(&shape, descriptor);
                    assert!(
                        part <= 1.0,
                        "{quantization}, {op} of {dtype}, {schedule:?}, world {world_size}: {part}"
                    );
                    met.insert((quantization.to_string(), op.to_string()));
                }
            }
        }
    }
    assert_eq!(met.len(), ALL.len() * 4, "every way meets every operation");
}

/// By element: how far the quantized result of everybody's uniform numbers from 0 to 255 × (rank + 1) is from the sum in f64.
fn worst_error(world_size: usize, schedule: ScheduleChoice, quantization: Quantization) -> f64 {
    let descriptor = OpDescriptor { count: 65_536, dtype: DType::F32, op: ReduceOp::Sum, quantization };
    let number = |rank: usize, i: u64| {
        let mixed = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add((rank as u64 + 1) << 56);
        let hash = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let hash = (hash ^ hash >> 32).wrapping_mul(0x94d0_49bb_1331_11eb) >> 40;
        (hash as f64 / (1u64 << 24) as f64 * 255.0 * (rank + 1) as f64) as f32
    };
    let of = |rank| (0..descriptor.count).flat_map(|i| number(rank, i).to_le_bytes()).collect();
    let inputs: Vec<Vec<u8>> = (0..world_size).map(of).collect();
    let shape = Shape { world_size, schedule, piece_bytes: 256 << 10, ..Shape::default() };
    let result = Walk::new(&shape, descriptor, &inputs).result();
    let error = |(i, cell): (usize, &[u8; 4])| {
        let exact: f64 = (0..world_size).map(|rank| f64::from(number(rank, i as u64))).sum();
        (f64::from(f32::from_le_bytes(*cell)) - exact).abs()
    };
    result.as_chunks().0.iter().enumerate().map(error).fold(0.0, f64::max)
}

/// With ranges 255 × (rank + 1) a step is (rank + 1), and half of one is lost with each encoding, of contributions or of sums.
#[test]
fn errors_stay_within_the_bounds_that_add_up_and_below_the_goals() {
    for quantization in [Quantization::MinMax(DType::U8), Quantization::ZeroPointScale(DType::U8)] {
        for world_size in [2, 3, 4, 8, 16] {
            let total = (world_size * (world_size + 1) / 2) as f64;
            // A mesh encodes all contributions but the owner's (at least 1), and the sum.
            let mesh_bound = (total - 1.0) / 2.0 + total / 2.0;
            // A ring encodes partial sums: the worst chunk begins with the largest, and ends with the whole.
            let partial = |start: usize| {
                let ranges = (0..world_size).map(|steps| ((start + steps) % world_size + 1) as f64);
                let sums = ranges.scan(0.0, |sum, range| {
                    *sum += range;
                    Some(*sum / 2.0)
                });
                sums.sum::<f64>()
            };
            let ring_bound = (0..world_size).map(partial).fold(0.0, f64::max);
            let mesh = worst_error(world_size, ScheduleChoice::Mesh, quantization);
            let ring = worst_error(world_size, ScheduleChoice::Ring, quantization);
            println!(
                "{quantization}, world {world_size}: mesh {mesh:.2} of {mesh_bound}, ring {ring:.2} of {ring_bound}"
            );
            // Errors of sums widen the ranges that are encoded after them.
            assert!(mesh <= mesh_bound * 1.02 && ring <= ring_bound * 1.05);
            let goal = match (world_size, quantization) {
                (2, Quantization::MinMax(_)) => Some((0.85 * 3.0, 3.0)),
                (2, _) => Some((0.85 * 5.2, 5.2)),
                (4, Quantization::MinMax(_)) => Some((0.65 * 16.0, 16.0)),
                (4, _) => Some((0.65 * 17.3, 17.3)),
                _ => None,
            };
            assert!(goal.is_none_or(|(of_mesh, of_ring)| mesh <= of_mesh && ring <= of_ring));
        }
    }
}
