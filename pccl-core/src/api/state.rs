//! A program's shared state, and the call that makes it the same everywhere.

use std::sync::{MutexGuard, TryLockError};

use super::communicator::unexpected;
use super::{Buffers, Communicator, Element, Memory};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{MAX_HASH_THREADS, STATE_BLOCK_BYTES};
use crate::mem;
use crate::proto::peer::{Done, SyncInfo};
use crate::shell::node::Request;
use crate::shell::{PeerThread, SyncReport, SyncRequest, aside};
use crate::state::{Condition, Survey, Tensors, TensorsError};
use crate::types::{DType, SyncStrategy, TensorKey};

/// Named tensors and their revision: what all peers of a group are to hold alike.
///
/// Every peer of the group names the same tensors, in any order. The memory is borrowed for as long as this lives, and
/// belongs to the library only during the call.
#[derive(Debug)]
pub struct SharedState<'a> {
    revision: u64,
    keys: Vec<TensorKey>,
    memory: Vec<Memory<'a>>,
    conditions: Vec<Condition>,
}

impl<'a> SharedState<'a> {
    /// `revision` counts the synchronizations: the first may have any number (a checkpoint's), each later one has to be
    /// the one before plus 1. Peers with a lower one receive.
    pub fn new(revision: u64) -> SharedState<'a> {
        SharedState { revision, keys: Vec::new(), memory: Vec::new(), conditions: Vec::new() }
    }

    /// Adds a tensor. It may be empty.
    pub fn tensor<T: Element>(self, name: &str, data: &'a mut [T]) -> Self {
        self.add(name, T::DTYPE, data.len(), Memory::in_place(data), false)
    }

    /// Adds a tensor that is not compared: only peers whose revision is lower receive it.
    pub fn tensor_that_may_differ<T: Element>(self, name: &str, data: &'a mut [T]) -> Self {
        self.add(name, T::DTYPE, data.len(), Memory::in_place(data), true)
    }

    /// Adds a tensor over memory the caller vouches for (see `Memory::new`), for bindings: both its addresses must be the
    /// same. Whether its length fits is checked in the call.
    pub fn memory_tensor(
        self,
        name: &str,
        dtype: DType,
        count: usize,
        memory: Memory<'a>,
        may_differ: bool,
    ) -> Self {
        self.add(name, dtype, count, memory, may_differ)
    }

    fn add(mut self, name: &str, dtype: DType, count: usize, memory: Memory<'a>, may_differ: bool) -> Self {
        self.keys.push(TensorKey { name: name.to_owned(), dtype, count: count as u64, may_differ });
        self.memory.push(memory);
        self
    }

    /// Of what the tensors hold. After a success that of the group.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// For the next synchronization.
    pub fn set_revision(&mut self, revision: u64) {
        self.revision = revision;
    }

    /// What has become of each tensor in the last call, in the order they were added; all `Kept` before the first. After a
    /// call that failed they tell what is there: as before, wholly what was elected, or a mixture of both, which the next
    /// call repairs.
    pub fn conditions(&self) -> Vec<Condition> {
        let kept = self.keys.len().saturating_sub(self.conditions.len());
        self.conditions.iter().copied().chain(std::iter::repeat_n(Condition::Kept, kept)).collect()
    }
}

impl Communicator {
    /// Makes all peers of the group hold the same tensors. All of them must call it, with the same names, types and
    /// counts; blocks until all hold the elected content. Operations on the group are not possible meanwhile.
    ///
    /// Elected is, of the contents with the revision expected (see `SharedState::new`), the one most peers hold, and if
    /// several are held by as many, that of the lowest rank. Peers that hold another one, or a lower revision, receive what
    /// differs from all who hold it. With [`SyncStrategy::SendOnly`] and [`SyncStrategy::ReceiveOnly`] the program says who
    /// gives.
    ///
    /// On success `state` has the group's revision. Errors, all the same at every peer but those that say "this peer":
    /// `Aborted` if it could not be finished, as when the only holder died: call again, it goes on where it stood.
    /// `NoSharedStateAvailable` if nobody has a vote. `TooFewPeers` in a group of one. `PendingAsyncOps` with operations in
    /// flight. `InvalidArgument` if the tensors cannot be a state. `InvalidUsage` in a second call at once, or where others
    /// wait in calls that can never meet this one. A peer that breaks the rules of the run (other tensors, a revision too
    /// high, two who only send and differ) is kicked: its call fails with the reason in words, and the others go on.
    /// `SharedState::conditions` tells what is in the tensors after an error.
    pub fn synchronize_shared_state(
        &self,
        state: &mut SharedState<'_>,
        strategy: SyncStrategy,
    ) -> Result<SyncInfo> {
        let thread = self.running()?;
        let _only_one = self.only_synchronization()?;
        self.check_company()?;
        state.conditions.clear();
        let report = SyncReport::default();
        let (keys, memory) = (&state.keys, &state.memory);
        let request = (state.revision, strategy, false, report.clone());
        let done = mem::lend(|lending| {
            let lent = |(key, memory): (&TensorKey, _)| match lending.memory(memory) {
                Ok(buffers) => Ok((key.clone(), buffers)),
                Err(error) => Err(invalid(&format!("tensor {key}: {error}"))),
            };
            let given = keys.iter().zip(memory).map(lent).collect::<Result<Vec<_>>>()?;
            self.synchronize(thread, request, given)
        });
        state.conditions = report.conditions();
        let info = done?;
        state.revision = info.revision;
        Ok(info)
    }

    /// As `synchronize_shared_state`, over memory the caller vouches for (see `Buffers::new`; received in place), for
    /// bindings. Beside the outcome, what has become of each tensor, as `SharedState::conditions` tells it.
    ///
    /// `is_broken`: the program knows that a broken transfer has left these tensors, perhaps one of an earlier communicator,
    /// of which this one knows nothing. They have no vote then, and receive.
    pub fn synchronize_buffers(
        &self,
        revision: u64,
        strategy: SyncStrategy,
        is_broken: bool,
        tensors: Vec<(TensorKey, Buffers)>,
    ) -> (Result<SyncInfo>, Vec<Condition>) {
        let report = SyncReport::default();
        let done = self.running().and_then(|thread| {
            let _only_one = self.only_synchronization()?;
            self.check_company()?;
            self.synchronize(thread, (revision, strategy, is_broken, report.clone()), tensors)
        });
        (done, report.conditions())
    }

    fn synchronize(
        &self,
        thread: &PeerThread,
        (revision, strategy, is_broken, report): (u64, SyncStrategy, bool, SyncReport),
        given: Vec<(TensorKey, Buffers)>,
    ) -> Result<SyncInfo> {
        let tensors = Tensors::new(given).map_err(|error: TensorsError| invalid(&error.to_string()))?;
        let (tensors, survey) = surveyed(tensors, self.hash_threads())?;
        let request = SyncRequest { revision, strategy, is_broken, tensors, survey, report };
        match thread.call(Request::Synchronize(Box::new(request))).1.wait()? {
            Done::Synchronized(info) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }

    fn only_synchronization(&self) -> Result<MutexGuard<'_, ()>> {
        match self.syncing.try_lock() {
            Ok(guard) => Ok(guard),
            // A panic in another call has left nothing behind.
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(usage("another thread is in this call already")),
        }
    }

    /// Before gigabytes are hashed; the peer's machine has the last word.
    fn check_company(&self) -> Result<()> {
        if self.is_alone() {
            let reason = "synchronize_shared_state: this peer is alone in its group; admit others first";
            return Err(Error::new(ErrorKind::TooFewPeers, reason));
        }
        Ok(())
    }

    fn hash_threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        threads_for(self.settings().hash_threads, cores)
    }
}

/// All cores there are, within a bound; or what the settings say, which have the same bound.
fn threads_for(setting: u32, cores: usize) -> usize {
    let threads = if setting == 0 { cores } else { setting as usize };
    threads.clamp(1, MAX_HASH_THREADS)
}

/// Hashes all of it. Where this thread's waits are watched, another one does, so that this one can give up.
fn surveyed(tensors: Tensors, threads: usize) -> Result<(Tensors, Survey)> {
    aside("pccl-hash", move || {
        let survey = tensors.survey(STATE_BLOCK_BYTES, threads);
        (tensors, survey)
    })
}

fn usage(what: &str) -> Error {
    Error::new(ErrorKind::InvalidUsage, format!("synchronize_shared_state: {what}"))
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("synchronize_shared_state: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_cores_hash_within_a_bound() {
        for (setting, cores, threads) in [
            (0, 1, 1),
            (0, 4, 4),
            (0, 8, 8),
            (0, 192, 8),
            (3, 192, 3),
            (3, 2, 3),
            (8, 2, 8),
            (u32::MAX, 2, 8),
        ] {
            assert_eq!(threads_for(setting, cores), threads, "setting {setting}, {cores} cores");
        }
        assert_eq!(MAX_HASH_THREADS, 8);
    }
}
