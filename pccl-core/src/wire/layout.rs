//! How the types of messages lie in a control frame. The order here is the order on the wire;
//! `docs/PROTOCOL.md` has the same as tables.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::codec::{Reader, Value, Writer};
use super::error::WireError;
use super::message::{
    EpochCause, Incarnation, Join, LinkToken, MasterMessage, PeerAddress, PeerMessage, PhaseOutcome, Resume,
    ResumedLink, ResumedOp, ResumedSync, RunId, Verdict,
};
use crate::limits::{
    MAX_EPOCH, MAX_GENERATION, MAX_OP_BYTES, MAX_PEER_ADDRESSES, MAX_PEERS, MAX_PHASE, MAX_PIECE_BYTES,
    MAX_SEQUENCE, MAX_STATE_BYTES, MAX_SYNC_NUMBER, MAX_TENSORS,
};
use crate::types::{
    DType, Digest, Election, Epoch, EpochInfo, FetchFailure, FigureRow, GroupId, GroupInfo, Heard, Offer,
    OpDescriptor, OpKey, PeerId, PhaseCall, Planned, ProbeOrder, ProbeReport, Quantization, Rank, ReduceOp,
    RoundTrip, RunReport, ScheduleChoice, Sent, Source, SyncNumber, SyncOutcome, SyncStrategy, Tag,
    TensorKey, WorldSizes,
};

/// A number under a name.
macro_rules! newtypes {
    ($($name:ident($inner:ty)),* $(,)?) => {$(
        impl Value for $name {
            const MIN_BYTES: usize = <$inner>::MIN_BYTES;
            fn put(&self, w: &mut Writer<'_>) {
                self.0.put(w);
            }
            fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
                Value::get(r, field).map($name)
            }
        }
    )*};
}

/// An enumeration without fields: its code, as one byte.
macro_rules! codes {
    ($($name:ident),* $(,)?) => {$(
        impl Value for $name {
            const MIN_BYTES: usize = 1;
            fn put(&self, w: &mut Writer<'_>) {
                (*self as u8).put(w);
            }
            fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
                let value = u8::get(r, field)?;
                $name::from_code(value).ok_or(WireError::UnknownNumber { field, value })
            }
        }
    )*};
}

/// Fields one after the other; what was read must pass `check`.
macro_rules! record {
    ($name:ident { $($field:ident: $type:ty),* $(,)? } $(check $check:path)?) => {
        impl Value for $name {
            const MIN_BYTES: usize = 0 $(+ <$type>::MIN_BYTES)*;
            fn put(&self, w: &mut Writer<'_>) {
                $(self.$field.put(w);)*
            }
            fn get(r: &mut Reader<'_>, _: &'static str) -> Result<Self, WireError> {
                let value = $name { $($field: Value::get(r, stringify!($field))?),* };
                $($check(&value)?;)?
                Ok(value)
            }
        }
    };
}

/// One byte says which, then the fields of that one.
macro_rules! choice {
    ($name:ident { $($code:literal => $variant:ident $({ $($field:ident),* })? $(($inner:ident))?),* $(,)? }) => {
        impl Value for $name {
            const MIN_BYTES: usize = 1;
            fn put(&self, w: &mut Writer<'_>) {
                match self {$(
                    $name::$variant $({ $($field),* })? $(($inner))? => {
                        w.out.push($code);
                        $($($field.put(w);)*)?
                        $($inner.put(w);)?
                    }
                )*}
            }
            fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
                match u8::get(r, field)? {
                    $($code => Ok($name::$variant
                        $({ $($field: Value::get(r, stringify!($field))?),* })?
                        $((Value::get(r, stringify!($inner))?))?
                    ),)*
                    value => Err(WireError::UnknownNumber { field, value }),
                }
            }
        }
    };
}

newtypes!(
    PeerId([u8; 16]),
    Digest([u8; 16]),
    GroupId(u32),
    Tag(u64),
    Incarnation(u64),
    RunId(u64),
    LinkToken(u128),
);
impl Value for Epoch {
    const MIN_BYTES: usize = u64::MIN_BYTES;
    fn put(&self, w: &mut Writer<'_>) {
        self.0.put(w);
    }
    fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        let epoch = Epoch(u64::get(r, field)?);
        require(epoch.0 <= MAX_EPOCH, "epoch", "within MAX_EPOCH")?;
        Ok(epoch)
    }
}
impl Value for SyncNumber {
    const MIN_BYTES: usize = u64::MIN_BYTES;
    fn put(&self, w: &mut Writer<'_>) {
        self.0.put(w);
    }
    fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        let number = SyncNumber(u64::get(r, field)?);
        require(number.0 <= MAX_SYNC_NUMBER, "number", "within MAX_SYNC_NUMBER")?;
        Ok(number)
    }
}
codes!(DType, ReduceOp, ScheduleChoice, PhaseCall, SyncStrategy);

record!(OpKey { epoch: Epoch, tag: Tag, seq: u32 } check check_key);
record!(OpDescriptor { count: u64, dtype: DType, op: ReduceOp, quantization: Quantization }
    check check_descriptor);
record!(WorldSizes { global: u32, groups: u32, largest_group: u32 });
record!(GroupInfo {
    group: GroupId,
    since: Epoch,
    order: Vec<PeerId>,
    unlinked: Vec<(Rank, Rank)>,
    rtt_us: u32,
    planned: Option<Arc<Planned>>,
} check check_group);
record!(EpochInfo {
    epoch: Epoch,
    phase_seq: u64,
    schedule: ScheduleChoice,
    piece_bytes: u32,
    groups: Vec<GroupInfo>,
} check check_epoch);
record!(Join { peer: PeerId, group: GroupId, data_port: u16, announced: Option<(std::net::IpAddr, u16)>, pool: u16 });
record!(ResumedOp { key: OpKey, descriptor: OpDescriptor, done: bool });
record!(TensorKey { name: String, dtype: DType, count: u64, may_differ: bool });
record!(Offer {
    revision: u64,
    strategy: SyncStrategy,
    left_behind: bool,
    tensors: u32,
    size_bytes: u64,
    keys: Digest,
    content: Digest,
    full: Digest,
} check check_offer);
record!(Source { peer: PeerId, full: bool });
record!(Election {
    number: SyncNumber,
    revision: u64,
    content: Digest,
    full: Digest,
    winner: PeerId,
    sources: Vec<Source>,
} check check_election);
record!(ProbeOrder { number: u64, round: u32, rounds: u32, to: Vec<PeerId>, from: Vec<PeerId> } check check_order);
record!(Heard { from: PeerId, bytes_per_second: u64 });
record!(RoundTrip { to: PeerId, rtt_us: u32 });
record!(Sent { to: PeerId, bytes_per_second: u64 });
record!(ProbeReport {
    number: u64,
    heard: Vec<Heard>,
    round_trips: Vec<RoundTrip>,
    sent: Vec<Sent>,
} check check_report);
record!(RunReport {
    epoch: EpochInfo,
    peers_pending: u32,
    addresses: Vec<(PeerId, std::net::IpAddr)>,
    rows: u32,
    rows_left_out: u32,
} check check_run);
record!(FigureRow {
    group: GroupId,
    peer: PeerId,
    up_bytes_per_second: u64,
    down_bytes_per_second: u64,
    bytes_per_second: Vec<u64>,
    rtt_us: Vec<u32>,
    age_ms: u64,
} check check_row);
record!(ResumedSync { offer: Offer, elected: Option<(SyncNumber, u64)>, done: bool });
record!(ResumedLink { peer: PeerId, generation: u32, rtt_us: u32 });
record!(Resume {
    join: Join,
    run: RunId,
    incarnation: Incarnation,
    epoch: EpochInfo,
    since_before: Epoch,
    aborted: Vec<(Tag, u32)>,
    ops: Vec<ResumedOp>,
    verdicts: Vec<(OpKey, Verdict)>,
    phase_seq: u64,
    phase: Option<PhaseCall>,
    phase_last: Option<PhaseOutcome>,
    sync_number: SyncNumber,
    sync: Option<ResumedSync>,
    sync_last: Option<(SyncNumber, SyncOutcome)>,
    synced: Option<(SyncNumber, u64)>,
    linked: Vec<ResumedLink>,
} check check_resume);

choice!(Quantization {
    0 => None,
    1 => MinMax(dtype),
    2 => ZeroPointScale(dtype),
    3 => Bits4,
    4 => Float8E4M3,
    5 => Float8E5M2,
    6 => Float16,
    7 => BFloat16,
});
choice!(Verdict {
    0 => Committed { world, peers_pending },
    1 => Mismatched { text },
    2 => Deadlocked { text },
});
choice!(PhaseOutcome { 0 => Updated, 1 => Pending { peers_pending }, 2 => Deadlocked { text }, 3 => Optimized, 4 => NotOptimized { text } });
choice!(SyncOutcome {
    0 => Synchronized { revision },
    1 => NothingOffered { text },
    2 => Aborted { text },
    3 => Deadlocked { text },
});
choice!(FetchFailure { 0 => BrokenOff { text }, 1 => NoSource { text }, 2 => NotHere { text } });
choice!(EpochCause { 0 => Admitted, 1 => Lost { text }, 2 => Relinked { text } });
choice!(PeerMessage {
    1 => Join(join),
    2 => Resume(resume),
    3 => LinkUp { peer, generation, rtt_us },
    4 => LinkFailed { peer, generation, reason },
    5 => LinkDown { peer, generation, reason },
    6 => Prepared { epoch },
    7 => Phase { seq, call },
    8 => Announce { key, descriptor },
    9 => Done { key },
    10 => Blocked { key, alone },
    11 => Heartbeat,
    12 => Leave,
    13 => SyncOffer { offer },
    14 => SyncKeys { first, last, keys },
    15 => SyncDone { number, failed },
    16 => Probed { report },
    17 => Inspect,
    18 => Observed { heard },
});
// Numbers of their own, so that a message in the wrong direction is an error, never another message.
choice!(MasterMessage {
    129 => Welcome { incarnation, run, token, heartbeat_ms, silence_ms },
    130 => Refused { fatal, text },
    131 => Pending,
    132 => LinkTo { peers },
    133 => Unlink { peer },
    134 => Prepare { epoch },
    135 => NewEpoch { info, aborted, cause },
    136 => PhaseDone { seq, call, outcome },
    137 => Verdict { key, verdict },
    138 => Kicked { text },
    139 => Heartbeat,
    140 => SyncDescribe,
    141 => SyncElected { election },
    142 => SyncSource { number, source },
    143 => SyncEnded { number, outcome },
    144 => Probe { order },
    145 => Run { report },
    146 => Figures { row },
});

/// The first byte of a `Resume`'s body: the one message that may be long before its sender has joined.
pub(super) const RESUME_CODE: u8 = 2;

impl Value for PeerAddress {
    const MIN_BYTES: usize = PeerId::MIN_BYTES + 4 + 4;
    fn put(&self, w: &mut Writer<'_>) {
        self.peer.put(w);
        self.generation.put(w);
        w.count("addresses", self.addresses.len(), MAX_PEER_ADDRESSES);
        for address in &self.addresses {
            address.put(w);
        }
    }
    fn get(r: &mut Reader<'_>, _: &'static str) -> Result<Self, WireError> {
        let peer = Value::get(r, "peer")?;
        let generation = Value::get(r, "generation")?;
        Ok(PeerAddress { peer, generation, addresses: r.list_up_to(MAX_PEER_ADDRESSES, "addresses")? })
    }
}

fn require(holds: bool, field: &'static str, rule: &'static str) -> Result<(), WireError> {
    if holds { Ok(()) } else { Err(WireError::RuleBroken { field, rule }) }
}

fn check_key(key: &OpKey) -> Result<(), WireError> {
    require(key.seq <= MAX_SEQUENCE, "seq", "within MAX_SEQUENCE")
}

fn check_resume(resume: &Resume) -> Result<(), WireError> {
    require(resume.phase_seq <= MAX_PHASE, "phase_seq", "within MAX_PHASE")?;
    let generations = resume.linked.iter().all(|link| link.generation <= MAX_GENERATION);
    require(generations, "linked", "generations are within MAX_GENERATION")
}

fn check_descriptor(descriptor: &OpDescriptor) -> Result<(), WireError> {
    require(descriptor.count >= 1, "descriptor", "there is at least one element")?;
    require(descriptor.size_bytes() <= MAX_OP_BYTES, "descriptor", "the payload is within MAX_OP_BYTES")
}

/// Of a `u64` that counts up by one with each success, so that it cannot overflow.
fn check_offer(offer: &Offer) -> Result<(), WireError> {
    require(offer.revision < u64::MAX, "revision", "less than the largest number")?;
    require(offer.tensors as usize <= MAX_TENSORS, "tensors", "within MAX_TENSORS")?;
    require(offer.size_bytes <= MAX_STATE_BYTES, "size_bytes", "within MAX_STATE_BYTES")
}

fn check_election(election: &Election) -> Result<(), WireError> {
    let sources = &election.sources;
    require((1..=MAX_PEERS).contains(&sources.len()), "sources", "there are 1 to MAX_PEERS")?;
    let winner = sources.iter().any(|s| s.peer == election.winner && s.full);
    require(winner, "winner", "it is a source of everything")?;
    let peers: BTreeSet<&PeerId> = sources.iter().map(|s| &s.peer).collect();
    require(peers.len() == sources.len(), "sources", "none is there twice")
}

fn check_order(order: &ProbeOrder) -> Result<(), WireError> {
    require(order.to.len() <= MAX_PEERS, "to", "within MAX_PEERS")?;
    require(order.from.len() <= MAX_PEERS, "from", "within MAX_PEERS")
}

fn check_report(report: &ProbeReport) -> Result<(), WireError> {
    require(report.heard.len() <= MAX_PEERS, "heard", "within MAX_PEERS")?;
    require(report.round_trips.len() <= MAX_PEERS, "round_trips", "within MAX_PEERS")?;
    require(report.sent.len() <= MAX_PEERS, "sent", "within MAX_PEERS")
}

fn check_run(run: &RunReport) -> Result<(), WireError> {
    require(run.addresses.len() <= MAX_PEERS, "addresses", "within MAX_PEERS")?;
    let rows = u64::from(run.rows) + u64::from(run.rows_left_out);
    require(rows <= MAX_PEERS as u64, "rows", "with those left out within MAX_PEERS")
}

fn check_row(row: &FigureRow) -> Result<(), WireError> {
    require(row.bytes_per_second.len() <= MAX_PEERS, "bytes_per_second", "within MAX_PEERS")?;
    require(row.rtt_us.len() <= MAX_PEERS, "rtt_us", "within MAX_PEERS")
}

fn check_group(group: &GroupInfo) -> Result<(), WireError> {
    let size = group.order.len();
    require((1..=MAX_PEERS).contains(&size), "order", "a group has 1 to MAX_PEERS members")?;
    let pairs = &group.unlinked;
    let ranks = pairs.iter().all(|&(low, high)| low < high && usize::from(high) < size);
    require(ranks, "unlinked", "pairs are of two ranks of the group, the lower first")?;
    require(pairs.is_sorted_by(|a, b| a < b), "unlinked", "pairs are sorted, none is there twice")?;
    require(group.rtt_us == 0 || group.rtt_us.is_power_of_two(), "rtt_us", "0 or a power of two")?;
    let forest = group.planned.as_ref().and_then(|planned| planned.forest.as_ref());
    let checked = forest.map_or(Ok(()), |forest| forest.check(size, pairs));
    checked.map_err(|rule| WireError::RuleBroken { field: "forest", rule })
}

fn check_epoch(info: &EpochInfo) -> Result<(), WireError> {
    let groups = &info.groups;
    require(info.phase_seq <= MAX_PHASE, "phase_seq", "within MAX_PHASE")?;
    require(groups.is_sorted_by(|a, b| a.group < b.group), "groups", "sorted by id, none is there twice")?;
    require(groups.iter().all(|g| g.since <= info.epoch), "since", "no group is ahead of the epoch")?;
    require(info.world_size() <= MAX_PEERS, "groups", "a run has at most MAX_PEERS peers")?;
    let members: BTreeSet<&PeerId> = groups.iter().flat_map(|g| &g.order).collect();
    require(members.len() == info.world_size(), "order", "nobody is in an epoch twice")?;
    // Without members there is nothing to cut into pieces: an epoch 0 may leave this open.
    let piece = info.piece_bytes;
    let cuts = piece.is_multiple_of(8) && piece <= MAX_PIECE_BYTES && (piece > 0 || groups.is_empty());
    require(cuts, "piece_bytes", "a multiple of 8, more than 0, within MAX_PIECE_BYTES")
}
