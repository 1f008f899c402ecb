//! What the command `pccl` does, and the fleet of processes that the stress program uses too.

pub mod arguments;
pub mod bench;
pub mod demo;
pub mod fleet;
pub mod logging;
pub mod master;
pub mod summary;
