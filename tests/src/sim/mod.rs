//! The seeded simulator: one master and some peers, with the product's own machines, engine and plans, in one
//! thread under a virtual clock. One seed is one run. `docs/SIMULATOR.md` tells what is simulated and checked.

mod app;
mod control;
mod control_link;
pub mod crowd;
mod event;
mod fault;
mod hostile;
mod invariants;
mod links;
mod memory;
mod mischief;
mod pipe;
mod process;
mod queue;
mod reference;
mod rng;
mod scenario;
mod world;

pub use invariants::Violation;
pub use world::{Bug, Options, Report, run_seed};
