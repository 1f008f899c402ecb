//! Bytes ⇄ messages. Decoding is total: whatever arrives becomes a value or a typed error.

pub mod frame;
pub mod message;
