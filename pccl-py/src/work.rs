//! An all-reduce under way.

use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use pccl_core::api::{self, ReduceInfo, Result};
use pyo3::prelude::*;

use crate::kept::Kept;
use crate::wait::blocking;

/// Result code, reason, peers of the group, bytes sent and received.
pub type Outcome = (i32, String, u32, u64, u64);

#[pyclass(frozen)]
pub struct Work {
    work: api::Work,
    kept: Kept,
}

impl Work {
    pub fn new(work: api::Work, kept: Kept) -> Work {
        Work { work, kept }
    }
}

#[pymethods]
impl Work {
    /// `None` if there is no outcome in time.
    fn wait(&self, py: Python<'_>, timeout_ms: Option<u64>) -> PyResult<Option<Outcome>> {
        let work = &self.work;
        let outcome = blocking(py, || match timeout_ms {
            // An error in here is the operation's, unless the wait was given up: then that is what is raised.
            None => Ok(Some(work.wait())),
            Some(ms) => Ok(work.wait_timeout(ms)),
        })?;
        if outcome.is_some() {
            self.kept.release(py);
        }
        Ok(outcome.map(plain))
    }

    fn is_done(&self) -> bool {
        self.work.is_done()
    }

    /// Makes the other end of this pipe readable once there is an outcome. Takes the descriptor over; the last one given
    /// is the one.
    fn notify(&self, fd: RawFd) {
        // SAFETY: `_handle.py` has just made this pipe and gives its writing end away.
        let pipe = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let waker = Waker::from(Arc::new(Pipe(pipe)));
        if self.work.poll_outcome(&mut Context::from_waker(&waker)).is_ready() {
            waker.wake();
        }
    }
}

struct Pipe(File);

impl Wake for Pipe {
    fn wake(self: Arc<Self>) {
        // Nobody may read any more. An empty pipe has room for a byte.
        let _ = (&self.0).write(&[1]);
    }
}

fn plain(outcome: Result<ReduceInfo>) -> Outcome {
    match outcome {
        Ok(info) => (0, String::new(), info.group_world_size, info.tx_bytes, info.rx_bytes),
        Err(error) => (error.kind.code(), error.reason, 0, 0, 0),
    }
}
