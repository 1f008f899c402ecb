//! Communicators: init, create, connect, the phase calls, attributes, destroy.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pccl_core::api::{Communicator, CommunicatorBuilder, Error, ErrorKind, Result, Work};

use crate::config::Config;
use crate::enums::{AttributeCode, ResultCode};
use crate::guard::{entry, invalid, not_null, required};
use crate::layout::CommCreateParams;

static INITIALIZED: AtomicBool = AtomicBool::new(false);

/// A peer of a run.
#[derive(Debug)]
pub struct Comm {
    pub(crate) communicator: Communicator,
    /// Started and not awaited yet, by tag.
    pub(crate) works: Mutex<BTreeMap<u64, Arc<Work>>>,
}

pub(crate) fn check_initialized() -> Result<()> {
    if INITIALIZED.load(Ordering::Acquire) {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::NotInitialized, "pcclInit was not called"))
    }
}

/// # Safety
/// `comm` is NULL, or came from `pcclCreateCommunicator` and is not destroyed while the result is used.
pub(crate) unsafe fn living<'a>(comm: *const Comm) -> Result<&'a Comm> {
    check_initialized()?;
    // SAFETY: the caller's contract.
    unsafe { required(comm, "comm") }
}

/// Makes the library ready. Once per process, before any call on a communicator; again, or from two threads at
/// once, it does nothing.
///
/// Local, does not block. Starts no thread and opens no socket.
#[unsafe(no_mangle)]
pub extern "C" fn pcclInit() -> ResultCode {
    entry("pcclInit", || {
        INITIALIZED.store(true, Ordering::Release);
        Ok(())
    })
}

/// Makes a communicator, with the settings of the environment. No connection is made.
///
/// Local, does not block. `params` is copied. `*comm_out` is the caller's until pcclDestroyCommunicator.
///
/// pcclInvalidArgument: an unknown address protocol, a pool that is too large, an impossible setting in the
/// environment.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclCreateCommunicator(
    params: *const CommCreateParams,
    comm_out: *mut *mut Comm,
) -> ResultCode {
    // SAFETY: the contract of this function.
    entry("pcclCreateCommunicator", || unsafe { create(params, &Config::default(), comm_out) })
}

/// As pcclCreateCommunicator, with settings beyond the fields of the parameters; those of `config` win, those of
/// the environment win over both.
///
/// Local, does not block. `config` is copied. pcclInvalidArgument also for a setting that only masters have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclCreateCommunicatorWithConfig(
    params: *const CommCreateParams,
    config: *const Config,
    comm_out: *mut *mut Comm,
) -> ResultCode {
    entry("pcclCreateCommunicatorWithConfig", || {
        // SAFETY: the contract of this function.
        unsafe { create(params, required(config, "config")?, comm_out) }
    })
}

/// # Safety
/// `params` and `comm_out` are NULL or valid for what they point to.
unsafe fn create(params: *const CommCreateParams, config: &Config, comm_out: *mut *mut Comm) -> Result<()> {
    check_initialized()?;
    // SAFETY: the caller's contract.
    let params = unsafe { required(params, "params") }?;
    let comm_out = not_null(comm_out, "comm_out")?;
    let pool = u16::try_from(params.p2p_connection_pool_size).map_err(|_| {
        invalid(format!("a pool of {} connections is too large", params.p2p_connection_pool_size))
    })?;
    let master = params.master_address.to_rust()?.to_string();
    let builder = Communicator::builder(&master).group(params.peer_group).pool(pool);
    let communicator = config.apply(builder, CommunicatorBuilder::set)?.build()?;
    let comm = Box::new(Comm { communicator, works: Mutex::default() });
    // SAFETY: the caller's contract; it was checked for NULL.
    unsafe { comm_out.write(Box::into_raw(comm)) };
    Ok(())
}

/// Leaves the run, ends the threads and closes the sockets of the communicator, frees it.
///
/// Local; waits for its own thread only. Operations in flight are aborted first; their buffers are the caller's
/// again, and their handles must not be used any more. Nobody else may use `comm` meanwhile or afterwards. The
/// others go on at once without this peer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclDestroyCommunicator(comm: *mut Comm) -> ResultCode {
    entry("pcclDestroyCommunicator", || {
        check_initialized()?;
        let comm = not_null(comm, "comm")?;
        // SAFETY: the contract of this function: it came from `pcclCreateCommunicator`, and this is its end.
        drop(unsafe { Box::from_raw(comm) });
        Ok(())
    })
}

/// One number of the run, as of the last call that returned: peers of a group that ask after the same call get the
/// same answer, so a program may branch on it.
///
/// Local, does not block. pcclInvalidUsage: before pcclConnect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclGetAttribute(
    comm: *const Comm,
    attribute: AttributeCode,
    attribute_out: *mut c_int,
) -> ResultCode {
    entry("pcclGetAttribute", || {
        // SAFETY: the contract of this function.
        let communicator = unsafe { living(comm) }.map(|comm| &comm.communicator)?;
        let attribute_out = not_null(attribute_out, "attribute_out")?;
        let read = match attribute {
            1 => Communicator::world_size,
            2 => Communicator::group_world_size,
            3 => Communicator::num_groups,
            4 => Communicator::largest_group,
            other => return Err(invalid(format!("{other} is no attribute"))),
        };
        if !communicator.is_connected() {
            return Err(Error::new(ErrorKind::InvalidUsage, "not connected: call pcclConnect first"));
        }
        let value = c_int::try_from(read(communicator)).unwrap_or(c_int::MAX);
        // SAFETY: the contract of this function; it was checked for NULL.
        unsafe { attribute_out.write(value) };
        Ok(())
    })
}

/// Joins the run. The first peer of a run is accepted at once; the others when all accepted peers next call
/// pcclUpdateTopology.
///
/// Local for who calls it, but it blocks until accepted. After a failure it may be called again with the same
/// communicator.
///
/// pcclMasterConnectionFailed: the master cannot be reached within the time-out, or refuses this peer: the last
/// error has its reason. pcclRankConnectionFailed: this peer's data port cannot be had. pcclInvalidUsage: connected
/// already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclConnect(comm: *mut Comm) -> ResultCode {
    // SAFETY: the contract of this function.
    entry("pcclConnect", || unsafe { living(comm) }?.communicator.connect())
}

/// Admits all peers that wait, if they can be reached: the only call by which a run grows.
///
/// Phase of the run: blocks until every accepted peer has called it, and returns at all of them in the new epoch.
/// Who waits in pcclConnect is no accepted peer yet and cannot hold it up. A newcomer that cannot be reached is
/// refused, with the reason, and harms nobody.
///
/// pcclPendingAsyncOps: await operations in flight first. pcclInvalidUsage: not connected, another phase call is
/// under way in another thread, or the others are in a call that can never meet this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclUpdateTopology(comm: *mut Comm) -> ResultCode {
    // SAFETY: the contract of this function.
    entry("pcclUpdateTopology", || unsafe { living(comm) }?.communicator.update_topology())
}

/// Whether peers wait to be admitted: the same answer at every accepted peer, so that all may decide alike on
/// pcclUpdateTopology.
///
/// Phase of the run: blocks until every accepted peer has called it; admits nobody. Codes as of pcclUpdateTopology.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclArePeersPending(comm: *const Comm, pending_out: *mut bool) -> ResultCode {
    entry("pcclArePeersPending", || {
        // SAFETY: the contract of this function.
        let comm = unsafe { living(comm) }?;
        let pending_out = not_null(pending_out, "pending_out")?;
        let pending = comm.communicator.are_peers_pending()?;
        // SAFETY: the contract of this function; it was checked for NULL.
        unsafe { pending_out.write(pending) };
        Ok(())
    })
}

/// Measures links that have no fresh figure (some tenths of a second for each peer of a group), and puts each group into
/// the order, and onto the schedules, with the shortest predicted time. Admits nobody.
///
/// Phase of the run. pcclTopologyOptimizationFailed: nothing could be measured; the run goes on in the order it has, and
/// it may be called again. pcclInvalidUsage: not connected, or alone in the run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclOptimizeTopology(comm: *const Comm) -> ResultCode {
    entry("pcclOptimizeTopology", || {
        // SAFETY: the contract of this function.
        let comm = unsafe { living(comm) }?;
        comm.communicator.optimize_topology()
    })
}
