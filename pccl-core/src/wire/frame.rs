//! What travels on a data connection: a header of fixed size with a check of its own, then, if it is not a
//! grant, the payload and a trailer.

use crate::limits::{
    MAX_EAGER_FRAME_BYTES, MAX_PIECE_BYTES, MAX_SEGMENT_BYTES, MAX_STATE_NOTE_BYTES, STATE_BLOCK_BYTES,
};
use crate::types::{Epoch, OpKey, Tag};

/// A header on the wire.
pub const FRAME_HEADER_BYTES: usize = 48;
/// A trailer on the wire.
pub const TRAILER_BYTES: usize = 8;

/// The payload of pings, pongs and ends.
pub const PROBE_NOTE_BYTES: usize = 8;

const MAGIC: [u8; 2] = *b"Pf";
const CRC_AT: usize = FRAME_HEADER_BYTES - 4;
/// The two marks differ in every bit, so that no damage of less than all bits turns one into the other.
const MARK_SOUND: u32 = 0x3C5A_96F0;
const MARK_VOID: u32 = !MARK_SOUND;

const _: () = assert!(MAX_SEGMENT_BYTES <= MAX_PIECE_BYTES as usize);

/// What a frame is for; the values are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// The receiver of this may send all that has its place by nature in this operation, and its contributions to the
    /// first `piece` pieces of each chunk.
    OpGrant = 1,
    /// The receiver of this may send its contribution to one piece.
    PieceGrant = 2,
    /// A segment of a contribution, on its way up the reduction tree.
    Reduce = 3,
    /// A segment of a finished piece, on its way down the broadcast tree.
    Broadcast = 4,
    /// A whole contribution to a small operation, sent without a grant.
    Eager = 5,
    /// What the sender of this wants of the receiver's shared state: a list of `StateAsk`.
    StateAsk = 6,
    /// Digests that were asked for, from the one with index `chunk` on.
    StateDigests = 7,
    /// A segment of a block of a tensor that was asked for.
    StateBlock = 8,
    /// A measurement of the link; its payload means nothing. The key has the number of the round as its epoch.
    Probe = 9,
}

/// What a `Probe` frame is for: the values of its `chunk`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ProbePart {
    /// To be answered with a `Pong` of the same `piece`.
    Ping = 0,
    Pong = 1,
    /// Bytes whose arrival is timed.
    Load = 2,
    /// No more load comes over this connection; its `piece` says over how many connections there came one of these.
    End = 3,
}

impl ProbePart {
    pub const ALL: [ProbePart; 4] = [ProbePart::Ping, ProbePart::Pong, ProbePart::Load, ProbePart::End];

    pub fn from_code(code: u32) -> Option<ProbePart> {
        ProbePart::ALL.into_iter().find(|part| *part as u32 == code)
    }
}

impl FrameKind {
    pub const ALL: [FrameKind; 9] = [
        FrameKind::OpGrant,
        FrameKind::PieceGrant,
        FrameKind::Reduce,
        FrameKind::Broadcast,
        FrameKind::Eager,
        FrameKind::StateAsk,
        FrameKind::StateDigests,
        FrameKind::StateBlock,
        FrameKind::Probe,
    ];

    pub fn from_code(code: u8) -> Option<FrameKind> {
        FrameKind::ALL.into_iter().find(|kind| *kind as u8 == code)
    }

    /// Grants are a header and nothing else.
    pub fn is_grant(self) -> bool {
        matches!(self, FrameKind::OpGrant | FrameKind::PieceGrant)
    }

    /// Of a shared state. The key then has the number of the synchronization as its epoch and the index of the tensor
    /// as its tag.
    pub fn is_state(self) -> bool {
        matches!(self, FrameKind::StateAsk | FrameKind::StateDigests | FrameKind::StateBlock)
    }
}

/// The first bytes of every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    pub kind: FrameKind,
    pub key: OpKey,
    /// The plan's digest: bytes land only where both ends mean the same by the key.
    pub digest: u32,
    /// Index into the plan's chunks; of a state's block within its tensor, or of the first digest; a `ProbePart`. 0 in an
    /// `OpGrant`, in an eager frame and in a `StateAsk`.
    pub chunk: u32,
    /// Index within the chunk. 0 in an eager frame and in those of a state; in an `OpGrant` a number of pieces.
    pub piece: u32,
    /// Bytes before the payload's place within the piece or block. 0 in a grant.
    pub offset: u32,
    /// Payload bytes: 0 in a grant, else 1 to `MAX_SEGMENT_BYTES` (eager: `MAX_EAGER_FRAME_BYTES`; a state's: `MAX_STATE_NOTE_BYTES`,
    /// but for blocks).
    pub len: u32,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("no data frame begins here")]
    BadMagic,
    #[error("the header of a data frame arrived damaged")]
    Damaged,
    #[error("data frame of unknown kind {code}")]
    UnknownKind { code: u8 },
    #[error("reserved byte of a data frame is {value}, not 0")]
    Reserved { value: u8 },
    #[error("data frame with a payload of {len} bytes, more than {MAX_SEGMENT_BYTES}")]
    PayloadTooLong { len: u32 },
    #[error("grant with a payload of {len} bytes")]
    GrantWithPayload { len: u32 },
    #[error("data frame without payload")]
    NoPayload,
    #[error("eager frame with a place (chunk {chunk}, piece {piece}, offset {offset})")]
    EagerWithPlace { chunk: u32, piece: u32, offset: u32 },
    #[error("eager frame with a payload of {len} bytes, more than {MAX_EAGER_FRAME_BYTES}")]
    EagerTooLong { len: u32 },
    #[error("data frame ends {end} bytes into its piece, which has {MAX_PIECE_BYTES} at most")]
    BeyondPiece { end: u64 },
    #[error(
        "frame of a shared state with a place it cannot have (digest {digest}, chunk {chunk}, piece {piece}, offset {offset})"
    )]
    StateWithPlace { digest: u32, chunk: u32, piece: u32, offset: u32 },
    #[error("frame of a shared state with a payload of {len} bytes: {what}")]
    StateLength { len: u32, what: &'static str },
    #[error(
        "frame of a measurement with a place (digest {digest}, chunk {chunk}, offset {offset}), or longer than a note"
    )]
    BadProbe { digest: u32, chunk: u32, offset: u32 },
    #[error("an ask for a shared state that means nothing: {what}")]
    BadAsk { what: &'static str },
    #[error("void mark of a data frame is {value:#010x}")]
    MangledMark { value: u32 },
}

impl FrameHeader {
    pub fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut out = [0; FRAME_HEADER_BYTES];
        out[0..2].copy_from_slice(&MAGIC);
        out[2] = self.kind as u8;
        out[4..12].copy_from_slice(&self.key.epoch.0.to_le_bytes());
        out[12..20].copy_from_slice(&self.key.tag.0.to_le_bytes());
        let words = [self.key.seq, self.digest, self.chunk, self.piece, self.offset, self.len];
        for (place, word) in out[20..CRC_AT].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let crc = crc32fast::hash(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header in these bytes. `BadMagic` and `Damaged` may be the network's doing, the other errors are the
    /// sender's.
    pub fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<FrameHeader, FrameError> {
        if bytes[0..2] != MAGIC {
            return Err(FrameError::BadMagic);
        }
        if crc32fast::hash(&bytes[..CRC_AT]) != word(bytes, CRC_AT) {
            return Err(FrameError::Damaged);
        }
        let kind = FrameKind::from_code(bytes[2]).ok_or(FrameError::UnknownKind { code: bytes[2] })?;
        if bytes[3] != 0 {
            return Err(FrameError::Reserved { value: bytes[3] });
        }
        let key = OpKey {
            epoch: Epoch(double_word(bytes, 4)),
            tag: Tag(double_word(bytes, 12)),
            seq: word(bytes, 20),
        };
        let header = FrameHeader {
            kind,
            key,
            digest: word(bytes, 24),
            chunk: word(bytes, 28),
            piece: word(bytes, 32),
            offset: word(bytes, 36),
            len: word(bytes, 40),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), FrameError> {
        let len = self.len;
        if self.kind.is_grant() {
            return if len == 0 { Ok(()) } else { Err(FrameError::GrantWithPayload { len }) };
        }
        if len == 0 {
            return Err(FrameError::NoPayload);
        }
        if len as usize > MAX_SEGMENT_BYTES {
            return Err(FrameError::PayloadTooLong { len });
        }
        match self.kind {
            FrameKind::Eager => return self.check_eager(),
            kind if kind.is_state() => return self.check_state(),
            FrameKind::Probe => return self.check_probe(),
            _ => {}
        }
        let end = u64::from(self.offset) + u64::from(len);
        if end > u64::from(MAX_PIECE_BYTES) {
            return Err(FrameError::BeyondPiece { end });
        }
        Ok(())
    }

    fn check_state(&self) -> Result<(), FrameError> {
        let FrameHeader { kind, key, digest, chunk, piece, offset, len } = *self;
        let block = kind == FrameKind::StateBlock;
        let placed = digest == 0 && key.seq == 0 && piece == 0 && (block || offset == 0);
        if !placed || kind == FrameKind::StateAsk && chunk != 0 {
            return Err(FrameError::StateWithPlace { digest, chunk, piece, offset });
        }
        let wrong = |what| Err(FrameError::StateLength { len, what });
        if block {
            let end = u64::from(offset) + u64::from(len);
            return if end > STATE_BLOCK_BYTES as u64 { wrong("more than a block") } else { Ok(()) };
        }
        if len as usize > MAX_STATE_NOTE_BYTES {
            return wrong("too long");
        }
        if len.is_multiple_of(16) { Ok(()) } else { wrong("no multiple of 16") }
    }

    fn check_probe(&self) -> Result<(), FrameError> {
        let FrameHeader { key, digest, chunk, offset, len, .. } = *self;
        let placed = digest == 0 && offset == 0 && key.seq == 0 && key.tag == Tag(0);
        let fits = match ProbePart::from_code(chunk) {
            Some(ProbePart::Load) => true,
            Some(_) => len as usize <= PROBE_NOTE_BYTES,
            None => false,
        };
        if placed && fits { Ok(()) } else { Err(FrameError::BadProbe { digest, chunk, offset }) }
    }

    fn check_eager(&self) -> Result<(), FrameError> {
        let FrameHeader { chunk, piece, offset, len, .. } = *self;
        if (chunk, piece, offset) != (0, 0, 0) {
            return Err(FrameError::EagerWithPlace { chunk, piece, offset });
        }
        if len as usize > MAX_EAGER_FRAME_BYTES {
            return Err(FrameError::EagerTooLong { len });
        }
        Ok(())
    }
}

/// What follows a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Of the payload; means nothing if `void`.
    pub crc32: u32,
    /// The sender gave up under way: the payload is filler from somewhere on and must not be used.
    pub void: bool,
}

impl Trailer {
    pub fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mark = if self.void { MARK_VOID } else { MARK_SOUND };
        let mut out = [0; TRAILER_BYTES];
        out[0..4].copy_from_slice(&self.crc32.to_le_bytes());
        out[4..8].copy_from_slice(&mark.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8; TRAILER_BYTES]) -> Result<Trailer, FrameError> {
        let crc32 = word(bytes, 0);
        match word(bytes, 4) {
            MARK_SOUND => Ok(Trailer { crc32, void: false }),
            MARK_VOID => Ok(Trailer { crc32, void: true }),
            value => Err(FrameError::MangledMark { value }),
        }
    }
}

fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn double_word<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_header() -> impl Strategy<Value = FrameHeader> {
        let key = (any::<u64>(), any::<u64>(), any::<u32>());
        let place =
            (any::<u32>(), any::<u32>(), any::<u32>(), 0..=MAX_PIECE_BYTES, 1..=MAX_SEGMENT_BYTES as u32);
        (0..8usize, key, place).prop_map(|(kind, (epoch, tag, seq), (digest, chunk, piece, offset, len))| {
            let kind = FrameKind::ALL[kind];
            let eager_len = len.min(MAX_EAGER_FRAME_BYTES as u32);
            let note_len = len.next_multiple_of(16).min(MAX_STATE_NOTE_BYTES as u32);
            let (seq, digest) = if kind.is_state() { (0, 0) } else { (seq, digest) };
            let (chunk, piece, offset, len) = match kind {
                FrameKind::OpGrant | FrameKind::PieceGrant => (chunk, piece, 0, 0),
                FrameKind::Eager => (0, 0, 0, eager_len),
                FrameKind::StateAsk => (0, 0, 0, note_len),
                FrameKind::StateDigests => (chunk, 0, 0, note_len),
                FrameKind::StateBlock => {
                    let len = len.min(STATE_BLOCK_BYTES as u32);
                    (chunk, 0, offset.min(STATE_BLOCK_BYTES as u32 - len), len)
                }
                _ => (chunk, piece, offset.min(MAX_PIECE_BYTES - len), len),
            };
            let key = OpKey { epoch: Epoch(epoch), tag: Tag(tag), seq };
            FrameHeader { kind, key, digest, chunk, piece, offset, len }
        })
    }

    fn sample(kind: FrameKind, offset: u32, len: u32) -> FrameHeader {
        let key = OpKey { epoch: Epoch(7), tag: Tag(9), seq: 2 };
        FrameHeader { kind, key, digest: 0xD1, chunk: 3, piece: 4, offset, len }
    }

    fn of_state(kind: FrameKind, chunk: u32, offset: u32, len: u32) -> FrameHeader {
        let key = OpKey { epoch: Epoch(7), tag: Tag(9), seq: 0 };
        FrameHeader { kind, key, digest: 0, chunk, piece: 0, offset, len }
    }

    proptest! {
        #[test]
        fn a_header_survives_the_wire(header in any_header()) {
            prop_assert_eq!(FrameHeader::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn every_flipped_bit_of_a_header_is_noticed(header in any_header()) {
            let sound = header.encode();
            for bit in 0..FRAME_HEADER_BYTES * 8 {
                let mut bytes = sound;
                bytes[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(FrameHeader::decode(&bytes).is_err(), "bit {}", bit);
            }
        }

        #[test]
        fn random_bytes_are_no_header(bytes in any::<[u8; FRAME_HEADER_BYTES]>()) {
            prop_assert!(FrameHeader::decode(&bytes).is_err());
        }

        #[test]
        fn a_trailer_survives_the_wire(crc32: u32, void: bool) {
            let trailer = Trailer { crc32, void };
            prop_assert_eq!(Trailer::decode(&trailer.encode()), Ok(trailer));
        }
    }

    #[test]
    fn a_damaged_mark_is_neither_void_nor_sound() {
        for void in [false, true] {
            for bit in 32..TRAILER_BYTES * 8 {
                let mut bytes = Trailer { crc32: 1, void }.encode();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(matches!(Trailer::decode(&bytes), Err(FrameError::MangledMark { .. })), "bit {bit}");
            }
        }
    }

    #[test]
    fn lengths_that_no_sound_sender_writes_are_refused() {
        let long = MAX_SEGMENT_BYTES as u32 + 1;
        let cases = [
            (sample(FrameKind::OpGrant, 0, 8), FrameError::GrantWithPayload { len: 8 }),
            (sample(FrameKind::PieceGrant, 0, 1), FrameError::GrantWithPayload { len: 1 }),
            (sample(FrameKind::Reduce, 0, 0), FrameError::NoPayload),
            (sample(FrameKind::Broadcast, 0, long), FrameError::PayloadTooLong { len: long }),
            (sample(FrameKind::Eager, 0, 8), FrameError::EagerWithPlace { chunk: 3, piece: 4, offset: 0 }),
            (
                FrameHeader { chunk: 0, piece: 0, ..sample(FrameKind::Eager, 0, MAX_SEGMENT_BYTES as u32) },
                FrameError::EagerTooLong { len: MAX_SEGMENT_BYTES as u32 },
            ),
            (
                sample(FrameKind::StateBlock, 0, 8),
                FrameError::StateWithPlace { digest: 0xD1, chunk: 3, piece: 4, offset: 0 },
            ),
            (
                of_state(FrameKind::StateAsk, 1, 0, 16),
                FrameError::StateWithPlace { digest: 0, chunk: 1, piece: 0, offset: 0 },
            ),
            (
                of_state(FrameKind::StateDigests, 1, 8, 16),
                FrameError::StateWithPlace { digest: 0, chunk: 1, piece: 0, offset: 8 },
            ),
            (
                of_state(FrameKind::StateDigests, 1, 0, 24),
                FrameError::StateLength { len: 24, what: "no multiple of 16" },
            ),
            (
                of_state(FrameKind::StateAsk, 0, 0, MAX_STATE_NOTE_BYTES as u32 + 16),
                FrameError::StateLength { len: MAX_STATE_NOTE_BYTES as u32 + 16, what: "too long" },
            ),
            (
                of_state(FrameKind::StateBlock, 5, STATE_BLOCK_BYTES as u32, 8),
                FrameError::StateLength { len: 8, what: "more than a block" },
            ),
            (
                sample(FrameKind::Reduce, u32::MAX, 8),
                FrameError::BeyondPiece { end: u64::from(u32::MAX) + 8 },
            ),
        ];
        for (header, error) in cases {
            assert_eq!(FrameHeader::decode(&header.encode()), Err(error));
        }
    }

    #[test]
    fn unknown_kinds_and_reserved_bytes_are_refused_by_name() {
        for (at, value, error) in
            [(2, 10, FrameError::UnknownKind { code: 10 }), (3, 1, FrameError::Reserved { value: 1 })]
        {
            let mut bytes = sample(FrameKind::Reduce, 0, 8).encode();
            bytes[at] = value;
            let crc = crc32fast::hash(&bytes[..CRC_AT]);
            bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(FrameHeader::decode(&bytes), Err(error));
        }
    }
}
