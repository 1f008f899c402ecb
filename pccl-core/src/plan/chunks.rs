//! How a payload is cut: into chunks by owner, and chunks into pieces.

use crate::limits::{DEFAULT_POOL_CONNECTIONS, MAX_PIECE_BYTES};
use crate::types::{OpDescriptor, Rank};

/// First element and number of elements of `owner`'s equal share of `count` elements. May be empty.
pub fn equal_share(count: u64, world_size: Rank, owner: Rank) -> (u64, u64) {
    let border = |index: u64| (u128::from(index) * u128::from(count) / u128::from(world_size)) as u64;
    let first = border(u64::from(owner));
    (first, border(u64::from(owner) + 1) - first)
}

/// Between near peers a piece costs more by its system calls than by the wait for it: where an owner's share has this
/// many pieces or more of `NEAR_PIECE_FACTOR` times the size, it is cut into those.
const NEAR_PIECES: u64 = 16;
const NEAR_PIECE_FACTOR: u32 = 4;

/// Between others a piece waits for its connection, which begins with few bytes in each round trip and doubles them: an
/// owner's share is cut into so many, one for each of a pair's connections, if they are not less than
/// `LEAST_FAR_PIECE_BYTES` each.
const FAR_PIECES: u64 = DEFAULT_POOL_CONNECTIONS as u64;
const LEAST_FAR_PIECE_BYTES: u64 = 32 << 10;
/// Whole blocks of every quantization, and whole pages.
const FAR_PIECE_STEP_BYTES: u64 = 16 << 10;

/// The largest piece of a payload that `world_size` owners share.
pub fn piece_bytes(setting_bytes: u32, near: bool, world_size: Rank, descriptor: &OpDescriptor) -> u32 {
    let share_bytes = descriptor.size_bytes() / u64::from(world_size.max(1));
    if !near {
        let fine_bytes = share_bytes.div_ceil(FAR_PIECES).next_multiple_of(FAR_PIECE_STEP_BYTES);
        let fine_bytes = fine_bytes.max(LEAST_FAR_PIECE_BYTES);
        return u32::try_from(fine_bytes).map_or(setting_bytes, |fine_bytes| fine_bytes.min(setting_bytes));
    }
    let long_bytes = setting_bytes.saturating_mul(NEAR_PIECE_FACTOR).min(MAX_PIECE_BYTES);
    let many = share_bytes >= NEAR_PIECES * u64::from(long_bytes);
    if many { long_bytes.max(setting_bytes) } else { setting_bytes }
}

/// Elements of a full piece: what fits `piece_bytes`, at least 1, and never so few that the number of a piece
/// would not fit its 32 bits.
pub fn piece_elements(piece_bytes: u32, descriptor: &OpDescriptor) -> u64 {
    let fitting = u64::from(piece_bytes) / descriptor.dtype.size_bytes() as u64;
    fitting.max(descriptor.count.div_ceil(u64::from(u32::MAX))).max(1)
}

/// `rank` plus `steps`, around the ring.
pub fn after(world_size: Rank, rank: Rank, steps: Rank) -> Rank {
    ((u32::from(rank) + u32::from(steps)) % u32::from(world_size)) as Rank
}

/// Steps from `from` to `to`, around the ring.
pub fn distance(world_size: Rank, from: Rank, to: Rank) -> Rank {
    after(world_size, to, world_size - from)
}
