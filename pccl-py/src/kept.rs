//! What must not be collected while the library has its memory.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;

/// A Python object on the way through an operation. The last clone lets go of it, on whatever thread; who knows that
/// the operation is over lets go at once.
#[derive(Clone)]
pub struct Kept(Arc<Mutex<Option<Py<PyAny>>>>);

impl Kept {
    pub fn new(object: Py<PyAny>) -> Kept {
        Kept(Arc::new(Mutex::new(Some(object))))
    }

    /// The operation is over. Without this the object goes when Python next enters this module.
    pub fn release(&self, _attached: Python<'_>) {
        let object = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Not under the lock: dropping it may run any Python code.
        drop(object);
    }
}
