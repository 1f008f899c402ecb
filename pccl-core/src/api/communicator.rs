//! A program's place in a run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::callers::Callers;
use super::retry::{self, ReduceRequest};
use super::{CommunicatorBuilder, Scope, Work, check_process};
use crate::config::PeerSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{self, Buffers, BuffersError, Element};
use crate::obs::Stats;
use crate::proto::peer::{Done, ReduceInfo, check_descriptor};
use crate::shell::node::Request;
use crate::shell::{PeerThread, Snapshot, shut_down};
use crate::types::{Epoch, OpDescriptor, PhaseCall, Quantization, Rank, ReduceOp, Tag};

/// A peer of a run: connects, admits others, reduces with the peers of its group.
///
/// All calls block until their outcome is known, and may be made from any thread. Dropping it leaves the run,
/// ends its thread and closes its sockets. After a `fork` the child's copy fails with `InvalidUsage`.
#[derive(Debug)]
pub struct Communicator {
    settings: PeerSettings,
    pid: u32,
    thread: OnceLock<PeerThread>,
    starting: Mutex<()>,
    shut_down: AtomicBool,
    /// Held by the thread that is in a synchronization.
    pub(super) syncing: Mutex<()>,
    callers: Arc<Callers>,
}

impl Communicator {
    /// For the run of the master at `host:port`. Nothing is connected before `connect`.
    pub fn builder(master: &str) -> CommunicatorBuilder {
        CommunicatorBuilder::new(master)
    }

    pub(super) fn new(settings: PeerSettings) -> Communicator {
        Communicator {
            settings,
            pid: std::process::id(),
            thread: OnceLock::new(),
            starting: Mutex::new(()),
            shut_down: AtomicBool::new(false),
            syncing: Mutex::new(()),
            callers: Arc::default(),
        }
    }

    /// Joins the run. Blocks until accepted: the first peer is at once, later ones when all accepted peers have
    /// called `update_topology`.
    ///
    /// `MasterConnectionFailed` if the master cannot be reached in time or refuses; then it may be called again.
    /// `InvalidUsage` if connected already. `PeerConnectionFailed` if the data port cannot be bound.
    pub fn connect(&self) -> Result<()> {
        check_process(self.pid, "communicator")?;
        self.finish(self.started()?, Request::Connect).map(|_| ())
    }

    /// Admits pending peers. Blocks until all accepted peers of the run have called it. `PendingAsyncOps` with
    /// operations in flight.
    pub fn update_topology(&self) -> Result<()> {
        self.phase(PhaseCall::UpdateTopology).map(|_| ())
    }

    /// Measures the links between the peers, and puts each group into the order, and onto the schedules, with the shortest
    /// predicted time. Blocks until all accepted peers of the run have called it, then some tenths of a second for each peer
    /// of a group; links measured in the last ten minutes are not measured again. Admits nobody. `docs/TOPOLOGY.md` has the
    /// model.
    ///
    /// `InvalidUsage` alone in the run. `TopologyOptimizationFailed` if nothing could be measured: the run goes on as it is,
    /// and it may be called again. `PendingAsyncOps` with operations in flight.
    pub fn optimize_topology(&self) -> Result<()> {
        self.phase(PhaseCall::OptimizeTopology).map(|_| ())
    }

    /// Whether peers wait to be admitted: the same answer at every accepted peer of the run, which all must call.
    pub fn are_peers_pending(&self) -> Result<bool> {
        match self.phase(PhaseCall::ArePeersPending)? {
            Done::PeersPending { peers_pending } => Ok(peers_pending > 0),
            other => Err(unexpected(&other)),
        }
    }

    /// Reduces `send` over all peers of the group into `recv` of the same length; every peer of the group must
    /// call it with the same tag, length, type and operation. All get the same bits, or all get an error.
    ///
    /// `Aborted` if membership changed meanwhile: call it again. On any error `send` is as before and `recv`
    /// unspecified. `TooFewPeers` in a group of one.
    pub fn all_reduce<T: Element>(
        &self,
        send: &[T],
        recv: &mut [T],
        op: ReduceOp,
        tag: Tag,
    ) -> Result<ReduceInfo> {
        self.scope(|scope| scope.all_reduce(send, recv, op, tag)?.wait())
    }

    /// As `all_reduce`, with the result in the place of the input. On any error `data` is as before.
    pub fn all_reduce_in_place<T: Element>(
        &self,
        data: &mut [T],
        op: ReduceOp,
        tag: Tag,
    ) -> Result<ReduceInfo> {
        self.scope(|scope| scope.all_reduce_in_place(data, op, tag)?.wait())
    }

    /// A quantized sum or average in place, with error feedback (docs/QUANTIZATION.md): `residual` is added to this peer's
    /// `data` first, and holds afterwards what quantization lost at this peer, for the next call. It is as long as `data`,
    /// 0 before the first call, and belongs to this peer, tag and model: not to be shared, reduced or averaged. Of f16 and bf16 it
    /// holds what sums round away as well. What is finite without it stays finite; in it NaN and infinities count as 0.
    ///
    /// On any error `data` and `residual` are as before, bit for bit: after `Aborted` call it again with both. The other
    /// peers need not have a residual. `InvalidArgument` for other operations than sum and average, and unquantized.
    pub fn all_reduce_with_feedback<T: Element>(
        &self,
        data: &mut [T],
        residual: &mut [T],
        op: ReduceOp,
        quantization: Quantization,
        tag: Tag,
    ) -> Result<ReduceInfo> {
        self.scope(|scope| scope.all_reduce_with_feedback(data, residual, op, quantization, tag)?.wait())
    }

    /// Several all-reduces at once over borrowed memory: returns when all that were started in it have ended.
    pub fn scope<'env, R>(&'env self, f: impl for<'scope> FnOnce(Scope<'scope, 'env>) -> R) -> R {
        mem::lend(|lending| f(Scope::new(self, lending)))
    }

    /// Starts an all-reduce over memory the caller vouches for (see `Buffers::new`) and returns at once. The
    /// memory belongs to the library until the `Work` is done, or the communicator destroyed; dropping the `Work`
    /// ends nothing. `InvalidArgument` comes from here where the arguments alone show it.
    pub fn all_reduce_buffers(&self, buffers: Buffers, descriptor: OpDescriptor, tag: Tag) -> Result<Work> {
        let thread = self.running()?;
        check(&buffers, descriptor, tag)?;
        let request = Request::AllReduce { tag, descriptor, buffers };
        Ok(Work::new(thread, request, Arc::clone(&self.callers), self.pid))
    }

    /// Runs all these all-reduces, at most `max_in_flight` at once, and repeats those that are aborted, until all
    /// are done. Every peer of the group must call it with the same list. Success means that every one of them
    /// was reduced; byte counts are totals.
    ///
    /// `TooFewPeers` when the group has one peer left; any other error ends it too, after those in flight. Then all inputs
    /// are as before, also of those that were done: what is reduced in place is kept until the end, as much memory again.
    pub fn all_reduce_multiple_with_retry(
        &self,
        requests: &mut [ReduceRequest<'_>],
        max_in_flight: usize,
    ) -> Result<ReduceInfo> {
        let requests = &*requests;
        let operations: Vec<_> = requests.iter().map(|request| (request.descriptor, request.tag)).collect();
        mem::lend(|lending| {
            self.all_reduce_buffers_with_retry(&operations, max_in_flight, |index| {
                let request = &requests[index];
                lending.memory(&request.memory).map_err(|error| no_buffers(request.tag, error))
            })
        })
    }

    /// As `all_reduce_multiple_with_retry`, over memory that is not borrowed: `buffers` gives that of an index, anew for
    /// each try, and once before anything is started. With error feedback nothing counts twice, as an abort leaves residuals
    /// as they were.
    pub fn all_reduce_buffers_with_retry(
        &self,
        operations: &[(OpDescriptor, Tag)],
        max_in_flight: usize,
        mut buffers: impl FnMut(usize) -> Result<Buffers>,
    ) -> Result<ReduceInfo> {
        self.running()?;
        retry::check(operations.iter().map(|(_, tag)| *tag), max_in_flight)?;
        for (index, (descriptor, tag)) in operations.iter().enumerate() {
            buffers(index)
                .and_then(|buffers| check(&buffers, *descriptor, *tag))
                .map_err(|error| Error::new(error.kind, format!("descriptors[{index}]: {}", error.reason)))?;
        }
        if operations.is_empty() {
            return Ok(ReduceInfo { group_world_size: self.group_world_size(), ..ReduceInfo::default() });
        }
        retry::run_whole(operations.len(), max_in_flight, buffers, |index, buffers| {
            let (descriptor, tag) = operations[index];
            self.all_reduce_buffers(buffers, descriptor, tag)
        })
    }

    /// Accepted peers of the run, of every group. 0 while not a member of one and in a forked child.
    ///
    /// This and the other attributes tell of the epoch in which the last call returned: the same at all peers of a
    /// group after the same call, so a program may branch on them.
    pub fn world_size(&self) -> u32 {
        self.snapshot().world.global
    }

    /// Accepted peers of this peer's group.
    pub fn group_world_size(&self) -> u32 {
        self.snapshot().group_world_size
    }

    /// Groups with accepted peers.
    pub fn num_groups(&self) -> u32 {
        self.snapshot().world.groups
    }

    /// Peers of the largest group.
    pub fn largest_group(&self) -> u32 {
        self.snapshot().world.largest_group
    }

    /// This peer's place in its group's order. Changes with the epoch.
    pub fn rank(&self) -> Rank {
        self.snapshot().rank
    }

    /// The number of the present epoch. Changes with membership and order.
    pub fn epoch(&self) -> Epoch {
        self.snapshot().epoch
    }

    /// Peers that wait to be admitted, as of the last all-reduce or `are_peers_pending`: at that moment the same
    /// at every peer of the group.
    pub fn peers_pending(&self) -> u32 {
        self.snapshot().peers_pending
    }

    /// Whether this peer is a member of a run now.
    pub fn is_connected(&self) -> bool {
        self.snapshot().member
    }

    /// Whether this peer is a member of a run now, with nobody else in its group.
    pub fn is_alone(&self) -> bool {
        let now = self.snapshot();
        now.member && now.group_world_size < 2
    }

    /// What was done so far, and over which links. Asks the communicator's thread, which may be in the middle of
    /// something: not for each of many small operations.
    pub fn stats(&self) -> Stats {
        let mut stats = self.snapshot().stats;
        let thread = self.thread.get().filter(|_| check_process(self.pid, "communicator").is_ok());
        if let Some(observed) = thread.and_then(PeerThread::observe) {
            stats.counters = observed.counters;
            stats.links = observed.links;
        }
        stats
    }

    /// The settings in force.
    pub fn settings(&self) -> &PeerSettings {
        &self.settings
    }

    /// Leaves the run; operations in flight end with `Aborted` first. No thread and no socket is left.
    pub fn destroy(self) {
        drop(self);
    }

    /// As `destroy`, for one that is shared: what other threads wait for ends with `Aborted`, and later calls are
    /// `InvalidUsage`. In a forked child it does nothing: threads and sockets are the parent's.
    pub fn shut_down(&self) {
        if check_process(self.pid, "communicator").is_err() {
            return;
        }
        {
            // Whoever starts the thread just now is done with it then, or is refused.
            let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
            self.shut_down.store(true, Ordering::Release);
        }
        if let Some(thread) = self.thread.get() {
            thread.stop();
        }
    }

    fn snapshot(&self) -> Snapshot {
        if check_process(self.pid, "communicator").is_err() {
            // The thread may have held its lock when it was left behind.
            return Snapshot::default();
        }
        self.thread.get().map(PeerThread::snapshot).unwrap_or_default()
    }

    fn phase(&self, call: PhaseCall) -> Result<Done> {
        self.finish(self.running()?, Request::Phase(call))
    }

    fn finish(&self, thread: &PeerThread, request: Request) -> Result<Done> {
        thread.call(request).1.wait()
    }

    pub(super) fn running(&self) -> Result<&PeerThread> {
        check_process(self.pid, "communicator")?;
        self.callers.note();
        self.must_not_be_shut_down()?;
        self.thread.get().ok_or_else(|| {
            Error::new(ErrorKind::InvalidUsage, "this communicator is not connected: call connect first")
        })
    }

    fn started(&self) -> Result<&PeerThread> {
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        self.must_not_be_shut_down()?;
        if self.thread.get().is_none() {
            let thread = PeerThread::start(&self.settings)?;
            // Nobody else sets it while `starting` is held.
            let _ = self.thread.set(thread);
        }
        self.running()
    }

    fn must_not_be_shut_down(&self) -> Result<()> {
        match self.shut_down.load(Ordering::Acquire) {
            true => Err(shut_down()),
            false => Ok(()),
        }
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        if check_process(self.pid, "communicator").is_err() {
            // The sockets are the parent's: to touch them would end its connections.
            std::mem::forget(self.thread.take());
        } else {
            self.shut_down();
        }
    }
}

/// What the arguments alone show to be wrong.
fn check(buffers: &Buffers, descriptor: OpDescriptor, tag: Tag) -> Result<()> {
    let invalid =
        |reason: String| Err(Error::new(ErrorKind::InvalidArgument, format!("all-reduce {tag}: {reason}")));
    check_descriptor(tag, &descriptor)?;
    let OpDescriptor { op, quantization, .. } = descriptor;
    match quantization.feedback_refusal(op).filter(|_| buffers.has_feedback()) {
        Some(reason) => invalid(format!("no error feedback for {op}, {quantization}: {reason}")),
        None => Ok(()),
    }
}

pub(super) fn no_buffers(tag: Tag, error: BuffersError) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("all-reduce {tag}: {error}"))
}

pub(super) fn unexpected(done: &Done) -> Error {
    Error::new(ErrorKind::Internal, format!("a call ended with {done:?}, which is no answer to it"))
}
