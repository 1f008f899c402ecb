//! All `unsafe` about user memory.

#![allow(unsafe_code)]

mod region;

pub use region::{Buffers, BuffersError};
