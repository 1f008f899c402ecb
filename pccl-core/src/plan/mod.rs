//! Schedules as forests: pure functions from an epoch and a descriptor to what each peer does.
//!
//! `docs/SCHEDULES.md` has the pictures, and why no forest can stand still.

mod choose;
mod chunks;
mod digest;
mod fallback;
mod links;
mod mesh;
mod packed;
mod ring;
mod trees;
mod view;

#[cfg(test)]
mod tests;

pub use choose::{MESH_SHARE_BYTES, Reason, choose};
pub use fallback::fallbacks;
pub use view::{ChunkView, PlanView, Schedule, child_at_turn, turn_of_child};

use crate::limits::NEAR_RTT_US;
use crate::types::{EpochInfo, GroupInfo, OpDescriptor, PackedTree, Rank};

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("a group of one has nobody to reduce with")]
    Alone,
    #[error("there is no way over links from rank 0 to rank {unreachable}")]
    Disconnected { unreachable: Rank },
    #[error("rank {rank} is not part of a group of {world_size}")]
    NoSuchRank { rank: Rank, world_size: usize },
}

/// What `rank` has to do in this operation. All members get views of one and the same forest.
pub fn plan(
    group: &GroupInfo,
    info: &EpochInfo,
    rank: Rank,
    descriptor: &OpDescriptor,
) -> Result<PlanView, PlanError> {
    if usize::from(rank) >= group.order.len() {
        return Err(PlanError::NoSuchRank { rank, world_size: group.order.len() });
    }
    let (schedule, _) = choose(group, info, descriptor)?;
    Ok(view(group, schedule, info.piece_bytes, rank, descriptor))
}

fn view(
    group: &GroupInfo,
    schedule: Schedule,
    piece_bytes: u32,
    rank: Rank,
    descriptor: &OpDescriptor,
) -> PlanView {
    let world_size = group.order.len() as Rank;
    let trees: &[PackedTree] = match &group.planned {
        Some(planned) => planned.forest.as_ref().map_or(&[], |forest| &forest.trees),
        None => &[],
    };
    let near = (1..=NEAR_RTT_US).contains(&group.rtt_us);
    let owners = if schedule == Schedule::Packed { trees.len() as Rank } else { world_size };
    let piece_bytes = chunks::piece_bytes(piece_bytes, near, owners, descriptor);
    let piece_elements = chunks::piece_elements(piece_bytes, descriptor);
    let count = descriptor.count;
    PlanView {
        schedule,
        rank,
        world_size,
        count,
        piece_elements,
        digest: digest::digest(group, schedule, piece_elements, descriptor),
        chunks: match schedule {
            Schedule::Ring => ring::chunks(world_size, rank, count),
            Schedule::Mesh => mesh::chunks(world_size, rank, count),
            Schedule::Trees => trees::chunks(group, rank, count),
            Schedule::Packed => packed::chunks(trees, rank, count),
            Schedule::Small => Vec::new(),
        },
    }
}
