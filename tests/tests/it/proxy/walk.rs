//! Finds the frames in the bytes of a data connection.

use pccl_core::wire::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, TRAILER_BYTES};
use pccl_core::wire::hello::{HELLO_ANSWER_BYTES, HELLO_BYTES};

/// What bytes of a data connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Hello,
    Answer,
    Header(FrameKind),
    Payload(FrameKind),
    Trailer(FrameKind),
}

impl Part {
    /// How many bytes a part has that is only passed on whole.
    fn whole(self) -> Option<usize> {
        match self {
            Part::Hello => Some(HELLO_BYTES),
            Part::Answer => Some(HELLO_ANSWER_BYTES),
            Part::Header(_) => Some(FRAME_HEADER_BYTES),
            Part::Payload(_) | Part::Trailer(_) => None,
        }
    }
}

/// One direction of a connection, from its first byte on.
pub struct Walk {
    part: Part,
    /// Of a payload or a trailer.
    left: usize,
    after: usize,
}

impl Walk {
    pub fn from(part: Part) -> Walk {
        Walk { part, left: 0, after: 0 }
    }

    /// What the first of these bytes are, and how many of them. `None`: more must come first.
    pub fn next(&mut self, bytes: &[u8]) -> Option<(Part, usize)> {
        match self.part {
            Part::Hello | Part::Answer => {
                let len = self.part.whole().filter(|len| bytes.len() >= *len)?;
                let part = std::mem::replace(&mut self.part, Part::Header(FrameKind::OpGrant));
                Some((part, len))
            }
            Part::Header(_) => {
                let header = bytes.first_chunk::<FRAME_HEADER_BYTES>()?;
                let header = FrameHeader::decode(header).expect("peers of a test send sound frames");
                if header.len > 0 {
                    (self.part, self.left) = (Part::Payload(header.kind), header.len as usize);
                    self.after = TRAILER_BYTES;
                }
                Some((Part::Header(header.kind), FRAME_HEADER_BYTES))
            }
            Part::Payload(kind) | Part::Trailer(kind) => {
                let (part, len) = (self.part, self.left.min(bytes.len()));
                if len == 0 {
                    return None;
                }
                self.left -= len;
                if self.left == 0 && self.after > 0 {
                    (self.part, self.left) = (Part::Trailer(kind), std::mem::take(&mut self.after));
                } else if self.left == 0 {
                    self.part = Part::Header(kind);
                }
                Some((part, len))
            }
        }
    }
}
