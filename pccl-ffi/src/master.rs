//! Masters: create, run, stop, destroy.

use pccl_core::api::{Error, ErrorKind, Master, MasterBuilder, Result, log_to_stderr};

use crate::config::Config;
use crate::enums::ResultCode;
use crate::guard::{entry, not_null};
use crate::handles;
use crate::layout::SocketAddress;

/// The one that all peers of a run connect to. It decides, and carries no tensor data.
#[derive(Debug)]
pub struct MasterInstanceState(Master);

/// Programs know the struct by one name and its tag by the other.
pub type MasterInstance = MasterInstanceState;

/// Makes a master that will listen there; port 0: any free one. No socket is opened.
///
/// Local, does not block; works before pcclInit, as do all calls on masters. `*master_handle_out` is the caller's
/// until pcclDestroyMaster.
///
/// pcclInvalidArgument: an unknown address protocol, an impossible setting in the environment. pcclInvalidUsage:
/// PCCL_RUN_KEY is set, and there is no encryption.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclCreateMaster(
    listen_address: SocketAddress,
    master_handle_out: *mut *mut MasterInstance,
) -> ResultCode {
    // SAFETY: the contract of this function.
    entry("pcclCreateMaster", || unsafe { create(listen_address, &Config::default(), master_handle_out) })
}

/// As pcclCreateMaster, with settings of masters; those of the environment win over them. `config` is copied.
///
/// Local, does not block. Codes of pcclCreateMaster; pcclInvalidArgument also for a setting that only communicators have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclCreateMasterWithConfig(
    listen_address: SocketAddress,
    config: *const Config,
    master_handle_out: *mut *mut MasterInstance,
) -> ResultCode {
    entry("pcclCreateMasterWithConfig", || {
        handles::with(config, "config", |config| {
            // SAFETY: the contract of this function.
            unsafe { create(listen_address, config, master_handle_out) }
        })
    })
}

/// # Safety
/// `out` is NULL or valid for a write.
unsafe fn create(listen: SocketAddress, config: &Config, out: *mut *mut MasterInstance) -> Result<()> {
    let out = not_null(out, "master_handle_out")?;
    // Masters need no pcclInit.
    log_to_stderr();
    let builder = Master::builder(&listen.to_rust()?.to_string());
    let master = config.apply(builder, MasterBuilder::set)?.build()?;
    // SAFETY: the caller's contract; it was checked for NULL.
    unsafe { out.write(handles::give_out(MasterInstanceState(master))?) };
    Ok(())
}

/// What a call on a master does.
fn on<R>(master: *const MasterInstance, call: impl FnOnce(&Master) -> Result<R>) -> Result<R> {
    handles::with(master, "master_instance", |master| call(&master.0))
}

/// Listens, and serves in the background until pcclInterruptMaster or pcclDestroyMaster. Returns once the port is
/// open.
///
/// Local. pcclInvalidUsage: the port cannot be had. pcclInvalidArgument: it was run before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclRunMaster(master_instance: *mut MasterInstance) -> ResultCode {
    entry("pcclRunMaster", || on(master_instance, Master::run))
}

/// Where a running master listens: the port it found, if it was created with port 0.
///
/// Local, does not block. pcclInvalidUsage: not run yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclMasterGetAddress(
    master_instance: *const MasterInstance,
    address_out: *mut SocketAddress,
) -> ResultCode {
    entry("pcclMasterGetAddress", || {
        let not_running = || Error::new(ErrorKind::InvalidUsage, "not running: call pcclRunMaster first");
        let address = on(master_instance, |master| {
            not_null(address_out, "address_out")?;
            master.address().ok_or_else(not_running)
        })?;
        // SAFETY: the contract of this function; it was checked for NULL.
        unsafe { address_out.write(SocketAddress::from_rust(address)) };
        Ok(())
    })
}

/// Tells a running master to stop; pcclMasterAwaitTermination returns once it has. Its peers look for a new master
/// at the same address.
///
/// Local, does not block; may be called again. pcclInvalidUsage: not run yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclInterruptMaster(master_instance: *mut MasterInstance) -> ResultCode {
    entry("pcclInterruptMaster", || on(master_instance, Master::interrupt))
}

/// Waits until the master has stopped: after pcclInterruptMaster, from whatever thread.
///
/// Local; blocks. From several threads at once all of them return. pcclInvalidUsage: not run yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclMasterAwaitTermination(master_instance: *mut MasterInstance) -> ResultCode {
    entry("pcclMasterAwaitTermination", || on(master_instance, Master::await_termination))
}

/// Stops the master if it runs, and frees it. Threads that wait in pcclMasterAwaitTermination have its end.
///
/// Local; waits for its own thread only. pcclInvalidArgument: destroyed already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclDestroyMaster(master_instance: *mut MasterInstance) -> ResultCode {
    entry("pcclDestroyMaster", || {
        handles::destroy(master_instance, "master_instance", |master| master.0.shut_down())
    })
}
