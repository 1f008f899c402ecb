//! What a peer wants of another's shared state: the payload of a `StateAsk` frame is a list of these.

use super::frame::FrameError;

/// One ask on the wire.
pub const STATE_ASK_BYTES: usize = 16;
/// One digest on the wire.
pub const DIGEST_BYTES: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Wanted {
    /// Blocks of a tensor; each comes in a frame, or several, of its own.
    Blocks = 0,
    /// Digests of blocks of a tensor, in one frame.
    BlockDigests = 1,
    /// Digests of tensors, in one frame.
    TensorDigests = 2,
}

/// `count` of them, from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateAsk {
    pub wanted: Wanted,
    /// 0 where tensors themselves are counted.
    pub tensor: u32,
    pub first: u32,
    /// At least 1.
    pub count: u32,
}

impl StateAsk {
    pub fn encode(&self) -> [u8; STATE_ASK_BYTES] {
        let mut out = [0; STATE_ASK_BYTES];
        let words = [self.wanted as u32, self.tensor, self.first, self.count];
        for (place, word) in out.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    pub fn decode(bytes: &[u8; STATE_ASK_BYTES]) -> Result<StateAsk, FrameError> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let wanted = match word(0) {
            0 => Wanted::Blocks,
            1 => Wanted::BlockDigests,
            2 => Wanted::TensorDigests,
            _ => return Err(FrameError::BadAsk { what: "for what is unknown" }),
        };
        let ask = StateAsk { wanted, tensor: word(4), first: word(8), count: word(12) };
        if ask.count == 0 || ask.first.checked_add(ask.count).is_none() {
            return Err(FrameError::BadAsk { what: "the count is 0, or leads beyond all indices" });
        }
        if wanted == Wanted::TensorDigests && ask.tensor != 0 {
            return Err(FrameError::BadAsk { what: "for tensors, and for one in particular" });
        }
        Ok(ask)
    }

    /// All asks of a payload. Frames have whole ones only.
    pub fn decode_list(payload: &[u8]) -> Result<Vec<StateAsk>, FrameError> {
        let (asks, rest) = payload.as_chunks::<STATE_ASK_BYTES>();
        if !rest.is_empty() {
            return Err(FrameError::BadAsk { what: "cut off" });
        }
        asks.iter().map(StateAsk::decode).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_ask_survives_the_wire(kind in 0..3usize, tensor: u32, first in 0..u32::MAX, count in 1..=u32::MAX) {
            let wanted = [Wanted::Blocks, Wanted::BlockDigests, Wanted::TensorDigests][kind];
            let tensor = if kind == 2 { 0 } else { tensor };
            let ask = StateAsk { wanted, tensor, first, count: count.min(u32::MAX - first) };
            prop_assert_eq!(StateAsk::decode_list(&[ask.encode(), ask.encode()].concat()), Ok(vec![ask, ask]));
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let sound = StateAsk { wanted: Wanted::TensorDigests, tensor: 0, first: 3, count: 1 };
        for (at, value) in [(0, 3), (4, 1), (8, u32::MAX), (12, 0)] {
            let mut bytes = sound.encode();
            bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
            assert!(matches!(StateAsk::decode(&bytes), Err(FrameError::BadAsk { .. })), "{at}");
        }
        assert!(StateAsk::decode_list(&[0; 17]).is_err());
    }
}
