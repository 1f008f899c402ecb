//! A peer's life as the master sees it.

use crate::proto::table::Transition;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Joined, not in an epoch; links to the members are being made.
    Pending,
    /// Would be in the next epoch; has not answered yet.
    Preparing,
    /// Would be in the next epoch, and has answered.
    Prepared,
    /// In the present epoch.
    Member,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    Prepare,
    Answer,
    /// The prepare was called off; its epoch number is burned.
    Burn,
    Commit,
    /// There is no member who could agree: the first peer of a run.
    First,
}

use PeerEvent::*;
use PeerState::*;

const fn t(from: PeerState, event: PeerEvent, to: PeerState) -> Transition<PeerState, PeerEvent> {
    Transition { from, event, to }
}

pub const TABLE: &[Transition<PeerState, PeerEvent>] = &[
    t(Pending, First, Member),
    t(Pending, Prepare, Preparing),
    t(Preparing, Answer, Prepared),
    t(Preparing, Burn, Pending),
    t(Prepared, Burn, Pending),
    t(Prepared, Commit, Member),
];
