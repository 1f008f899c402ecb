//! The peer's machine: its place in the run, and the calls of its program that wait for a decision.

mod io;

pub use io::{Admission, Call, Done, Input, Output, PeerConfig, ReduceInfo};
