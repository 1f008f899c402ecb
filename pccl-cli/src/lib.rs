//! The command `pccl`, and the fleet of processes that the stress program uses too.

pub mod arguments;
pub mod bench;
pub mod command;
pub mod demo;
pub mod fleet;
pub mod logging;
pub mod master;
pub mod myself;
pub mod summary;
pub mod svg;
pub mod topology;
