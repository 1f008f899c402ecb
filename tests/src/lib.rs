//! What the tests of several packages share: the seeded simulator, and the commands that documents name.

// Everything here is a test: an unwrap that fails is a test that fails.
#![allow(clippy::unwrap_used)]

pub mod commands;
pub mod sim;
