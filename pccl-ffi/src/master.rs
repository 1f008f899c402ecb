//! Masters: create, run, stop, destroy.

use pccl_core::api::{Error, ErrorKind, Master, MasterBuilder, Result, log_to_stderr};

use crate::config::Config;
use crate::enums::ResultCode;
use crate::guard::{entry, not_null, required};
use crate::layout::SocketAddress;

/// The one that all peers of a run connect to. It decides, and carries no tensor data.
#[derive(Debug)]
pub struct MasterInstanceState(Master);

/// Any thread may call: a handle is shared between all that have it.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<MasterInstanceState>();
};

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
/// Local, does not block. pcclInvalidArgument also for a setting that only communicators have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclCreateMasterWithConfig(
    listen_address: SocketAddress,
    config: *const Config,
    master_handle_out: *mut *mut MasterInstance,
) -> ResultCode {
    entry("pcclCreateMasterWithConfig", || {
        // SAFETY: the contract of this function.
        unsafe { create(listen_address, required(config, "config")?, master_handle_out) }
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
    unsafe { out.write(Box::into_raw(Box::new(MasterInstanceState(master)))) };
    Ok(())
}

/// Listens, and serves in the background until pcclInterruptMaster or pcclDestroyMaster. Returns once the port is
/// open.
///
/// Local. pcclInvalidUsage: the port cannot be had. pcclInvalidArgument: it was run before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclRunMaster(master_instance: *mut MasterInstance) -> ResultCode {
    // SAFETY: the contract of this function.
    entry("pcclRunMaster", || unsafe { required(master_instance, "master_instance") }?.0.run())
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
        // SAFETY: the contract of this function.
        let master = &unsafe { required(master_instance, "master_instance") }?.0;
        let address_out = not_null(address_out, "address_out")?;
        master.check_process()?;
        let not_running = || Error::new(ErrorKind::InvalidUsage, "not running: call pcclRunMaster first");
        let address = master.address().ok_or_else(not_running)?;
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
    // SAFETY: the contract of this function.
    entry("pcclInterruptMaster", || unsafe { required(master_instance, "master_instance") }?.0.interrupt())
}

/// Waits until the master has stopped: after pcclInterruptMaster, from whatever thread.
///
/// Local; blocks. From several threads at once all of them return. pcclInvalidUsage: not run yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclMasterAwaitTermination(master_instance: *mut MasterInstance) -> ResultCode {
    entry("pcclMasterAwaitTermination", || {
        // SAFETY: the contract of this function.
        unsafe { required(master_instance, "master_instance") }?.0.await_termination()
    })
}

/// Stops the master if it runs, and frees it.
///
/// Local; waits for its own thread only. Nobody else may use it meanwhile or afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclDestroyMaster(master_instance: *mut MasterInstance) -> ResultCode {
    entry("pcclDestroyMaster", || {
        let master = not_null(master_instance, "master_instance")?;
        // SAFETY: the contract of this function: it came from `pcclCreateMaster`, and this is its end.
        drop(unsafe { Box::from_raw(master) });
        Ok(())
    })
}
