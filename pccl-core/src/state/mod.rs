//! A shared state as one peer holds it: named tensors in the caller's memory, and the tree of hashes over their blocks.
//!
//! `Tensors` is the memory, `Survey` the tree. Bytes of tensors are read and written through `Tensors` alone: memory
//! that is not the host's (a GPU's) would be copied there, and hashed where it lies by another `survey`; nobody else
//! would notice.

mod survey;
mod tensors;
#[cfg(test)]
mod tests;

pub use survey::{Survey, combined, tensor_digest};
pub use tensors::{Tensors, TensorsError};

/// What has become of one tensor in a synchronization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// As it was.
    Kept,
    /// Wholly the elected content.
    Elected,
    /// Received in part: neither. The next synchronization fetches what is missing.
    Mixed,
}
