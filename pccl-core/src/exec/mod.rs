//! Moves bytes: plan × link × region. Decides nothing, sees no message.

mod link;

pub use link::{Link, LinkIo};
