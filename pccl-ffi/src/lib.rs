//! The C library `libpccl`. `include/pccl.h` is its documentation; this crate translates and decides nothing.
//!
//! Every entry point goes through `guard::entry`: a panic becomes `pcclInternalError`, a failure leaves its words
//! for `pcclGetLastError`. Handles are boxes given out as raw pointers; the header says who frees them.

// The names are the C API's.
#![allow(non_snake_case)]

mod communicator;
mod config;
mod guard;
mod info;
mod layout;
mod master;
mod reduce;
mod state;
mod words;

pub use communicator::*;
pub use config::*;
pub use info::*;
pub use layout::*;
pub use master::*;
pub use reduce::*;
pub use state::*;
pub use words::*;
