//! Bytes ⇄ messages. Decoding is total: whatever arrives becomes a value or a typed error.

mod assembler;
mod codec;
mod control;
#[cfg(test)]
mod control_tests;
mod error;
pub mod frame;
pub mod hello;
mod layout;
pub mod message;
mod planned;
pub mod state_ask;
#[cfg(test)]
mod strategies;

pub use assembler::FrameAssembler;
pub use control::{
    CONTROL_HEADER_BYTES, ControlHeader, decode_master, decode_peer, encode_master, encode_peer,
};
pub use error::{EncodeError, WireError};
