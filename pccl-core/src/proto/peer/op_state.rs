//! An all-reduce's life as one of its peers sees it.

use crate::proto::table::Transition;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpState {
    /// Announced; its bytes are on their way.
    Moving,
    /// The whole result is here; the others' may not be at theirs.
    Held,
    /// The call has its outcome.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpEvent {
    ResultHere,
    /// All hold the result.
    Commit,
    /// A verdict without a result: the peers disagree, or wait for what cannot come.
    Judge,
    /// A new epoch ends it; the input is as it was.
    Abort,
    /// A new epoch takes it over: the input is restored and it begins anew.
    Carry,
}

use OpEvent::*;
use OpState::*;

const fn t(from: OpState, event: OpEvent, to: OpState) -> Transition<OpState, OpEvent> {
    Transition { from, event, to }
}

/// A commit while moving is not in the table: the master commits only what all hold.
pub const OP_TABLE: &[Transition<OpState, OpEvent>] = &[
    t(Moving, ResultHere, Held),
    t(Held, Commit, Ended),
    t(Moving, Judge, Ended),
    t(Held, Judge, Ended),
    t(Moving, Abort, Ended),
    t(Held, Abort, Ended),
    t(Moving, Carry, Moving),
    t(Held, Carry, Moving),
];
