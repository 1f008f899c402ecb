//! One seed, one scenario: everything about a run that is decided before it begins.

use pccl_core::limits;
use pccl_core::types::{DType, GroupId, OpDescriptor, Quantization, ReduceOp, ScheduleChoice, Tag};
use pccl_core::wire::frame::{FRAME_HEADER_BYTES, PROBE_NOTE_BYTES, TRAILER_BYTES};

use super::fault::{self, Fault};
use super::queue::Us;
use super::reference;
use super::rng::{Rng, mix_all};

pub type Slot = usize;

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing goes wrong.
    Calm,
    /// Everything the network and the machines can do, to programs that keep the documented order.
    Chaos,
    /// As `Chaos`, and the master restarts.
    MasterTrouble,
    /// Only newcomers misbehave: members must not notice.
    Newcomers,
    /// Programs break the documented order, on a good network or a bad one.
    Unruly,
}

impl Kind {
    /// Whether programs may be harmed otherwise than by newcomers.
    pub fn may_harm_programs(self) -> bool {
        !matches!(self, Kind::Calm | Kind::Newcomers)
    }
}

/// When the programs of a run make their phase calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhaseHabit {
    /// `update_topology` in each step.
    EveryStep,
    /// `are_peers_pending` in each step, `update_topology` if so.
    AskFirst,
    /// `update_topology` when the last all-reduce said that peers are pending (one group only).
    AsReduceInfoSays,
    /// `update_topology` in every third step (one group only).
    EveryThirdStep,
}

/// The place of one process after the other.
#[derive(Clone, Debug)]
pub struct SlotPlan {
    pub group: GroupId,
    pub starts_at: Us,
    pub dialable: bool,
    pub pool: u16,
    /// What becomes of the process while it is pending.
    pub newcomer_fault: Option<fault::NewcomerFault>,
    /// Whether another process takes the place of one that has ended, while faults last; afterwards always.
    pub comes_again: bool,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub kind: Kind,
    pub slots: Vec<SlotPlan>,
    pub habit: PhaseHabit,
    pub schedule: ScheduleChoice,
    pub piece_bytes: u32,
    pub segment_bytes: usize,
    /// What a peer may send another before it is known to have started the operations.
    pub eager_bytes: usize,
    /// What each process may take for contributions that come ahead of their turn.
    pub budget_bytes: usize,
    pub bite_bytes: u64,
    pub pipe_bytes: usize,
    /// One-way delay of a link, from – to.
    pub delay_us: (Us, Us),
    pub heartbeat_ms: u32,
    pub silence_ms: u32,
    pub link_timeout_ms: u32,
    pub prepare_timeout_ms: u32,
    pub resume_grace_ms: u32,
    pub connect_timeout_ms: u32,
    pub reconnect_timeout_ms: u32,
    pub most_ops: u64,
    pub most_elements: u64,
    /// All-reduces a program has in flight at once.
    pub in_flight: usize,
    pub think_us: Us,
    /// Steps a program makes before it rests until the faults are over.
    pub steps_under_fault: u64,
    pub faults: Vec<(Us, Fault)>,
    /// From here on nothing goes wrong any more.
    pub calm_at: Us,
    /// Steps that every program must make after that.
    pub steps_to_make: u64,
    /// Within this time.
    pub progress_within_us: Us,
    /// Chance in percent that a program breaks the rules in a step.
    pub unruly_percent: u64,
    /// Only types whose sums and products stay in range whatever the number of peers.
    pub whole_numbers: bool,
    /// Chance in percent that the programs call `optimize_topology` at the end of a step (one group only).
    pub optimize_percent: u64,
    /// Chance in percent that a group synchronizes its state in a step.
    pub sync_percent: u64,
    /// What tensors are hashed, compared and sent in.
    pub block_bytes: usize,
    /// More than this happens in no run that comes to an end.
    pub most_events: u64,
}

/// One all-reduce of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpSpec {
    pub tag: Tag,
    pub descriptor: OpDescriptor,
    /// Floats are exact, see `reference::input`.
    pub exact: bool,
}

/// What operations on floats may be quantized as; as often not at all.
const QUANTIZATIONS: [Quantization; 12] = [
    Quantization::None,
    Quantization::None,
    Quantization::None,
    Quantization::None,
    Quantization::None,
    Quantization::MinMax(DType::U8),
    Quantization::ZeroPointScale(DType::I8),
    Quantization::MinMax(DType::U16),
    Quantization::Bits4,
    Quantization::Float8E4M3,
    Quantization::Float8E5M2,
    Quantization::BFloat16,
];

/// The tag of the first all-reduce of each step, which tells newcomers the number of the step.
pub const STEP_TAG: Tag = Tag(0);

impl Scenario {
    pub fn of_seed(seed: u64) -> Scenario {
        let mut rng = Rng::new(mix_all(&[seed, 1]));
        let kind = match rng.below(100) {
            0..8 => Kind::Calm,
            8..52 => Kind::Chaos,
            52..68 => Kind::MasterTrouble,
            68..82 => Kind::Newcomers,
            _ => Kind::Unruly,
        };
        let mut scenario = Scenario::basis(seed, kind, &mut rng);
        fault::plan(&mut scenario, &mut rng);
        scenario.progress_within_us += scenario.measuring_us();
        scenario
    }

    /// What measurements may take of the time in which everybody has to make progress: one in each step, and one that was
    /// under way. A round for each other peer and one of all, each of pings, load and an end, over connections that take what
    /// fits them once a round trip.
    fn measuring_us(&self) -> Us {
        if self.optimize_percent == 0 {
            return 0;
        }
        let round_trip_us = 2 * self.delay_us.1;
        let crossing_us = |payload_bytes: usize| {
            let frame_bytes = FRAME_HEADER_BYTES + payload_bytes + TRAILER_BYTES;
            frame_bytes.div_ceil(self.pipe_bytes) as Us * round_trip_us
        };
        let note_us = crossing_us(PROBE_NOTE_BYTES);
        let pings_us = Us::from(limits::PROBE_PINGS) * 2 * note_us;
        let (least_us, most_us) = (limits::MIN_PROBE_SPAN_MS * 1000, limits::MAX_PROBE_SPAN_MS * 1000);
        let load_us = (round_trip_us * limits::PROBE_ROUND_TRIPS).clamp(least_us, most_us);
        // The last of the load, the end behind it; the report and the next order.
        let end_us = crossing_us(2 * self.segment_bytes) + note_us + round_trip_us;
        let round_us = (pings_us + load_us + end_us).min(limits::PROBE_LIMIT_MS * 1000 + round_trip_us);
        (self.steps_to_make + 1) * self.slots.len() as Us * round_us
    }

    /// So many peers of one group on a good network, one of which dies every now and then and is replaced.
    pub fn of_crowd(peers: usize, first_death_at: Us, deaths: u64, between_us: Us) -> Scenario {
        let mut rng = Rng::new(peers as u64);
        let mut scenario = Scenario::basis(0, Kind::Calm, &mut rng);
        scenario.slots = (0..peers)
            .map(|slot| SlotPlan {
                group: GroupId(0),
                starts_at: slot as Us * 100,
                dialable: true,
                pool: 1,
                newcomer_fault: None,
                comes_again: true,
            })
            .collect();
        scenario.faults = (0..deaths)
            .map(|n| (first_death_at + n * between_us, Fault::Crash(rng.below(peers as u64) as Slot)))
            .collect();
        scenario.calm_at = Us::MAX / 4;
        (scenario.habit, scenario.schedule) = (PhaseHabit::EveryStep, ScheduleChoice::Mesh);
        (scenario.piece_bytes, scenario.segment_bytes) = (64, 64);
        (scenario.bite_bytes, scenario.pipe_bytes) = (1000, 4000);
        (scenario.delay_us, scenario.think_us) = ((500, 1_000), 5_000);
        (scenario.heartbeat_ms, scenario.silence_ms) = (500, 3_000);
        (scenario.most_ops, scenario.most_elements, scenario.in_flight) = (1, 16, 1);
        scenario.steps_under_fault = u64::MAX;
        scenario.most_events = 400_000_000;
        scenario.whole_numbers = true;
        scenario.sync_percent = 0;
        scenario.optimize_percent = 0;
        scenario
    }

    fn basis(seed: u64, kind: Kind, rng: &mut Rng) -> Scenario {
        let groups = rng.pick(&[1, 1, 1, 2, 2, 3]);
        let world = rng.pick(&[2, 2, 3, 3, 3, 4, 4, 5, 6, 8]);
        let single = [
            PhaseHabit::EveryStep,
            PhaseHabit::AskFirst,
            PhaseHabit::AsReduceInfoSays,
            PhaseHabit::EveryThirdStep,
        ];
        let habit = rng.pick(if groups == 1 { &single[..] } else { &single[..2] });
        let slowest = rng.pick(&[300, 3_000, 15_000, 30_000]);
        let silence_ms = rng.between(300, 700) as u32;
        let undialable = rng.percent(20).then(|| rng.below(world));
        let slots = (0..world)
            .map(|slot| SlotPlan {
                group: GroupId(7 * rng.below(groups) as u32),
                starts_at: if slot == 0 { 0 } else { rng.below(30_000) },
                dialable: undialable != Some(slot),
                pool: rng.between(1, 3) as u16,
                newcomer_fault: None,
                comes_again: rng.percent(60),
            })
            .collect();
        let piece_bytes = rng.pick(&[16, 24, 32, 64]);
        Scenario {
            seed,
            kind,
            slots,
            habit,
            // Auto is small up to a piece, mesh beyond; trees where pairs have no link.
            schedule: rng.pick(&[
                ScheduleChoice::Auto,
                ScheduleChoice::Auto,
                ScheduleChoice::Ring,
                ScheduleChoice::Mesh,
            ]),
            piece_bytes,
            segment_bytes: rng.pick(&[8, 16, 16]),
            eager_bytes: rng.pick(&[0, 40, 120, limits::MAX_EAGER_BYTES_PER_PEER]),
            // Nothing at all; a few pieces; more than is ever needed.
            budget_bytes: [0, 600, 3_000, 1 << 20][mix_all(&[seed, 4]) as usize % 4],
            bite_bytes: rng.pick(&[7, 40, 200]),
            pipe_bytes: rng.pick(&[48, 128, 400]),
            delay_us: (slowest / 3, slowest),
            heartbeat_ms: silence_ms / 4,
            silence_ms,
            link_timeout_ms: 600,
            prepare_timeout_ms: 250,
            resume_grace_ms: 1_500,
            connect_timeout_ms: 4_000,
            reconnect_timeout_ms: 6_000,
            most_ops: rng.between(1, 4),
            most_elements: rng.pick(&[3, 10, 25, 40]),
            in_flight: rng.between(1, 4) as usize,
            think_us: rng.pick(&[100, 2_000, 20_000]),
            steps_under_fault: rng.between(4, 8),
            faults: Vec::new(),
            calm_at: 0,
            steps_to_make: 2,
            // And what measurements take.
            progress_within_us: 40_000_000,
            unruly_percent: 0,
            whole_numbers: false,
            sync_percent: [0, 20, 50, 100][mix_all(&[seed, 9]) as usize % 4],
            optimize_percent: if groups == 1 { [0, 0, 20, 60][mix_all(&[seed, 17]) as usize % 4] } else { 0 },
            block_bytes: [8, 16, 24, 64][mix_all(&[seed, 14]) as usize % 4],
            most_events: 4_000_000,
        }
    }

    /// Whether the programs measure at the end of this step.
    pub fn optimizes(&self, step: u64) -> bool {
        mix_all(&[self.seed, 18, step]) % 100 < self.optimize_percent
    }

    /// The program: what the group does in this step, the same at every member.
    pub fn step(&self, group: GroupId, step: u64) -> Vec<OpSpec> {
        let mut rng = Rng::new(mix_all(&[self.seed, 2, u64::from(group.0), step]));
        let ops = rng.between(1, self.most_ops);
        (0..ops).map(|index| self.op(&mut rng, index)).collect()
    }

    fn op(&self, rng: &mut Rng, index: u64) -> OpSpec {
        let dtypes = if self.whole_numbers { &DType::ALL[..8] } else { &DType::ALL[..] };
        let (dtype, op) = (rng.pick(dtypes), rng.pick(&ReduceOp::ALL));
        let count = rng.between(1, self.most_elements);
        // The same tags step after step, so that sequences grow; now and then others.
        let tag = Tag(if rng.percent(85) { 1 + index } else { 100 + 10 * rng.below(5) + index });
        let exact = rng.percent(60);
        let whim = mix_all(&[self.seed, 15, tag.0, count, index]) as usize;
        let mut descriptor = OpDescriptor::plain(count, dtype, op);
        let quantization = QUANTIZATIONS[whim % QUANTIZATIONS.len()];
        if !self.whole_numbers && quantization.refusal(dtype, op).is_none() {
            descriptor.quantization = quantization;
        }
        OpSpec { tag, descriptor, exact }
    }

    /// What `process` contributes to operation `index` of `step`.
    pub fn input(&self, process: u64, step: u64, index: u64, spec: &OpSpec) -> Vec<u8> {
        if spec.tag == STEP_TAG {
            return step.to_le_bytes().to_vec();
        }
        let seed = reference::input_seed(&[self.seed, 3, process, step, index], spec.exact);
        reference::input(seed, &spec.descriptor)
    }

    /// What `process` holds of the losses of earlier calls: some keep none, and nobody does where nothing is lost.
    pub fn residual(&self, process: u64, step: u64, index: u64, spec: &OpSpec) -> Option<Vec<u8>> {
        let OpDescriptor { op, quantization, .. } = spec.descriptor;
        let is_lossy = quantization != Quantization::None && matches!(op, ReduceOp::Sum | ReduceOp::Avg);
        let whim = mix_all(&[self.seed, 21, process, step, index]);
        (is_lossy && !whim.is_multiple_of(3)).then(|| reference::input(whim | 1, &spec.descriptor))
    }

    pub fn step_spec() -> OpSpec {
        let descriptor = OpDescriptor::plain(1, DType::U64, ReduceOp::Max);
        OpSpec { tag: STEP_TAG, descriptor, exact: true }
    }

    pub fn calls_obey(&self) -> bool {
        self.unruly_percent == 0
    }
}
