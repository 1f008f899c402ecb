//! What a communicator knows without asking its thread.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::types::{Epoch, Rank, WorldSizes};

/// The present epoch as this peer sees it, and counts since the communicator was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Whether this peer is a member of a run.
    pub member: bool,
    pub epoch: Epoch,
    pub world: WorldSizes,
    pub group_world_size: u32,
    pub rank: Rank,
    /// As of the last commit or answer that told.
    pub peers_pending: u32,
    pub stats: Stats,
}

/// Counts since the communicator was made; they only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stats {
    pub ops_reduced: u64,
    pub ops_aborted: u64,
    pub ops_failed: u64,
    /// Payload of the operations that were reduced.
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    /// Epochs this peer has been a member of.
    pub epochs: u64,
    pub links_up: u64,
    pub links_closed: u64,
}

/// Written by the communicator's thread, read by all.
#[derive(Debug, Default)]
pub struct Status(Mutex<Snapshot>);

impl Status {
    pub fn get(&self) -> Snapshot {
        *self.lock()
    }

    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        // Plain numbers: a panic cannot leave them in a state worse than old.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
