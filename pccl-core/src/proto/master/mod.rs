//! The master's machine: who is accepted, which epoch holds, what became of each operation.

mod io;

pub use io::{ConnId, Event, Input, MasterConfig, Output};
