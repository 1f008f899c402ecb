//! Loops and tasks: clock, mailboxes, timers, connections.

pub mod node;
pub mod slot;
