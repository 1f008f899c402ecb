//! What the library is, and what a communicator has done.

use std::ffi::c_int;

use crate::communicator::{Comm, on};
use crate::enums::ResultCode;
use crate::guard::{entry, invalid, not_null};
use crate::layout::{BuildInfo, Stats};

/// What this build can do. Works before pcclInit. Local, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclGetBuildInfo(build_info_out: *mut BuildInfo) -> ResultCode {
    entry("pcclGetBuildInfo", || {
        let out = not_null(build_info_out, "build_info_out")?;
        // SAFETY: the contract of this function; it was checked for NULL.
        unsafe { out.write(BuildInfo { has_cuda_support: false }) };
        Ok(())
    })
}

/// The version of the library, which may be newer than the header. Works before pcclInit. Local, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclGetVersion(
    major: *mut c_int,
    minor: *mut c_int,
    patch: *mut c_int,
) -> ResultCode {
    const VERSION: [&str; 3] =
        [env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH")];
    entry("pcclGetVersion", || {
        let places = [not_null(major, "major")?, not_null(minor, "minor")?, not_null(patch, "patch")?];
        for (place, number) in places.into_iter().zip(VERSION) {
            let number = number.parse().map_err(|_| invalid(format!("{number} is no number")))?;
            // SAFETY: the contract of this function; it was checked for NULL.
            unsafe { place.write(number) };
        }
        Ok(())
    })
}

/// What the communicator has done so far. Set `stats->struct_size` to sizeof(pcclStats_t) before.
///
/// Local; waits for the communicator's thread only, which may be in the middle of something: not for each of many
/// small operations.
///
/// pcclInvalidArgument: a `struct_size` that cannot be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclGetStats(comm: *const Comm, stats: *mut Stats) -> ResultCode {
    entry("pcclGetStats", || {
        let (room, now) = on(comm, |comm| {
            let stats = not_null(stats, "stats")?;
            // SAFETY: the contract of this function: the first field is there.
            let room = unsafe { (&raw const (*stats).struct_size).read() };
            if room < size_of::<usize>() || room > 1 << 16 {
                return Err(invalid(format!("struct_size is {room}: set it to sizeof(pcclStats_t)")));
            }
            Ok((room, comm.communicator.stats()))
        })?;
        let filled = Stats {
            struct_size: room,
            ops_reduced: now.ops_reduced,
            ops_aborted: now.ops_aborted,
            ops_failed: now.ops_failed,
            syncs: now.syncs,
            tx_bytes: now.tx_bytes,
            rx_bytes: now.rx_bytes,
            epochs: now.epochs,
            links_up: now.links_up,
            links_closed: now.links_closed,
            wire_tx_bytes: now.counters.bytes_written,
            wire_rx_bytes: now.counters.bytes_read,
        };
        let len = room.min(size_of::<Stats>());
        // SAFETY: the contract of this function: `room` bytes are the program's; both are plain numbers.
        unsafe {
            stats.cast::<u8>().write_bytes(0, room);
            std::ptr::copy_nonoverlapping((&raw const filled).cast::<u8>(), stats.cast::<u8>(), len);
        }
        Ok(())
    })
}
