//! What the tests of several packages share: the seeded simulator.

// Everything here is a test: an unwrap that fails is a test that fails.
#![allow(clippy::unwrap_used)]

pub mod sim;
