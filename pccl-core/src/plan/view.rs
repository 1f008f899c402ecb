//! What one peer has to do in an operation's forest: for each chunk its place in two trees.

use std::fmt;

use crate::types::Rank;

/// Which kind of forest was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// Chains around the ring of ranks. Patarasuk & Yuan, "Bandwidth optimal all-reduce algorithms for
    /// clusters of workstations", 2009.
    Ring,
    /// Stars: every pair exchanges its own shares directly.
    Mesh,
    /// Breadth-first trees over the pairs that have a link: runs wherever the group is connected.
    Trees,
    /// The planner's trees, fitted to a measured network, with shares of their own.
    Packed,
    /// No forest: everybody sends its whole contribution to everybody, and adds in the order of ranks.
    Small,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Schedule::Ring => "ring",
            Schedule::Mesh => "mesh",
            Schedule::Trees => "trees",
            Schedule::Packed => "packed",
            Schedule::Small => "small",
        })
    }
}

/// One owner's share of the payload, as one peer sees it. Shapes in elements of the operation's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkView {
    pub owner: Rank,
    /// First element of the chunk within the payload.
    pub first: u64,
    /// Elements of the chunk; never 0 (chunks without elements are not part of a plan).
    pub count: u64,
    /// Whom this peer passes its sum to; `None` at the owner.
    pub reduce_parent: Option<Rank>,
    /// Whether this peer is its reduction parent's only child: then its place is granted by nature.
    pub only_child: bool,
    /// This peer's position among its parent's children (0 at the owner).
    pub child_index: Rank,
    /// How many children the reduction parent has (0 at the owner).
    pub siblings: Rank,
    /// Whose contributions this peer adds to its own. See `turn` for the order.
    pub reduce_children: Vec<Rank>,
    /// Where the finished value comes from; `None` at the owner.
    pub broadcast_parent: Option<Rank>,
    pub broadcast_children: Vec<Rank>,
}

/// The whole of one peer's part. Chunks tile the payload in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanView {
    pub schedule: Schedule,
    pub rank: Rank,
    pub world_size: Rank,
    pub count: u64,
    /// Elements of a full piece; the last piece of a chunk may be shorter.
    pub piece_elements: u64,
    /// Of descriptor and schedule: equal at two peers exactly if they mean the same operation in the same way.
    pub digest: u32,
    /// Empty where the schedule is `Small`.
    pub chunks: Vec<ChunkView>,
}

impl ChunkView {
    /// Pieces of this chunk.
    pub fn pieces(&self, piece_elements: u64) -> u32 {
        self.count.div_ceil(piece_elements) as u32
    }

    /// First element within the payload, and number of elements, of piece `piece`.
    pub fn piece_span(&self, piece_elements: u64, piece: u32) -> (u64, u64) {
        let skip = u64::from(piece) * piece_elements;
        (self.first + skip, piece_elements.min(self.count - skip))
    }
}

/// The child whose contribution is added at turn `turn` (0 first) of piece `piece`, of `children` children.
///
/// The order is fixed by the forest, so sums do not depend on timing. It rotates from piece to piece, so that
/// at any time every child has pieces whose turn it is, and nobody needs to wait for a place.
pub fn child_at_turn(children: usize, piece: u32, turn: usize) -> usize {
    (piece as usize + turn) % children
}

/// The turn of child `child` at piece `piece`: the inverse of `child_at_turn`.
pub fn turn_of_child(children: usize, piece: u32, child: usize) -> usize {
    (child + children - piece as usize % children) % children
}
