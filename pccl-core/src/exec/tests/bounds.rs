//! How far results are from the exact ones: the bounds of `docs/QUANTIZATION.md`, added up along each schedule.

use super::quantized::{ALL, Walk, bytes, inputs};
use super::sums;
use super::world::Shape;
use crate::plan::{PlanView, Schedule};
use crate::types::{DType, OpDescriptor, Quantization, Rank, ReduceOp, ScheduleChoice};

/// What is known of elements, and how far they may be from what they would be unquantized.
#[derive(Clone, Copy, Debug)]
struct Reach {
    /// From the least to the greatest element; with 0 in it where 0 has a code.
    range: f64,
    /// No element is larger.
    most: f64,
    off: f64,
}

/// How far each element of a result may be off, from the contributions' ranges and magnitudes alone.
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

fn has_zero(quantization: Quantization) -> bool {
    matches!(quantization, Quantization::ZeroPointScale(_) | Quantization::Bits4)
}

/// The largest code; of floats `None`.
fn top(quantization: Quantization) -> Option<f64> {
    match quantization {
        Quantization::MinMax(code) | Quantization::ZeroPointScale(code) => {
            Some(if code.size_bytes() == 1 { 255.0 } else { 65_535.0 })
        }
        Quantization::Bits4 => Some(15.0),
        _ => None,
    }
}

/// Largest relative error of an encoding as floats.
fn relative(quantization: Quantization) -> f64 {
    2f64.powi(match quantization {
        Quantization::Float8E4M3 => -4,
        Quantization::Float8E5M2 => -3,
        Quantization::Float16 => -11,
        _ => -8,
    })
}

impl Bounds<'_> {
    fn encoded(&self, Reach { range, most, off }: Reach) -> Reach {
        let OpDescriptor { dtype, quantization, .. } = self.descriptor;
        let (unit, least) = precision(dtype);
        let (work_unit, _) = precision(if dtype == DType::F64 { DType::F64 } else { DType::F32 });
        let rounding = 4.0 * unit * most + 2.0 * least;
        match top(quantization) {
            // What codes stand for is not wider than what was encoded, but for the rounding.
            Some(top) => {
                let half_step = range / (2.0 * top);
                let by = half_step * (1.0 + 8.0 * top * work_unit) + rounding;
                Reach { range: range + 2.0 * rounding, most: most + by, off: off + by }
            }
            None => {
                let by = most * relative(quantization) * (1.0 + 2f64.powi(-20)) + rounding + 2f64.powi(-25);
                Reach { range, most: most + by, off: off + by }
            }
        }
    }

    fn rounded(&self, Reach { range, most, off }: Reach) -> Reach {
        let (unit, least) = precision(self.descriptor.dtype);
        let by = unit * most + least;
        Reach { range: range + 2.0 * by, most: most + by, off: off + by }
    }

    fn added(&self, a: Reach, b: Reach) -> Reach {
        match self.descriptor.op {
            // As wide as the wider one, and as far off as the one that is farther.
            ReduceOp::Max | ReduceOp::Min => {
                Reach { range: a.range.max(b.range), most: a.most.max(b.most), off: a.off.max(b.off) }
            }
            _ => self.rounded(Reach { range: a.range + b.range, most: a.most + b.most, off: a.off + b.off }),
        }
    }

    fn finished(&self, sum: Reach) -> Reach {
        if self.descriptor.op != ReduceOp::Avg {
            return sum;
        }
        let n = self.views.len() as f64;
        self.rounded(Reach { range: sum.range / n, most: sum.most / n, off: sum.off / n })
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

pub fn numbers(dtype: DType, bytes: &[u8]) -> Vec<f64> {
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
fn part_of_bound(shape: &Shape, descriptor: OpDescriptor, inputs: &[Vec<u8>]) -> f64 {
    let walk = Walk::new(shape, descriptor, inputs);
    let OpDescriptor { dtype, op, quantization, .. } = descriptor;
    let contributions: Vec<_> = inputs.iter().map(|input| numbers(dtype, input)).collect();
    let reach = |numbers: &Vec<f64>| {
        let zero = if has_zero(quantization) { 0.0 } else { f64::INFINITY };
        let (low, high) = numbers.iter().fold((zero, -zero), |(low, high), x| (low.min(*x), high.max(*x)));
        Reach { range: high - low, most: low.abs().max(high.abs()), off: 0.0 }
    };
    let bounds =
        Bounds { descriptor, views: &walk.views, contributions: contributions.iter().map(reach).collect() };
    let result = numbers(dtype, &walk.result());
    let part =
        |(i, (found, bound)): (usize, (&f64, f64))| (found - exact(op, &contributions, i)).abs() / bound;
    result.iter().zip(bounds.of_result()).enumerate().map(part).fold(0.0, f64::max)
}

/// Every schedule, with pieces of more than one block and of less; and a small operation.
fn shapes_and_counts(world_size: usize) -> Vec<(Shape, u64)> {
    let count = if world_size < 5 { 9_000 } else { 1_100 };
    let forests = sums::shapes(world_size).into_iter();
    let mut shapes: Vec<_> = forests.map(|shape| (Shape { piece_bytes: 3 << 13, ..shape }, count)).collect();
    let small =
        Shape { world_size, schedule: ScheduleChoice::Auto, piece_bytes: 3 << 13, ..Shape::default() };
    shapes.push((small, 300));
    shapes
}

const FLOATS: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

#[test]
fn no_result_is_farther_off_than_the_bounds_that_add_up_along_its_schedule() {
    let mut schedules = std::collections::BTreeSet::new();
    for world_size in 2..=16 {
        for (shape, count) in shapes_and_counts(world_size) {
            for (quantization, dtype) in ALL.into_iter().flat_map(|q| FLOATS.map(|dtype| (q, dtype))) {
                // All types where the schedules differ most, one in between.
                if dtype != DType::F32 && ![2, 3, 5, 16].contains(&world_size) {
                    continue;
                }
                for op in [ReduceOp::Sum, ReduceOp::Avg, ReduceOp::Max, ReduceOp::Min] {
                    if quantization.refusal(dtype, op).is_some() {
                        continue;
                    }
                    let descriptor = OpDescriptor { count, dtype, op, quantization };
                    let inputs = inputs(descriptor, world_size);
                    let part = part_of_bound(&shape, descriptor, &inputs);
                    assert!(part <= 1.0, "{quantization}, {op} of {dtype}, {shape:?}: {part}");
                    schedules
                        .insert(format!("{:?}", Walk::new(&shape, descriptor, &inputs).views[0].schedule));
                }
            }
        }
    }
    assert_eq!(schedules.into_iter().collect::<Vec<_>>(), ["Mesh", "Packed", "Ring", "Small", "Trees"]);
}

/// A product of N factors, each of whose parts is encoded once, is off by no more than N encodings and N − 1 products
/// round, relative to it.
#[test]
fn products_are_off_by_what_their_factors_are_relative_to_them() {
    for world_size in 2..=16 {
        for (shape, count) in shapes_and_counts(world_size) {
            for quantization in [Quantization::Float16, Quantization::BFloat16] {
                let descriptor = OpDescriptor { count, dtype: DType::F32, op: ReduceOp::Prod, quantization };
                // From 2/3 to 4/3: nothing comes near an end of f16.
                let number = |rank: usize, i: u64| {
                    let unit = (i.wrapping_mul(2_654_435_761) + rank as u64 * 40_503) % 10_007;
                    (unit as f64 / 5_003.0 + 2.0) / 3.0
                };
                let of = |rank| (0..count).flat_map(|i| bytes(DType::F32, number(rank, i))).collect();
                let inputs: Vec<Vec<u8>> = (0..world_size).map(of).collect();
                let result = numbers(DType::F32, &Walk::new(&shape, descriptor, &inputs).result());
                let n = world_size as i32;
                let bound = (1.0 + relative(quantization)).powi(n) * (1.0 + 2f64.powi(-24)).powi(n - 1) - 1.0;
                let factors: Vec<_> = inputs.iter().map(|input| numbers(DType::F32, input)).collect();
                for (i, found) in result.into_iter().enumerate() {
                    let exact: f64 = factors.iter().map(|factor| factor[i]).product();
                    let off = (found / exact - 1.0).abs();
                    assert!(off <= bound, "{quantization}, {shape:?}: {off} of {bound}");
                }
            }
        }
    }
}

const RANGE: f64 = 1000.0;

/// Chooses the elements of one piece at a rank and below it. Gives the sum on its way there, and of how many ranks it is.
fn fill(
    walk: &Walk<'_>,
    (rank, chunk, piece): (usize, usize, u32),
    own: &dyn Fn(f64, f64, u64) -> f32,
    inputs: &mut [Vec<f32>],
) -> (Vec<f32>, f64) {
    let view = &walk.views[rank];
    let (first, count) = view.chunks[chunk].piece_span(view.piece_elements, piece);
    let (mut come, mut ranks) = (vec![0.0f32; count as usize], 1.0);
    for child in &view.chunks[chunk].reduce_children {
        let (sum, of) = fill(walk, (usize::from(*child), chunk, piece), own, inputs);
        let bytes: Vec<u8> = sum.iter().flat_map(|x| x.to_le_bytes()).collect();
        let there = numbers(DType::F32, &walk.there(&bytes));
        come.iter_mut().zip(there).for_each(|(come, x)| *come += x as f32);
        ranks += of;
    }
    for i in 0..count {
        // The ends of the range, so that all know the step.
        let number = match i {
            0 => 0.0,
            1 => RANGE as f32,
            _ => own(come[i as usize].into(), ranks, i),
        };
        inputs[rank][(first + i) as usize] = number;
        come[i as usize] += number;
    }
    (come, ranks)
}

/// Inputs whose every encoding loses nearly half a step, always of the same sign: each rank's elements put the sum on its
/// way just short of the middle between two codes. By rank, of uniform ranges from 0.
fn worst_inputs(walk: &Walk<'_>, quantization: Quantization, count: u64) -> Vec<Vec<u8>> {
    let (top, world_size) = (top(quantization).unwrap(), walk.views.len());
    // A number of this rank, to be added to what has come; `ranks` as many as are in the sum then.
    let own = |come: f64, ranks: f64, i: u64| {
        let step = ranks * RANGE / top;
        let first = (come / step - 0.49).ceil();
        let last = ((come + RANGE) / step - 0.49).floor();
        // With few codes of a long sum there is not always one within this rank's range.
        let code = first + (i as f64 % (last - first + 1.0).max(1.0)).floor();
        if first > last { 0.0 } else { ((code + 0.49) * step - come) as f32 }
    };
    let mut inputs = vec![vec![0.0f32; count as usize]; world_size];
    if walk.views[0].schedule == Schedule::Small {
        for input in &mut inputs {
            (0..count).for_each(|i| {
                input[i as usize] = match i {
                    0 => 0.0,
                    1 => RANGE as f32,
                    _ => own(0.0, 1.0, i),
                };
            });
        }
    } else {
        for (c, chunk) in walk.views[0].chunks.iter().enumerate() {
            for piece in 0..chunk.pieces(walk.views[0].piece_elements) {
                fill(walk, (chunk.owner.into(), c, piece), &own, &mut inputs);
            }
        }
    }
    inputs.iter().map(|input| input.iter().flat_map(|x| x.to_le_bytes()).collect()).collect()
}

/// The bounds are not idle: where every error has the same sign, they are met.
#[test]
fn errors_of_one_sign_add_up_to_the_bounds() {
    for world_size in [2, 3, 5, 16] {
        for shape in sums::shapes(world_size).into_iter().chain([Shape {
            world_size,
            schedule: ScheduleChoice::Auto,
            ..Shape::default()
        }]) {
            for quantization in [
                Quantization::MinMax(DType::U8),
                Quantization::ZeroPointScale(DType::I8),
                Quantization::Bits4,
            ] {
                let small = shape.schedule == ScheduleChoice::Auto && shape.unlinked.is_empty();
                let count = if small { 200 } else { 200 * world_size as u64 };
                let shape = Shape { piece_bytes: 4 << 10, ..shape.clone() };
                let descriptor = OpDescriptor { count, dtype: DType::F32, op: ReduceOp::Sum, quantization };
                let zeros = vec![vec![0; descriptor.size_bytes() as usize]; world_size];
                let inputs = worst_inputs(&Walk::new(&shape, descriptor, &zeros), quantization, count);
                let part = part_of_bound(&shape, descriptor, &inputs);
                assert!(part > 0.9 && part <= 1.0, "{quantization}, {shape:?}: {part}");
            }
        }
    }
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
            // Codes reach no wider than what they stand for, so only the rounding of f32 comes on top.
            assert!(mesh <= mesh_bound * 1.001 && ring <= ring_bound * 1.001);
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
