//! All-reduces, blocking and not.

use std::collections::btree_map::Entry;
use std::ffi::{c_int, c_void};
use std::sync::{Arc, PoisonError};

use pccl_core::api::{Buffers, Communicator, Error, ErrorKind, OpDescriptor, Result, Tag, Work};
use pccl_core::limits::MAX_OP_BYTES;

use crate::communicator::{Comm, living};
use crate::enums::ResultCode;
use crate::guard::{entry, invalid, not_null, required, timed_entry};
use crate::layout::{AsyncReduceOp, ReduceDescriptor, ReduceInfo, ReduceOpDescriptor};

/// # Safety
/// As the header says of an all-reduce's buffers: valid for `count` elements until the operation has ended.
unsafe fn buffers(send: *const c_void, recv: *mut c_void, operation: &OpDescriptor) -> Result<Buffers> {
    let size_bytes = operation.size_bytes();
    let len = usize::try_from(size_bytes).ok().filter(|_| size_bytes <= MAX_OP_BYTES);
    let len = len.ok_or_else(|| invalid(format!("{size_bytes} bytes are too many for one operation")))?;
    // SAFETY: the caller's contract is that of `Buffers`.
    unsafe { Buffers::new(send.cast(), recv.cast(), len) }.map_err(|error| invalid(error.to_string()))
}

fn check_company(communicator: &Communicator) -> Result<()> {
    if communicator.is_connected() && communicator.group_world_size() < 2 {
        return Err(Error::new(ErrorKind::TooFewPeers, "this peer is alone in its group"));
    }
    Ok(())
}

/// # Safety
/// As the header says of an all-reduce's buffers: valid for `count` elements until the operation has ended.
unsafe fn start(
    send: *const c_void,
    recv: *mut c_void,
    descriptor: &ReduceDescriptor,
    comm: &Comm,
) -> Result<Work> {
    let operation = descriptor.to_rust()?;
    // SAFETY: the caller's contract.
    let buffers = unsafe { buffers(send, recv, &operation) }?;
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
/// Operation of the group: blocks until all hold the result. As pcclAllReduceAsync and pcclAwaitAsyncReduce in one;
/// codes of both. `reduce_info_out` may be NULL.
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
    entry("pcclAllReduce", || {
        // SAFETY: the contract of this function.
        let (comm, descriptor) = unsafe { (living(comm)?, required(descriptor, "descriptor")?) };
        // SAFETY: the contract of this function; the buffers outlive the wait below.
        let work = unsafe { start(sendbuf, recvbuf, descriptor, comm) }?;
        let info = work.wait()?;
        // SAFETY: the contract of this function.
        unsafe { write_info(reduce_info_out, info) };
        Ok(())
    })
}

/// Starts an all-reduce and returns; `*reduce_handle_out` stands for it. Many may be in flight, told apart by their
/// tags.
///
/// Operation of the group; does not block. From here until pcclAwaitAsyncReduce (or its kin) has given its end,
/// `sendbuf` and `recvbuf` are the library's: neither read nor written by anybody else. They are the same memory
/// (in place), or disjoint. `descriptor` is copied. Every handle is awaited once, before its communicator is
/// destroyed.
///
/// pcclInvalidArgument: a tag that is in flight, buffers that overlap in part, a count of 0, an operation that the
/// quantization does not have. pcclTooFewPeers: alone in the group. pcclInvalidUsage: not connected, or a phase
/// call is under way in another thread. Peers that disagree on count, type, operation or quantization learn so when
/// they await.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclAllReduceAsync(
    sendbuf: *const c_void,
    recvbuf: *mut c_void,
    descriptor: *const ReduceDescriptor,
    comm: *const Comm,
    reduce_handle_out: *mut AsyncReduceOp,
) -> ResultCode {
    entry("pcclAllReduceAsync", || {
        // SAFETY: the contract of this function.
        let (living, descriptor) = unsafe { (living(comm)?, required(descriptor, "descriptor")?) };
        let reduce_handle_out = not_null(reduce_handle_out, "reduce_handle_out")?;
        let tag = descriptor.tag;
        // Nothing that can panic is done under the lock.
        let mut works = living.works.lock().unwrap_or_else(PoisonError::into_inner);
        let Entry::Vacant(place) = works.entry(tag) else {
            return Err(invalid(format!("tag {tag} is in flight: await it first")));
        };
        // SAFETY: the contract of this function.
        place.insert(Arc::new(unsafe { start(sendbuf, recvbuf, descriptor, living) }?));
        // SAFETY: the contract of this function; it was checked for NULL.
        unsafe { reduce_handle_out.write(AsyncReduceOp { comm: comm.cast_mut(), tag }) };
        Ok(())
    })
}

/// A handle's communicator, and its operation if it is in flight.
///
/// # Safety
/// `handle` is NULL or valid, and its communicator is not destroyed while the result is used.
unsafe fn in_flight<'a>(handle: *const AsyncReduceOp) -> Result<(&'a Comm, u64, Arc<Work>)> {
    // SAFETY: the caller's contract.
    let handle = unsafe { required(handle, "reduce_handle") }?;
    // SAFETY: the caller's contract.
    let comm = unsafe { living(handle.comm) }?;
    let work = comm.works.lock().unwrap_or_else(PoisonError::into_inner).get(&handle.tag).cloned();
    Ok((comm, handle.tag, work.ok_or_else(|| not_in_flight(handle.tag))?))
}

fn not_in_flight(tag: u64) -> Error {
    invalid(format!("tag {tag} is not in flight: never started, or awaited already"))
}

/// The handle is used up; only one of several threads that await it may have the outcome.
fn used_up(comm: &Comm, tag: u64, work: &Arc<Work>) -> Result<()> {
    let mut works = comm.works.lock().unwrap_or_else(PoisonError::into_inner);
    match works.get(&tag) {
        Some(current) if Arc::ptr_eq(current, work) => {
            works.remove(&tag);
            Ok(())
        }
        _ => Err(not_in_flight(tag)),
    }
}

/// Waits for the end of an all-reduce, which uses its handle up: the buffers are the caller's again.
///
/// Local, from any thread; blocks until the outcome is known at all peers of the group. `reduce_info_out` may be
/// NULL.
///
/// pcclRankConnectionLost: aborted, as membership changed; the input is what it was: start it again (which is
/// pcclTooFewPeers if nobody else is left). pcclInvalidArgument: a handle that was awaited already, or peers that
/// disagree on the operation, with both descriptions. pcclInvalidUsage: the others are in calls that can never meet
/// this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclAwaitAsyncReduce(
    reduce_handle: *const AsyncReduceOp,
    reduce_info_out: *mut ReduceInfo,
) -> ResultCode {
    entry("pcclAwaitAsyncReduce", || {
        // SAFETY: the contract of this function.
        let (comm, tag, work) = unsafe { in_flight(reduce_handle) }?;
        let outcome = work.wait();
        used_up(comm, tag, &work)?;
        // SAFETY: the contract of this function.
        unsafe { write_info(reduce_info_out, outcome?) };
        Ok(())
    })
}

/// As pcclAwaitAsyncReduce, but for no longer than `timeout_ms`.
///
/// pcclTimeout: not done yet. It goes on, its buffers stay the library's, and the handle is to be awaited again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclAwaitAsyncReduceTimeout(
    reduce_handle: *const AsyncReduceOp,
    timeout_ms: u64,
    reduce_info_out: *mut ReduceInfo,
) -> ResultCode {
    let late = || format!("not done after {timeout_ms} ms; it goes on");
    timed_entry("pcclAwaitAsyncReduceTimeout", late, || {
        // SAFETY: the contract of this function.
        let (comm, tag, work) = unsafe { in_flight(reduce_handle) }?;
        // A wait of more than a century is one without end.
        let Some(outcome) = work.wait_timeout(timeout_ms.min(u64::from(u32::MAX) * 1000)) else {
            return Ok(None);
        };
        used_up(comm, tag, &work)?;
        // SAFETY: the contract of this function.
        unsafe { write_info(reduce_info_out, outcome?) };
        Ok(Some(()))
    })
}

/// Whether pcclAwaitAsyncReduce would return at once. Leaves the handle, and the buffers, as they are.
///
/// Local, from any thread, does not block. pcclInvalidArgument: a handle that was awaited already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclTestAsyncReduce(
    reduce_handle: *const AsyncReduceOp,
    done_out: *mut bool,
) -> ResultCode {
    entry("pcclTestAsyncReduce", || {
        let done_out = not_null(done_out, "done_out")?;
        // SAFETY: the contract of this function.
        let (_, _, work) = unsafe { in_flight(reduce_handle) }?;
        // SAFETY: the contract of this function; it was checked for NULL.
        unsafe { done_out.write(work.is_done()) };
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
/// pcclTooFewPeers: the group has one peer left; those that are not done have their inputs. pcclInvalidArgument:
/// `max_in_flight` below 1, a tag twice, or what pcclAllReduceAsync refuses, with the index; then nothing was
/// started.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclAllReduceMultipleWithRetry(
    descriptors: *const ReduceOpDescriptor,
    descriptor_count: usize,
    comm: *const Comm,
    reduce_info_out: *mut ReduceInfo,
    max_in_flight: c_int,
) -> ResultCode {
    entry("pcclAllReduceMultipleWithRetry", || {
        // SAFETY: the contract of this function.
        let (comm, first) = unsafe { (living(comm)?, required(descriptors, "descriptors")?) };
        if descriptor_count > MAX_DESCRIPTORS {
            return Err(invalid(format!("{descriptor_count} operations; {MAX_DESCRIPTORS} are the most")));
        }
        let max_in_flight = usize::try_from(max_in_flight).unwrap_or(0);
        // SAFETY: the contract of this function.
        let descriptors = unsafe { std::slice::from_raw_parts(first, descriptor_count) };
        let operations = descriptors.iter().enumerate().map(|(index, one)| {
            let operation = one.descriptor.to_rust().map_err(|error| named(index, error))?;
            // SAFETY: the contract of this function; dropped at once, only to know before anything is sent.
            drop(
                unsafe { buffers(one.sendbuf, one.recvbuf, &operation) }
                    .map_err(|error| named(index, error))?,
            );
            Ok((operation, Tag(one.descriptor.tag)))
        });
        let operations = operations.collect::<Result<Vec<_>>>()?;
        check_company(&comm.communicator)?;
        let info = comm.communicator.all_reduce_buffers_with_retry(&operations, max_in_flight, |index| {
            let one = &descriptors[index];
            // SAFETY: the contract of this function; the call returns when all have ended.
            unsafe { buffers(one.sendbuf, one.recvbuf, &operations[index].0) }
        })?;
        // SAFETY: the contract of this function.
        unsafe { write_info(reduce_info_out, info) };
        Ok(())
    })
}

/// What does not fit into memory as a list is no list.
const MAX_DESCRIPTORS: usize = isize::MAX as usize / size_of::<ReduceOpDescriptor>();

fn named(index: usize, error: Error) -> Error {
    Error::new(error.kind, format!("descriptors[{index}]: {}", error.reason))
}
