//! Which schedule an operation uses, and why.

use std::fmt;

use super::chunks::after;
use super::links::Links;
use super::{PlanError, Schedule};
use crate::limits::{MAX_EAGER_FRAME_BYTES, MAX_EAGER_OP_BYTES, NEAR_RTT_US};
use crate::types::{EpochInfo, ForestKind, GroupInfo, OpDescriptor, Planned, Rank, ScheduleChoice};

/// Up to this many bytes of a payload for each peer of the group, its latency counts for more than its
/// bandwidth: a mesh has two one-way delays, a ring of N has 2(N − 1).
pub const MESH_SHARE_BYTES: u64 = 64 << 10;

/// Why a schedule was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The master's setting.
    Forced,
    /// With two peers a ring is a mesh.
    WorldOfTwo,
    /// Everybody can have all of it at once.
    TinyPayload {
        size_bytes: u64,
        limit_bytes: u64,
    },
    SmallPayload {
        size_bytes: u64,
        limit_bytes: u64,
    },
    /// Some pair is far apart.
    WideArea {
        rtt_us: u32,
    },
    LargePayload {
        size_bytes: u64,
        limit_bytes: u64,
    },
    /// The least of the times predicted from measured links. None: cannot run here.
    Predicted {
        ring_us: Option<u64>,
        mesh_us: Option<u64>,
        forest: Option<(ForestKind, u64)>,
    },
    /// A mesh was wanted, but this pair has no link.
    MeshLacksLink(Rank, Rank),
    /// A ring was wanted, but these neighbours have no link.
    RingLacksLink(Rank, Rank),
}

impl Reason {
    /// The pair for want of whose link something else was chosen than was wanted.
    pub fn lacking(&self) -> Option<(Rank, Rank)> {
        match *self {
            Reason::MeshLacksLink(a, b) | Reason::RingLacksLink(a, b) => Some((a, b)),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Forced => f.write_str("the master's setting"),
            Reason::WorldOfTwo => f.write_str("there are only two peers"),
            Reason::TinyPayload { size_bytes, limit_bytes } => {
                write!(f, "{size_bytes} bytes are at most {limit_bytes}: everybody sends all of it at once")
            }
            Reason::SmallPayload { size_bytes, limit_bytes } => {
                write!(f, "{size_bytes} bytes are at most {limit_bytes}: latency counts")
            }
            Reason::WideArea { rtt_us } => {
                write!(f, "a round trip of about {} ms: paths between pairs count", rtt_us.div_ceil(1000))
            }
            Reason::LargePayload { size_bytes, limit_bytes } => {
                write!(f, "{size_bytes} bytes are more than {limit_bytes}: bandwidth counts")
            }
            Reason::Predicted { ring_us, mesh_us, forest } => {
                let ring = ring_us.map(|us| ("ring", us));
                let mesh = mesh_us.map(|us| ("mesh", us));
                let forest = forest.map(|(kind, us)| (kind.name(), us));
                f.write_str("predicted times:")?;
                for (at, (name, us)) in [ring, mesh, forest].into_iter().flatten().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    write!(f, "{comma} {name} {}.{} ms", us / 1000, us % 1000 / 100)?;
                }
                Ok(())
            }
            Reason::MeshLacksLink(a, b) => write!(f, "no mesh, as ranks {a} and {b} have no link"),
            Reason::RingLacksLink(a, b) => write!(f, "no ring, as its neighbours {a} and {b} have no link"),
        }
    }
}

/// A pure function of the epoch and the descriptor, so all members choose alike.
///
/// Small for payloads so small that everybody can have all of them at once. For others, where the network was
/// measured, what is predicted to take the least time. Where it was not: mesh for two peers, for small payloads and over wide
/// areas, ring for large payloads between hosts near each other. What is forced or wanted but lacks a link gives way to
/// the ring, the ring to trees.
pub fn choose(
    group: &GroupInfo,
    info: &EpochInfo,
    descriptor: &OpDescriptor,
) -> Result<(Schedule, Reason), PlanError> {
    let world_size = group.order.len() as Rank;
    if world_size < 2 {
        return Err(PlanError::Alone);
    }
    let lacking = Lacking::of(group);
    if lacking.pair.is_some()
        && let Some(unreachable) = Links::of(group).tree(0).unreached()
    {
        return Err(PlanError::Disconnected { unreachable });
    }
    let (wanted, reason) = wanted(group, info, descriptor, &lacking);
    Ok(match (wanted, lacking.neighbours, lacking.pair) {
        (Schedule::Packed, _, _) | (_, _, None) => (wanted, reason),
        (_, Some((a, b)), _) => (Schedule::Trees, Reason::RingLacksLink(a, b)),
        (Schedule::Mesh | Schedule::Small, None, Some((a, b))) => {
            (Schedule::Ring, Reason::MeshLacksLink(a, b))
        }
        (_, None, Some(_)) => (Schedule::Ring, reason),
    })
}

/// Pairs without a link, lower rank first: the first of all, and the first of neighbours around the ring.
struct Lacking {
    pair: Option<(Rank, Rank)>,
    neighbours: Option<(Rank, Rank)>,
}

impl Lacking {
    fn of(group: &GroupInfo) -> Lacking {
        let world_size = group.order.len() as Rank;
        let neighbours =
            |&(a, b): &(Rank, Rank)| after(world_size, a, 1) == b || after(world_size, b, 1) == a;
        let mut pairs =
            group.unlinked.iter().copied().filter(|&(a, b)| a != b && a < world_size && b < world_size);
        let pair = pairs.next();
        Lacking { pair, neighbours: pair.into_iter().chain(pairs).find(neighbours) }
    }
}

/// What would be best if every pair had a link; what is chosen by predicted time has all links it needs.
fn wanted(
    group: &GroupInfo,
    info: &EpochInfo,
    descriptor: &OpDescriptor,
    lacking: &Lacking,
) -> (Schedule, Reason) {
    let world_size = group.order.len() as Rank;
    let size_bytes = descriptor.size_bytes();
    // What is quantized takes the time of what travels.
    let wire_bytes = descriptor.wire_bytes();
    let tiny_bytes = small_limit_bytes(world_size, info.piece_bytes);
    let limit_bytes = MESH_SHARE_BYTES * u64::from(world_size);
    let planned = group.planned.as_deref();
    let forced = match info.schedule {
        ScheduleChoice::Auto => None,
        ScheduleChoice::Ring => Some(Schedule::Ring),
        ScheduleChoice::Mesh => Some(Schedule::Mesh),
        ScheduleChoice::Packed => planned.and_then(|p| p.forest.as_ref()).map(|_| Schedule::Packed),
    };
    if let Some(schedule) = forced {
        return (schedule, Reason::Forced);
    }
    if size_bytes <= tiny_bytes && lacking.pair.is_none() {
        return (Schedule::Small, Reason::TinyPayload { size_bytes, limit_bytes: tiny_bytes });
    }
    if let Some(predicted) = planned.and_then(|planned| predicted(planned, wire_bytes, lacking)) {
        return predicted;
    }
    if size_bytes <= tiny_bytes {
        (Schedule::Small, Reason::TinyPayload { size_bytes, limit_bytes: tiny_bytes })
    } else if world_size == 2 {
        (Schedule::Mesh, Reason::WorldOfTwo)
    } else if wire_bytes <= limit_bytes {
        (Schedule::Mesh, Reason::SmallPayload { size_bytes: wire_bytes, limit_bytes })
    } else if group.rtt_us > NEAR_RTT_US {
        (Schedule::Mesh, Reason::WideArea { rtt_us: group.rtt_us })
    } else {
        (Schedule::Ring, Reason::LargePayload { size_bytes: wire_bytes, limit_bytes })
    }
}

/// The least predicted time of what can run; of equal ones the simplest. None: neither ring nor mesh runs, and there is
/// no forest.
fn predicted(planned: &Planned, size_bytes: u64, lacking: &Lacking) -> Option<(Schedule, Reason)> {
    let mesh_us = lacking.pair.is_none().then(|| planned.mesh.time_us(size_bytes));
    let ring_us = lacking.neighbours.is_none().then(|| planned.ring.time_us(size_bytes));
    let forest = planned.forest.as_ref().map(|forest| (forest.kind, forest.cost.time_us(size_bytes)));
    let times = [
        mesh_us.map(|us| (Schedule::Mesh, us)),
        ring_us.map(|us| (Schedule::Ring, us)),
        forest.map(|(_, us)| (Schedule::Packed, us)),
    ];
    let (schedule, _) = times.into_iter().flatten().min_by_key(|&(_, us)| us)?;
    Some((schedule, Reason::Predicted { ring_us, mesh_us, forest }))
}

/// The largest payload of the small schedule: one frame, within a group's share of eager bytes, and no more than a piece.
fn small_limit_bytes(world_size: Rank, piece_bytes: u32) -> u64 {
    let share = MAX_EAGER_OP_BYTES as u64 / u64::from(world_size - 1);
    share.min(MAX_EAGER_FRAME_BYTES as u64).min(piece_bytes.into())
}
