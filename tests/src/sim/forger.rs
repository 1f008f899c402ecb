//! A source of shared state that means no good: what its node sends is changed on its way out, with sound check sums.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use pccl_core::wire::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, TRAILER_BYTES, Trailer};

/// What a hostile source does in a synchronization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    AnswersNothing,
    SendsNoDigests,
    LiesInTheList,
    LiesInDigestsOfBlocks,
    SendsOtherBlocks,
    GivesBlocksUp,
}

impl Mischief {
    pub const ALL: [Mischief; 6] = [
        Mischief::AnswersNothing,
        Mischief::SendsNoDigests,
        Mischief::LiesInTheList,
        Mischief::LiesInDigestsOfBlocks,
        Mischief::SendsOtherBlocks,
        Mischief::GivesBlocksUp,
    ];

    fn act(self, header: &FrameHeader) -> Act {
        let is_list = header.key.tag.0 == u64::MAX;
        match (self, header.kind) {
            (Mischief::AnswersNothing, FrameKind::StateDigests | FrameKind::StateBlock) => Act::Swallow,
            (Mischief::SendsNoDigests, FrameKind::StateDigests) => Act::Swallow,
            (Mischief::LiesInTheList, FrameKind::StateDigests) if is_list => Act::Lie,
            (Mischief::LiesInDigestsOfBlocks, FrameKind::StateDigests) if !is_list => Act::Lie,
            (Mischief::SendsOtherBlocks, FrameKind::StateBlock) => Act::Lie,
            (Mischief::GivesBlocksUp, FrameKind::StateBlock) => Act::Void,
            _ => Act::Pass,
        }
    }
}

/// What a process does now; its connections look there at each frame.
pub type Mood = Rc<Cell<Option<Mischief>>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Pass,
    Swallow,
    Lie,
    Void,
}

/// One direction of a connection.
#[derive(Debug)]
pub struct Forger {
    mood: Mood,
    /// As far as it has come, and what is to be done with its frame if that is no secret by then.
    header: Vec<u8>,
    mischief: Option<Mischief>,
    act: Act,
    payload_left: usize,
    trailer_left: usize,
    crc: crc32fast::Hasher,
}

impl Forger {
    pub fn new(mood: Mood) -> Forger {
        Forger {
            mood,
            header: Vec::new(),
            mischief: None,
            act: Act::Pass,
            payload_left: 0,
            trailer_left: 0,
            crc: crc32fast::Hasher::new(),
        }
    }

    /// What becomes of these bytes.
    pub fn pass(&mut self, bytes: &[u8], out: &mut VecDeque<u8>) {
        bytes.iter().for_each(|byte| self.pass_byte(*byte, out));
    }

    fn pass_byte(&mut self, byte: u8, out: &mut VecDeque<u8>) {
        if self.payload_left > 0 {
            self.payload_left -= 1;
            let byte = if self.act == Act::Lie { byte ^ 0x11 } else { byte };
            self.crc.update(&[byte]);
            out.extend((self.act != Act::Swallow).then_some(byte));
        } else if self.trailer_left > 0 {
            let at = TRAILER_BYTES - self.trailer_left;
            self.trailer_left -= 1;
            let crc32 = self.crc.clone().finalize();
            let forged = match self.act {
                Act::Pass => Some(byte),
                Act::Swallow => None,
                // Its mark stays what it was.
                Act::Lie => Some(crc32.to_le_bytes().get(at).copied().unwrap_or(byte)),
                Act::Void => Some(Trailer { crc32, void: true }.encode()[at]),
            };
            out.extend(forged);
        } else {
            self.pass_header(byte, out);
        }
    }

    fn pass_header(&mut self, byte: u8, out: &mut VecDeque<u8>) {
        if self.header.is_empty() {
            self.mischief = self.mood.get();
        }
        self.header.push(byte);
        if self.mischief.is_none() {
            out.push_back(byte);
        }
        let Some(whole) = self.header.first_chunk::<FRAME_HEADER_BYTES>() else { return };
        let header = FrameHeader::decode(whole).expect("nodes write sound headers");
        self.act = self.mischief.map_or(Act::Pass, |mischief| mischief.act(&header));
        if self.mischief.is_some() && self.act != Act::Swallow {
            out.extend(&self.header);
        }
        self.payload_left = header.len as usize;
        self.trailer_left = if header.kind.is_grant() { 0 } else { TRAILER_BYTES };
        self.crc = crc32fast::Hasher::new();
        self.header.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pccl_core::types::{Epoch, OpKey, Tag};

    fn frame(kind: FrameKind, tag: u64) -> Vec<u8> {
        let key = OpKey { epoch: Epoch(3), tag: Tag(tag), seq: 0 };
        let header = FrameHeader { kind, key, digest: 0, chunk: 0, piece: 0, offset: 0, len: 16 };
        let trailer = Trailer { crc32: crc32fast::hash(&[5; 16]), void: false };
        [&header.encode()[..], &[5; 16], &trailer.encode()].concat()
    }

    /// What comes through of a frame, in bites of any size: its payload and trailer.
    fn forged(mischief: Option<Mischief>, kind: FrameKind, tag: u64) -> Option<(Vec<u8>, Trailer)> {
        let mut forger = Forger::new(Rc::new(Cell::new(mischief)));
        let mut out = VecDeque::new();
        frame(kind, tag).chunks(7).for_each(|bite| forger.pass(bite, &mut out));
        let out: Vec<u8> = out.into();
        let body = out.get(FRAME_HEADER_BYTES..)?;
        let (payload, trailer) = body.split_last_chunk::<TRAILER_BYTES>()?;
        Some((payload.to_vec(), Trailer::decode(trailer).unwrap()))
    }

    #[test]
    fn what_is_forged_has_a_sound_check_sum_and_the_rest_is_as_it_was() {
        use Mischief::*;
        let untouched = Some((vec![5; 16], Trailer { crc32: crc32fast::hash(&[5; 16]), void: false }));
        let lie =
            Some((vec![5 ^ 0x11; 16], Trailer { crc32: crc32fast::hash(&[5 ^ 0x11; 16]), void: false }));
        for (mischief, kind, tag, comes) in [
            (None, FrameKind::StateBlock, 1, &untouched),
            (Some(AnswersNothing), FrameKind::StateBlock, 1, &None),
            (Some(AnswersNothing), FrameKind::StateAsk, 0, &untouched),
            (Some(SendsNoDigests), FrameKind::StateDigests, 1, &None),
            (Some(SendsNoDigests), FrameKind::StateBlock, 1, &untouched),
            (Some(LiesInTheList), FrameKind::StateDigests, u64::MAX, &lie),
            (Some(LiesInTheList), FrameKind::StateDigests, 1, &untouched),
            (Some(LiesInDigestsOfBlocks), FrameKind::StateDigests, 1, &lie),
            (Some(SendsOtherBlocks), FrameKind::StateBlock, 1, &lie),
            (Some(SendsOtherBlocks), FrameKind::Reduce, 1, &untouched),
        ] {
            assert_eq!(forged(mischief, kind, tag), *comes, "{mischief:?} {kind:?} {tag}");
        }
        assert!(
            forged(Some(GivesBlocksUp), FrameKind::StateBlock, 1).is_some_and(|(_, trailer)| trailer.void)
        );
    }
}
