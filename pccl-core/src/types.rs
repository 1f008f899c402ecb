//! The values every room speaks of: who, when, which operation, which numbers.

mod probe;
mod quantization;
mod report;
mod severity;
mod state;
mod topology;

use std::fmt;
use std::sync::Arc;

pub use probe::{Heard, ProbeOrder, ProbeReport, RoundTrip, Sent};
pub use quantization::{MAX_BLOCK_ELEMENTS, Quantization};
pub use report::{FigureRow, RunReport};
pub use severity::Severity;
pub use state::{
    Digest, Election, FetchFailure, Needs, Offer, Source, SyncNumber, SyncOutcome, SyncStrategy, TensorKey,
};
pub use topology::{Cost, ForestKind, PackedTree, Planned, PlannedForest};

/// 128-bit identity of a peer, chosen at random by the peer itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub [u8; 16]);

impl fmt::Display for PeerId {
    /// The first four bytes: enough to tell peers of one run apart in a log line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}")
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

/// Collectives and shared state span a peer group; membership spans the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u32);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {}", self.0)
    }
}

/// A fixed set of accepted peers, their order and schedules. Only grows. 0: no epoch yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}", self.0)
    }
}

/// Names an operation among those in flight; chosen by the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u64);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tag {}", self.0)
    }
}

/// One instance of an operation. The group is implied by who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpKey {
    pub epoch: Epoch,
    pub tag: Tag,
    /// Starts at 0 in each epoch and grows by one with each verdict on the tag.
    pub seq: u32,
}

impl fmt::Display for OpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "all-reduce {} #{} of {}", self.tag, self.seq, self.epoch)
    }
}

/// Position in a group's order, 0 to world size − 1.
pub type Rank = u16;

/// Microseconds on a clock that never goes back. The pure rooms are told the time, they never ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

impl Time {
    pub fn plus_ms(self, ms: u64) -> Time {
        Time(self.0.saturating_add(ms.saturating_mul(1000)))
    }

    pub fn plus_us(self, us: u64) -> Time {
        Time(self.0.saturating_add(us))
    }

    /// Microseconds since `earlier`; 0 if `earlier` is later.
    pub fn since_us(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A user's call that waits for its outcome; unique within one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkId(pub u64);

/// One data connection of one peer; never reused within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// Element types; the values are those of the C API and of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DType {
    U8 = 0,
    I8 = 1,
    I16 = 2,
    U16 = 3,
    U32 = 4,
    I32 = 5,
    U64 = 6,
    I64 = 7,
    F16 = 8,
    BF16 = 9,
    F32 = 10,
    F64 = 11,
}

impl DType {
    pub const ALL: [DType; 12] = [
        DType::U8,
        DType::I8,
        DType::I16,
        DType::U16,
        DType::U32,
        DType::I32,
        DType::U64,
        DType::I64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
    ];

    pub fn from_code(code: u8) -> Option<DType> {
        DType::ALL.get(usize::from(code)).copied()
    }

    pub const fn size_bytes(self) -> usize {
        match self {
            DType::U8 | DType::I8 => 1,
            DType::I16 | DType::U16 | DType::F16 | DType::BF16 => 2,
            DType::U32 | DType::I32 | DType::F32 => 4,
            DType::U64 | DType::I64 | DType::F64 => 8,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            DType::U8 => "u8",
            DType::I8 => "i8",
            DType::I16 => "i16",
            DType::U16 => "u16",
            DType::U32 => "u32",
            DType::I32 => "i32",
            DType::U64 => "u64",
            DType::I64 => "i64",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How elements are combined; the values are those of the C API and of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReduceOp {
    Sum = 0,
    Avg = 1,
    Prod = 2,
    Max = 3,
    Min = 4,
}

impl ReduceOp {
    pub const ALL: [ReduceOp; 5] =
        [ReduceOp::Sum, ReduceOp::Avg, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min];

    pub fn from_code(code: u8) -> Option<ReduceOp> {
        ReduceOp::ALL.get(usize::from(code)).copied()
    }

    pub const fn name(self) -> &'static str {
        match self {
            ReduceOp::Sum => "sum",
            ReduceOp::Avg => "avg",
            ReduceOp::Prod => "prod",
            ReduceOp::Max => "max",
            ReduceOp::Min => "min",
        }
    }
}

impl fmt::Display for ReduceOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an operation is, apart from whose memory it works on. Must be the same at every peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpDescriptor {
    /// Number of elements, at least 1.
    pub count: u64,
    pub dtype: DType,
    pub op: ReduceOp,
    pub quantization: Quantization,
}

impl OpDescriptor {
    pub fn plain(count: u64, dtype: DType, op: ReduceOp) -> OpDescriptor {
        OpDescriptor { count, dtype, op, quantization: Quantization::None }
    }

    pub fn size_bytes(&self) -> u64 {
        self.count.saturating_mul(self.dtype.size_bytes() as u64)
    }

    /// What the payload travels as, but for a few bytes where it is cut into chunks.
    pub fn wire_bytes(&self) -> u64 {
        self.quantization.wire_bytes(self.dtype, self.count)
    }
}

impl fmt::Display for OpDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} × {}, {}", self.op, self.count, self.dtype, self.quantization)
    }
}

/// Which schedules a run may use: the master's setting, carried by the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum ScheduleChoice {
    #[default]
    Auto = 0,
    Ring = 1,
    Mesh = 2,
    /// The planner's forest where there is one, else as `Auto`.
    Packed = 3,
}

impl ScheduleChoice {
    pub fn from_code(code: u8) -> Option<ScheduleChoice> {
        let all = [ScheduleChoice::Auto, ScheduleChoice::Ring, ScheduleChoice::Mesh, ScheduleChoice::Packed];
        all.get(usize::from(code)).copied()
    }
}

/// The calls that need everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PhaseCall {
    UpdateTopology = 0,
    ArePeersPending = 1,
    OptimizeTopology = 2,
}

impl PhaseCall {
    pub fn from_code(code: u8) -> Option<PhaseCall> {
        [PhaseCall::UpdateTopology, PhaseCall::ArePeersPending, PhaseCall::OptimizeTopology]
            .get(usize::from(code))
            .copied()
    }
}

impl fmt::Display for PhaseCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PhaseCall::UpdateTopology => "update_topology",
            PhaseCall::ArePeersPending => "are_peers_pending",
            PhaseCall::OptimizeTopology => "optimize_topology",
        })
    }
}

/// One group within an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    pub group: GroupId,
    /// The epoch in which this group last changed. Operations and frames name this one, so that a change in
    /// one group does not disturb another.
    pub since: Epoch,
    /// Index is rank. Never empty.
    pub order: Vec<PeerId>,
    /// Pairs of ranks (lower first, sorted) that no schedule may use.
    pub unlinked: Vec<(Rank, Rank)>,
    /// The longest known round trip of its linked pairs, rounded up to a power of two; 0 if none is known.
    pub rtt_us: u32,
    /// What a measured network is worth to this order. None: not measured, schedules are chosen by size and distance.
    pub planned: Option<Arc<Planned>>,
}

/// Everything that is fixed while an epoch lasts. A schedule is a pure function of this and of an
/// operation's descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct EpochInfo {
    pub epoch: Epoch,
    /// Phase verdicts so far in this run: a newcomer starts counting here.
    pub phase_seq: u64,
    pub schedule: ScheduleChoice,
    /// Elements of a piece never exceed this many bytes; a multiple of 8.
    pub piece_bytes: u32,
    /// Sorted by group id; only groups with accepted peers.
    pub groups: Vec<GroupInfo>,
}

impl EpochInfo {
    pub fn group(&self, group: GroupId) -> Option<&GroupInfo> {
        self.groups.iter().find(|g| g.group == group)
    }

    /// Accepted peers of every group.
    pub fn world_size(&self) -> usize {
        self.groups.iter().map(|g| g.order.len()).sum()
    }

    pub fn world(&self) -> WorldSizes {
        WorldSizes {
            global: self.world_size() as u32,
            groups: self.groups.len() as u32,
            largest_group: self.groups.iter().map(|g| g.order.len()).max().unwrap_or(0) as u32,
        }
    }
}

/// The attributes of a run that programs ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct WorldSizes {
    pub global: u32,
    pub groups: u32,
    pub largest_group: u32,
}
