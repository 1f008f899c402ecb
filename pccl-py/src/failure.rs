//! The core's errors as one Python exception, which `pccl._errors` turns into the public one.

use pccl_core::api::{Error, ErrorKind};
use pyo3::prelude::*;

pyo3::create_exception!(_pccl, Failure, pyo3::exceptions::PyException, "args: (result code, reason)");

pub fn failure(error: Error) -> PyErr {
    Failure::new_err((error.kind.code(), error.reason))
}

pub fn invalid(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, reason)
}

pub fn usage(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidUsage, reason)
}
