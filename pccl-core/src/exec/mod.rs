//! Moves bytes: plan × link × region. Decides nothing, sees no message.
//!
//! `Engine` is the face. Behind it: `conn` (one link; `rx` and `tx` are its halves), `express` (the link for what is
//! short), `patience` (when a link is given up), `frames` (what a frame means), `running` (one operation: `op` is its way
//! through a forest, with `landing` for what arrives and `window` for what comes ahead of its turn; `small` its way without
//! one, `rooms` which of these keep what arrives), `ops` and `peers` (the tables), `early` and `allowance` (what may be
//! sent ahead), `piece` (the unit that travels), `queue` (which leaves first), `coding` (as what). `sync` moves shared
//! state, `probe` measures, `observe` does so while operations run.

mod allowance;
mod coding;
mod conn;
mod context;
mod early;
mod encoding;
mod engine;
mod express;
mod fault;
mod frames;
mod landing;
mod link;
mod observe;
mod op;
mod ops;
mod patience;
mod peers;
mod piece;
mod probe;
mod queue;
mod rooms;
mod running;
mod rx;
mod small;
mod sync;
mod tx;
mod window;

#[cfg(test)]
mod tests;

#[cfg(feature = "seeded-bugs")]
pub use engine::SeededBug;
pub use engine::{Engine, EngineConfig, Kept, OpStart, OpTraffic, Output};
pub use link::{Answers, Link, LinkIo};
pub use sync::{SyncEnd, SyncStart};
