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
pub use crate::obs::{Counters, LinkStats, Stats};
pub use crate::proto::peer::{ReduceInfo, SyncInfo};
pub use crate::shell::watched;
pub use crate::state::Condition;
pub use crate::types::{
    DType, OpDescriptor, Quantization, ReduceOp, ScheduleChoice, SyncStrategy, Tag, TensorKey,
};

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
