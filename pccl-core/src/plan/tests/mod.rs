mod choosing;
mod execution;
mod forests;

use crate::types::{DType, Epoch, EpochInfo, GroupId, GroupInfo, OpDescriptor, PeerId, Rank, ReduceOp};

fn group(world_size: Rank, unlinked: &[(Rank, Rank)]) -> GroupInfo {
    let order = (0..world_size).map(|rank| PeerId(u128::from(rank).wrapping_mul(77).to_le_bytes())).collect();
    let mut unlinked = unlinked.to_vec();
    unlinked.sort_unstable();
    GroupInfo { group: GroupId(0), since: Epoch(1), order, unlinked, rtt_us: 0, planned: None }
}

fn info(piece_bytes: u32) -> EpochInfo {
    EpochInfo { epoch: Epoch(1), piece_bytes, ..EpochInfo::default() }
}

fn bytes(count: u64) -> OpDescriptor {
    OpDescriptor::plain(count, DType::U8, ReduceOp::Sum)
}
