//! The unit that travels: where it is on its way through this peer, and how segments refer to it.

use crate::types::LinkId;

/// How far a piece has come here. Only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Contributions are missing.
    Summing,
    /// The sum is complete and waits for the parent's grant.
    Summed,
    /// Granted: in the queue to the parent, or on its way.
    Sending,
    /// The parent's links have taken all of it: its memory may be overwritten.
    Sent,
    /// The finished value is here.
    Final,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub stage: Stage,
    /// Contributions that have landed whole.
    pub turn: u16,
    /// Quantized: the sum has given way to what it travels as, or does so part for part as the last contribution arrives.
    pub encoded: bool,
    /// Children that do not have the whole finished piece yet.
    pub owed: u16,
    /// The parent granted this piece by name.
    pub granted: bool,
    /// Turns that have a window, from the first to before the second. Those that have landed do not count.
    pub ahead: (u16, u16),
    /// In place: so many bytes of the input are in the save area.
    pub saved: u32,
    /// Bytes of the contribution, or of the finished value, that have landed, as they travel.
    pub got: u32,
    /// The one link these bytes come over.
    pub carrier: Option<LinkId>,
    /// What was coming was given up by its sender under way, and is in part in the sum: it will never be complete.
    pub spoiled: bool,
}

impl Piece {
    pub fn new() -> Piece {
        Piece {
            stage: Stage::Summing,
            turn: 0,
            ahead: (0, 0),
            encoded: false,
            owed: 0,
            granted: false,
            saved: 0,
            got: 0,
            carrier: None,
            spoiled: false,
        }
    }

    /// Whether the contribution of this turn has a window.
    pub fn is_ahead(&self, turn: u16) -> bool {
        (self.ahead.0..self.ahead.1).contains(&turn)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// Up the reduction tree: a contribution.
    Reduce,
    /// Down the broadcast tree: the finished value.
    Broadcast,
}

/// A piece to be sent to one peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub direction: Direction,
    pub chunk: u32,
    pub piece: u32,
}

/// Where an arriving segment goes. The header was checked against the plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// Slot of the operation; whoever ends the operation takes back all targets.
    pub op: usize,
    pub item: Item,
    /// Where the bytes lie that land where they stay: position within the payload.
    pub at: usize,
    /// Position within the piece, as it travels.
    pub offset: usize,
    pub len: usize,
    /// Of a contribution.
    pub turn: u16,
}
