//! One operation's way through its forest: what has landed, what is granted, what may be sent.

use std::sync::Arc;

use super::coding::Coding;
use super::context::Context;
use super::engine::{OpStart, OpTraffic, Output};
use super::fault::Fault;
use super::piece::{Direction, Item, Piece, Stage};
use super::queue::{Due, Queue};
use super::window::Windows;
use crate::mem::{Buffers, SaveArea};
use crate::plan::{ChunkView, PlanView, child_at_turn, turn_of_child};
use crate::types::{OpKey, PeerId, Rank, ReduceOp};
use crate::wire::frame::{FrameHeader, FrameKind};

pub(super) struct Op {
    pub(super) slot: usize,
    pub key: OpKey,
    order: Arc<[PeerId]>,
    pub(super) view: PlanView,
    pub(super) coding: Coding,
    pub(super) reduce: ReduceOp,
    pub buffers: Buffers,
    pub saved: SaveArea,
    pub saved_residual: SaveArea,
    /// For each chunk the index of its first piece in `pieces`.
    first_pieces: Vec<usize>,
    pub(super) pieces: Vec<Piece>,
    pub(super) windows: Windows,
    pub(super) partners: Vec<Partner>,
    /// Pieces that are not final.
    left: usize,
    pub traffic: OpTraffic,
}

/// One rank of the group, as far as this operation goes. The own rank's is never used.
#[derive(Default)]
pub(super) struct Partner {
    /// Its slot among the peers.
    peer: usize,
    /// It takes what has its place by nature.
    granted: bool,
    /// It takes our contributions to so many first pieces of each chunk, whatever their turn.
    granted_pieces: u32,
    /// It has shown that it started the operation.
    met: bool,
    /// It was granted a piece by name before it was met: one such grant it must keep for later, not more.
    ahead: bool,
    /// Pieces whose grants wait until it is met.
    pub held: Vec<(u32, u32)>,
    queue: Queue,
    /// Whether the operation has a turn at that peer.
    in_turn: bool,
}

impl Op {
    pub fn new(slot: usize, start: OpStart, cx: &mut Context) -> Op {
        let OpStart { key, order, view, descriptor, buffers } = start;
        assert_eq!(order.len(), usize::from(view.world_size), "the view is of another group");
        assert_eq!(buffers.len() as u64, descriptor.size_bytes(), "the buffers are not the payload's size");
        let mut first_pieces = Vec::with_capacity(view.chunks.len());
        let mut pieces = 0;
        for chunk in &view.chunks {
            first_pieces.push(pieces);
            pieces += chunk.pieces(view.piece_elements) as usize;
        }
        let partner = |id: &PeerId| Partner { peer: cx.peers.slot_of(*id), ..Partner::default() };
        let partners = order.iter().map(partner).collect();
        let coding = Coding::of(&descriptor);
        let windows = Windows::new(&cx.config.budget, &view, coding);
        Op {
            slot,
            key,
            order,
            view,
            coding,
            reduce: descriptor.op,
            buffers,
            saved: SaveArea::default(),
            saved_residual: SaveArea::default(),
            first_pieces,
            pieces: vec![Piece::new(); pieces],
            windows,
            partners,
            left: pieces,
            traffic: OpTraffic::default(),
        }
    }

    pub fn digest(&self) -> u32 {
        self.view.digest
    }

    pub fn rank_of(&self, peer: PeerId) -> Option<Rank> {
        self.order.iter().position(|id| *id == peer).map(|rank| rank as Rank)
    }

    /// The slots of the other peers of the group.
    pub fn peer_slots(&self) -> impl Iterator<Item = usize> {
        let own = usize::from(self.view.rank);
        self.partners
            .iter()
            .enumerate()
            .filter(move |(rank, _)| *rank != own)
            .map(|(_, partner)| partner.peer)
    }

    /// Grants what has its place by nature, takes up early grants, and sets free what needs no contribution.
    pub fn begin(&mut self, cx: &mut Context) {
        let mut told = vec![false; self.partners.len()];
        for chunk in &self.view.chunks {
            // Those who send to us. And a parent that grants by name: until it has met us it withholds grants.
            let grants = chunk.reduce_parent.as_ref().filter(|_| !chunk.only_child);
            for rank in chunk.reduce_children.iter().chain(&chunk.broadcast_parent).chain(grants) {
                told[usize::from(*rank)] = true;
            }
        }
        let ahead = self.windows.take_whole_pieces(&self.view, &mut self.pieces, &self.first_pieces);
        for (rank, _) in told.iter().enumerate().filter(|(_, told)| **told) {
            cx.peers.queue_grant(self.partners[rank].peer, self.grant(FrameKind::OpGrant, 0, ahead));
        }
        self.widen(cx);
        for c in 0..self.view.chunks.len() {
            if self.view.chunks[c].reduce_children.is_empty() {
                self.begin_leaf(c, cx);
            }
        }
        let own = self.view.rank;
        for rank in (0..self.view.world_size).filter(|rank| *rank != own) {
            let peer = self.partners[usize::from(rank)].peer;
            for grant in cx.peers.early(peer).take_grants(self.key) {
                // A wrong early grant could only be told now; it is as good as none, and the sender would find
                // itself waiting for us.
                let _ = self.granted(rank, &grant, cx);
            }
        }
    }

    /// A chunk whose sum is complete from the start. Only a group of one has no contribution at its root: the
    /// result is the input.
    fn begin_leaf(&mut self, c: usize, cx: &mut Context) {
        let chunk = &self.view.chunks[c];
        let root = chunk.reduce_parent.is_none();
        let (at, len) = self.bytes(chunk.first, chunk.count);
        if root && let (Some(own), result) = self.buffers.own_and_result_mut(at, len) {
            result.copy_from_slice(own);
            cx.counters.bytes_copied += len as u64;
        }
        for piece in 0..self.piece_count(c) {
            if root {
                let item = Item { direction: Direction::Reduce, chunk: c as u32, piece };
                let (at, len) = self.span(&item);
                self.save_residual(at, len, cx);
                self.add_residual(at, len);
                self.encode_result(c as u32, piece);
                self.finalize(c as u32, piece, cx);
            } else {
                self.summed(c as u32, piece, cx);
            }
        }
    }

    /// The epoch is over: no peer hears of this operation again. The memory waits for `stop` or `finish`.
    pub fn halt(&mut self) {
        self.partners.clear();
    }

    fn bytes(&self, first: u64, count: u64) -> (usize, usize) {
        let element = self.coding.dtype.size_bytes() as u64;
        ((first * element) as usize, (count * element) as usize)
    }

    fn piece_count(&self, c: usize) -> u32 {
        self.view.chunks[c].pieces(self.view.piece_elements)
    }

    pub(super) fn index(&self, chunk: u32, piece: u32) -> usize {
        self.first_pieces[chunk as usize] + piece as usize
    }

    /// Position and length of a piece within the payload, in bytes of elements.
    pub fn span(&self, item: &Item) -> (usize, usize) {
        let (first, count) =
            self.view.chunks[item.chunk as usize].piece_span(self.view.piece_elements, item.piece);
        self.bytes(first, count)
    }

    fn grant(&self, kind: FrameKind, chunk: u32, piece: u32) -> FrameHeader {
        FrameHeader { kind, key: self.key, digest: self.view.digest, chunk, piece, offset: 0, len: 0 }
    }

    /// Chunk and piece of a header, if the plan has them.
    pub(super) fn locate(&self, header: &FrameHeader) -> Result<(&ChunkView, usize), Fault> {
        let FrameHeader { key, chunk, piece, .. } = *header;
        match self.view.chunks.get(chunk as usize) {
            Some(view) if piece < view.pieces(self.view.piece_elements) => {
                Ok((view, self.index(chunk, piece)))
            }
            _ => Err(Fault::NoSuchPiece { key, chunk, piece }),
        }
    }
}

/// Grants, in both directions.
impl Op {
    /// `rank` has a place for something of ours. A grant for another plan says nothing: the master decides.
    pub fn granted(&mut self, rank: Rank, header: &FrameHeader, cx: &mut Context) -> Result<(), Fault> {
        if header.digest != self.view.digest {
            return Ok(());
        }
        self.meet(rank, cx);
        match header.kind {
            FrameKind::OpGrant => self.op_granted(rank, header.piece, cx),
            _ => {
                let FrameHeader { key, chunk, piece, .. } = *header;
                let (view, index) = self.locate(header)?;
                if view.reduce_parent != Some(rank) {
                    return Err(Fault::WrongGrant { key, chunk, piece });
                }
                self.pieces[index].granted = true;
                self.offer_sum(chunk, piece, cx);
            }
        }
        Ok(())
    }

    fn op_granted(&mut self, rank: Rank, pieces: u32, cx: &mut Context) {
        let partner = &mut self.partners[usize::from(rank)];
        if std::mem::replace(&mut partner.granted, true) {
            return;
        }
        partner.granted_pieces = pieces;
        for c in 0..self.view.chunks.len() {
            let chunk = &self.view.chunks[c];
            let (parent, child) =
                (chunk.reduce_parent == Some(rank), chunk.broadcast_children.contains(&rank));
            for piece in 0..if parent || child { self.piece_count(c) } else { 0 } {
                let index = self.first_pieces[c] + piece as usize;
                if parent {
                    self.offer_sum(c as u32, piece, cx);
                }
                if child && self.pieces[index].stage == Stage::Final {
                    self.queue(rank, Item { direction: Direction::Broadcast, chunk: c as u32, piece }, cx);
                }
            }
        }
    }

    /// `rank` has started the operation, so it need not keep our grants for later.
    pub(super) fn meet(&mut self, rank: Rank, cx: &mut Context) {
        let partner = &mut self.partners[usize::from(rank)];
        if !std::mem::replace(&mut partner.met, true) {
            let peer = partner.peer;
            for (chunk, piece) in std::mem::take(&mut partner.held) {
                cx.peers.queue_grant(peer, self.grant(FrameKind::PieceGrant, chunk, piece));
            }
        }
    }

    /// Grants what comes ahead of its turn, as far as there are windows for it.
    pub(super) fn widen(&mut self, cx: &mut Context) {
        while let Some((chunk, piece, turn)) =
            self.windows.take_next(&self.view, &mut self.pieces, &self.first_pieces)
        {
            self.grant_turn(chunk, piece, usize::from(turn), cx);
        }
    }

    /// Grants one turn of a piece, now or when the child is met.
    pub(super) fn grant_turn(&mut self, chunk: u32, piece: u32, turn: usize, cx: &mut Context) {
        let children = &self.view.chunks[chunk as usize].reduce_children;
        let rank = usize::from(children[child_at_turn(children.len(), piece, turn)]);
        let grant = self.grant(FrameKind::PieceGrant, chunk, piece);
        let partner = &mut self.partners[rank];
        if partner.met || !partner.ahead {
            partner.ahead = true;
            cx.peers.queue_grant(partner.peer, grant);
        } else {
            partner.held.push((chunk, piece));
        }
    }
}

/// What is complete.
impl Op {
    pub(super) fn summed(&mut self, chunk: u32, piece: u32, cx: &mut Context) {
        let index = self.index(chunk, piece);
        self.pieces[index].stage = Stage::Summed;
        self.offer_sum(chunk, piece, cx);
    }

    /// The finished piece is here, as it travels: on to the children.
    pub(super) fn finalize(&mut self, chunk: u32, piece: u32, cx: &mut Context) {
        let index = self.index(chunk, piece);
        self.pieces[index].stage = Stage::Final;
        self.pieces[index].owed = self.view.chunks[chunk as usize].broadcast_children.len() as u16;
        for i in 0..self.view.chunks[chunk as usize].broadcast_children.len() {
            let rank = self.view.chunks[chunk as usize].broadcast_children[i];
            if self.partners[usize::from(rank)].granted {
                self.queue(rank, Item { direction: Direction::Broadcast, chunk, piece }, cx);
            }
        }
        if self.coding.is_plain() || self.pieces[index].owed == 0 {
            self.settle(chunk, piece, cx);
        }
    }

    /// Nobody needs what travels of this piece any more: it becomes, or is, the result.
    fn settle(&mut self, chunk: u32, piece: u32, cx: &mut Context) {
        self.decode_result(chunk, piece);
        self.left -= 1;
        if self.left == 0 {
            cx.outputs.push_back(Output::Done { key: self.key });
        }
    }
}

/// What leaves.
impl Op {
    /// Queues a complete sum for the parent, once it is granted.
    fn offer_sum(&mut self, chunk: u32, piece: u32, cx: &mut Context) {
        let index = self.index(chunk, piece);
        let view = &self.view.chunks[chunk as usize];
        let (state, Some(parent)) = (&mut self.pieces[index], view.reduce_parent) else { return };
        let by_nature = view.only_child
            || turn_of_child(usize::from(view.siblings), piece, usize::from(view.child_index)) == 0;
        let partner = &self.partners[usize::from(parent)];
        let by_name = state.granted || piece < partner.granted_pieces;
        let granted = partner.granted && (by_nature || by_name);
        if state.stage == Stage::Summed && granted {
            state.stage = Stage::Sending;
            self.queue(parent, Item { direction: Direction::Reduce, chunk, piece }, cx);
        }
    }

    fn queue(&mut self, rank: Rank, item: Item, cx: &mut Context) {
        let partner = &mut self.partners[usize::from(rank)];
        partner.queue.push(Due::of(&item, &self.view), item);
        if !std::mem::replace(&mut partner.in_turn, true) {
            cx.peers.queue_turn(partner.peer, self.slot, rank);
        }
    }

    /// The next piece for `rank`, whose turn it is; the operation goes to the end of the line if it has more.
    pub fn next_item(&mut self, rank: Rank, cx: &mut Context) -> Option<Item> {
        let partner = &mut self.partners[usize::from(rank)];
        let item = partner.queue.pop();
        partner.in_turn = !partner.queue.is_empty();
        if partner.in_turn {
            cx.peers.requeue_turn(partner.peer, self.slot, rank);
        }
        if let Some(item) = &item {
            self.encode_sum(item, cx);
        }
        item
    }

    pub fn header(&self, item: &Item, offset: usize, len: usize) -> FrameHeader {
        let kind = match item.direction {
            Direction::Reduce => FrameKind::Reduce,
            Direction::Broadcast => FrameKind::Broadcast,
        };
        FrameHeader { offset: offset as u32, len: len as u32, ..self.grant(kind, item.chunk, item.piece) }
    }

    /// The memory a piece is sent from: the user's own input where there is nothing to add to it.
    pub fn payload(&self, item: &Item, at: usize, len: usize) -> &[u8] {
        let leaf = self.view.chunks[item.chunk as usize].reduce_children.is_empty();
        if leaf && item.direction == Direction::Reduce && self.coding.is_plain() {
            self.buffers.own(at, len)
        } else {
            self.buffers.result(at, len)
        }
    }

    /// The links have taken the whole piece.
    pub fn sent(&mut self, item: &Item, cx: &mut Context) {
        let index = self.index(item.chunk, item.piece);
        let state = &mut self.pieces[index];
        match item.direction {
            Direction::Reduce => state.stage = Stage::Sent,
            Direction::Broadcast => {
                state.owed -= 1;
                if state.owed == 0 && !self.coding.is_plain() {
                    self.settle(item.chunk, item.piece, cx);
                }
            }
        }
    }
}
