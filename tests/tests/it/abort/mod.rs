//! What an abort leaves behind: the input, memory nobody touches any more, links that work, peers that agree.
//! Whatever is cut, damaged, held back or killed.

mod cut;
mod damage;
mod kill;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod pipe;

pub use damage::{damaged_frames, damaged_hellos, two_troubles_on_one_pair};
pub use kill::victim;
#[cfg(target_os = "linux")]
pub use memory::{memory_victim, returned_memory};
#[cfg(target_os = "linux")]
pub use pipe::until_broken;
