//! What a program calls. Blocking, and safe to call from any thread.

mod builder;
mod callers;
mod communicator;
mod master;
mod retry;
mod scope;
mod state;
mod work;

pub use builder::{CommunicatorBuilder, MasterBuilder};
pub use communicator::Communicator;
pub use master::Master;
pub use retry::ReduceRequest;
pub use scope::Scope;
pub use state::SharedState;
pub use work::Work;

pub use crate::error::{Error, ErrorKind, Result};
pub use crate::mem::{Buffers, Element, Memory};
pub use crate::obs::{Counters, LinkStats, Stats, check_log_level, log_to_stderr, set_log_level};
pub use crate::proto::peer::{ReduceInfo, SyncInfo};
pub use crate::shell::{has_given_up, watched};
pub use crate::state::Condition;
pub use crate::types::{
    DType, EpochInfo, FigureRow, GroupInfo, OpDescriptor, PeerId, Quantization, ReduceOp, RunReport,
    ScheduleChoice, SyncStrategy, Tag, TensorKey,
};

/// What a master knows of its run: the epoch, who waits, and what was measured of the members' links, one row a member of
/// each measured group in the order of `RunReport::epoch`. Joins nothing; blocks until the answer is here, `timeout_ms` at
/// most. `MasterConnectionFailed` if there is none, or if the master is taking over a run just now.
pub fn inspect(master: &str, timeout_ms: u64) -> Result<(RunReport, Vec<FigureRow>)> {
    crate::shell::inspect(master, timeout_ms)
}

/// A forked child has the handles but not the threads behind them.
fn check_process(pid: u32, what: &str) -> Result<()> {
    if std::process::id() == pid {
        return Ok(());
    }
    let reason = format!(
        "this {what} was made by process {pid} and cannot be used after a fork: make a new one in the child"
    );
    Err(Error::new(ErrorKind::InvalidUsage, reason))
}

#[cfg(test)]
mod tests;
