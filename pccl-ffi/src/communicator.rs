//! Communicators: init, create, connect, the phase calls, attributes, destroy.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pccl_core::api::{Communicator, CommunicatorBuilder, Error, ErrorKind, Result, Work, log_to_stderr};
use pccl_core::limits::MAX_POOL_CONNECTIONS;

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

/// A communicator of this process. In a forked child, where a lock may be held by a thread that is not there, there is none.
///
/// # Safety
/// `comm` is NULL, or came from `pcclCreateCommunicator` and is not destroyed while the result is used.
pub(crate) unsafe fn living<'a>(comm: *const Comm) -> Result<&'a Comm> {
    // Any thread may call: a handle is shared between all that have it.
    const fn shared<T: Send + Sync>() {}
    const { shared::<Comm>() };
    check_initialized()?;
    // SAFETY: the caller's contract.
    let comm = unsafe { required(comm, "comm") }?;
    comm.communicator.check_process()?;
    Ok(comm)
}

/// Makes the library ready. Once per process, before any call on a communicator; again, or from two threads at
/// once, it does nothing.
///
/// From here on (or from the first pcclCreateMaster on) the library's log goes to standard error, a line of time, level,
/// process and words for each thing that happens; the environment's PCCL_LOG_LEVEL says how much: off, error, warn (the
/// default), info, debug or trace. See pcclConfigSet for a level that the program sets.
///
/// Local, does not block. Starts no thread and opens no socket.
#[unsafe(no_mangle)]
pub extern "C" fn pcclInit() -> ResultCode {
    entry("pcclInit", || {
        log_to_stderr();
        INITIALIZED.store(true, Ordering::Release);
        Ok(())
    })
}

/// Makes a communicator, with the settings of the environment. No connection is made.
///
/// Local, does not block. `params` is copied. `*comm_out` is the caller's until pcclDestroyCommunicator.
///
/// A pool of more connections than the library makes, 64, gets that many. pcclInvalidArgument: an unknown address
/// protocol, an impossible setting in the environment. pcclInvalidUsage: PCCL_RUN_KEY is set, and there is no encryption.
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
    let wanted = params.p2p_connection_pool_size;
    let pool = u16::try_from(wanted).unwrap_or(u16::MAX).min(MAX_POOL_CONNECTIONS);
    if u32::from(pool) < wanted {
        tracing::info!("a pool of {wanted} connections: {pool} are the most, and what it gets");
    }
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
        // One look only: it may be put out of the run between two. Members count themselves.
        let value = c_int::try_from(read(communicator)).unwrap_or(c_int::MAX);
        if value == 0 {
            return Err(Error::new(ErrorKind::InvalidUsage, "not connected: call pcclConnect first"));
        }
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
