//! What can be wrong with a control frame, at either end.

use crate::limits::MAX_TEXT_BYTES;

/// Why bytes are no control message. Names the field, so that a log line tells what the other end did.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the header of a control frame arrived damaged")]
    HeaderDamaged,
    #[error("the body of a control frame arrived damaged")]
    BodyDamaged,
    #[error("control frame of {len} bytes where at most {max} are allowed")]
    FrameTooLong { len: u32, max: usize },
    #[error("control frame without a body")]
    FrameEmpty,
    #[error("control message ends within {field}")]
    Truncated { field: &'static str },
    #[error("{left} bytes follow a control message within its frame")]
    TrailingBytes { left: usize },
    #[error("unknown {field} {value}")]
    UnknownNumber { field: &'static str, value: u8 },
    #[error("{count} {field} where at most {max} fit")]
    TooMany { field: &'static str, count: usize, max: usize },
    #[error("{field} of {len} bytes, more than {MAX_TEXT_BYTES}")]
    TextTooLong { field: &'static str, len: usize },
    #[error("{field} is not UTF-8")]
    TextNotUtf8 { field: &'static str },
    #[error("{field} breaks a rule: {rule}")]
    RuleBroken { field: &'static str, rule: &'static str },
}

/// Why a message cannot be sent: it holds more than the limits allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("control message of {len} bytes, more than {max}")]
    FrameTooLong { len: usize, max: usize },
    #[error("{count} {field}, more than {max}")]
    TooMany { field: &'static str, count: usize, max: usize },
}
