//! All-reduces, blocking and not.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::{c_int, c_void};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::{ptr, slice};

use pccl_core::api::{Buffers, Communicator, Error, ErrorKind, OpDescriptor, Result, Tag, Work};
use pccl_core::limits::MAX_OP_BYTES;

use crate::communicator::{Comm, on};
use crate::enums::ResultCode;
use crate::guard::{entry, invalid, not_null, required, timed_entry};
use crate::layout::{AsyncReduceOp, ReduceDescriptor, ReduceInfo, ReduceOpDescriptor};

/// What an all-reduce reads and writes.
#[derive(Clone, Copy)]
struct Places {
    send: *const c_void,
    recv: *mut c_void,
    /// NULL: without error feedback.
    residual: *mut c_void,
}

impl Places {
    /// # Safety
    /// As the header says of an all-reduce's buffers: valid for `count` elements until the operation has ended.
    unsafe fn buffers(self, operation: &OpDescriptor) -> Result<Buffers> {
        let size_bytes = operation.size_bytes();
        let len = usize::try_from(size_bytes).ok().filter(|_| size_bytes <= MAX_OP_BYTES);
        let len = len.ok_or_else(|| invalid(format!("{size_bytes} bytes are too many for one operation")))?;
        // SAFETY: the caller's contract is that of `Buffers`.
        let buffers = unsafe { Buffers::new(self.send.cast(), self.recv.cast(), len) };
        let buffers = match self.residual.is_null() {
            true => buffers,
            // SAFETY: as above.
            false => buffers.and_then(|buffers| unsafe { buffers.with_feedback(self.residual.cast()) }),
        };
        buffers.map_err(|error| invalid(error.to_string()))
    }
}

fn check_company(communicator: &Communicator) -> Result<()> {
    if communicator.is_alone() {
        return Err(Error::new(ErrorKind::TooFewPeers, "this peer is alone in its group"));
    }
    Ok(())
}

/// # Safety
/// As the header says of an all-reduce's buffers: valid for `count` elements until the operation has ended.
unsafe fn start(places: Places, descriptor: &ReduceDescriptor, comm: &Comm) -> Result<Work> {
    let operation = descriptor.to_rust()?;
    // SAFETY: the caller's contract.
    let buffers = unsafe { places.buffers(&operation) }?;
    check_company(&comm.communicator)?;
    comm.communicator.all_reduce_buffers(buffers, operation, Tag(descriptor.tag))
}

/// # Safety
/// `out` is NULL or valid for a write.
unsafe fn write_info(out: *mut ReduceInfo, info: pccl_core::api::ReduceInfo) {
    if !out.is_null() {
        let local_world_size = info.group_world_size;
        // SAFETY: the caller's contract; it was checked for NULL.
        unsafe {
            out.write(ReduceInfo { local_world_size, tx_bytes: info.tx_bytes, rx_bytes: info.rx_bytes })
        };
    }
}

/// Combines `sendbuf` of all peers of the group into `recvbuf` of each: the same bits at all of them, or an error
/// at all of them.
///
/// Operation of the group: blocks until all hold the result. It is both in one, with the codes of pcclAllReduceAsync and
/// pcclAwaitAsyncReduce. `reduce_info_out` may be NULL.
///
/// pcclRankConnectionLost: a peer went meanwhile. Whatever fails, `sendbuf` is what it was before the call, in
/// place too, and `recvbuf` of a call that is not in place is unspecified: so to call again is always right.
/// docs/guide-c.md has the loop.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclAllReduce(
    sendbuf: *const c_void,
    recvbuf: *mut c_void,
    descriptor: *const ReduceDescriptor,
    comm: *const Comm,
    reduce_info_out: *mut ReduceInfo,
) -> ResultCode {
    let places = Places { send: sendbuf, recv: recvbuf, residual: ptr::null_mut() };
    // SAFETY: the contract of this function.
    entry("pcclAllReduce", || unsafe { reduce(places, descriptor, comm, reduce_info_out) })
}

/// A quantized sum or average as pcclAllReduce, with error feedback: `residual` is added to what this peer gives, and holds
/// afterwards what quantization has lost at this peer, for the next call. So nothing is lost for good, and the mean of many
/// calls' results is the true one (docs/QUANTIZATION.md).
///
/// `residual` has `count` elements of the operation's type, apart from the other buffers; 0 before the first call, and left
/// alone between two. It belongs to this peer and to what is reduced under this tag: it is not shared, and the other peers
/// need not have one. NULL: none, and this is pcclAllReduce.
///
/// Whatever fails, `residual` is what it was before the call, as `sendbuf` is: so to call again is always right, and nothing
/// counts twice. Codes of pcclAllReduce; pcclInvalidArgument also: a residual for what is not quantized, or is neither sum
/// nor average.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclAllReduceWithFeedback(
    sendbuf: *const c_void,
    recvbuf: *mut c_void,
    residual: *mut c_void,
    descriptor: *const ReduceDescriptor,
    comm: *const Comm,
    reduce_info_out: *mut ReduceInfo,
) -> ResultCode {
    let places = Places { send: sendbuf, recv: recvbuf, residual };
    // SAFETY: the contract of this function.
    entry("pcclAllReduceWithFeedback", || unsafe { reduce(places, descriptor, comm, reduce_info_out) })
}

/// # Safety
/// As pcclAllReduce and its kin say of their arguments.
unsafe fn reduce(
    places: Places,
    descriptor: *const ReduceDescriptor,
    comm: *const Comm,
    reduce_info_out: *mut ReduceInfo,
) -> Result<()> {
    let info = on(comm, |comm| {
        // SAFETY: the caller's contract; the buffers outlive the wait below.
        let work = unsafe { start(places, required(descriptor, "descriptor")?, comm) }?;
        work.wait()
    })?;
    // SAFETY: the caller's contract.
    unsafe { write_info(reduce_info_out, info) };
    Ok(())
}

/// Starts an all-reduce and returns; `*reduce_handle_out` stands for it. Many may be in flight, told apart by their
/// tags.
///
/// Operation of the group; does not block. From here until pcclAwaitAsyncReduce (or its kin) has given its end,
/// `sendbuf` and `recvbuf` are the library's: neither read nor written by anybody else. They are the same memory
/// (in place), or disjoint. `descriptor` is copied. Every handle is awaited once; the end of its communicator ends it, too.
///
/// pcclInvalidArgument: a tag whose handle is not awaited yet, buffers that overlap in part, a count of 0, an operation that
/// the quantization does not have. pcclTooFewPeers: alone in the group. pcclInvalidUsage: not connected. What only the
/// communicator's thread knows comes from the await: a tag that is in flight in a blocking call, a phase call under way in
/// another thread, peers that disagree on count, type, operation or quantization, 4096 operations in flight already, or
/// 65536 different tags between two changes of membership or order (so take tags in turn rather than a running number).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclAllReduceAsync(
    sendbuf: *const c_void,
    recvbuf: *mut c_void,
    descriptor: *const ReduceDescriptor,
    comm: *const Comm,
    reduce_handle_out: *mut AsyncReduceOp,
) -> ResultCode {
    let places = Places { send: sendbuf, recv: recvbuf, residual: ptr::null_mut() };
    // SAFETY: the contract of this function.
    entry("pcclAllReduceAsync", || unsafe { reduce_async(places, descriptor, comm, reduce_handle_out) })
}

/// Starts what pcclAllReduceWithFeedback does and returns; the rest is as of pcclAllReduceAsync. `residual` is the library's,
/// too, until the handle was awaited. Codes of pcclAllReduceAsync; pcclInvalidArgument also for a residual, as there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclAllReduceWithFeedbackAsync(
    sendbuf: *const c_void,
    recvbuf: *mut c_void,
    residual: *mut c_void,
    descriptor: *const ReduceDescriptor,
    comm: *const Comm,
    reduce_handle_out: *mut AsyncReduceOp,
) -> ResultCode {
    let places = Places { send: sendbuf, recv: recvbuf, residual };
    entry("pcclAllReduceWithFeedbackAsync", || {
        // SAFETY: the contract of this function.
        unsafe { reduce_async(places, descriptor, comm, reduce_handle_out) }
    })
}

/// # Safety
/// As pcclAllReduceAsync and its kin say of their arguments.
unsafe fn reduce_async(
    places: Places,
    descriptor: *const ReduceDescriptor,
    comm: *const Comm,
    reduce_handle_out: *mut AsyncReduceOp,
) -> Result<()> {
    let tag = on(comm, |living| {
        // SAFETY: the caller's contract.
        let descriptor = unsafe { required(descriptor, "descriptor") }?;
        not_null(reduce_handle_out, "reduce_handle_out")?;
        let tag = descriptor.tag;
        let mut works = living.works();
        let Entry::Vacant(place) = works.entry(tag) else {
            return Err(invalid(format!("tag {tag} is in flight: await it first")));
        };
        // SAFETY: the caller's contract.
        place.insert(Arc::new(unsafe { start(places, descriptor, living) }?));
        Ok(tag)
    })?;
    // SAFETY: the caller's contract; it was checked for NULL.
    unsafe { reduce_handle_out.write(AsyncReduceOp { comm: comm.cast_mut(), tag }) };
    Ok(())
}

impl Comm {
    fn works(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Work>>> {
        // Nothing that can panic is done under the lock.
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_flight(&self, tag: u64) -> Result<Arc<Work>> {
        self.works().get(&tag).cloned().ok_or_else(|| not_in_flight(tag))
    }

    /// The handle is used up; only one of several threads that await it may have the outcome.
    fn used_up(&self, tag: u64, work: &Arc<Work>) -> Result<()> {
        let mut works = self.works();
        match works.get(&tag) {
            Some(current) if Arc::ptr_eq(current, work) => {
                works.remove(&tag);
                Ok(())
            }
            _ => Err(not_in_flight(tag)),
        }
    }
}

fn not_in_flight(tag: u64) -> Error {
    invalid(format!("tag {tag} is not in flight: never started, or awaited already"))
}

/// Waits for the operation of a handle by `wait`, which leaves it in flight with `None`, and writes what it did.
///
/// # Safety
/// As pcclAwaitAsyncReduce and its kin say of their arguments.
unsafe fn awaited(
    handle: *const AsyncReduceOp,
    reduce_info_out: *mut ReduceInfo,
    wait: impl FnOnce(&Work) -> Option<Result<pccl_core::api::ReduceInfo>>,
) -> Result<Option<()>> {
    // SAFETY: the caller's contract.
    let AsyncReduceOp { comm, tag } = *unsafe { required(handle, "reduce_handle") }?;
    let info = on(comm, |comm| {
        let work = comm.in_flight(tag)?;
        let Some(outcome) = wait(&work) else { return Ok(None) };
        comm.used_up(tag, &work)?;
        outcome.map(Some)
    })?;
    let Some(info) = info else { return Ok(None) };
    // SAFETY: the caller's contract.
    unsafe { write_info(reduce_info_out, info) };
    Ok(Some(()))
}

/// Waits for the end of an all-reduce, which uses its handle up: the buffers are the caller's again.
///
/// Local, from any thread; blocks until the outcome is known at all peers of the group. `reduce_info_out` may be
/// NULL.
///
/// pcclRankConnectionLost: aborted, as membership changed; the input is what it was: start it again (which is
/// pcclTooFewPeers if nobody else is left). pcclInvalidArgument: a handle that was awaited already (unless its tag was started
/// again: see pcclAsyncReduceOp_t), one whose communicator was destroyed, a tag that was in flight in a blocking call, or peers
/// that disagree on the operation, with both descriptions. pcclTooFewPeers: the last other peer went before it began.
/// pcclInvalidUsage: the others are in calls that can never meet this one, a phase call is under way in another thread, or a
/// limit was met (see pcclAllReduceAsync). pcclMasterConnectionFailed: the master is lost for good, or has put this peer out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclAwaitAsyncReduce(
    reduce_handle: *const AsyncReduceOp,
    reduce_info_out: *mut ReduceInfo,
) -> ResultCode {
    entry("pcclAwaitAsyncReduce", || {
        // SAFETY: the contract of this function.
        unsafe { awaited(reduce_handle, reduce_info_out, |work| Some(work.wait())) }.map(drop)
    })
}

/// A wait that long is one without end.
const CENTURY_MS: u64 = 100 * 365 * 24 * 3_600_000;

/// As pcclAwaitAsyncReduce, but for no longer than `timeout_ms`. Of a wait that ends by itself the others cannot know whether
/// it is in vain: calls that can never meet are found where each of them waits without a limit.
///
/// Codes of pcclAwaitAsyncReduce, and pcclTimeout: not done yet. It goes on, its buffers stay the library's, and the handle is
/// to be awaited again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclAwaitAsyncReduceTimeout(
    reduce_handle: *const AsyncReduceOp,
    timeout_ms: u64,
    reduce_info_out: *mut ReduceInfo,
) -> ResultCode {
    let late = || format!("not done after {timeout_ms} ms; it goes on");
    timed_entry("pcclAwaitAsyncReduceTimeout", late, || {
        let wait = |work: &Work| match timeout_ms < CENTURY_MS {
            true => work.wait_timeout(timeout_ms),
            false => Some(work.wait()),
        };
        // SAFETY: the contract of this function.
        unsafe { awaited(reduce_handle, reduce_info_out, wait) }
    })
}

/// Whether pcclAwaitAsyncReduce would return at once. Leaves the handle, and the buffers, as they are.
///
/// Local, from any thread, does not block; as a wait with a limit it proves nothing to the others (see
/// pcclAwaitAsyncReduceTimeout). pcclInvalidArgument: a handle that was awaited already, as of pcclAwaitAsyncReduce.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclTestAsyncReduce(
    reduce_handle: *const AsyncReduceOp,
    done_out: *mut bool,
) -> ResultCode {
    entry("pcclTestAsyncReduce", || {
        let done_out = not_null(done_out, "done_out")?;
        // SAFETY: the contract of this function.
        let AsyncReduceOp { comm, tag } = *unsafe { required(reduce_handle, "reduce_handle") }?;
        let done = on(comm, |comm| Ok(comm.in_flight(tag)?.is_done()))?;
        // SAFETY: the contract of this function; it was checked for NULL.
        unsafe { done_out.write(done) };
        Ok(())
    })
}

/// Runs all of these all-reduces, at most `max_in_flight` at once, lowest index first, and repeats those that are
/// aborted until all are done.
///
/// Operation of the group, every peer of which calls it with the same list; blocks. Buffers as of pcclAllReduce,
/// until the call returns. Those in flight at once need different tags. `reduce_info_out` may be NULL; its byte
/// counts are totals.
///
/// An empty list succeeds where others are in the group; `descriptors` is not NULL then either. Whatever fails, all of `sendbuf`
/// are what they were before the call, in place too, also of those that were done: so to call again is always right. For this a list
/// in place takes as much memory again until it ends.
///
/// pcclTooFewPeers: the group has one peer left. pcclInvalidArgument: `max_in_flight` below 1, a tag twice (but for a
/// `max_in_flight` of 1), or what pcclAllReduceAsync refuses, with the index; then nothing was started.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclAllReduceMultipleWithRetry(
    descriptors: *const ReduceOpDescriptor,
    descriptor_count: usize,
    comm: *const Comm,
    reduce_info_out: *mut ReduceInfo,
    max_in_flight: c_int,
) -> ResultCode {
    let list = List { descriptors, count: descriptor_count, residuals: ptr::null() };
    entry("pcclAllReduceMultipleWithRetry", || {
        // SAFETY: the contract of this function.
        unsafe { list.reduce(comm, reduce_info_out, max_in_flight) }
    })
}

/// As pcclAllReduceMultipleWithRetry, with error feedback as of pcclAllReduceWithFeedback: `residuals` has a pointer for each
/// of `descriptors`, to a residual of its own or NULL for those without. NULL itself: none has one.
///
/// What is repeated is repeated with the residual that it had before, so nothing counts twice.
///
/// Codes of pcclAllReduceMultipleWithRetry; pcclInvalidArgument also for a residual, as of pcclAllReduceWithFeedback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclAllReduceMultipleWithRetryAndFeedback(
    descriptors: *const ReduceOpDescriptor,
    residuals: *const *mut c_void,
    descriptor_count: usize,
    comm: *const Comm,
    reduce_info_out: *mut ReduceInfo,
    max_in_flight: c_int,
) -> ResultCode {
    let list = List { descriptors, count: descriptor_count, residuals };
    entry("pcclAllReduceMultipleWithRetryAndFeedback", || {
        // SAFETY: the contract of this function.
        unsafe { list.reduce(comm, reduce_info_out, max_in_flight) }
    })
}

/// All-reduces to be run together.
struct List {
    descriptors: *const ReduceOpDescriptor,
    count: usize,
    residuals: *const *mut c_void,
}

impl List {
    /// # Safety
    /// As pcclAllReduceMultipleWithRetry and its kin say of their arguments.
    unsafe fn reduce(
        self,
        comm: *const Comm,
        reduce_info_out: *mut ReduceInfo,
        max_in_flight: c_int,
    ) -> Result<()> {
        // SAFETY: the caller's contract.
        let info = on(comm, |comm| unsafe { self.reduced(comm, max_in_flight) })?;
        // SAFETY: the caller's contract.
        unsafe { write_info(reduce_info_out, info) };
        Ok(())
    }

    /// # Safety
    /// As above.
    unsafe fn reduced(self, comm: &Comm, max_in_flight: c_int) -> Result<pccl_core::api::ReduceInfo> {
        // SAFETY: the caller's contract.
        let first = unsafe { required(self.descriptors, "descriptors") }?;
        if self.count > MAX_DESCRIPTORS {
            return Err(invalid(format!("{} operations; {MAX_DESCRIPTORS} are the most", self.count)));
        }
        let max_in_flight = usize::try_from(max_in_flight).ok().filter(|most| *most > 0);
        let max_in_flight =
            max_in_flight.ok_or_else(|| invalid("max_in_flight is below 1: nothing could run"))?;
        // SAFETY: the caller's contract.
        let descriptors = unsafe { slice::from_raw_parts(first, self.count) };
        let residuals = match self.residuals.is_null() {
            true => &[][..],
            // SAFETY: the caller's contract.
            false => unsafe { slice::from_raw_parts(self.residuals, self.count) },
        };
        let places = |index: usize| {
            let one = &descriptors[index];
            let residual = residuals.get(index).copied().unwrap_or(ptr::null_mut());
            Places { send: one.sendbuf, recv: one.recvbuf, residual }
        };
        let operations = descriptors.iter().enumerate().map(|(index, one)| {
            let operation = one.descriptor.to_rust().map_err(|error| named(index, error))?;
            // SAFETY: the caller's contract; dropped at once, only to know before anything is sent.
            drop(unsafe { places(index).buffers(&operation) }.map_err(|error| named(index, error))?);
            Ok((operation, Tag(one.descriptor.tag)))
        });
        let operations = operations.collect::<Result<Vec<_>>>()?;
        check_company(&comm.communicator)?;
        comm.communicator.all_reduce_buffers_with_retry(&operations, max_in_flight, |index| {
            // SAFETY: the caller's contract; the call returns when all have ended.
            unsafe { places(index).buffers(&operations[index].0) }
        })
    }
}

/// What does not fit into memory as a list is no list.
const MAX_DESCRIPTORS: usize = isize::MAX as usize / size_of::<ReduceOpDescriptor>();

fn named(index: usize, error: Error) -> Error {
    Error::new(error.kind, format!("descriptors[{index}]: {}", error.reason))
}
