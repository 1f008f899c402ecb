//! All-reduces, blocking and not.

use std::collections::btree_map::Entry;
use std::ffi::{c_int, c_void};
use std::sync::PoisonError;

use pccl_core::api::{Buffers, Error, ErrorKind, Result, Tag, Work};
use pccl_core::limits::MAX_OP_BYTES;

use crate::communicator::{Comm, living};
use crate::guard::{entry, invalid, not_null, required};
use crate::layout::{AsyncReduceOp, ReduceDescriptor, ReduceInfo};

/// # Safety
/// As the header says of an all-reduce's buffers: valid for `count` elements until the operation has ended.
unsafe fn start(
    send: *const c_void,
    recv: *mut c_void,
    descriptor: &ReduceDescriptor,
    comm: &Comm,
) -> Result<Work> {
    let operation = descriptor.to_rust()?;
    let size_bytes = operation.size_bytes();
    let len = usize::try_from(size_bytes).ok().filter(|_| size_bytes <= MAX_OP_BYTES);
    let len = len.ok_or_else(|| invalid(format!("{size_bytes} bytes are too many for one operation")))?;
    // SAFETY: the caller's contract is that of `Buffers`.
    let buffers =
        unsafe { Buffers::new(send.cast(), recv.cast(), len) }.map_err(|e| invalid(e.to_string()))?;
    let communicator = &comm.communicator;
    if communicator.is_connected() && communicator.group_world_size() < 2 {
        return Err(Error::new(ErrorKind::TooFewPeers, "this peer is alone in its group"));
    }
    communicator.all_reduce_buffers(buffers, operation, Tag(descriptor.tag))
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

/// # Safety
/// As `include/pccl.h` says: pointers are NULL or valid for what they point to, buffers for `count` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclAllReduce(
    sendbuf: *const c_void,
    recvbuf: *mut c_void,
    descriptor: *const ReduceDescriptor,
    comm: *const Comm,
    reduce_info_out: *mut ReduceInfo,
) -> c_int {
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

/// # Safety
/// As `pcclAllReduce`, until `pcclAwaitAsyncReduce` has returned or the communicator is destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclAllReduceAsync(
    sendbuf: *const c_void,
    recvbuf: *mut c_void,
    descriptor: *const ReduceDescriptor,
    comm: *const Comm,
    reduce_handle_out: *mut AsyncReduceOp,
) -> c_int {
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
        place.insert(unsafe { start(sendbuf, recvbuf, descriptor, living) }?);
        // SAFETY: the contract of this function; it was checked for NULL.
        unsafe { reduce_handle_out.write(AsyncReduceOp { comm: comm.cast_mut(), tag }) };
        Ok(())
    })
}

/// # Safety
/// As `include/pccl.h` says: pointers are NULL or valid, and the handle's communicator is not destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclAwaitAsyncReduce(
    reduce_handle: *const AsyncReduceOp,
    reduce_info_out: *mut ReduceInfo,
) -> c_int {
    entry("pcclAwaitAsyncReduce", || {
        // SAFETY: the contract of this function.
        let handle = unsafe { required(reduce_handle, "reduce_handle") }?;
        // SAFETY: the contract of this function.
        let comm = unsafe { living(handle.comm) }?;
        let work = comm.works.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle.tag);
        let work = work.ok_or_else(|| {
            invalid(format!("tag {} is not in flight: never started, or awaited already", handle.tag))
        })?;
        let info = work.wait()?;
        // SAFETY: the contract of this function.
        unsafe { write_info(reduce_info_out, info) };
        Ok(())
    })
}
