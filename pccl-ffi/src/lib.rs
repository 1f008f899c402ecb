//! The C library `libpccl`. This crate translates and decides nothing. What its entry points and types say here becomes
//! `include/pccl.h` (`cbindgen.toml`), so it speaks to C programs, and is also what makes each call safe: the memory it names is
//! valid for as long as it says.
//!
//! Every entry point goes through `guard::entry`: a panic becomes `pcclInternalError`, a failure leaves its words
//! for `pcclGetLastError`. Handles are numbers in the form of pointers (`handles`); the header says who ends them.

// The names are the C API's.
#![allow(non_snake_case)]
// Who calls, and which memory must live for how long, is said of each function in words for C programs.
#![allow(clippy::missing_safety_doc)]

mod communicator;
mod config;
mod enums;
mod guard;
mod handles;
mod info;
mod layout;
mod master;
mod reduce;
mod state;
mod words;

pub use communicator::*;
pub use config::*;
pub use enums::*;
pub use info::*;
pub use layout::*;
pub use master::*;
pub use reduce::*;
pub use state::*;
pub use words::*;
