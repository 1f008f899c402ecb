//! TCP: listening, dialling, hellos, framing of control messages. Knows the meaning of neither messages nor
//! tensor bytes.

pub mod bind;
pub mod congestion;
pub mod control;
pub mod dial;
pub mod door;
pub mod link;
pub mod options;
pub mod pacing;
pub mod pool;
pub mod round_trip;
pub mod strangers;
pub mod tcp_info;
