//! The first bytes of every connection: the dialler says who it is and what the connection is for, the other
//! end answers. Magic and version come first and stay there in every later version, so that two versions can
//! always tell each other apart in words.

use std::fmt;

use super::message::LinkToken;
use crate::types::PeerId;

/// Both ends must speak the same.
pub const PROTOCOL_VERSION: u16 = 1;
/// A hello on the wire.
pub const HELLO_BYTES: usize = 64;
/// A hello's answer on the wire.
pub const HELLO_ANSWER_BYTES: usize = 12;
/// As much of a hello, or of its answer, as is the same in every version.
pub const HELLO_PREFIX_BYTES: usize = 6;

const MAGIC: [u8; 4] = *b"PccH";
const ANSWER_MAGIC: [u8; 4] = *b"PccA";
const CRC_AT: usize = HELLO_BYTES - 4;
const ANSWER_CRC_AT: usize = HELLO_ANSWER_BYTES - 4;
const KIND_CONTROL: u8 = 1;
const KIND_DATA: u8 = 2;

/// What the dialler says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hello {
    /// A peer that wants to speak with the master.
    Control,
    /// A data link between two peers of a run, of the generation the dialler was told to make.
    Data { from: PeerId, to: PeerId, token: LinkToken, generation: u32 },
}

/// What the dialled end makes of a hello; the values are those of the wire. All but `Ok` end the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum HelloStatus {
    Ok = 0,
    WrongVersion = 1,
    WrongKind = 2,
    UnknownPeer = 3,
    WrongPeer = 4,
    Busy = 5,
}

impl HelloStatus {
    pub const ALL: [HelloStatus; 6] = [
        HelloStatus::Ok,
        HelloStatus::WrongVersion,
        HelloStatus::WrongKind,
        HelloStatus::UnknownPeer,
        HelloStatus::WrongPeer,
        HelloStatus::Busy,
    ];

    pub fn from_code(code: u8) -> Option<HelloStatus> {
        HelloStatus::ALL.get(usize::from(code)).copied()
    }
}

impl fmt::Display for HelloStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HelloStatus::Ok => "welcome",
            HelloStatus::WrongVersion => "it speaks another protocol version",
            HelloStatus::WrongKind => {
                "it takes no connections of this kind (masters take control links, peers take data links)"
            }
            HelloStatus::UnknownPeer => "it does not know this peer, or not as part of its run",
            HelloStatus::WrongPeer => "another peer than the one called answers at this address",
            HelloStatus::Busy => "it has too many connections; try again later",
        })
    }
}

/// The dialled end's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloAnswer {
    pub status: HelloStatus,
}

/// Why bytes are no hello, or no answer to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    #[error("whoever is at the other end does not speak the pccl protocol")]
    BadMagic,
    #[error(
        "the other end speaks version {theirs} of the protocol and this one {PROTOCOL_VERSION}: all must run the same"
    )]
    WrongVersion { theirs: u16 },
    #[error("the hello arrived damaged")]
    Damaged,
    #[error("hello with unknown {field} {value}")]
    UnknownNumber { field: &'static str, value: u8 },
    #[error("hello with something in its reserved bytes")]
    Reserved,
}

impl Hello {
    pub fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut out = [0; HELLO_BYTES];
        out[0..4].copy_from_slice(&MAGIC);
        out[4..6].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
        match self {
            Hello::Control => out[6] = KIND_CONTROL,
            Hello::Data { from, to, token, generation } => {
                out[6] = KIND_DATA;
                out[8..24].copy_from_slice(&from.0);
                out[24..40].copy_from_slice(&to.0);
                out[40..56].copy_from_slice(&token.0.to_le_bytes());
                out[56..CRC_AT].copy_from_slice(&generation.to_le_bytes());
            }
        }
        seal(&mut out, CRC_AT);
        out
    }

    /// Judges the first bytes alone, so that strangers and other versions are seen off before, and even if,
    /// the rest never comes.
    pub fn check_prefix(prefix: &[u8; HELLO_PREFIX_BYTES]) -> Result<(), HelloError> {
        check_prefix(prefix, MAGIC)
    }

    pub fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Hello, HelloError> {
        check_prefix(bytes, MAGIC)?;
        check_seal(bytes, CRC_AT)?;
        let (hello, unused) = match bytes[6] {
            KIND_CONTROL => (Hello::Control, 7..CRC_AT),
            KIND_DATA => {
                let (from, to) = (PeerId(array_at(bytes, 8)), PeerId(array_at(bytes, 24)));
                let token = LinkToken(u128::from_le_bytes(array_at(bytes, 40)));
                let generation = u32::from_le_bytes(array_at(bytes, 56));
                (Hello::Data { from, to, token, generation }, 7..8)
            }
            value => return Err(HelloError::UnknownNumber { field: "kind", value }),
        };
        if bytes[unused].iter().any(|&byte| byte != 0) {
            return Err(HelloError::Reserved);
        }
        Ok(hello)
    }
}

impl HelloAnswer {
    pub fn encode(&self) -> [u8; HELLO_ANSWER_BYTES] {
        let mut out = [0; HELLO_ANSWER_BYTES];
        out[0..4].copy_from_slice(&ANSWER_MAGIC);
        out[4..6].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
        out[6] = self.status as u8;
        seal(&mut out, ANSWER_CRC_AT);
        out
    }

    /// As `Hello::check_prefix`, at the dialler.
    pub fn check_prefix(prefix: &[u8; HELLO_PREFIX_BYTES]) -> Result<(), HelloError> {
        check_prefix(prefix, ANSWER_MAGIC)
    }

    pub fn decode(bytes: &[u8; HELLO_ANSWER_BYTES]) -> Result<HelloAnswer, HelloError> {
        check_prefix(bytes, ANSWER_MAGIC)?;
        check_seal(bytes, ANSWER_CRC_AT)?;
        if bytes[7] != 0 {
            return Err(HelloError::Reserved);
        }
        let value = bytes[6];
        let status =
            HelloStatus::from_code(value).ok_or(HelloError::UnknownNumber { field: "status", value })?;
        Ok(HelloAnswer { status })
    }
}

fn check_prefix<const N: usize>(bytes: &[u8; N], magic: [u8; 4]) -> Result<(), HelloError> {
    if bytes[0..4] != magic {
        return Err(HelloError::BadMagic);
    }
    match u16::from_le_bytes([bytes[4], bytes[5]]) {
        PROTOCOL_VERSION => Ok(()),
        theirs => Err(HelloError::WrongVersion { theirs }),
    }
}

fn seal(out: &mut [u8], crc_at: usize) {
    let crc = crc32fast::hash(&out[..crc_at]);
    out[crc_at..].copy_from_slice(&crc.to_le_bytes());
}

fn check_seal(bytes: &[u8], crc_at: usize) -> Result<(), HelloError> {
    let crc = crc32fast::hash(&bytes[..crc_at]);
    if bytes[crc_at..] == crc.to_le_bytes() { Ok(()) } else { Err(HelloError::Damaged) }
}

fn array_at<const N: usize>(bytes: &[u8; HELLO_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(from: [u8; 16], to: [u8; 16], token: u128, generation: u32) -> Hello {
        Hello::Data { from: PeerId(from), to: PeerId(to), token: LinkToken(token), generation }
    }

    /// A sound hello or answer with one byte changed by its sender, not by the network.
    fn resealed<const N: usize>(mut bytes: [u8; N], at: usize, value: u8) -> [u8; N] {
        bytes[at] = value;
        seal(&mut bytes, N - 4);
        bytes
    }

    proptest! {
        #[test]
        fn a_hello_survives_the_wire(from: [u8; 16], to: [u8; 16], token: u128, generation: u32) {
            let hello = data(from, to, token, generation);
            prop_assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
        }

        #[test]
        fn every_flipped_bit_of_a_hello_is_noticed(from: [u8; 16], to: [u8; 16], token: u128, generation: u32) {
            for sound in [data(from, to, token, generation), Hello::Control].map(|hello| hello.encode()) {
                for bit in 0..HELLO_BYTES * 8 {
                    let mut bytes = sound;
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    prop_assert!(Hello::decode(&bytes).is_err(), "bit {}", bit);
                }
            }
        }

        #[test]
        fn another_version_is_named_whatever_follows(version: u16, rest: [u8; 32], more: [u8; 26]) {
            prop_assume!(version != PROTOCOL_VERSION);
            let mut bytes = [0; HELLO_BYTES];
            bytes[0..4].copy_from_slice(&MAGIC);
            bytes[4..6].copy_from_slice(&version.to_le_bytes());
            bytes[6..38].copy_from_slice(&rest);
            bytes[38..].copy_from_slice(&more);
            prop_assert_eq!(Hello::decode(&bytes), Err(HelloError::WrongVersion { theirs: version }));
        }
    }

    #[test]
    fn every_answer_survives_the_wire_and_every_flipped_bit_is_noticed() {
        for status in HelloStatus::ALL {
            let sound = HelloAnswer { status }.encode();
            assert_eq!(HelloAnswer::decode(&sound), Ok(HelloAnswer { status }));
            for bit in 0..HELLO_ANSWER_BYTES * 8 {
                let mut bytes = sound;
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(HelloAnswer::decode(&bytes).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_control_hello_survives_the_wire() {
        assert_eq!(Hello::decode(&Hello::Control.encode()), Ok(Hello::Control));
    }

    #[test]
    fn strangers_are_seen_off_by_their_first_bytes() {
        assert_eq!(Hello::check_prefix(b"GET / "), Err(HelloError::BadMagic));
        assert_eq!(Hello::check_prefix(b"PccH\x02\x00"), Err(HelloError::WrongVersion { theirs: 2 }));
        assert_eq!(Hello::check_prefix(b"PccH\x01\x00"), Ok(()));
        assert_eq!(HelloAnswer::check_prefix(b"PccH\x01\x00"), Err(HelloError::BadMagic));
        assert_eq!(HelloAnswer::check_prefix(b"PccA\x07\x00"), Err(HelloError::WrongVersion { theirs: 7 }));
    }

    #[test]
    fn unknown_numbers_and_reserved_bytes_are_refused() {
        let hello = data([1; 16], [2; 16], 3, 4).encode();
        let unknown = HelloError::UnknownNumber { field: "kind", value: 3 };
        assert_eq!(Hello::decode(&resealed(hello, 6, 3)), Err(unknown));
        assert_eq!(Hello::decode(&resealed(hello, 7, 1)), Err(HelloError::Reserved));
        assert_eq!(Hello::decode(&resealed(Hello::Control.encode(), 8, 1)), Err(HelloError::Reserved));
        let answer = HelloAnswer { status: HelloStatus::Ok }.encode();
        let unknown = HelloError::UnknownNumber { field: "status", value: 6 };
        assert_eq!(HelloAnswer::decode(&resealed(answer, 6, 6)), Err(unknown));
        assert_eq!(HelloAnswer::decode(&resealed(answer, 7, 1)), Err(HelloError::Reserved));
    }
}
