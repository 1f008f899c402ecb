//! The master of a fleet, as a process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pccl_core::api::Master;

use super::child::{MasterArgs, tell};
use super::report::Report;
use crate::master::build;

pub fn run(args: &MasterArgs, leave: &AtomicBool) -> Result<(), String> {
    let master: Master = build(&args.listen, None, &args.set)?;
    master.run().map_err(|e| e.to_string())?;
    let address = master.address().map(|a| a.to_string()).unwrap_or_default();
    tell(&Report::Listening { address });
    while !leave.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
    }
    master.interrupt().and_then(|()| master.await_termination()).map_err(|e| e.to_string())
}
