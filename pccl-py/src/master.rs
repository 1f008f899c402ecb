//! A run's master.

use std::sync::atomic::{AtomicBool, Ordering};

use pccl_core::api;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::failure::{failure, usage};
use crate::wait::blocking;

#[pyclass(frozen)]
pub struct Master {
    inner: api::Master,
    interrupted: AtomicBool,
}

impl Master {
    fn is_left_running(&self) -> bool {
        self.inner.address().is_some() && !self.interrupted.load(Ordering::Relaxed)
    }
}

#[pymethods]
impl Master {
    #[new]
    fn new(listen_address: &str) -> PyResult<Master> {
        api::log_to_stderr();
        let inner = api::Master::builder(listen_address).build().map_err(failure)?;
        Ok(Master { inner, interrupted: AtomicBool::new(false) })
    }

    fn run(&self, py: Python<'_>) -> PyResult<()> {
        blocking(py, || self.inner.run())
    }

    fn address(&self) -> PyResult<String> {
        let not_running = || failure(usage("not running: call run first"));
        self.inner.address().map(|address| address.to_string()).ok_or_else(not_running)
    }

    /// Ends it and waits for that; nothing to do if it never ran. On an interrupted wait it ends by itself.
    fn interrupt(&self, py: Python<'_>) -> PyResult<()> {
        if self.inner.address().is_none() {
            return Ok(());
        }
        self.interrupted.store(true, Ordering::Relaxed);
        blocking(py, || self.inner.interrupt().and_then(|()| self.inner.await_termination()))
    }

    /// Blocks until it was interrupted, or has ended by itself, or a signal's handler raises. At once if it never ran.
    fn stay(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_left_running() {
            return Ok(());
        }
        blocking(py, || self.inner.await_termination())
    }
}

/// Scripts whose last line is `master.run()` live on in here.
impl Drop for Master {
    fn drop(&mut self) {
        let this = &*self;
        Python::try_attach(|py| {
            if let Err(raised) = this.stay(py) {
                this.interrupted.store(true, Ordering::Relaxed);
                // In a forked child, where this fails, there is nothing to end.
                let _ = this.inner.interrupt();
                raise_later(py, raised);
            }
        });
    }
}

/// Nothing can be raised where an object is taken down. Ctrl-C is sent on to the line that comes next.
fn raise_later(py: Python<'_>, raised: PyErr) {
    if raised.is_instance_of::<PyKeyboardInterrupt>(py) {
        // SAFETY: only sets a flag; may be called from any thread.
        unsafe { ffi::PyErr_SetInterrupt() };
    } else {
        raised.write_unraisable(py, None);
    }
}
