//! Shared state.

use pccl_core::api::{Buffers, Result, SyncInfo, SyncStrategy, TensorKey};
use pccl_core::limits::MAX_TENSORS;

use crate::communicator::{Comm, on};
use crate::enums::{DeviceTypeCode, ResultCode, SyncStrategyCode, pcclDeviceType_t};
use crate::guard::{entry, invalid, not_null, text};
use crate::layout::{SharedState, SharedStateSyncInfo, TensorInfo, dtype};

const CPU: DeviceTypeCode = pcclDeviceType_t::pcclDeviceCpu as DeviceTypeCode;
const CUDA: DeviceTypeCode = pcclDeviceType_t::pcclDeviceCuda as DeviceTypeCode;

/// # Safety
/// As the header says of a tensor: `data` is valid for `count` elements until the call has returned.
unsafe fn tensor(index: usize, info: &TensorInfo) -> Result<(TensorKey, Buffers)> {
    // SAFETY: the caller's contract.
    let name = unsafe { text(info.name, &format!("infos[{index}].name")) }?;
    let wrong = |what: String| invalid(format!("tensor {name:?}: {what}"));
    match info.device_type {
        CPU => {}
        CUDA => return Err(wrong("this build has no CUDA support: bring it to the host".to_owned())),
        other => return Err(wrong(format!("{other} is no device type"))),
    }
    let dtype = dtype(info.datatype).map_err(|error| wrong(error.reason))?;
    let len = info.count.checked_mul(dtype.size_bytes()).filter(|len| *len <= isize::MAX as usize);
    let len = len.ok_or_else(|| wrong(format!("{} elements are too many", info.count)))?;
    let data = match len {
        0 => std::ptr::dangling_mut(),
        _ => not_null(info.data, "data").map_err(|error| wrong(error.reason))?.cast(),
    };
    // SAFETY: the caller's contract is that of `Buffers`; of an empty one nothing is touched.
    let buffers = unsafe { Buffers::new(data, data, len) }.map_err(|error| wrong(error.to_string()))?;
    let may_differ = info.allow_content_inequality != 0;
    let key = TensorKey { name: name.to_owned(), dtype, count: info.count as u64, may_differ };
    Ok((key, buffers))
}

/// Makes all peers of the group hold the same tensors, byte for byte. Who wins, and who receives:
/// docs/SHARED-STATE.md.
///
/// Phase of the group: blocks until every one of its peers has called it, with tensors of the same names, types and
/// sizes, and all hold the same. Tensors are read, and received into in place, until the call returns. On success
/// `shared_state->revision` is the one all hold. `sync_info_out` may be NULL.
///
/// pcclRankConnectionLost: it could not be finished; some tensors may be received and others not: call again, only
/// what is missing travels. pcclNoSharedStateAvailable: nobody offers one. pcclTooFewPeers: alone in the group.
/// pcclPendingAsyncOps: await operations in flight first. pcclMasterConnectionFailed: put out of the run, also for
/// a revision ahead of the others' or for other tensors than theirs; the last error names the first difference.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclSynchronizeSharedState(
    comm: *const Comm,
    shared_state: *mut SharedState,
    strategy: SyncStrategyCode,
    sync_info_out: *mut SharedStateSyncInfo,
) -> ResultCode {
    entry("pcclSynchronizeSharedState", || {
        let info = on(comm, |comm| {
            let shared_state = not_null(shared_state, "shared_state")?;
            // SAFETY: the contract of this function; it was checked for NULL.
            let given = unsafe { *shared_state };
            // SAFETY: the contract of this function.
            unsafe { synchronize(comm, given, strategy) }
        })?;
        // SAFETY: the contract of this function; they were checked for NULL.
        unsafe {
            (*shared_state).revision = info.revision;
            if !sync_info_out.is_null() {
                let (tx_bytes, rx_bytes) = (info.tx_bytes, info.rx_bytes);
                sync_info_out.write(SharedStateSyncInfo { tx_bytes, rx_bytes });
            }
        }
        Ok(())
    })
}

/// # Safety
/// As pcclSynchronizeSharedState says of its tensors.
unsafe fn synchronize(comm: &Comm, given: SharedState, strategy: SyncStrategyCode) -> Result<SyncInfo> {
    let SharedState { revision, count, infos } = given;
    let known = u8::try_from(strategy).ok().and_then(SyncStrategy::from_code);
    let strategy = known.ok_or_else(|| invalid(format!("{strategy} is no strategy")))?;
    if count > MAX_TENSORS {
        return Err(invalid(format!("{count} tensors; {MAX_TENSORS} are the most")));
    }
    let infos = match count {
        0 => &[][..],
        // SAFETY: the caller's contract; it was checked for NULL.
        _ => unsafe { std::slice::from_raw_parts(not_null(infos, "infos")?, count) },
    };
    // SAFETY: the caller's contract.
    let tensors = infos.iter().enumerate().map(|(index, info)| unsafe { tensor(index, info) });
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    comm.communicator.synchronize_buffers(revision, strategy, false, tensors).0
}
