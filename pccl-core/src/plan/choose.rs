//! Which schedule an operation uses, and why.

use std::fmt;

use super::chunks::after;
use super::links::Links;
use super::{PlanError, Schedule};
use crate::limits::{MAX_EAGER_FRAME_BYTES, MAX_EAGER_OP_BYTES, NEAR_RTT_US};
use crate::types::{EpochInfo, GroupInfo, OpDescriptor, Rank, ScheduleChoice};

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
            Reason::MeshLacksLink(a, b) => write!(f, "no mesh, as ranks {a} and {b} have no link"),
            Reason::RingLacksLink(a, b) => write!(f, "no ring, as its neighbours {a} and {b} have no link"),
        }
    }
}

/// A pure function of the epoch and the descriptor, so all members choose alike.
///
/// Small for payloads so small that everybody can have all of them at once, mesh for two peers, for small payloads and
/// over wide areas, ring for large payloads between hosts near each other; what is forced or wanted but lacks a link
/// gives way to the ring, the ring to trees.
pub fn choose(
    group: &GroupInfo,
    info: &EpochInfo,
    descriptor: &OpDescriptor,
) -> Result<(Schedule, Reason), PlanError> {
    let world_size = group.order.len() as Rank;
    if world_size < 2 {
        return Err(PlanError::Alone);
    }
    let (wanted, reason) = wanted(group, info, descriptor);
    let missing = group.unlinked.iter().find(|&&(a, b)| a != b && a < world_size && b < world_size);
    let Some(&(a, b)) = missing else { return Ok((wanted, reason)) };
    if let Some(unreachable) = Links::of(group).tree(0).unreached() {
        return Err(PlanError::Disconnected { unreachable });
    }
    let neighbours = |&(a, b): &(Rank, Rank)| after(world_size, a, 1) == b || after(world_size, b, 1) == a;
    let gap =
        group.unlinked.iter().filter(|&&(a, b)| a < world_size && b < world_size).find(|p| neighbours(p));
    match (gap, wanted) {
        (Some(&(a, b)), _) => Ok((Schedule::Trees, Reason::RingLacksLink(a, b))),
        (None, Schedule::Mesh | Schedule::Small) => Ok((Schedule::Ring, Reason::MeshLacksLink(a, b))),
        (None, _) => Ok((Schedule::Ring, reason)),
    }
}

/// What would be best if every pair had a link.
fn wanted(group: &GroupInfo, info: &EpochInfo, descriptor: &OpDescriptor) -> (Schedule, Reason) {
    let world_size = group.order.len() as Rank;
    let size_bytes = descriptor.size_bytes();
    let tiny_bytes = small_limit_bytes(world_size, info.piece_bytes);
    let limit_bytes = MESH_SHARE_BYTES * u64::from(world_size);
    match info.schedule {
        ScheduleChoice::Ring => (Schedule::Ring, Reason::Forced),
        ScheduleChoice::Mesh => (Schedule::Mesh, Reason::Forced),
        ScheduleChoice::Auto if size_bytes <= tiny_bytes => {
            (Schedule::Small, Reason::TinyPayload { size_bytes, limit_bytes: tiny_bytes })
        }
        ScheduleChoice::Auto if world_size == 2 => (Schedule::Mesh, Reason::WorldOfTwo),
        ScheduleChoice::Auto if size_bytes <= limit_bytes => {
            (Schedule::Mesh, Reason::SmallPayload { size_bytes, limit_bytes })
        }
        ScheduleChoice::Auto if group.rtt_us > NEAR_RTT_US => {
            (Schedule::Mesh, Reason::WideArea { rtt_us: group.rtt_us })
        }
        ScheduleChoice::Auto => (Schedule::Ring, Reason::LargePayload { size_bytes, limit_bytes }),
    }
}

/// The largest payload of the small schedule: one frame, within a group's share of eager bytes, and no more than a piece.
fn small_limit_bytes(world_size: Rank, piece_bytes: u32) -> u64 {
    let share = MAX_EAGER_OP_BYTES as u64 / u64::from(world_size - 1);
    share.min(MAX_EAGER_FRAME_BYTES as u64).min(piece_bytes.into())
}
