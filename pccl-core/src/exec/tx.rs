//! The sending half of a link: grants and segments, straight from user memory, and notes.

use std::io::IoSlice;

use crc32fast::Hasher;

use super::frames::Core;
use super::link::{Link, LinkIo};
use super::piece::Item;
use super::sync::{Note, OutgoingBlock};
use crate::limits::CHECKED_AT_ONCE_BYTES;
use crate::types::{LinkId, PeerId};
use crate::wire::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, TRAILER_BYTES, Trailer};

/// Grants that leave with one write.
const GRANTS_AT_ONCE: usize = 16;

/// Written again and again where more is needed.
static FILLER: [u8; 64 << 10] = [0; 64 << 10];

/// What is under way. Once a byte of it is out it stays on this link to its end.
#[derive(Debug)]
pub(super) enum Outgoing {
    Piece(OutgoingPiece),
    Block(OutgoingBlock),
    /// One frame.
    Note(Note),
    /// One frame of filler.
    Load(OutgoingLoad),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct OutgoingLoad {
    pub to: PeerId,
    pub header: FrameHeader,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct OutgoingPiece {
    /// Slot of the operation.
    pub op: usize,
    pub item: Item,
    /// Position within the payload, in bytes, and length.
    pub at: usize,
    pub len: usize,
    /// How much of it was sent in segments before the one under way.
    pub offset: usize,
    /// One frame, of a small operation.
    pub is_short: bool,
}

/// What a link may be given to send, beside what is under way on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freight {
    Any,
    /// Grants and whole contributions.
    Short,
    /// All else.
    Long,
}

/// What is between a segment's header and its trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    None,
    /// That much of the outgoing piece.
    Payload(usize),
    /// The piece was taken back under way.
    Filler(usize),
}

impl Body {
    fn len(self) -> usize {
        match self {
            Body::None => 0,
            Body::Payload(len) | Body::Filler(len) => len,
        }
    }
}

/// How much of the payload is summed. No more is given to the link: part by part, just before the system copies it, it comes
/// from memory once.
#[derive(Default)]
struct Checked {
    crc: Hasher,
    bytes: usize,
}

impl Checked {
    /// Takes up the next part once the link has most of what is. At the payload's end gives its sum.
    fn go_on(&mut self, payload: &[u8], taken: usize) -> Option<u32> {
        if self.bytes.saturating_sub(taken) <= CHECKED_AT_ONCE_BYTES / 2 {
            let end = payload.len().min(self.bytes + CHECKED_AT_ONCE_BYTES);
            self.crc.update(&payload[self.bytes..end]);
            self.bytes = end;
        }
        (self.bytes == payload.len()).then(|| self.crc.clone().finalize())
    }
}

pub(super) struct Tx {
    /// Payload of one frame; of effect from the next one on.
    segment_bytes: usize,
    /// Headers: grants first, then that of the body.
    head: Vec<u8>,
    /// How much of `head` is grants.
    grants_bytes: usize,
    body: Body,
    trailer: [u8; TRAILER_BYTES],
    checked: Checked,
    /// Bytes of head, body and trailer that the link took.
    sent: usize,
    outgoing: Option<Outgoing>,
    /// What goes on when something short is through that went in between two of its frames.
    aside: Option<Outgoing>,
}

impl Tx {
    pub fn new(segment_bytes: usize) -> Tx {
        Tx {
            segment_bytes,
            head: Vec::with_capacity((GRANTS_AT_ONCE + 1) * FRAME_HEADER_BYTES),
            grants_bytes: 0,
            body: Body::None,
            trailer: [0; TRAILER_BYTES],
            checked: Checked::default(),
            sent: 0,
            outgoing: None,
            aside: None,
        }
    }

    /// For frames that are made from now on.
    pub fn set_segment_bytes(&mut self, segment_bytes: usize) {
        self.segment_bytes = segment_bytes;
    }

    fn total(&self) -> usize {
        let trailer = if self.body == Body::None { 0 } else { TRAILER_BYTES };
        self.head.len() + self.body.len() + trailer
    }

    pub fn under_way(&self) -> bool {
        self.sent < self.total()
    }

    /// Nothing is under way, and no piece goes on here.
    pub fn is_idle(&self) -> bool {
        self.outgoing.is_none() && self.aside.is_none() && !self.under_way()
    }

    /// Whether it sends something long.
    pub fn carries_long(&self) -> bool {
        self.aside.is_some() || self.outgoing.as_ref().is_some_and(Outgoing::is_long)
    }

    /// Whether grants or something short are under way.
    pub fn carries_short(&self) -> bool {
        let is_short = self.outgoing.as_ref().is_some_and(|out| !out.is_long());
        self.under_way() && (self.sent < self.grants_bytes || is_short)
    }

    /// Takes what is ready on another link of the same peer, as far as that one has not begun to send it: grants, and
    /// what is behind them. Only while this one is idle. False if there is nothing of that kind.
    pub fn take_over(&mut self, other: &mut Tx) -> bool {
        // A grant that was begun is ended where it was begun.
        let begun = other.sent.next_multiple_of(FRAME_HEADER_BYTES).min(other.grants_bytes);
        let whole =
            other.sent <= other.grants_bytes && other.outgoing.as_ref().is_some_and(Outgoing::is_fresh);
        if other.sent > other.grants_bytes || begun == other.grants_bytes && !whole {
            return false;
        }
        self.clear();
        self.head.extend(other.head.drain(begun..other.grants_bytes));
        self.grants_bytes = self.head.len();
        other.grants_bytes = begun;
        if whole {
            // Its frame is made anew: one of this link may hold less.
            other.head.truncate(begun);
            other.body = Body::None;
            self.outgoing = other.outgoing.take();
        }
        if !other.under_way() {
            other.clear();
        }
        true
    }

    /// Makes the next bytes ready, if there is anything to send: grants go first, then what is short, then the piece goes
    /// on, then a new piece is begun.
    pub fn stage(&mut self, freight: Freight, peer: usize, link: LinkId, core: &mut Core) -> bool {
        let takes_short = freight != Freight::Long;
        // A frame of something long that was not begun lets what is short go first.
        let is_long = self.outgoing.as_ref().is_some_and(Outgoing::is_long);
        let gives_way = self.sent == 0 && self.grants_bytes == 0 && is_long;
        if self.under_way() && !(takes_short && gives_way && core.cx.peers.has_short(peer)) {
            return true;
        }
        self.clear();
        for _ in 0..if takes_short { GRANTS_AT_ONCE } else { 0 } {
            let Some(grant) = core.cx.peers.take_grant(peer) else { break };
            self.head.extend_from_slice(&grant.encode());
            core.cx.counters.grants_sent += 1;
        }
        self.grants_bytes = self.head.len();
        self.outgoing = self.outgoing.take().or_else(|| self.aside.take());
        if takes_short && let Some(short) = core.next_short(peer) {
            debug_assert!(self.aside.is_none(), "what is short has one frame, and ended with it");
            self.aside = self.outgoing.replace(short);
        } else if self.outgoing.is_none() && freight != Freight::Short {
            self.outgoing = core.next_outgoing(peer, link);
        }
        let goes_on = |out: &&Outgoing| freight != Freight::Short || !out.is_long();
        if let Some(out) = self.outgoing.as_ref().filter(goes_on) {
            let (header, payload) = out.segment(self.segment_bytes, core);
            self.body = Body::Payload(payload.len());
            self.head.extend_from_slice(&header.encode());
            self.checked = Checked::default();
        }
        self.under_way()
    }

    /// One attempt to write what is staged.
    pub fn write<L: Link>(&mut self, io: &mut L, core: &mut Core) -> LinkIo {
        let (mut skip, mut whole) = (self.sent, true);
        let payload = match (self.body, &self.outgoing) {
            (Body::Payload(len), Some(out)) => {
                let payload = out.payload(len, core);
                let taken = self.sent.saturating_sub(self.head.len());
                if let Some(crc32) = self.checked.go_on(payload, taken) {
                    self.trailer = Trailer { crc32, void: false }.encode();
                }
                whole = self.checked.bytes == len;
                &payload[..self.checked.bytes]
            }
            (Body::Filler(len), _) => {
                let filled = self.sent.saturating_sub(self.head.len()).min(len);
                skip -= filled;
                whole = len - filled <= FILLER.len();
                &FILLER[..FILLER.len().min(len - filled)]
            }
            _ => &[],
        };
        let trailer: &[u8] = if self.body == Body::None || !whole { &[] } else { &self.trailer };
        let mut places = [IoSlice::new(&[]), IoSlice::new(&[]), IoSlice::new(&[])];
        let mut used = 0;
        for part in [&self.head[..], payload, trailer] {
            if skip < part.len() {
                places[used] = IoSlice::new(&part[skip..]);
                used += 1;
            }
            skip = skip.saturating_sub(part.len());
        }
        let moved = io.try_write(&places[..used]);
        if let LinkIo::Moved(bytes) = moved {
            self.sent += bytes;
        }
        moved
    }

    /// Books what was sent whole; true if that was the end of a piece.
    pub fn settle(&mut self, core: &mut Core) -> bool {
        if self.under_way() {
            return false;
        }
        if let (Body::Payload(len), Some(out)) = (self.body, &mut self.outgoing)
            && out.sent(len, core)
        {
            self.outgoing = None;
        }
        self.clear();
        self.outgoing.is_none()
    }

    fn clear(&mut self) {
        self.head.clear();
        self.grants_bytes = 0;
        self.body = Body::None;
        self.sent = 0;
    }

    /// The operation in this slot is over: its piece is given up. True if that makes a void frame.
    pub fn forget(&mut self, op: usize) -> bool {
        self.aside.take_if(|out| matches!(out, Outgoing::Piece(out) if out.op == op));
        matches!(&self.outgoing, Some(Outgoing::Piece(out)) if out.op == op) && self.give_up()
    }

    /// The synchronization is over: its block is given up. True if that makes a void frame. Asks and digests lie in
    /// memory of their own, and may go on.
    pub fn forget_sync(&mut self) -> bool {
        self.aside.take_if(|out| matches!(out, Outgoing::Block(_)));
        matches!(&self.outgoing, Some(Outgoing::Block(_))) && self.give_up()
    }

    /// A frame that was begun ends in filler, the rest is never sent.
    fn give_up(&mut self) -> bool {
        self.outgoing = None;
        let Body::Payload(len) = self.body else { return false };
        if self.sent <= self.grants_bytes {
            self.head.truncate(self.grants_bytes);
            self.body = Body::None;
            if !self.under_way() {
                self.clear();
            }
            return false;
        }
        self.body = Body::Filler(len);
        // Once all payload is out, the trailer's check sum is true, and part of it may be out as well.
        let void = self.sent < self.head.len() + len;
        if void {
            self.trailer = Trailer { crc32: 0, void: true }.encode();
        }
        void
    }
}

impl Outgoing {
    fn is_long(&self) -> bool {
        match self {
            Outgoing::Piece(out) => !out.is_short,
            Outgoing::Block(_) | Outgoing::Load(_) => true,
            Outgoing::Note(_) => false,
        }
    }

    /// Nothing of it was sent, and any link to the peer will do. Measurements are those of one link.
    fn is_fresh(&self) -> bool {
        match self {
            Outgoing::Piece(out) => out.offset == 0,
            Outgoing::Block(out) => out.offset == 0,
            Outgoing::Note(note) => note.header.kind != FrameKind::Probe,
            Outgoing::Load(_) => false,
        }
    }

    /// The next segment: its header and its payload.
    fn segment<'a>(&'a self, segment_bytes: usize, core: &'a Core) -> (FrameHeader, &'a [u8]) {
        match self {
            Outgoing::Piece(out) => {
                let op = core.ops.get(out.op);
                let len = (out.len - out.offset).min(op.segment_bytes(segment_bytes));
                (op.header(&out.item, out.offset, len), self.payload(len, core))
            }
            Outgoing::Block(out) => {
                let len = (out.len - out.offset).min(segment_bytes);
                (core.syncs.block_header(out, len), self.payload(len, core))
            }
            Outgoing::Note(note) => (note.header, &note.payload),
            Outgoing::Load(out) => {
                let len = FILLER.len().min(segment_bytes);
                (FrameHeader { len: len as u32, ..out.header }, &FILLER[..len])
            }
        }
    }

    /// The payload of the segment under way.
    fn payload<'a>(&'a self, len: usize, core: &'a Core) -> &'a [u8] {
        match self {
            Outgoing::Piece(out) => core.ops.get(out.op).payload(&out.item, out.at + out.offset, len),
            Outgoing::Block(out) => core.syncs.payload(out, len),
            Outgoing::Note(note) => &note.payload,
            Outgoing::Load(_) => &FILLER[..len],
        }
    }

    /// Books a segment of `len` bytes; true if that was the last.
    fn sent(&mut self, len: usize, core: &mut Core) -> bool {
        match self {
            Outgoing::Piece(out) => {
                out.offset += len;
                let op = core.ops.get_mut(out.op);
                op.moved(len);
                let last = out.offset == out.len;
                if last {
                    op.sent(&out.item, &mut core.cx);
                }
                last
            }
            Outgoing::Block(out) => {
                out.offset += len;
                let last = out.offset == out.len;
                if last {
                    core.syncs.block_sent(out, &mut core.cx);
                }
                last
            }
            Outgoing::Note(_) => true,
            Outgoing::Load(out) => {
                core.probes.sent(out.to, len, core.cx.now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_summed_in_parts_however_the_link_takes_it() {
        let payload: Vec<u8> = (0..5 * CHECKED_AT_ONCE_BYTES / 2 + 3).map(|i| (i * 7 % 251) as u8).collect();
        for at_once in [1 << 13, CHECKED_AT_ONCE_BYTES / 3, CHECKED_AT_ONCE_BYTES, payload.len()] {
            let (mut checked, mut taken) = (Checked::default(), 0);
            while taken < payload.len() {
                let sum = checked.go_on(&payload, taken);
                assert_eq!(
                    sum.is_some(),
                    checked.bytes == payload.len(),
                    "the sum is known with the last part"
                );
                let ready = checked.bytes - taken;
                assert!(0 < ready && ready <= 3 * CHECKED_AT_ONCE_BYTES / 2, "{ready} bytes are ready");
                taken += ready.min(at_once);
            }
            // The trailer follows, and may be taken in parts as well.
            for beyond in 0..=TRAILER_BYTES {
                assert_eq!(
                    checked.go_on(&payload, taken + beyond),
                    Some(crc32fast::hash(&payload)),
                    "{at_once}"
                );
            }
        }
        assert_eq!(Checked::default().go_on(&[], 0), Some(crc32fast::hash(&[])));
    }
}
