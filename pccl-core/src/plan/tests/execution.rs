//! A forest, executed with symbols for numbers: what the engine does, without bytes.
//!
//! Memory is in place (one buffer for what is sent and what is received), a send reads it when it happens, and
//! happens only with a place to land. So a wrong order, an overwritten partial sum, or a wait in a circle shows.

use std::collections::BTreeMap;

use crate::plan::{PlanView, child_at_turn, turn_of_child};
use crate::types::Rank;

/// A sum of contributions: how often each is in it, and in which order they came together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// Four bits a rank, or, in worlds of more than 32, a checksum.
    contributions: u128,
    terms: u32,
    order: u64,
}

impl Sum {
    fn of(rank: Rank, element: u64) -> Sum {
        Sum { contributions: weight(rank), terms: 1, order: mix(u64::from(rank), element) }
    }

    fn plus(self, other: Sum) -> Sum {
        Sum {
            contributions: self.contributions.wrapping_add(other.contributions),
            terms: self.terms + other.terms,
            // Not associative, so it tells orders apart.
            order: mix(self.order, other.order),
        }
    }
}

fn mix(a: u64, b: u64) -> u64 {
    let mixed = (a.rotate_left(17) ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

fn weight(rank: Rank) -> u128 {
    if rank < 32 { 1 << (4 * rank) } else { u128::from(mix(u64::from(rank), 1)) << 7 }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Reduce,
    Broadcast,
}

/// A piece that may be sent from here on.
#[derive(Clone, Copy, Debug)]
struct Send {
    step: Step,
    from: Rank,
    to: Rank,
    chunk: usize,
    piece: u32,
}

struct World<'a> {
    views: &'a [PlanView],
    memory: Vec<Vec<Sum>>,
    /// How often each element of each peer became final.
    finished: Vec<Vec<u32>>,
    /// Contributions added so far, by rank, chunk and piece.
    turns_done: Vec<Vec<Vec<usize>>>,
    ready: Vec<Send>,
    /// Have their data, but no place; by receiver, chunk and piece.
    ungranted: BTreeMap<(Rank, usize, u32), Vec<Send>>,
}

/// Every peer's final memory. Sends happen in an order that follows from `seed`.
pub fn execute(views: &[PlanView], seed: u64) -> Vec<Vec<Sum>> {
    let count = views[0].count;
    let memory = views.iter().map(|v| (0..count).map(|e| Sum::of(v.rank, e)).collect()).collect();
    let pieces =
        |v: &PlanView| v.chunks.iter().map(|c| vec![0; c.pieces(v.piece_elements) as usize]).collect();
    let mut world = World {
        views,
        memory,
        finished: vec![vec![0; count as usize]; views.len()],
        turns_done: views.iter().map(pieces).collect(),
        ready: vec![],
        ungranted: BTreeMap::new(),
    };
    for view in views {
        for (chunk, c) in view.chunks.iter().enumerate() {
            (0..c.pieces(view.piece_elements)).for_each(|piece| world.advance(view.rank, chunk, piece));
        }
    }
    let mut random = mix(seed, 0x5eed);
    while !world.ready.is_empty() {
        random = mix(random, 1);
        let chosen = world.ready.swap_remove((random >> 20) as usize % world.ready.len());
        world.deliver(chosen);
    }
    assert!(world.ungranted.is_empty(), "stands still: {:?}", world.ungranted);
    assert!(world.finished.iter().flatten().all(|&times| times == 1), "each element becomes final once");
    world.memory
}

impl World<'_> {
    fn span(&self, send: Send) -> std::ops::Range<usize> {
        let view = &self.views[0];
        let (first, count) = view.chunks[send.chunk].piece_span(view.piece_elements, send.piece);
        first as usize..(first + count) as usize
    }

    fn children(&self, rank: Rank, chunk: usize) -> &[Rank] {
        &self.views[usize::from(rank)].chunks[chunk].reduce_children
    }

    /// After a turn of a piece: the next child may send, or the sum goes on.
    fn advance(&mut self, rank: Rank, chunk: usize, piece: u32) {
        let view = &self.views[usize::from(rank)].chunks[chunk];
        if self.turns_done[usize::from(rank)][chunk][piece as usize] < view.reduce_children.len() {
            let waiting = self.ungranted.remove(&(rank, chunk, piece)).unwrap_or_default();
            waiting.into_iter().for_each(|send| self.place(send));
            return;
        }
        match view.reduce_parent {
            Some(to) => {
                self.place(Send { step: Step::Reduce, from: rank, to, chunk, piece });
            }
            None => self.finish(rank, chunk, piece),
        }
    }

    fn place(&mut self, send: Send) {
        if self.is_granted(&send) {
            self.ready.push(send);
        } else {
            self.ungranted.entry((send.to, send.chunk, send.piece)).or_default().push(send);
        }
    }

    /// What a sender may know: its place among its siblings, and what its parent has granted.
    fn is_granted(&self, send: &Send) -> bool {
        let view = &self.views[usize::from(send.from)].chunks[send.chunk];
        if view.only_child {
            return true;
        }
        let turn = turn_of_child(view.siblings.into(), send.piece, view.child_index.into());
        turn <= self.turns_done[usize::from(send.to)][send.chunk][send.piece as usize]
    }

    fn deliver(&mut self, send: Send) {
        let (from, to) = (usize::from(send.from), usize::from(send.to));
        let span = self.span(send);
        if send.step == Step::Broadcast {
            let sent: Vec<Sum> = self.memory[from][span.clone()].to_vec();
            self.memory[to][span].copy_from_slice(&sent);
            return self.finish(send.to, send.chunk, send.piece);
        }
        let children = self.children(send.to, send.chunk);
        let turn = self.turns_done[to][send.chunk][send.piece as usize];
        assert_eq!(children[child_at_turn(children.len(), send.piece, turn)], send.from, "out of turn");
        for element in span {
            self.memory[to][element] = self.memory[to][element].plus(self.memory[from][element]);
        }
        self.turns_done[to][send.chunk][send.piece as usize] += 1;
        self.advance(send.to, send.chunk, send.piece);
    }

    fn finish(&mut self, rank: Rank, chunk: usize, piece: u32) {
        let view = &self.views[usize::from(rank)].chunks[chunk];
        for &to in &view.broadcast_children {
            self.ready.push(Send { step: Step::Broadcast, from: rank, to, chunk, piece });
        }
        let span = self.span(Send { step: Step::Broadcast, from: rank, to: rank, chunk, piece });
        self.finished[usize::from(rank)][span].iter_mut().for_each(|times| *times += 1);
    }
}

/// Everybody holds everybody's contribution once, added up in the same order.
pub fn check_result(memory: &[Vec<Sum>]) {
    let world_size = memory.len() as Rank;
    let all = (0..world_size).fold(0u128, |sum, rank| sum.wrapping_add(weight(rank)));
    for sum in memory.iter().flatten() {
        assert_eq!((sum.contributions, sum.terms), (all, u32::from(world_size)));
    }
    assert!(memory.iter().all(|peer| peer == &memory[0]));
}
