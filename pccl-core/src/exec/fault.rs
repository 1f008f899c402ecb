//! What the other end of a link can do wrong. Each ends the link.

use crate::types::{OpKey, SyncNumber};
use crate::wire::frame::FrameError;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("a segment of {key} arrived damaged: its check sum is {found:08x}, not {expected:08x}")]
    Damaged { key: OpKey, expected: u32, found: u32 },
    #[error("{key} is none of this peer's: it is not in the group's order")]
    Stranger { key: OpKey },
    #[error("data of {key}, which was not granted: it has not been started here")]
    UnknownOp { key: OpKey },
    #[error("data of {key} for another plan: its digest is {found:08x}, not {expected:08x}")]
    Digest { key: OpKey, expected: u32, found: u32 },
    #[error("chunk {chunk} piece {piece} is not part of {key}")]
    NoSuchPiece { key: OpKey, chunk: u32, piece: u32 },
    #[error("chunk {chunk} of {key} does not come from this peer")]
    WrongSender { key: OpKey, chunk: u32 },
    #[error("data for chunk {chunk} piece {piece} of {key} without grant, or out of turn")]
    NotGranted { key: OpKey, chunk: u32, piece: u32 },
    #[error("a segment of {key} at offset {offset} of {len} bytes, where offset {expected} was due")]
    Offset { key: OpKey, offset: u32, len: u32, expected: u32 },
    #[error("chunk {chunk} piece {piece} of {key} comes over two connections")]
    TwoConnections { key: OpKey, chunk: u32, piece: u32 },
    #[error("chunk {chunk} piece {piece} of {key} comes once more, after its sender had given it up")]
    Spoiled { key: OpKey, chunk: u32, piece: u32 },
    #[error("a grant for chunk {chunk} piece {piece} of {key}, which this peer does not receive")]
    WrongGrant { key: OpKey, chunk: u32, piece: u32 },
    #[error("a second whole contribution to {key}")]
    EagerTwice { key: OpKey },
    #[error("a whole contribution of {len} bytes to {key}, which has {expected}")]
    EagerLength { key: OpKey, len: u32, expected: usize },
    #[error("a whole contribution to {key}, which takes pieces")]
    EagerToForest { key: OpKey },
    #[error("a piece of {key}, which takes whole contributions")]
    PieceOfSmall { key: OpKey },
    #[error(
        "more than {limit_bytes} bytes sent ahead for operations that have not been started here, or too many"
    )]
    TooMuchEager { limit_bytes: usize },
    #[error("more than {limit} asks of {number} that were not answered yet")]
    TooManyAsks { number: SyncNumber, limit: usize },
    #[error("an ask of {number} for {count} of tensor {tensor} from {first} on, which are not there")]
    NothingThere { number: SyncNumber, tensor: u32, first: u32, count: u32 },
    #[error(
        "block {block} of tensor {tensor} in {number}: offset {offset} and {len} bytes, where {expected} were due"
    )]
    BlockPlace { number: SyncNumber, tensor: u64, block: u32, offset: u32, len: u32, expected: usize },
    #[error("more than {limit} grants for operations that have not been started here")]
    TooManyEarlyGrants { limit: usize },
}
