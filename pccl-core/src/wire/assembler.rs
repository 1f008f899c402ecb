//! From a stream of bytes to the bodies of control frames.

use super::control::{CONTROL_HEADER_BYTES, ControlHeader};
use super::error::WireError;
use super::layout::RESUME_CODE;
use crate::limits::{MAX_CONTROL_FRAME_BEFORE_JOIN_BYTES, MAX_CONTROL_FRAME_BYTES};

/// Cuts what arrives into frames and checks them.
///
/// Holds one unfinished frame at most. What a header announces is not believed: memory is taken as bytes
/// arrive, at most twice as much as has arrived. After an error the stream has no more frames in it.
#[derive(Debug)]
pub struct FrameAssembler {
    max_len: usize,
    /// As long as a stranger may be at the other end: only a `Resume` may be longer than `max_len`.
    before_join: bool,
    header: [u8; CONTROL_HEADER_BYTES],
    header_filled: usize,
    body: Vec<u8>,
    failed: Option<WireError>,
}

impl FrameAssembler {
    /// For bodies of at most `max_len` bytes.
    pub fn new(max_len: usize) -> FrameAssembler {
        FrameAssembler {
            max_len,
            before_join: false,
            header: [0; CONTROL_HEADER_BYTES],
            header_filled: 0,
            body: Vec::new(),
            failed: None,
        }
    }

    /// For a connection that has yet to say `Join` or `Resume`: short frames, and `Resume` at any length a
    /// control frame may have. To be followed by `set_max_len` once that message is here.
    pub fn before_join() -> FrameAssembler {
        FrameAssembler { before_join: true, ..FrameAssembler::new(MAX_CONTROL_FRAME_BEFORE_JOIN_BYTES) }
    }

    /// Holds from the next frame on.
    pub fn set_max_len(&mut self, max_len: usize) {
        self.max_len = max_len;
        self.before_join = false;
    }

    /// Takes from the front of `bytes` what belongs to one frame; the frame's body if that made it whole. Call
    /// again while it gives bodies; without one, all of `bytes` is taken.
    pub fn next_body(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.advance(bytes).inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn advance(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, WireError> {
        let part = take(bytes, CONTROL_HEADER_BYTES - self.header_filled);
        self.header[self.header_filled..][..part.len()].copy_from_slice(part);
        self.header_filled += part.len();
        if self.header_filled < CONTROL_HEADER_BYTES {
            return Ok(None);
        }
        let longest = if self.before_join { MAX_CONTROL_FRAME_BYTES } else { self.max_len };
        let header = ControlHeader::decode(&self.header, longest)?;
        let len = header.len as usize;
        let part = take(bytes, len - self.body.len());
        self.make_room(part.len(), len);
        self.body.extend_from_slice(part);
        let resuming = self.before_join && self.body.first().is_none_or(|&code| code == RESUME_CODE);
        if len > self.max_len && !resuming {
            return Err(WireError::FrameTooLong { len: header.len, max: self.max_len });
        }
        if self.body.len() < len {
            return Ok(None);
        }
        header.check_body(&self.body)?;
        self.header_filled = 0;
        Ok(Some(std::mem::take(&mut self.body)))
    }

    /// Doubles, so that bytes are moved a few times only, but never beyond the frame.
    fn make_room(&mut self, more: usize, len: usize) {
        let needed = self.body.len() + more;
        if needed > self.body.capacity() {
            let room = needed.max(2 * self.body.capacity()).min(len);
            self.body.reserve_exact(room - self.body.len());
        }
    }
}

/// Takes up to `max` bytes from the front.
fn take<'a>(bytes: &mut &'a [u8], max: usize) -> &'a [u8] {
    let (head, tail) = bytes.split_at(max.min(bytes.len()));
    *bytes = tail;
    head
}
