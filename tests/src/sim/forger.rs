//! A source of shared state that means no good: what its node sends is changed on its way out, with sound check sums.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use pccl_core::limits::STATE_SILENCE_MS;
use pccl_core::wire::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, TRAILER_BYTES, Trailer};

use super::queue::Us;

/// What a hostile source does in a synchronization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    AnswersNothing,
    SendsNoDigests,
    LiesInTheList,
    LiesInDigestsOfBlocks,
    SendsOtherBlocks,
    GivesBlocksUp,
    /// Each answer comes so late that others are asked meanwhile.
    AnswersLate,
    /// Answers come one by one, each just before its source would count as silent.
    Trickles,
}

impl Mischief {
    pub const COUNT: usize = 8;

    pub const ALL: [Mischief; Mischief::COUNT] = [
        Mischief::AnswersNothing,
        Mischief::SendsNoDigests,
        Mischief::LiesInTheList,
        Mischief::LiesInDigestsOfBlocks,
        Mischief::SendsOtherBlocks,
        Mischief::GivesBlocksUp,
        Mischief::AnswersLate,
        Mischief::Trickles,
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
            (Mischief::AnswersLate | Mischief::Trickles, FrameKind::StateDigests | FrameKind::StateBlock) => {
                Act::SetAside
            }
            _ => Act::Pass,
        }
    }
}

impl fmt::Display for Mischief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mischief::AnswersNothing => "answers nothing",
            Mischief::SendsNoDigests => "sends no digests",
            Mischief::LiesInTheList => "lies in the list",
            Mischief::LiesInDigestsOfBlocks => "lies in digests of blocks",
            Mischief::SendsOtherBlocks => "sends other blocks",
            Mischief::GivesBlocksUp => "gives blocks up",
            Mischief::AnswersLate => "answers late",
            Mischief::Trickles => "trickles",
        })
    }
}

/// Frames that were not what a node wrote, or not when it did, by the kind of mischief: in the order of `Mischief::ALL`.
pub type Forged = [u64; Mischief::COUNT];

/// How late one is that answers late: later than anybody is waited for at first.
const LATE_US: Us = 2_000_000;
/// How far apart the answers of one that trickles are.
const TRICKLE_US: Us = STATE_SILENCE_MS * 900;
/// How many of them in each call. What follows on their connections comes with the last of them: everybody has to make progress
/// in a bounded time once nothing goes wrong any more, and a call may have begun before.
const TRICKLED: u32 = 2;

/// What a process does now, and has done; its connections look there at each frame.
#[derive(Clone, Debug, Default)]
pub struct Mood(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    mischief: Cell<Option<Mischief>>,
    /// How many answers have trickled in this call.
    trickled: Cell<u32>,
    forged: RefCell<Forged>,
}

impl Mood {
    /// For a call that begins, or none after one.
    pub fn set(&self, mischief: Option<Mischief>) {
        self.0.mischief.set(mischief);
        self.0.trickled.set(0);
    }

    pub fn forged(&self) -> Forged {
        *self.0.forged.borrow()
    }

    fn count(&self, mischief: Mischief) {
        let at = Mischief::ALL.iter().position(|one| *one == mischief);
        at.into_iter().for_each(|at| self.0.forged.borrow_mut()[at] += 1);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Pass,
    Swallow,
    Lie,
    Void,
    /// It comes later, as it is. Others pass it.
    SetAside,
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
    /// Frames for later, and when each is due; the last of them may not be whole.
    aside: VecDeque<(Us, Vec<u8>)>,
    last_due: Us,
    /// The times of those that nobody has been told of.
    put_off: Vec<Us>,
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
            aside: VecDeque::new(),
            last_due: 0,
            put_off: Vec::new(),
        }
    }

    /// What becomes of these bytes now; gives the times at which those of them that were put off are due.
    pub fn pass(&mut self, bytes: &[u8], now: Us, out: &mut VecDeque<u8>) -> Vec<Us> {
        for byte in bytes {
            self.pass_byte(*byte, now, out);
            self.let_go(now, out);
        }
        std::mem::take(&mut self.put_off)
    }

    /// What is due goes out, unless a frame is under way.
    pub fn let_go(&mut self, now: Us, out: &mut VecDeque<u8>) {
        if !self.header.is_empty() || self.payload_left + self.trailer_left > 0 {
            return;
        }
        while let Some((_, frame)) = self.aside.pop_front_if(|(due, _)| *due <= now) {
            out.extend(frame);
        }
    }

    fn pass_byte(&mut self, byte: u8, now: Us, out: &mut VecDeque<u8>) {
        if self.payload_left > 0 {
            self.payload_left -= 1;
            let byte = if self.act == Act::Lie { byte ^ 0x11 } else { byte };
            self.crc.update(&[byte]);
            self.write(&[byte], out);
        } else if self.trailer_left > 0 {
            let at = TRAILER_BYTES - self.trailer_left;
            self.trailer_left -= 1;
            let crc32 = self.crc.clone().finalize();
            let forged = match self.act {
                Act::Pass | Act::Swallow | Act::SetAside => byte,
                // Its mark stays what it was.
                Act::Lie => crc32.to_le_bytes().get(at).copied().unwrap_or(byte),
                Act::Void => Trailer { crc32, void: true }.encode()[at],
            };
            self.write(&[forged], out);
        } else {
            self.pass_header(byte, now, out);
        }
    }

    fn write(&mut self, bytes: &[u8], out: &mut VecDeque<u8>) {
        match (self.act, self.aside.back_mut()) {
            (Act::Swallow, _) => {}
            (Act::SetAside, Some((_, frame))) => frame.extend(bytes),
            _ => out.extend(bytes),
        }
    }

    fn pass_header(&mut self, byte: u8, now: Us, out: &mut VecDeque<u8>) {
        if self.header.is_empty() {
            self.mischief = self.mood.0.mischief.get();
        }
        self.header.push(byte);
        if self.mischief.is_none() {
            out.push_back(byte);
        }
        let Some(whole) = self.header.first_chunk::<FRAME_HEADER_BYTES>() else { return };
        let header = FrameHeader::decode(whole).expect("nodes write sound headers");
        self.act = self.mischief.map_or(Act::Pass, |mischief| mischief.act(&header));
        if let Some(mischief) = self.mischief {
            if self.act != Act::Pass {
                self.mood.count(mischief);
            }
            if self.act == Act::SetAside {
                self.last_due = self.due(mischief, &header, now);
                self.aside.push_back((self.last_due, Vec::new()));
                self.put_off.push(self.last_due);
            }
            let bytes = std::mem::take(&mut self.header);
            self.write(&bytes, out);
        }
        self.payload_left = header.len as usize;
        self.trailer_left = if header.kind.is_grant() { 0 } else { TRAILER_BYTES };
        self.crc = crc32fast::Hasher::new();
        self.header.clear();
    }

    /// When this frame goes out: not before those that went before it, as they may be of one block.
    fn due(&mut self, mischief: Mischief, header: &FrameHeader, now: Us) -> Us {
        if mischief == Mischief::AnswersLate {
            return self.last_due.max(now + LATE_US);
        }
        let trickled = &self.mood.0.trickled;
        let begins = header.kind == FrameKind::StateDigests || header.offset == 0;
        if !begins || trickled.get() == TRICKLED {
            return self.last_due.max(now);
        }
        trickled.set(trickled.get() + 1);
        self.last_due.max(now) + TRICKLE_US
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
        let mood = Mood::default();
        mood.set(mischief);
        let mut forger = Forger::new(mood);
        let mut out = VecDeque::new();
        frame(kind, tag).chunks(7).for_each(|bite| assert_eq!(forger.pass(bite, 0, &mut out), []));
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
    /// The kinds of what has come, in their order.
    fn kinds(out: &mut VecDeque<u8>) -> Vec<FrameKind> {
        let out: Vec<u8> = out.drain(..).collect();
        let frames = out.chunks(FRAME_HEADER_BYTES + 16 + TRAILER_BYTES);
        frames.map(|frame| FrameHeader::decode(frame.first_chunk().unwrap()).unwrap().kind).collect()
    }

    #[test]
    fn what_was_put_off_comes_in_its_order_between_two_frames_and_others_pass_it() {
        use FrameKind::{Reduce, StateBlock, StateDigests};
        let mood = Mood::default();
        mood.set(Some(Mischief::AnswersLate));
        let (mut forger, mut out) = (Forger::new(mood.clone()), VecDeque::new());
        assert_eq!(forger.pass(&frame(StateBlock, 1), 5, &mut out), [5 + LATE_US]);
        assert_eq!(forger.pass(&frame(StateDigests, 1), 6, &mut out), [6 + LATE_US]);
        assert_eq!(forger.pass(&frame(Reduce, 1), 7, &mut out), []);
        forger.let_go(4 + LATE_US, &mut out);
        assert_eq!(kinds(&mut out), [Reduce]);
        // Its call is over. What it sends now goes out at once.
        mood.set(None);
        let (begin, rest) = (&frame(Reduce, 1)[..70], &frame(Reduce, 1)[70..]);
        forger.pass(begin, 4 + LATE_US, &mut out);
        forger.let_go(6 + LATE_US, &mut out);
        forger.pass(rest, 6 + LATE_US, &mut out);
        assert_eq!(kinds(&mut out), [Reduce, StateBlock, StateDigests]);
        assert_eq!(mood.forged().iter().sum::<u64>(), 2);
    }

    #[test]
    fn answers_trickle_by_whole_blocks_and_only_at_first() {
        let mood = Mood::default();
        mood.set(Some(Mischief::Trickles));
        let (mut forger, mut out) = (Forger::new(mood), VecDeque::new());
        let mut rest = frame(FrameKind::StateBlock, 1);
        let mut header = FrameHeader::decode(rest.first_chunk().unwrap()).unwrap();
        header.offset = 16;
        rest[..FRAME_HEADER_BYTES].copy_from_slice(&header.encode());
        let begin = frame(FrameKind::StateBlock, 1);
        let dues: Vec<Us> = [&begin, &rest, &begin, &begin, &rest]
            .into_iter()
            .flat_map(|f| forger.pass(f, 0, &mut out))
            .collect();
        assert_eq!(dues, [1, 1, 2, 2, 2].map(|times| times * TRICKLE_US));
    }
}
