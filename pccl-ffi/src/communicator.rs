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
use crate::handles;
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

/// What a call on a communicator does.
pub(crate) fn on<R>(comm: *const Comm, call: impl FnOnce(&Comm) -> Result<R>) -> Result<R> {
    check_initialized()?;
    handles::with(comm, "comm", call)
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
/// Local, does not block. `config` is copied. Codes of pcclCreateCommunicator; pcclInvalidArgument also for a setting that
/// only masters have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclCreateCommunicatorWithConfig(
    params: *const CommCreateParams,
    config: *const Config,
    comm_out: *mut *mut Comm,
) -> ResultCode {
    entry("pcclCreateCommunicatorWithConfig", || {
        // SAFETY: the contract of this function.
        handles::with(config, "config", |config| unsafe { create(params, config, comm_out) })
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
    let comm = handles::give_out(Comm { communicator, works: Mutex::default() })?;
    // SAFETY: the caller's contract; it was checked for NULL.
    unsafe { comm_out.write(comm) };
    Ok(())
}

/// Leaves the run, ends the threads and closes the sockets of the communicator, frees it.
///
/// Local; waits for its own thread only. Operations in flight are aborted first; buffers of those that were started by
/// pcclAllReduceAsync and its kin are the caller's again when this returns. What other threads wait for with it ends with
/// pcclInvalidArgument (or has ended well), and so do later calls, also those on handles of its operations: the memory of a call that
/// another thread is in is the caller's again when that call has returned, which may be after this. The other peers go on at once
/// without this one.
///
/// Of a master given by name: a look-up that is under way and that the system does not end is waited for for a second. Then
/// its thread is left alone with it, and ends by itself when the system answers: a program that unloads the library has to
/// wait that long.
///
/// pcclInvalidArgument: destroyed already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclDestroyCommunicator(comm: *mut Comm) -> ResultCode {
    entry("pcclDestroyCommunicator", || {
        check_initialized()?;
        handles::destroy(comm, "comm", |comm| comm.communicator.shut_down())
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
        let value = on(comm, |comm| {
            not_null(attribute_out, "attribute_out")?;
            let read = reading(attribute).ok_or_else(|| invalid(format!("{attribute} is no attribute")))?;
            // One look only: it may be put out of the run between two. Members count themselves.
            match c_int::try_from(read(&comm.communicator)).unwrap_or(c_int::MAX) {
                0 => Err(Error::new(ErrorKind::InvalidUsage, "not connected: call pcclConnect first")),
                value => Ok(value),
            }
        })?;
        // SAFETY: the contract of this function; it was checked for NULL.
        unsafe { attribute_out.write(value) };
        Ok(())
    })
}

/// What an attribute of that number reads.
fn reading(attribute: AttributeCode) -> Option<fn(&Communicator) -> u32> {
    use crate::enums::pcclAttribute_t as Attribute;
    const GLOBAL: c_int = Attribute::PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE as c_int;
    const OWN: c_int = Attribute::PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE as c_int;
    const GROUPS: c_int = Attribute::PCCL_ATTRIBUTE_NUM_DISTINCT_PEER_GROUPS as c_int;
    const LARGEST: c_int = Attribute::PCCL_ATTRIBUTE_LARGEST_PEER_GROUP_WORLD_SIZE as c_int;
    match attribute {
        GLOBAL => Some(Communicator::world_size),
        OWN => Some(Communicator::group_world_size),
        GROUPS => Some(Communicator::num_groups),
        LARGEST => Some(Communicator::largest_group),
        _ => None,
    }
}

/// Joins the run. The first peer of a run is accepted at once; the others when all accepted peers next call
/// pcclUpdateTopology.
///
/// Local for who calls it, but it blocks until accepted. After a failure it may be called again with the same
/// communicator.
///
/// pcclMasterConnectionFailed: the master cannot be reached within the time-out, or refuses this peer: the last
/// error has its reason. pcclRankConnectionFailed: this peer's data port cannot be had. pcclInvalidUsage: connected
/// already. pcclInvalidArgument: settings that only the system knows to be wrong, as a congestion control it does not have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclConnect(comm: *mut Comm) -> ResultCode {
    entry("pcclConnect", || on(comm, |comm| comm.communicator.connect()))
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
    entry("pcclUpdateTopology", || on(comm, |comm| comm.communicator.update_topology()))
}

/// Whether peers wait to be admitted: the same answer at every accepted peer, so that all may decide alike on
/// pcclUpdateTopology.
///
/// Phase of the run: blocks until every accepted peer has called it; admits nobody. Codes of pcclUpdateTopology.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclArePeersPending(comm: *const Comm, pending_out: *mut bool) -> ResultCode {
    entry("pcclArePeersPending", || {
        let pending = on(comm, |comm| {
            not_null(pending_out, "pending_out")?;
            comm.communicator.are_peers_pending()
        })?;
        // SAFETY: the contract of this function; it was checked for NULL.
        unsafe { pending_out.write(pending) };
        Ok(())
    })
}

/// Measures links that have no fresh figure (some tenths of a second for each peer of a group), and puts each group into
/// the order, and onto the schedules, with the shortest predicted time. Admits nobody.
///
/// Phase of the run: blocks until every accepted peer has called it. Codes of pcclUpdateTopology, and
/// pcclTopologyOptimizationFailed: nothing could be measured; the run goes on in the order it has, and it may be called again.
/// pcclInvalidUsage: also alone in the run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclOptimizeTopology(comm: *const Comm) -> ResultCode {
    entry("pcclOptimizeTopology", || on(comm, |comm| comm.communicator.optimize_topology()))
}
