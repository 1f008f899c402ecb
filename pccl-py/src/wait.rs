//! Waits: without the interpreter's lock, and with an ear for signals.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pccl_core::api::{self, Error, ErrorKind, Result};
use pccl_core::limits::WATCH_INTERVAL_MS;
use pyo3::prelude::*;

use crate::failure::failure;

/// How long Ctrl-C may go unnoticed in a plain pause.
const SLICE: Duration = Duration::from_millis(WATCH_INTERVAL_MS);

/// Runs a call that may block, while other Python threads go on. When a signal's handler raises (Ctrl-C), the wait ends
/// with that exception and the call is left to itself.
pub fn blocking<T: Send>(py: Python<'_>, call: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    blocking_unless(py, || false, call)
}

/// As `blocking`, and the wait is given up, too, once `is_left` says so: the communicator is being destroyed.
pub fn blocking_unless<T: Send>(
    py: Python<'_>,
    is_left: impl Fn() -> bool + Send + 'static,
    call: impl FnOnce() -> Result<T> + Send,
) -> PyResult<T> {
    let (outcome, raised, left) = py.detach(move || {
        let raised = Rc::new(RefCell::new(None));
        let left = Rc::new(Cell::new(false));
        let (seen, noted) = (raised.clone(), left.clone());
        let gives_up = move || {
            if is_left() {
                noted.set(true);
            }
            noted.get() || signalled(&seen)
        };
        let outcome = api::watched(gives_up, call);
        (outcome, raised.take(), left.get())
    });
    match raised {
        Some(exception) => Err(exception),
        // Whatever the call says: one that tells more than an error has given up as well.
        None if left => {
            let reason = "this communicator was destroyed while the call was under way";
            Err(failure(Error::new(ErrorKind::Aborted, reason)))
        }
        None => outcome.map_err(failure),
    }
}

/// Only Python's main thread ever sees one. A call that was told to end may wait once more: it is told again.
fn signalled(seen: &RefCell<Option<PyErr>>) -> bool {
    if seen.borrow().is_some() {
        return true;
    }
    // An interpreter that is shutting down has no handlers any more.
    let raised = Python::try_attach(|py| py.check_signals().err()).flatten();
    let given_up = raised.is_some();
    if given_up {
        seen.replace(raised);
    }
    given_up
}

/// Sleeps, unless a signal's handler raises.
#[pyfunction]
pub fn pause(py: Python<'_>, ms: u64) -> PyResult<()> {
    let until = Instant::now() + Duration::from_millis(ms);
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        py.detach(|| std::thread::sleep(left.min(SLICE)));
        py.check_signals()?;
    }
    Ok(())
}
