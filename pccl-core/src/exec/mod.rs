//! Moves bytes: plan × link × region. Decides nothing, sees no message.
//!
//! `Engine` is the face. Behind it: `conn` (one link; `rx` and `tx` are its halves), `frames` (what a frame
//! means), `op` (one operation's way through its forest), `ops` and `peers` (the tables), `piece` (the unit
//! that travels).

mod conn;
mod context;
mod engine;
mod fault;
mod frames;
mod link;
mod op;
mod ops;
mod peers;
mod piece;
mod rx;
mod tx;

#[cfg(test)]
mod tests;

#[cfg(feature = "seeded-bugs")]
pub use engine::SeededBug;
pub use engine::{Engine, EngineConfig, Kept, OpStart, OpTraffic, Output};
pub use link::{Link, LinkIo};
