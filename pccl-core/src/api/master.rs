//! The one everybody connects to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::{MasterBuilder, check_process};
use crate::config::MasterSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::shell::MasterThread;

/// Decides who is in the run and what became of each operation; carries no tensor data. One per run.
///
/// Dropping it ends its thread and closes its port; the peers then look for a new master at the same address.
#[derive(Debug)]
pub struct Master {
    settings: MasterSettings,
    pid: u32,
    thread: OnceLock<MasterThread>,
    starting: Mutex<()>,
    shut_down: AtomicBool,
}

impl Master {
    /// To listen on `host:port`; port 0 means any free one. Nothing is bound before `run`.
    pub fn builder(listen: &str) -> MasterBuilder {
        MasterBuilder::new(listen)
    }

    pub(super) fn new(settings: MasterSettings) -> Master {
        Master {
            settings,
            pid: std::process::id(),
            thread: OnceLock::new(),
            starting: Mutex::new(()),
            shut_down: AtomicBool::new(false),
        }
    }

    /// Binds the port, serves in the background, and returns. `InvalidUsage` if the port cannot be had,
    /// `InvalidArgument` if it was called before.
    pub fn run(&self) -> Result<()> {
        check_process(self.pid, "master")?;
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shut_down.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::InvalidUsage, "this master was shut down"));
        }
        if self.thread.get().is_some() {
            return Err(Error::new(ErrorKind::InvalidArgument, "this master was started already"));
        }
        let thread = MasterThread::start(&self.settings)?;
        // Nobody else sets it while `starting` is held.
        let _ = self.thread.set(thread);
        Ok(())
    }

    /// Where it listens; `None` before `run`.
    pub fn address(&self) -> Option<SocketAddr> {
        self.thread.get().map(MasterThread::address)
    }

    /// Makes it stop soon, without waiting.
    pub fn interrupt(&self) -> Result<()> {
        self.running()?.interrupt();
        Ok(())
    }

    /// Waits until it has stopped: after `interrupt`, or by itself with `Internal`.
    pub fn await_termination(&self) -> Result<()> {
        self.running()?.join()
    }

    /// Stops it, as dropping it does, for one that is shared: whoever waits for its end has it, and it cannot be run any
    /// more. In a forked child it does nothing: the thread and the sockets are the parent's.
    pub fn shut_down(&self) {
        if check_process(self.pid, "master").is_err() {
            return;
        }
        {
            // Whoever starts the thread just now is done with it then, or is refused.
            let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
            self.shut_down.store(true, Ordering::Release);
        }
        if let Some(thread) = self.thread.get() {
            thread.interrupt();
            // A panic of its thread was written down, and there is nobody to tell.
            let _ = thread.join();
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &MasterSettings {
        &self.settings
    }

    fn running(&self) -> Result<&MasterThread> {
        check_process(self.pid, "master")?;
        self.thread
            .get()
            .ok_or_else(|| Error::new(ErrorKind::InvalidUsage, "this master was not started: call run first"))
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        if check_process(self.pid, "master").is_err() {
            // The sockets are the parent's.
            std::mem::forget(self.thread.take());
        } else {
            self.shut_down();
        }
    }
}
