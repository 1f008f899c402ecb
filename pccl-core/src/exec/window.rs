//! Contributions that come ahead of their turn: which are granted, and where they wait.
//!
//! Where several children's contributions meet, the one whose turn it is has its place in the sum; for others there
//! is memory here, taken from the process's budget. Nothing depends on it: without, each waits for its turn.

use std::collections::BTreeMap;

use super::coding::Coding;
use super::piece::Piece;
use crate::limits::{MAX_WINDOW_BYTES, WINDOW_OVERHEAD_BYTES};
use crate::mem::{Budget, Share};
use crate::plan::{ChunkView, PlanView};
use crate::types::LinkId;

pub(super) struct Windows {
    share: Share,
    coding: Coding,
    /// Chunks where contributions of several children meet, and how many.
    meeting: Vec<(u32, u16)>,
    /// Pieces of the longest of these.
    pieces: u32,
    /// What is to be granted next: piece by piece in all chunks, turn by turn.
    next: Place,
    /// By index of the piece and turn.
    parked: BTreeMap<(usize, u16), Parked>,
}

/// `at`: index into `meeting`. Turn 0 needs no window.
#[derive(Clone, Copy)]
struct Place {
    piece: u32,
    at: usize,
    turn: u16,
}

/// A contribution, or the first part of it.
pub(super) struct Parked {
    /// As long as the piece, as it travels. `None` while a link reads into it.
    pub bytes: Option<Vec<u8>>,
    /// How much has arrived and passed its check.
    pub got: u32,
    /// The one link it comes over.
    pub carrier: LinkId,
    /// Its sender gave it up under way: it will never be complete.
    pub spoiled: bool,
}

/// Whether each child has so much to send whose turn is first that the grants of later turns have come before it runs
/// dry, however long the path.
fn rotation_suffices(chunk: &ChunkView, coding: Coding) -> bool {
    let bytes = coding.wire_bytes(chunk.count as usize * coding.dtype.size_bytes()) as u64;
    bytes / chunk.reduce_children.len() as u64 >= MAX_WINDOW_BYTES as u64
}

impl Windows {
    pub fn new(budget: &Budget, view: &PlanView, coding: Coding) -> Windows {
        let meets = |chunk: &ChunkView| chunk.reduce_children.len() > 1;
        // All of them or none: the operation's grant tells one number of pieces for all chunks.
        let none = view.chunks.iter().filter(|c| meets(c)).all(|c| rotation_suffices(c, coding));
        let chunks = view.chunks.iter().enumerate().filter(|(_, chunk)| !none && meets(chunk));
        let meeting: Vec<(u32, u16)> =
            chunks.map(|(c, chunk)| (c as u32, chunk.reduce_children.len() as u16)).collect();
        let pieces = meeting.iter().map(|(c, _)| view.chunks[*c as usize].pieces(view.piece_elements));
        // Half of what is left, so that the operation that comes next finds something, too.
        let share = budget.share((budget.free_bytes() / 2).min(MAX_WINDOW_BYTES));
        Windows {
            share,
            coding,
            pieces: pieces.max().unwrap_or(0),
            meeting,
            next: Place { piece: 0, at: 0, turn: 1 },
            parked: BTreeMap::new(),
        }
    }

    /// What a window for one contribution to this piece takes from the budget.
    fn cost(&self, view: &PlanView, chunk: u32, piece: u32) -> usize {
        let (_, elements) = view.chunks[chunk as usize].piece_span(view.piece_elements, piece);
        self.coding.wire_bytes(elements as usize * self.coding.dtype.size_bytes()) + WINDOW_OVERHEAD_BYTES
    }

    /// Takes windows for all turns of as many first pieces as possible, and gives their number: the operation's
    /// grant tells it.
    pub fn take_whole_pieces(&mut self, view: &PlanView, pieces: &mut [Piece], firsts: &[usize]) -> u32 {
        for piece in 0..self.pieces {
            let here = |(c, _): &&(u32, u16)| piece < view.chunks[*c as usize].pieces(view.piece_elements);
            let costs = self.meeting.iter().filter(here);
            let cost = costs.map(|(c, turns)| self.cost(view, *c, piece) * usize::from(turns - 1)).sum();
            if !self.share.take(cost) {
                return piece;
            }
            for (c, turns) in self.meeting.iter().filter(here) {
                pieces[firsts[*c as usize] + piece as usize].ahead = (1, *turns);
            }
            self.next.piece = piece + 1;
        }
        self.pieces
    }

    /// Takes a window for what is needed next, and gives its chunk, piece and turn; `None` if all have one, or the
    /// budget gives no more.
    pub fn take_next(
        &mut self,
        view: &PlanView,
        pieces: &mut [Piece],
        firsts: &[usize],
    ) -> Option<(u32, u32, u16)> {
        while self.next.piece < self.pieces {
            let Place { piece, at, turn } = self.next;
            let (chunk, turns) = self.meeting[at];
            let there = piece < view.chunks[chunk as usize].pieces(view.piece_elements);
            if there && turn < turns {
                let state = &mut pieces[firsts[chunk as usize] + piece as usize];
                if state.turn < turn {
                    if !self.share.take(self.cost(view, chunk, piece)) {
                        return None;
                    }
                    // Those before have landed if they do not join.
                    let from = if state.ahead.1 == turn { state.ahead.0 } else { turn };
                    state.ahead = (from, turn + 1);
                    self.next.turn += 1;
                    return Some((chunk, piece, turn));
                }
                self.next.turn += 1;
            } else if at + 1 < self.meeting.len() {
                self.next = Place { piece, at: at + 1, turn: 1 };
            } else {
                self.next = Place { piece: piece + 1, at: 0, turn: 1 };
            }
        }
        None
    }

    /// A contribution has landed that had a window.
    pub fn give_back(&mut self, view: &PlanView, chunk: u32, piece: u32) {
        self.share.give(self.cost(view, chunk, piece));
    }

    pub fn parked(&self, index: usize, turn: u16) -> Option<&Parked> {
        self.parked.get(&(index, turn))
    }

    pub fn parked_mut(&mut self, index: usize, turn: u16, carrier: LinkId) -> &mut Parked {
        self.parked.entry((index, turn)).or_insert(Parked { bytes: None, got: 0, carrier, spoiled: false })
    }

    /// What is there of this contribution, once its turn has come; `None` while a link reads into it.
    pub fn unpark(&mut self, index: usize, turn: u16) -> Option<(Vec<u8>, Parked)> {
        let bytes = self.parked.get_mut(&(index, turn))?.bytes.take()?;
        self.parked.remove(&(index, turn)).map(|parked| (bytes, parked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Schedule;
    use crate::types::{DType, OpDescriptor, ReduceOp};

    fn chunk(first: u64, count: u64, children: u16) -> ChunkView {
        ChunkView {
            owner: 0,
            first,
            count,
            reduce_parent: None,
            only_child: false,
            child_index: 0,
            siblings: 0,
            reduce_children: (1..=children).collect(),
            broadcast_parent: None,
            broadcast_children: vec![],
        }
    }

    #[test]
    fn what_the_grant_says_of_all_chunks_holds_in_each_however_large() {
        let count = 5 * MAX_WINDOW_BYTES as u64 / 2;
        let view = PlanView {
            schedule: Schedule::Trees,
            rank: 0,
            world_size: 4,
            count: 2 * count,
            piece_elements: 1 << 18,
            digest: 0,
            // A third of such a chunk is less than a window, half of it is more.
            chunks: vec![chunk(0, count, 2), chunk(count, count, 3)],
        };
        let firsts = [0, view.chunks[0].pieces(view.piece_elements) as usize];
        let mut pieces = vec![Piece::new(); 2 * firsts[1]];
        let coding = Coding::of(&OpDescriptor::plain(2 * count, DType::U8, ReduceOp::Sum));
        let mut windows = Windows::new(&Budget::default(), &view, coding);
        let whole = windows.take_whole_pieces(&view, &mut pieces, &firsts);
        assert!(whole > 0);
        for (first, chunk) in firsts.iter().zip(&view.chunks) {
            for piece in &pieces[*first..first + whole as usize] {
                assert!((1..chunk.reduce_children.len() as u16).all(|turn| piece.is_ahead(turn)));
            }
        }
    }
}
