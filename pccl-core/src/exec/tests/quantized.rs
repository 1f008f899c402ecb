//! Quantized operations: the bits that a plain walk through the forest gives, at every peer.

use std::sync::Arc;

use super::sums;
use super::world::{Shape, World, key, peer};
use crate::kernel::quant::Codec;
use crate::kernel::{finish_average, reduce_into};
use crate::limits::MAX_EAGER_BYTES_PER_PEER;
use crate::plan::{self, PlanView, Schedule, child_at_turn};
use crate::types::{
    DType, Epoch, EpochInfo, GroupId, GroupInfo, OpDescriptor, Quantization, Rank, ReduceOp, ScheduleChoice,
};

/// What everybody must hold, worked out piece by piece by recursion over the trees.
pub struct Walk<'a> {
    descriptor: OpDescriptor,
    codec: Codec,
    inputs: &'a [Vec<u8>],
    pub views: Vec<PlanView>,
}

impl Walk<'_> {
    pub fn new<'a>(shape: &Shape, descriptor: OpDescriptor, inputs: &'a [Vec<u8>]) -> Walk<'a> {
        let order = (0..shape.world_size).map(peer).collect();
        let unlinked = shape.unlinked.clone();
        let planned = shape.planned.clone();
        let group = GroupInfo { group: GroupId(0), since: Epoch(1), order, unlinked, rtt_us: 0, planned };
        let info = EpochInfo {
            epoch: Epoch(1),
            schedule: shape.schedule,
            piece_bytes: shape.piece_bytes,
            groups: vec![group.clone()],
            ..EpochInfo::default()
        };
        let view = |rank| plan::plan(&group, &info, rank as Rank, &descriptor).unwrap();
        let codec = Codec::of(descriptor.dtype, descriptor.quantization).unwrap();
        Walk { descriptor, codec, inputs, views: (0..shape.world_size).map(view).collect() }
    }

    /// As it arrives elsewhere.
    pub fn there(&self, elements: &[u8]) -> Vec<u8> {
        let count = elements.len() / self.descriptor.dtype.size_bytes();
        let mut wire = vec![0; self.codec.wire_bytes(count as u64) as usize];
        self.codec.encode(elements, &mut wire);
        let mut back = vec![0; elements.len()];
        self.codec.decode(&wire, &mut back);
        back
    }

    fn add(&self, sum: &mut [u8], other: &[u8]) {
        reduce_into(self.descriptor.op, self.descriptor.dtype, sum, other);
    }

    fn finish(&self, sum: &mut [u8]) {
        if self.descriptor.op == ReduceOp::Avg {
            finish_average(self.descriptor.dtype, sum, self.inputs.len() as u64);
        }
    }

    /// The sum at `rank` of one piece, its children's included.
    fn sum(&self, rank: usize, chunk: usize, piece: u32) -> Vec<u8> {
        let view = &self.views[rank].chunks[chunk];
        let (first, count) = view.piece_span(self.views[rank].piece_elements, piece);
        let size = self.descriptor.dtype.size_bytes();
        let mut sum = self.inputs[rank][first as usize * size..(first + count) as usize * size].to_vec();
        let children = &view.reduce_children;
        for turn in 0..children.len() {
            let child = usize::from(children[child_at_turn(children.len(), piece, turn)]);
            self.add(&mut sum, &self.there(&self.sum(child, chunk, piece)));
        }
        sum
    }

    pub fn result(&self) -> Vec<u8> {
        if self.views[0].schedule == Schedule::Small {
            let mut sum = self.there(&self.inputs[0]);
            self.inputs[1..].iter().for_each(|input| self.add(&mut sum, &self.there(input)));
            self.finish(&mut sum);
            return sum;
        }
        let mut result = Vec::new();
        for (c, chunk) in self.views[0].chunks.iter().enumerate() {
            for piece in 0..chunk.pieces(self.views[0].piece_elements) {
                let mut sum = self.sum(chunk.owner.into(), c, piece);
                self.finish(&mut sum);
                result.extend(self.there(&sum));
            }
        }
        result
    }
}

pub fn inputs(descriptor: OpDescriptor, world_size: usize) -> Vec<Vec<u8>> {
    let of = |rank: usize, i: u64| {
        let unit = (i.wrapping_mul(2_654_435_761).wrapping_add(rank as u64 * 40_503) % 10_007) as f64;
        (unit / 5_000.0 - 1.0) * (rank + 1) as f64
    };
    let bytes = |number| bytes(descriptor.dtype, number);
    (0..world_size).map(|rank| (0..descriptor.count).flat_map(|i| bytes(of(rank, i))).collect()).collect()
}

/// Of a number, rounded to the type.
pub fn bytes(dtype: DType, number: f64) -> Vec<u8> {
    match dtype {
        DType::F16 => half::f16::from_f64(number).to_le_bytes().to_vec(),
        DType::BF16 => half::bf16::from_f64(number).to_le_bytes().to_vec(),
        DType::F32 => (number as f32).to_le_bytes().to_vec(),
        _ => number.to_le_bytes().to_vec(),
    }
}

fn reduce(shape: Shape, descriptor: OpDescriptor, in_place: bool) -> World {
    let inputs = inputs(descriptor, shape.world_size);
    reduce_these(shape, descriptor, &inputs, in_place)
}

/// Every member gets what a plain walk says, to the bit.
fn reduce_these(shape: Shape, descriptor: OpDescriptor, inputs: &[Vec<u8>], in_place: bool) -> World {
    let expected = Walk::new(&shape, descriptor, inputs).result();
    let mut world = World::new(shape);
    world.start_all(key(1, 5, 0), descriptor, inputs, in_place);
    world.run();
    world.commit(key(1, 5, 0), &expected);
    world
}

fn schedules(base: &Shape) -> Vec<Shape> {
    let planned = Some(Arc::new(sums::planned(base.world_size as Rank)));
    let mut shapes = vec![
        base.clone(),
        Shape { schedule: ScheduleChoice::Mesh, ..base.clone() },
        Shape { schedule: ScheduleChoice::Packed, planned, ..base.clone() },
        Shape { schedule: ScheduleChoice::Auto, ..base.clone() },
    ];
    if base.world_size > 2 {
        shapes.push(Shape { unlinked: vec![(0, 1)], ..base.clone() });
    }
    shapes
}

pub const ALL: [Quantization; 9] = [
    Quantization::MinMax(DType::U8),
    Quantization::MinMax(DType::I16),
    Quantization::ZeroPointScale(DType::I8),
    Quantization::ZeroPointScale(DType::U16),
    Quantization::Bits4,
    Quantization::Float8E4M3,
    Quantization::Float8E5M2,
    Quantization::Float16,
    Quantization::BFloat16,
];

#[test]
fn every_schedule_gives_the_bits_of_a_plain_walk_at_every_peer() {
    let mut case = 0;
    for world_size in 2..=5 {
        let base = Shape { world_size, links_per_pair: 2, step: 90, capacity: 400, ..Shape::default() };
        for shape in schedules(&base) {
            for count in [1, 3, 16, 100, 400] {
                let ways = ALL.into_iter().flat_map(|q| DType::ALL[8..].iter().map(move |dtype| (q, *dtype)));
                for (quantization, dtype) in ways {
                    case += 1;
                    let op = [ReduceOp::Sum, ReduceOp::Avg, ReduceOp::Max, ReduceOp::Min][case % 4];
                    if quantization.refusal(dtype, op).is_some() || case % 3 != 0 && world_size > 3 {
                        continue;
                    }
                    let descriptor = OpDescriptor { count, dtype, op, quantization };
                    let budget_bytes = [0, 1 << 20, 700][case % 3];
                    let shape = Shape { seed: case as u64, budget_bytes, ..shape.clone() };
                    reduce(shape, descriptor, case.is_multiple_of(2));
                }
            }
        }
    }
}

/// NaN and infinities of one peer alone, and of several at the same place, in blocks beside ordinary ones: marked blocks are
/// forwarded, added to and encoded anew on the way.
#[test]
fn what_is_no_number_is_the_same_at_every_peer() {
    let mut case = 0;
    for world_size in [2, 3, 4] {
        let base =
            Shape { world_size, piece_bytes: 3 * 8_192, step: 3_000, capacity: 7_000, ..Shape::default() };
        for shape in schedules(&base) {
            for (quantization, dtype) in
                ALL.into_iter().flat_map(|q| DType::ALL[8..].iter().map(move |dtype| (q, *dtype)))
            {
                case += 1;
                let op = [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Avg, ReduceOp::Min][case % 4];
                if quantization.refusal(dtype, op).is_some() {
                    continue;
                }
                let descriptor = OpDescriptor { count: 9_001, dtype, op, quantization };
                let mut inputs = inputs(descriptor, world_size);
                let size = dtype.size_bytes();
                let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
                for (rank, input) in inputs.iter_mut().enumerate() {
                    for at in [17, 2_048 + rank, 6_000, 9_000] {
                        let number = odd[(rank + at) % 3];
                        input[at * size..(at + 1) * size].copy_from_slice(&bytes(dtype, number));
                    }
                }
                reduce_these(shape.clone(), descriptor, &inputs, case.is_multiple_of(2));
            }
        }
    }
}

#[test]
fn pieces_of_many_blocks_are_cut_into_frames_and_reads_anywhere() {
    for (segment_bytes, step) in [(6_000, 1_000), (16_384, 3_333), (16, 40_000)] {
        let base = Shape {
            world_size: 3,
            piece_bytes: 5 * 8_192 + 400,
            segment_bytes,
            step,
            capacity: 2 * step,
            pump_budget_bytes: 20_000,
            ..Shape::default()
        };
        for shape in schedules(&base) {
            for quantization in [Quantization::MinMax(DType::U8), Quantization::Bits4, Quantization::BFloat16]
            {
                let descriptor =
                    OpDescriptor { count: 50_001, dtype: DType::F32, op: ReduceOp::Sum, quantization };
                for in_place in [false, true] {
                    reduce(shape.clone(), descriptor, in_place);
                }
            }
        }
    }
}

#[test]
fn traffic_is_what_crossed_the_links() {
    let quantization = Quantization::MinMax(DType::U8);
    let descriptor = OpDescriptor { count: 6_144, dtype: DType::F32, op: ReduceOp::Sum, quantization };
    let shape = Shape { world_size: 3, piece_bytes: 8_192, step: 999, capacity: 5_000, ..Shape::default() };
    let mut world = World::new(shape);
    world.start_all(key(1, 0, 0), descriptor, &inputs(descriptor, 3), false);
    world.run();
    for host in &mut world.hosts {
        let (_, traffic) = host.engine.finish(key(1, 0, 0)).unwrap();
        // A ring of three: four times a third, which is one block.
        assert_eq!((traffic.tx_bytes, traffic.rx_bytes), (4 * 2_056, 4 * 2_056));
    }
}

/// Stops everybody after so many pumps, finds every input as it was, and reduces again. False if the operation was over.
fn abort_after(shape: &Shape, descriptor: OpDescriptor, before: u64, stopped: impl FnOnce(&World)) -> bool {
    let inputs = inputs(descriptor, shape.world_size);
    let mut world =
        World::new(Shape { seed: before, eager_bytes: MAX_EAGER_BYTES_PER_PEER, ..shape.clone() });
    world.start_all(key(1, 3, 0), descriptor, &inputs, true);
    (0..before).for_each(|_| world.poke());
    let all_done = world.hosts.iter().all(|host| host.done.contains(&key(1, 3, 0)));
    stopped(&world);
    for (rank, input) in inputs.iter().enumerate() {
        assert!(world.hosts[rank].engine.stop(key(1, 3, 0)).is_some());
        assert_eq!(world.memory[&(rank, key(1, 3, 0))].input(), input, "rank {rank} after {before}");
        world.hosts[rank].engine.enter_epoch(Epoch(2));
        world.start(rank, key(2, 3, 0), descriptor, input, true);
    }
    world.run();
    world.commit(key(2, 3, 0), &Walk::new(shape, descriptor, &inputs).result());
    !all_done
}

#[test]
fn an_abort_at_any_time_leaves_every_input_as_it_was() {
    let quantization = Quantization::ZeroPointScale(DType::U8);
    let descriptor = OpDescriptor { count: 60, dtype: DType::F32, op: ReduceOp::Sum, quantization };
    let base = Shape { world_size: 3, step: 5, capacity: 40, pump_budget_bytes: 20, ..Shape::default() };
    let small = Shape { schedule: ScheduleChoice::Auto, piece_bytes: 256, ..base.clone() };
    for shape in schedules(&base).into_iter().chain([small]) {
        for before in (0..).step_by(7) {
            if !abort_after(&shape, descriptor, before, |_| {}) {
                break;
            }
            assert!(before < 20_000, "the operation never ends");
        }
    }
}

/// A piece of several blocks that is overwritten in part: decoded and added, or about to be, block by block.
#[test]
fn an_abort_between_two_blocks_leaves_every_input_as_it_was() {
    aborted_between_blocks(Quantization::MinMax(DType::U8), 3, 5);
    aborted_between_blocks(Quantization::Bits4, 4, 17);
}

/// Aborts once after each so many steps.
fn aborted_between_blocks(quantization: Quantization, world_size: usize, every: usize) {
    let descriptor = OpDescriptor { count: 20_000, dtype: DType::F32, op: ReduceOp::Avg, quantization };
    let block_bytes = 4 * quantization.block_elements() as u64;
    let base = Shape {
        world_size,
        piece_bytes: 4 * block_bytes as u32,
        segment_bytes: quantization.block_wire_bytes(DType::F32, quantization.block_elements()),
        step: 1_500,
        capacity: 2_000,
        pump_budget_bytes: 1_500,
        ..Shape::default()
    };
    for shape in schedules(&base) {
        let mut between = 0;
        for before in (0..).step_by(every) {
            let count = |world: &World| {
                // Whole pieces but for the last of each chunk, which are no whole blocks.
                let within =
                    |bytes: u64| !bytes.is_multiple_of(4 * block_bytes) && bytes.is_multiple_of(block_bytes);
                between +=
                    usize::from(world.hosts.iter().any(|host| within(host.engine.counters().bytes_reduced)));
            };
            if !abort_after(&shape, descriptor, before, count) {
                break;
            }
            assert!(before < 20_000, "the operation never ends");
        }
        assert!(between > 0, "no abort met a piece of which some blocks were added");
    }
}
