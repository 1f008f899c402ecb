//! What a communicator knows without asking its thread.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{ErrorKind, Result};
use crate::obs::Stats;
use crate::proto::peer::Done;
use crate::types::{Epoch, Rank, WorldSizes};

/// The present epoch as this peer sees it, zeros while it is in none, and counts since the communicator was made.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Whether this peer is a member of a run.
    pub member: bool,
    pub epoch: Epoch,
    pub world: WorldSizes,
    pub group_world_size: u32,
    pub rank: Rank,
    /// As of the last commit or answer that told.
    pub peers_pending: u32,
    /// But for what only the thread knows.
    pub stats: Stats,
}

impl Snapshot {
    /// A call has ended; of `Stats`, only operations count.
    pub fn note(&mut self, outcome: &Result<Done>, is_operation: bool) {
        let stats = &mut self.stats;
        match outcome {
            Ok(Done::Reduced(info)) => {
                stats.ops_reduced += 1;
                stats.tx_bytes += info.tx_bytes;
                stats.rx_bytes += info.rx_bytes;
                self.peers_pending = info.peers_pending;
            }
            Ok(Done::Synchronized(info)) => {
                stats.syncs += 1;
                stats.tx_bytes += info.tx_bytes;
                stats.rx_bytes += info.rx_bytes;
            }
            Ok(Done::PeersPending { peers_pending }) => self.peers_pending = *peers_pending,
            Ok(Done::Connected | Done::Updated | Done::Optimized | Done::Left) => {}
            Err(_) if !is_operation => {}
            Err(error) if error.kind == ErrorKind::Aborted => stats.ops_aborted += 1,
            Err(_) => stats.ops_failed += 1,
        }
    }
}

/// Written by the communicator's thread, read by all.
#[derive(Debug, Default)]
pub struct Status(Mutex<Snapshot>);

impl Status {
    pub fn get(&self) -> Snapshot {
        self.lock().clone()
    }

    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        // Plain numbers: a panic cannot leave them in a state worse than old.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
