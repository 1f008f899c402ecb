//! Communicators: init, create, connect, the phase calls, attributes, destroy.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pccl_core::api::{Communicator, CommunicatorBuilder, Error, ErrorKind, Result, Work};

use crate::config::Config;
use crate::guard::{entry, invalid, not_null, required};
use crate::layout::CommCreateParams;

static INITIALIZED: AtomicBool = AtomicBool::new(false);

/// What a `pcclComm_t` is.
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

#[unsafe(no_mangle)]
pub extern "C" fn pcclInit() -> c_int {
    entry("pcclInit", || {
        INITIALIZED.store(true, Ordering::Release);
        Ok(())
    })
}

/// # Safety
/// As `include/pccl.h` says: pointers are NULL or valid for what they point to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclCreateCommunicator(
    params: *const CommCreateParams,
    comm_out: *mut *mut Comm,
) -> c_int {
    // SAFETY: the contract of this function.
    entry("pcclCreateCommunicator", || unsafe { create(params, &Config::default(), comm_out) })
}

/// # Safety
/// As `include/pccl.h` says: pointers are NULL or valid for what they point to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclCreateCommunicatorWithConfig(
    params: *const CommCreateParams,
    config: *const Config,
    comm_out: *mut *mut Comm,
) -> c_int {
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

/// # Safety
/// As `include/pccl.h` says: `comm` is NULL, or a communicator that nobody uses or destroys meanwhile or afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclDestroyCommunicator(comm: *mut Comm) -> c_int {
    entry("pcclDestroyCommunicator", || {
        check_initialized()?;
        let comm = not_null(comm, "comm")?;
        // SAFETY: the contract of this function: it came from `pcclCreateCommunicator`, and this is its end.
        drop(unsafe { Box::from_raw(comm) });
        Ok(())
    })
}

/// # Safety
/// As `include/pccl.h` says: pointers are NULL or valid for what they point to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclGetAttribute(
    comm: *const Comm,
    attribute: c_int,
    attribute_out: *mut c_int,
) -> c_int {
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

/// # Safety
/// As `include/pccl.h` says: `comm` is NULL or a communicator.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclConnect(comm: *mut Comm) -> c_int {
    // SAFETY: the contract of this function.
    entry("pcclConnect", || unsafe { living(comm) }?.communicator.connect())
}

/// # Safety
/// As `include/pccl.h` says: `comm` is NULL or a communicator.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclUpdateTopology(comm: *mut Comm) -> c_int {
    // SAFETY: the contract of this function.
    entry("pcclUpdateTopology", || unsafe { living(comm) }?.communicator.update_topology())
}

/// # Safety
/// As `include/pccl.h` says: pointers are NULL or valid for what they point to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclArePeersPending(comm: *const Comm, pending_out: *mut bool) -> c_int {
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

/// # Safety
/// As `include/pccl.h` says: `comm` is NULL or a communicator.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclOptimizeTopology(comm: *const Comm) -> c_int {
    entry("pcclOptimizeTopology", || {
        // SAFETY: the contract of this function.
        let comm = unsafe { living(comm) }?;
        let usage = |reason: &str| Err(Error::new(ErrorKind::InvalidUsage, reason));
        if !comm.communicator.is_connected() {
            return usage("not connected: call pcclConnect first");
        }
        if comm.communicator.world_size() < 2 {
            return usage("this peer is alone in the run: there is no link to measure");
        }
        let reason =
            "this version of the library does not measure links yet; the run goes on in the order it has";
        Err(Error::new(ErrorKind::TopologyOptimizationFailed, reason))
    })
}
