//! Masters: create, run, stop, destroy.

use std::ffi::c_int;

use pccl_core::api::{Error, ErrorKind, Master, MasterBuilder, Result};

use crate::config::Config;
use crate::guard::{entry, not_null, required};
use crate::layout::SocketAddress;

/// # Safety
/// As `include/pccl.h` says: `master_handle_out` is NULL or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclCreateMaster(
    listen_address: SocketAddress,
    master_handle_out: *mut *mut Master,
) -> c_int {
    // SAFETY: the contract of this function.
    entry("pcclCreateMaster", || unsafe { create(listen_address, &Config::default(), master_handle_out) })
}

/// # Safety
/// As `include/pccl.h` says: pointers are NULL or valid for what they point to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclCreateMasterWithConfig(
    listen_address: SocketAddress,
    config: *const Config,
    master_handle_out: *mut *mut Master,
) -> c_int {
    entry("pcclCreateMasterWithConfig", || {
        // SAFETY: the contract of this function.
        unsafe { create(listen_address, required(config, "config")?, master_handle_out) }
    })
}

/// # Safety
/// `out` is NULL or valid for a write.
unsafe fn create(listen: SocketAddress, config: &Config, out: *mut *mut Master) -> Result<()> {
    let out = not_null(out, "master_handle_out")?;
    let builder = Master::builder(&listen.to_rust()?.to_string());
    let master = config.apply(builder, MasterBuilder::set)?.build()?;
    // SAFETY: the caller's contract; it was checked for NULL.
    unsafe { out.write(Box::into_raw(Box::new(master))) };
    Ok(())
}

/// # Safety
/// As `include/pccl.h` says: `master_instance` is NULL or a master.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclRunMaster(master_instance: *mut Master) -> c_int {
    // SAFETY: the contract of this function.
    entry("pcclRunMaster", || unsafe { required(master_instance, "master_instance") }?.run())
}

/// # Safety
/// As `include/pccl.h` says: pointers are NULL or valid for what they point to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclMasterGetAddress(
    master_instance: *const Master,
    address_out: *mut SocketAddress,
) -> c_int {
    entry("pcclMasterGetAddress", || {
        // SAFETY: the contract of this function.
        let master = unsafe { required(master_instance, "master_instance") }?;
        let address_out = not_null(address_out, "address_out")?;
        let not_running = || Error::new(ErrorKind::InvalidUsage, "not running: call pcclRunMaster first");
        let address = master.address().ok_or_else(not_running)?;
        // SAFETY: the contract of this function; it was checked for NULL.
        unsafe { address_out.write(SocketAddress::from_rust(address)) };
        Ok(())
    })
}

/// # Safety
/// As `include/pccl.h` says: `master_instance` is NULL or a master.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclInterruptMaster(master_instance: *mut Master) -> c_int {
    // SAFETY: the contract of this function.
    entry("pcclInterruptMaster", || unsafe { required(master_instance, "master_instance") }?.interrupt())
}

/// # Safety
/// As `include/pccl.h` says: `master_instance` is NULL or a master.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclMasterAwaitTermination(master_instance: *mut Master) -> c_int {
    entry("pcclMasterAwaitTermination", || {
        // SAFETY: the contract of this function.
        unsafe { required(master_instance, "master_instance") }?.await_termination()
    })
}

/// # Safety
/// As `include/pccl.h` says: NULL, or a master that nobody uses or destroys meanwhile or afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclDestroyMaster(master_instance: *mut Master) -> c_int {
    entry("pcclDestroyMaster", || {
        let master = not_null(master_instance, "master_instance")?;
        // SAFETY: the contract of this function: it came from `pcclCreateMaster`, and this is its end.
        drop(unsafe { Box::from_raw(master) });
        Ok(())
    })
}
