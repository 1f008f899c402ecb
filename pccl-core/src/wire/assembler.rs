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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::strategies::peer_message;
    use super::super::{decode_peer, encode_peer};
    use super::*;

    /// A frame around a body that need not be a message.
    fn frame(body: &[u8]) -> Vec<u8> {
        let header = ControlHeader { len: body.len() as u32, crc: crc32fast::hash(body) };
        [&header.encode()[..], body].concat()
    }

    fn bodies(assembler: &mut FrameAssembler, mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, WireError> {
        let mut bodies = Vec::new();
        while let Some(body) = assembler.next_body(&mut bytes)? {
            bodies.push(body);
        }
        assert!(bytes.is_empty());
        Ok(bodies)
    }

    proptest! {
        #[test]
        fn messages_come_out_however_the_stream_is_cut(
            messages in prop::collection::vec(peer_message(), 1..6),
            cuts in prop::collection::vec(1usize..400, 1..20),
        ) {
            let mut stream = Vec::new();
            for message in &messages {
                encode_peer(message, &mut stream).unwrap();
            }
            let mut assembler = FrameAssembler::new(MAX_CONTROL_FRAME_BYTES);
            let (mut rest, mut read) = (&stream[..], Vec::new());
            for cut in cuts.iter().cycle() {
                let part = take(&mut rest, *cut);
                for body in bodies(&mut assembler, part).unwrap() {
                    read.push(decode_peer(&body).unwrap());
                }
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(read, messages);
        }

        #[test]
        fn random_bytes_end_the_stream_for_good(bytes in prop::collection::vec(any::<u8>(), 12..100)) {
            let mut assembler = FrameAssembler::before_join();
            prop_assert_eq!(bodies(&mut assembler, &bytes), Err(WireError::HeaderDamaged));
            prop_assert_eq!(bodies(&mut assembler, &frame(&[11])), Err(WireError::HeaderDamaged));
        }
    }

    #[test]
    fn memory_is_taken_as_bytes_arrive_and_never_beyond_the_frame() {
        let whole = frame(&vec![RESUME_CODE; 50_000]);
        let mut assembler = FrameAssembler::before_join();
        for (arrived, byte) in whole[..whole.len() - 1].iter().enumerate() {
            assert_eq!(bodies(&mut assembler, &[*byte]), Ok(Vec::new()));
            let allowed = (2 * (arrived + 1)).min(50_000);
            assert!(assembler.body.capacity() <= allowed, "{} after {arrived}", assembler.body.capacity());
        }
        let last = &whole[whole.len() - 1..];
        assert_eq!(bodies(&mut assembler, last).map(|bodies| bodies.len()), Ok(1));
        assert_eq!(assembler.body.capacity(), 0);
    }

    #[test]
    fn before_joining_only_a_resume_may_be_long() {
        let (short, max) = (MAX_CONTROL_FRAME_BEFORE_JOIN_BYTES, MAX_CONTROL_FRAME_BYTES);
        let before =
            |body: Vec<u8>| bodies(&mut FrameAssembler::before_join(), &frame(&body)).map(|b| b.len());
        assert_eq!(before(vec![1; short]), Ok(1));
        assert_eq!(before(vec![RESUME_CODE; max]), Ok(1));
        let too_long = |len: usize, max: usize| Err(WireError::FrameTooLong { len: len as u32, max });
        assert_eq!(before(vec![1; short + 1]), too_long(short + 1, short));
        assert_eq!(before(vec![RESUME_CODE; max + 1]), too_long(max + 1, max));
        // The first byte of the body is enough to tell.
        let first = &frame(&vec![1; short + 1])[..CONTROL_HEADER_BYTES + 1];
        let mut assembler = FrameAssembler::before_join();
        assert_eq!(bodies(&mut assembler, first).map(|b| b.len()), too_long(short + 1, short));
    }

    #[test]
    fn a_new_limit_holds_from_the_next_frame_on() {
        let long = frame(&vec![1; 2000]);
        let mut assembler = FrameAssembler::before_join();
        assert_eq!(bodies(&mut assembler, &frame(&[1])).map(|bodies| bodies.len()), Ok(1));
        assembler.set_max_len(2000);
        assert_eq!(bodies(&mut assembler, &long).map(|bodies| bodies.len()), Ok(1));
        assembler.set_max_len(1999);
        assert_eq!(bodies(&mut assembler, &long), Err(WireError::FrameTooLong { len: 2000, max: 1999 }));
    }

    #[test]
    fn damaged_and_empty_frames_are_refused() {
        let mut damaged = frame(&[1, 2, 3]);
        damaged[CONTROL_HEADER_BYTES + 1] ^= 1;
        let read = |bytes: &[u8]| bodies(&mut FrameAssembler::new(100), bytes);
        assert_eq!(read(&damaged), Err(WireError::BodyDamaged));
        assert_eq!(read(&frame(&[])), Err(WireError::FrameEmpty));
    }
}
