//! Fault-tolerant collective communication over the open internet. `docs/ARCHITECTURE.md` has the map.

// Only `mem` and `kernel` may lift this.
#![deny(unsafe_code)]

pub mod api;
pub mod config;
pub mod error;
pub mod exec;
pub mod kernel;
pub mod limits;
pub mod mem;
pub mod net;
pub mod obs;
pub mod plan;
pub mod proto;
pub mod shell;
pub mod state;
pub mod topo;
pub mod types;
pub mod wire;
