//! A run of real processes on this machine: a master and peers that all-reduce in a loop and check everything.
//! The demo and the stress programs are scripts over it.

pub mod child;
mod child_master;
mod child_peer;
mod clock;
pub mod judge;
mod pattern;
mod process;
mod report;
mod run;
pub mod screen;
pub mod statistics;

pub use clock::now_us;
pub use pattern::{HEADER, MAX_PEERS};
pub use run::{Config, Recovery, Run, Stop};
