//! A synchronization of the shared state as one of its peers sees it.

use crate::proto::table::Transition;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncState {
    /// Others of the group have not called yet, or it is not decided who wins.
    Offered,
    /// What was elected is not all here.
    Fetching,
    /// It is here, and served to whoever asks; others may not have it.
    Held,
    /// It cannot be had; the master knows, and ends it once all others are done.
    Failed,
    /// The call has its outcome.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncEvent {
    /// The election was held, and this peer lacks something of what won.
    ElectedOther,
    /// The election was held, and this peer lacks nothing.
    ElectedSame,
    ContentHere,
    CannotFetch,
    /// All hold it.
    Synchronize,
    /// Nothing was elected, or not all can have it, or the peers wait for what cannot come.
    GiveUp,
}

use SyncEvent::*;
use SyncState::*;

const fn t(from: SyncState, event: SyncEvent, to: SyncState) -> Transition<SyncState, SyncEvent> {
    Transition { from, event, to }
}

/// Only what is held here can be synchronized: the master waits for everybody.
pub const SYNC_TABLE: &[Transition<SyncState, SyncEvent>] = &[
    t(Offered, ElectedOther, Fetching),
    t(Offered, ElectedSame, Held),
    t(Fetching, ContentHere, Held),
    t(Fetching, CannotFetch, Failed),
    t(Held, Synchronize, Ended),
    t(Offered, GiveUp, Ended),
    t(Fetching, GiveUp, Ended),
    t(Held, GiveUp, Ended),
    t(Failed, GiveUp, Ended),
];
