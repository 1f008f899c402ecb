//! The command `pccl`, for `pccl._command`.

use std::ffi::OsString;
use std::process::ExitCode;

use pyo3::prelude::*;

/// Runs `pccl` with these arguments, the program's name first; `myself` is how it starts itself again. Gives the exit
/// status. Takes Ctrl-C over for good: this process is for nothing else afterwards.
#[pyfunction]
pub fn command(py: Python<'_>, arguments: Vec<OsString>, myself: Vec<OsString>) -> u8 {
    pccl_cli::myself::is_started_by(myself);
    let code = py.detach(|| pccl_cli::command::run(arguments));
    // An exit code can only be compared.
    (0..u8::MAX).find(|status| ExitCode::from(*status) == code).unwrap_or(u8::MAX)
}
