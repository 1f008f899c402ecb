//! Control frames: a header of fixed size with a check of its own, then one message.

use super::codec::{Reader, Value, Writer};
use super::error::{EncodeError, WireError};
use super::message::{MasterMessage, PeerMessage};
use crate::limits::MAX_CONTROL_FRAME_BYTES;

/// The header of a control frame on the wire.
pub const CONTROL_HEADER_BYTES: usize = 12;

/// The first bytes of a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlHeader {
    /// Bytes of the body.
    pub len: u32,
    /// Of the body.
    pub crc: u32,
}

impl ControlHeader {
    pub fn encode(&self) -> [u8; CONTROL_HEADER_BYTES] {
        let mut out = [0; CONTROL_HEADER_BYTES];
        out[0..4].copy_from_slice(&self.len.to_le_bytes());
        out[4..8].copy_from_slice(&self.crc.to_le_bytes());
        let check = crc32fast::hash(&out[..8]);
        out[8..12].copy_from_slice(&check.to_le_bytes());
        out
    }

    /// The header in these bytes, if the body it announces has 1 to `max_len` bytes.
    pub fn decode(bytes: &[u8; CONTROL_HEADER_BYTES], max_len: usize) -> Result<ControlHeader, WireError> {
        let &[l0, l1, l2, l3, c0, c1, c2, c3, ref check @ ..] = bytes;
        if crc32fast::hash(&bytes[..8]).to_le_bytes() != *check {
            return Err(WireError::HeaderDamaged);
        }
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        if len == 0 {
            return Err(WireError::FrameEmpty);
        }
        if len as usize > max_len {
            return Err(WireError::FrameTooLong { len, max: max_len });
        }
        Ok(ControlHeader { len, crc: u32::from_le_bytes([c0, c1, c2, c3]) })
    }

    /// Whether these bytes are the body this header announced.
    pub fn check_body(&self, body: &[u8]) -> Result<(), WireError> {
        if body.len() == self.len as usize && crc32fast::hash(body) == self.crc {
            Ok(())
        } else {
            Err(WireError::BodyDamaged)
        }
    }
}

/// Appends the whole frame of a peer's message. On an error nothing is appended.
pub fn encode_peer(message: &PeerMessage, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode(message, out)
}

/// Appends the whole frame of a master's message. On an error nothing is appended.
pub fn encode_master(message: &MasterMessage, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode(message, out)
}

/// The peer's message that this body is, to the last byte.
pub fn decode_peer(body: &[u8]) -> Result<PeerMessage, WireError> {
    decode(body, "peer message")
}

/// The master's message that this body is, to the last byte.
pub fn decode_master(body: &[u8]) -> Result<MasterMessage, WireError> {
    decode(body, "master message")
}

fn encode(message: &impl Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let body_at = start + CONTROL_HEADER_BYTES;
    out.resize(body_at, 0);
    let mut writer = Writer { out, error: None };
    message.put(&mut writer);
    let (len, max) = (writer.out.len() - body_at, MAX_CONTROL_FRAME_BYTES);
    let too_long = (len > max).then_some(EncodeError::FrameTooLong { len, max });
    if let Some(error) = writer.error.or(too_long) {
        out.truncate(start);
        return Err(error);
    }
    let header = ControlHeader { len: len as u32, crc: crc32fast::hash(&out[body_at..]) };
    out[start..body_at].copy_from_slice(&header.encode());
    Ok(())
}

fn decode<T: Value>(body: &[u8], what: &'static str) -> Result<T, WireError> {
    let mut reader = Reader { left: body };
    let message = T::get(&mut reader, what)?;
    match reader.left.len() {
        0 => Ok(message),
        left => Err(WireError::TrailingBytes { left }),
    }
}
