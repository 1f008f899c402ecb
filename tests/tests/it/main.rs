//! The integration tests: one binary, one module per subject.

// Everything here is a test: an unwrap that fails is a test that fails.
#![allow(clippy::unwrap_used)]

mod abort;
mod addresses;
mod architecture;
mod c_calls;
mod child;
#[cfg(target_os = "linux")]
mod clean_exit;
mod every_type;
mod faults;
mod feedback;
mod figures;
mod generated;
mod golden;
mod harness;
mod header;
mod heartbeats;
mod journal;
#[cfg(target_os = "linux")]
mod memory;
mod no_deadlock;
mod proxy;
mod schedules;
mod state;
mod topology;
