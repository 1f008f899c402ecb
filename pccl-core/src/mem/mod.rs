//! All `unsafe` about user memory, and the memory the library keeps for itself.

#![allow(unsafe_code)]

mod budget;
mod element;
mod lend;
mod pool;
mod region;
mod save;
mod save_stock;
#[cfg(test)]
mod test_memory;

pub use budget::{Budget, Share};
pub use element::Element;
pub use lend::{Lending, Memory, lend};
pub use pool::Pool;
pub use region::{Buffers, BuffersError, InputAtStake};
pub use save::SaveArea;
pub use save_stock::SaveStock;
#[cfg(test)]
pub(crate) use test_memory::TestMemory;
