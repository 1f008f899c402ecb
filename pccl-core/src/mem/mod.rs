//! All `unsafe` about user memory.

mod region;

pub use region::{Buffers, BuffersError};
