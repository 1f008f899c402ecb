//! One small operation: everybody sends its whole contribution to everybody, and adds all in the order of ranks.
//!
//! A contribution leaves at once where the peer's allowance has room; otherwise an `OpGrant` says that we have started,
//! and the contribution follows when the peer has shown the same. What there is no room for (`rooms`) is dropped, and asked for
//! again by a `PieceGrant`. Nothing is added before all contributions are here, so
//! until then user memory is only read.

use std::sync::Arc;

use super::coding::Coding;
use super::context::Context;
use super::engine::{OpStart, OpTraffic, Output};
use super::fault::Fault;
use super::piece::{Direction, Item};
use super::rooms::Room;
use crate::kernel;
use crate::kernel::quant::{self, Errors};
use crate::limits::MAX_EAGER_BYTES;
use crate::mem::Buffers;
use crate::types::{OpKey, PeerId, Rank, ReduceOp};
use crate::wire::frame::{FrameHeader, FrameKind};

pub(super) struct Small {
    slot: usize,
    pub key: OpKey,
    order: Arc<[PeerId]>,
    rank: usize,
    pub digest: u32,
    coding: Coding,
    reduce: ReduceOp,
    buffers: Buffers,
    /// What the own contribution travels as, and counts as here too; `None` where it is the input itself.
    quantized: Option<Vec<u8>>,
    /// What that loses of it: the residual, when the result stands.
    errors: Option<Vec<u8>>,
    /// In place, once the sum has taken the input's place: peers may not have all of it yet.
    saved: Option<Vec<u8>>,
    /// By rank; the own one's is never used.
    partners: Vec<Partner>,
    missing: usize,
    /// For what arrives, as long as something is missing.
    room: Room,
    pub traffic: OpTraffic,
}

#[derive(Debug, Default)]
struct Partner {
    /// Its slot among the peers.
    peer: usize,
    /// Our contribution waits until the peer has started the operation.
    withheld: bool,
    /// It is queued to be sent.
    in_turn: bool,
    theirs: Theirs,
}

#[derive(Debug, Default)]
enum Theirs {
    #[default]
    Missing,
    Arriving,
    /// It was here, and there was no room for it.
    Dropped,
    Here(Vec<u8>),
}

/// What the own contribution travels as; and with error feedback what is lost by it.
fn quantized(coding: Coding, buffers: &mut Buffers) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let Some(codec) = coding.codec else { return (None, None) };
    let len = buffers.len();
    let mut wire = buffers.own(0, len).to_vec();
    let mut errors = None;
    let wire_bytes = match buffers.result_and_residual_mut(0, len) {
        (_, None) => codec.encode_in_place(&mut wire),
        (_, Some(residual)) => {
            let kept = errors.insert(residual.to_vec());
            quant::add_owed(coding.dtype, &mut wire, kept);
            codec.encode_in_place_with_errors(&mut wire, Errors { kept, times: 1 })
        }
    };
    wire.truncate(wire_bytes);
    (Some(wire), errors)
}

/// The only thing that a small operation sends.
const WHOLE: Item = Item { direction: Direction::Reduce, chunk: 0, piece: 0 };

impl Small {
    pub fn new(slot: usize, start: OpStart, cx: &mut Context) -> Small {
        let OpStart { key, order, view, descriptor, mut buffers } = start;
        assert_eq!(order.len(), usize::from(view.world_size), "the view is of another group");
        assert_eq!(buffers.len() as u64, descriptor.size_bytes(), "the buffers are not the payload's size");
        let coding = Coding::of(&descriptor);
        let partner = |id: &PeerId| Partner { peer: cx.peers.slot_of(*id), ..Partner::default() };
        let (quantized, errors) = quantized(coding, &mut buffers);
        let partners: Vec<Partner> = order.iter().map(partner).collect();
        Small {
            slot,
            key,
            order,
            rank: usize::from(view.rank),
            digest: view.digest,
            quantized,
            errors,
            coding,
            reduce: descriptor.op,
            buffers,
            saved: None,
            missing: partners.len() - 1,
            partners,
            room: Room::None,
            traffic: OpTraffic::default(),
        }
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.rank;
        (0..self.partners.len()).filter(move |rank| *rank != own)
    }

    pub fn peer_slots(&self) -> impl Iterator<Item = usize> {
        self.others().map(|rank| self.partners[rank].peer)
    }

    pub fn rank_of(&self, peer: PeerId) -> Option<Rank> {
        self.order.iter().position(|id| *id == peer).map(|rank| rank as Rank)
    }

    /// Takes up what came early, and says to everybody that we have started: with the contribution where it may be
    /// sent.
    pub fn begin(&mut self, cx: &mut Context) {
        let len = self.wire_bytes();
        let share = MAX_EAGER_BYTES / (self.partners.len() - 1);
        let limit_bytes = share.min(cx.config.eager_bytes);
        self.room = cx.rooms.enter(self.slot, len * (self.partners.len() - 1));
        for rank in self.others() {
            let peer = self.partners[rank].peer;
            let parked = cx.peers.early(peer).take_parked(self.key);
            let met = parked.is_some() || !cx.peers.early(peer).take_grants(self.key).is_empty();
            if met || cx.peers.allowance(peer).take(self.key, len, limit_bytes) {
                self.queue(rank, cx);
            } else {
                self.partners[rank].withheld = true;
                cx.peers.queue_grant(peer, self.header(FrameKind::OpGrant, 0));
            }
            match parked {
                Some(parked) if parked.digest != self.digest => {}
                Some(parked) if parked.bytes.is_none() => self.partners[rank].theirs = Theirs::Arriving,
                Some(parked) => self.take(rank, parked.bytes, cx),
                None => {}
            }
        }
    }

    fn queue(&mut self, rank: usize, cx: &mut Context) {
        let partner = &mut self.partners[rank];
        partner.in_turn = true;
        cx.peers.queue_short(partner.peer, self.slot, rank as Rank);
    }

    fn header(&self, kind: FrameKind, len: usize) -> FrameHeader {
        let (key, digest) = (self.key, self.digest);
        FrameHeader { kind, key, digest, chunk: 0, piece: 0, offset: 0, len: len as u32 }
    }

    /// The epoch is over: no peer hears of this operation again. The memory waits for its end.
    pub fn halt(&mut self) {
        self.partners.clear();
    }

    /// The input is as it was before.
    pub fn stop(mut self, leave_as_it_is: bool, cx: &mut Context) -> Buffers {
        if let Some(saved) = self.saved.filter(|_| !leave_as_it_is) {
            self.buffers.result_mut(0, saved.len()).copy_from_slice(&saved);
            cx.counters.bytes_copied += saved.len() as u64;
        }
        self.buffers
    }

    pub fn finish(mut self) -> (Buffers, OpTraffic) {
        if let (Some(errors), (_, Some(residual))) =
            (self.errors, self.buffers.result_and_residual_mut(0, self.buffers.len()))
        {
            residual.copy_from_slice(&errors);
        }
        (self.buffers, self.traffic)
    }
}

/// What arrives.
impl Small {
    /// `rank` has started the operation: whatever we send it now has its place.
    fn meet(&mut self, rank: usize, cx: &mut Context) {
        if std::mem::take(&mut self.partners[rank].withheld) {
            self.queue(rank, cx);
        }
    }

    /// There is room from now on: what was dropped may come again.
    pub fn admit(&mut self, room: Room, cx: &mut Context) {
        self.room = room;
        for rank in self.others() {
            let partner = &mut self.partners[rank];
            if matches!(partner.theirs, Theirs::Dropped) {
                partner.theirs = Theirs::Missing;
                let peer = partner.peer;
                cx.peers.queue_grant(peer, self.header(FrameKind::PieceGrant, 0));
            }
        }
    }

    /// There is no room for a contribution that is here, or begins to be.
    fn drop_theirs(&mut self, rank: usize, cx: &mut Context) {
        self.partners[rank].theirs = Theirs::Dropped;
        let is_dropped = |rank: usize| matches!(self.partners[rank].theirs, Theirs::Dropped);
        if self.others().all(is_dropped) {
            cx.rooms.all_begun(self.slot);
        }
    }

    /// Whatever comes now is not kept.
    pub fn leave_room(&mut self, cx: &mut Context) {
        cx.rooms.leave(self.slot, std::mem::replace(&mut self.room, Room::None));
    }

    pub fn granted(&mut self, rank: Rank, header: &FrameHeader, cx: &mut Context) -> Result<(), Fault> {
        let FrameHeader { key, chunk, piece, kind, .. } = *header;
        if kind == FrameKind::PieceGrant && header.digest == self.digest {
            // Once more: it had no room for what it got.
            let Partner { withheld, in_turn, .. } = self.partners[usize::from(rank)];
            if withheld || in_turn || (chunk, piece) != (0, 0) {
                return Err(Fault::WrongGrant { key, chunk, piece });
            }
            self.queue(rank.into(), cx);
            return Ok(());
        }
        self.meet(rank.into(), cx);
        Ok(())
    }

    /// Whether a contribution is wanted: one to another plan is not, and the master's verdict decides.
    pub fn expects(&mut self, rank: Rank, header: &FrameHeader, cx: &mut Context) -> Result<bool, Fault> {
        let (key, len, expected) = (header.key, header.len, self.wire_bytes());
        self.meet(rank.into(), cx);
        if header.digest != self.digest {
            return Ok(false);
        }
        if len as usize != expected {
            return Err(Fault::EagerLength { key, len, expected });
        }
        let rank = usize::from(rank);
        if !matches!(self.partners[rank].theirs, Theirs::Missing) {
            return Err(Fault::EagerTwice { key });
        }
        let has_room = self.room != Room::None;
        if has_room {
            self.partners[rank].theirs = Theirs::Arriving;
        } else {
            self.drop_theirs(rank, cx);
        }
        Ok(has_room)
    }

    /// A contribution of this plan, sound, or else (`None`) void.
    pub fn contributed(&mut self, peer: usize, digest: u32, bytes: Option<Vec<u8>>, cx: &mut Context) {
        let rank = self.others().find(|rank| self.partners[*rank].peer == peer);
        if let (Some(rank), true) = (rank, digest == self.digest) {
            self.take(rank, bytes, cx);
        }
    }

    fn take(&mut self, rank: usize, bytes: Option<Vec<u8>>, cx: &mut Context) {
        // What was parked came before we knew how long it must be. A wrong length is a wrong plan, despite its digest.
        let Some(bytes) = bytes.filter(|bytes| bytes.len() == self.wire_bytes()) else {
            self.partners[rank].theirs = Theirs::Missing;
            return;
        };
        if self.room == Room::None {
            return self.drop_theirs(rank, cx);
        }
        self.traffic.rx_bytes += bytes.len() as u64;
        self.partners[rank].theirs = Theirs::Here(bytes);
        self.missing -= 1;
        if self.missing == 0 {
            self.sum(cx);
            cx.outputs.push_back(Output::Done { key: self.key });
        }
    }

    /// Adds up all contributions in the order of ranks, the own one in its place.
    fn sum(&mut self, cx: &mut Context) {
        let len = self.buffers.len();
        if self.buffers.in_place() {
            self.saved = Some(self.buffers.own(0, len).to_vec());
            cx.counters.bytes_copied += len as u64;
        }
        let (own, sum) = self.buffers.own_and_result_mut(0, len);
        let own = self.quantized.as_deref().or(self.saved.as_deref()).or(own).unwrap_or_default();
        let of = |rank: usize| match &self.partners[rank].theirs {
            Theirs::Here(bytes) => bytes.as_slice(),
            _ => own,
        };
        let (dtype, world_size) = (self.coding.dtype, self.partners.len());
        // All add up the same: one of them keeps what that loses.
        let errors = self.errors.as_mut().filter(|_| self.rank == 0);
        match (self.coding.codec, errors) {
            (Some(codec), Some(errors)) => {
                codec.decode(of(0), sum);
                (1..world_size).for_each(|rank| codec.add_keeping(sum, of(rank), errors));
                if self.reduce == ReduceOp::Avg {
                    quant::finish_average_keeping(dtype, sum, errors, world_size as u64);
                }
            }
            (codec, _) => {
                match codec {
                    None => kernel::reduce_pair(self.reduce, dtype, sum, of(0), of(1)),
                    Some(codec) => {
                        codec.decode(of(0), sum);
                        codec.reduce_into(self.reduce, sum, of(1));
                    }
                }
                (2..world_size).for_each(|rank| self.coding.reduce_into(self.reduce, sum, of(rank)));
                if self.reduce == ReduceOp::Avg {
                    kernel::finish_average(dtype, sum, world_size as u64);
                }
            }
        }
        cx.counters.bytes_reduced += (len * (self.partners.len() - 1)) as u64;
        for partner in &mut self.partners {
            // Only the bytes go: a second contribution is still one too many.
            partner.theirs = Theirs::Arriving;
        }
        self.leave_room(cx);
    }
}

/// What leaves.
impl Small {
    pub fn next_item(&mut self, rank: Rank) -> Item {
        self.partners[usize::from(rank)].in_turn = false;
        WHOLE
    }

    pub fn payload(&self, at: usize, len: usize) -> &[u8] {
        match self.quantized.as_ref().or(self.saved.as_ref()) {
            Some(bytes) => &bytes[at..at + len],
            None => self.buffers.own(at, len),
        }
    }

    pub fn eager_header(&self, len: usize) -> FrameHeader {
        self.header(FrameKind::Eager, len)
    }

    pub fn wire_bytes(&self) -> usize {
        self.coding.wire_bytes(self.buffers.len())
    }
}
