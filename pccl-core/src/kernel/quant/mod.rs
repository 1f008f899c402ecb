//! Elements to the bytes that travel instead of them, and back. The rule, down to rounding: `docs/QUANTIZATION.md`.
//!
//! A span is cut into blocks of a fixed number of elements from its start; each is encoded by itself, with a header of its
//! own. So the bytes of a span depend on its elements alone, and parts of it that begin and end where blocks do can be
//! handled one by one. There is no encoding longer than the elements: where it would not be shorter, they travel as they are.

mod blocks;
mod careful;
mod codec;
mod feedback;
mod float8;
mod form;
mod fused;
mod grid;
mod loops;
#[cfg(test)]
mod tests;
mod work;

pub use codec::{Codec, Errors, MAX_BLOCK_WIRE_BYTES};
pub use feedback::{add_owed, finish_average_keeping};
pub use fused::Unfinished;
