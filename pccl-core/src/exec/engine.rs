//! The public face of the room: links and operations in, progress out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::conn::{Conn, Wrote};
use super::frames::Core;
use super::link::Link;
use super::running::Running;
use super::sync::{SyncEnd, SyncStart};
use super::tx::Freight;
use crate::limits::{
    DEFAULT_SILENCE_MS, FAR_SEGMENT_BYTES, MAX_EAGER_BYTES_PER_PEER, MAX_PROBE_BYTES, MAX_SEGMENT_BYTES,
    NEAR_RTT_US, SAVE_IDLE_MS,
};
use crate::mem::{Budget, Buffers};
use crate::obs::Counters;
use crate::plan::PlanView;
use crate::types::{
    Epoch, FetchFailure, Heard, LinkId, OpDescriptor, OpKey, PeerId, ProbeOrder, ProbeReport, Severity,
    Source, SyncNumber, Time,
};

#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Payload of one frame: a multiple of 8, `MAX_SEGMENT_BYTES` at most. Long frames cost fewer system calls; on
    /// links that are near their filler after an abort costs nothing either.
    pub near_segment_bytes: usize,
    /// The same on links that are far, or of which it is not known.
    pub far_segment_bytes: usize,
    /// What one link may move in one direction before the others have their turn.
    pub pump_budget_bytes: usize,
    /// What may be sent to one peer before it is known to have started the operations. The receiver allows the default.
    pub eager_bytes: usize,
    /// A link that takes nothing for so long, although there is something to write, is given up.
    pub stall_ms: u64,
    /// What one peer is sent in one round of measurements at most.
    pub probe_bytes: u64,
    /// What windows are taken from.
    pub budget: Budget,
    #[cfg(feature = "seeded-bugs")]
    pub bug: Option<SeededBug>,
}

/// Planted mistakes that the simulator must find.
#[cfg(feature = "seeded-bugs")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeededBug {
    /// `stop` leaves one overwritten piece of an in-place input as it is.
    PartialSumLeftBehind,
    /// Data of an old epoch is matched by its tag alone.
    OldEpochAccepted,
    /// The last block of a shared state's tensor counts as received from the start.
    StateBlockForgotten,
    /// A block of a shared state counts as the elected one whatever its digest.
    StateBlockBelieved,
    /// What a broken transfer has left of a shared state counts as the program's.
    MixtureVotes,
    /// A link that makes no progress is spared again and again.
    DeadLinkKept,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig {
            near_segment_bytes: MAX_SEGMENT_BYTES,
            far_segment_bytes: FAR_SEGMENT_BYTES,
            pump_budget_bytes: 512 << 10,
            eager_bytes: MAX_EAGER_BYTES_PER_PEER,
            stall_ms: u64::from(DEFAULT_SILENCE_MS),
            probe_bytes: MAX_PROBE_BYTES,
            budget: Budget::default(),
            #[cfg(feature = "seeded-bugs")]
            bug: None,
        }
    }
}

impl EngineConfig {
    fn is_near(&self, rtt_us: u32) -> bool {
        (1..=NEAR_RTT_US).contains(&rtt_us)
    }

    /// For a path of this length; 0 is not known.
    fn segment_bytes(&self, rtt_us: u32) -> usize {
        if self.is_near(rtt_us) { self.near_segment_bytes } else { self.far_segment_bytes }
    }
}

/// One operation as this peer is to take part in it.
#[derive(Debug)]
pub struct OpStart {
    pub key: OpKey,
    /// Index is rank.
    pub order: Arc<[PeerId]>,
    pub view: PlanView,
    pub descriptor: OpDescriptor,
    pub buffers: Buffers,
}

/// Payload moved for one operation, each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpTraffic {
    pub tx_bytes: u64,
    pub rx_bytes: u64,
}

/// How much is kept for others: to be watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub links: usize,
    /// Grants of operations that have not been started here.
    pub early_grants: usize,
    /// Grants that wait for a link to take them.
    pub queued_grants: usize,
    /// Whole contributions to operations that have not been started here.
    pub parked_bytes: usize,
    /// Taken of the budget, by whoever shares it.
    pub budget_bytes: usize,
    /// Asks for a shared state of synchronizations that have not begun here.
    pub early_asks: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The whole result is here. Others may still need bytes from us: only a verdict ends the operation.
    Done { key: OpKey },
    /// The link ended, or its other end did what it must not. It is shut and dropped, and what it carried is
    /// lost: every running operation with that peer has to be stopped.
    LinkLost { link: LinkId, peer: PeerId, reason: String, others_left: usize },
    /// The link was shut and dropped on our own order.
    LinkClosed { link: LinkId },
    /// There are bytes to write and the link did not take them: call `ready` when it is writable.
    WatchWritable { link: LinkId },
    /// The link had its share: call `ready` again soon.
    Again { link: LinkId },
    /// What this peer needed of the elected state is here. `failed`: it cannot be had, for this reason.
    StateDone { number: SyncNumber, failed: Option<FetchFailure> },
    /// A round of measurements is over.
    Probed(ProbeReport),
    /// How far a long transfer has come, or who holds it up.
    Log { severity: Severity, text: String },
}

/// Moves the bytes of all operations over all links of one peer. Never blocks, and decides nothing: when an
/// operation ends is the master's decision, carried out by `stop` or `finish`.
pub struct Engine<L: Link> {
    pub(super) core: Core,
    pub(super) conns: Vec<Option<Conn<L>>>,
    by_link: BTreeMap<LinkId, usize>,
    /// Counts the calls that move bytes.
    pub(super) pump: u64,
    /// When the latest operation began or ended.
    busy: Time,
}

/// Links.
impl<L: Link> Engine<L> {
    pub fn new(config: EngineConfig) -> Engine<L> {
        for bytes in [config.near_segment_bytes, config.far_segment_bytes] {
            assert!(bytes.is_multiple_of(8), "a segment must hold whole elements");
            assert!((8..=MAX_SEGMENT_BYTES).contains(&bytes), "segments are out of bounds");
        }
        Engine {
            core: Core::new(config),
            conns: Vec::new(),
            by_link: BTreeMap::new(),
            pump: 0,
            busy: Time(0),
        }
    }

    /// What is kept for others.
    pub fn kept(&self) -> Kept {
        let (early_grants, queued_grants, parked_bytes) = self.core.cx.peers.kept();
        let budget_bytes = self.core.cx.config.budget.used_bytes();
        let early_asks = self.core.syncs.early_asks();
        let links = self.by_link.len();
        Kept { links, early_grants, queued_grants, parked_bytes, budget_bytes, early_asks }
    }

    /// Takes a link whose hellos are exchanged, and begins to use it. `rtt_us` is that of the path as known now, for the peer's other
    /// links too; 0 where it is not known.
    pub fn add_link(&mut self, link: LinkId, peer: PeerId, rtt_us: u32, io: L, now: Time) {
        let peer_slot = self.core.cx.peers.slot_of(peer);
        let slot = self.conns.iter().position(Option::is_none).unwrap_or(self.conns.len());
        if slot == self.conns.len() {
            self.conns.push(None);
        }
        let before = self.by_link.insert(link, slot);
        assert!(before.is_none(), "{link:?} was added twice");
        let config = &self.core.cx.config;
        let near = config.is_near(rtt_us);
        let conn = Conn::new(link, peer, peer_slot, config.segment_bytes(rtt_us), near, io);
        self.core.cx.peers.add_link(peer_slot, slot, conn.order());
        self.conns[slot] = Some(conn);
        self.choose_express(peer_slot);
        self.set_round_trip(peer, rtt_us);
        self.core.cx.now = now;
        self.core.syncs.linked(&mut self.core.cx);
        self.ready(link, now);
    }

    /// What is known of the path now: of effect on all links to the peer, from their next frame on.
    pub fn set_round_trip(&mut self, peer: PeerId, rtt_us: u32) {
        let segment_bytes = self.core.cx.config.segment_bytes(rtt_us);
        let Some(peer) = self.core.cx.peers.find(peer) else { return };
        for &slot in self.core.cx.peers.links(peer) {
            if let Some(conn) = &mut self.conns[slot] {
                conn.set_segment_bytes(segment_bytes);
            }
        }
    }

    /// As the run's master wants it; of effect at once.
    pub fn set_stall_ms(&mut self, stall_ms: u64) {
        self.core.cx.config.stall_ms = stall_ms;
    }

    /// Shuts and drops all links to the peer. Operations are not told: stop them.
    pub fn unlink(&mut self, peer: PeerId, now: Time) {
        let slots = self.core.cx.peers.find(peer).map(|slot| self.core.cx.peers.links(slot).to_vec());
        for slot in slots.unwrap_or_default() {
            if let Some(link) = self.drop_conn(slot) {
                self.core.cx.outputs.push_back(Output::LinkClosed { link });
            }
        }
        self.core.cx.now = now;
        self.core.syncs.unlinked(peer, &mut self.core.cx);
        self.core.probes.unlinked(peer, &mut self.core.cx);
        self.flush(now);
    }

    /// Who is in the group from here on.
    pub fn members(&mut self, members: &[PeerId], now: Time) {
        self.core.cx.now = now;
        self.core.syncs.members(members, &mut self.core.cx);
        self.flush(now);
    }

    pub fn links_to(&self, peer: PeerId) -> usize {
        let peers = &self.core.cx.peers;
        peers.find(peer).map_or(0, |slot| peers.links(slot).len())
    }

    /// The link may be readable or writable, or an `Again` is due. Unknown links are no error: the news
    /// of a link's end may cross with this.
    pub fn ready(&mut self, link: LinkId, now: Time) {
        let Some(&slot) = self.by_link.get(&link) else { return };
        self.core.cx.now = now;
        if let Some(conn) = &mut self.conns[slot] {
            conn.wake();
            self.core.cx.peers.mark_dirty(conn.speaker.peer);
            match conn.read(&mut self.core) {
                Ok(true) => self.read_expresses(slot),
                Ok(false) => {}
                Err(reason) => self.lose(slot, reason),
            }
        }
        self.flush(now);
    }

    fn drop_conn(&mut self, slot: usize) -> Option<LinkId> {
        let conn = self.conns[slot].take()?;
        let link = conn.speaker.link;
        self.by_link.remove(&link);
        let peer = conn.speaker.peer;
        self.core.cx.peers.remove_link(peer, slot);
        conn.close(&mut self.core.cx.windows);
        self.choose_express(peer);
        Some(link)
    }

    pub(super) fn lose(&mut self, slot: usize, reason: String) {
        let Some(peer) = self.conns[slot].as_ref().map(|conn| conn.speaker.id) else { return };
        if let Some(link) = self.drop_conn(slot) {
            self.core.cx.counters.links_lost += 1;
            let others_left = self.links_to(peer);
            self.core.syncs.torn(peer, &mut self.core.cx);
            if others_left == 0 {
                self.core.probes.unlinked(peer, &mut self.core.cx);
            }
            self.core.cx.outputs.push_back(Output::LinkLost { link, peer, reason, others_left });
        }
    }

    /// Writes what the last call set free.
    fn flush(&mut self, now: Time) {
        self.pump += 1;
        self.core.admit_small();
        while let Some(peer) = self.core.cx.peers.next_dirty() {
            self.flush_peer(peer, now);
        }
    }

    /// What waits on a blocked link goes first, over the one that may be free.
    fn relieve(&mut self, peer: usize, slot: usize, now: Time) {
        if !self.conns[slot].as_ref().is_some_and(Conn::is_free) {
            return;
        }
        for &other in self.core.cx.peers.links(peer) {
            if !self.is_express(peer, other, now)
                && let Ok([Some(conn), Some(other)]) = self.conns.get_disjoint_mut([slot, other])
                && conn.take_over(other)
            {
                return;
            }
        }
    }

    /// One piece for each link in turn, until none of them takes any more.
    fn flush_peer(&mut self, peer: usize, now: Time) {
        let others = self.flush_express(peer, now);
        self.flush_links(peer, others, now);
        // What is short waited for the express. If nothing else is left, it goes over any link.
        if others == Freight::Long && self.flush_express(peer, now) == Freight::Any {
            self.flush_links(peer, Freight::Any, now);
        }
    }

    /// `others`: what links may take that are not the express.
    fn flush_links(&mut self, peer: usize, others: Freight, now: Time) {
        let mut idle = 0;
        while idle < self.core.cx.peers.links(peer).len() {
            let Some(slot) = self.core.cx.peers.next_link(peer) else { return };
            self.relieve(peer, slot, now);
            let freight = if self.core.cx.peers.express(peer) == Some(slot) { Freight::Any } else { others };
            let Some(conn) = &mut self.conns[slot] else { return };
            match conn.write(freight, &mut self.core, self.pump, now) {
                Ok(Wrote::Whole) => idle = 0,
                Ok(Wrote::Nothing) => idle += 1,
                Err(reason) => self.lose(slot, reason),
            }
        }
    }
}

/// Operations.
impl<L: Link> Engine<L> {
    /// From here on no byte of an older epoch lands or leaves. Operations of older epochs keep their memory
    /// until `stop` or `finish`.
    pub fn enter_epoch(&mut self, epoch: Epoch) {
        if epoch <= self.core.ops.epoch {
            return;
        }
        for slot in self.core.ops.enter(epoch) {
            self.detach(slot);
            self.core.ops.get_mut(slot).halt();
        }
        self.core.probes.cancel();
        self.core.cx.peers.enter_epoch(epoch);
        self.core.cx.peers.forget_idle();
    }

    /// The membership is over, and the next one counts its epochs anew. All operations were stopped, and all peers
    /// unlinked, before.
    pub fn reset(&mut self) {
        self.core.ops.reset();
        self.core.syncs.reset();
        self.core.probes.cancel();
        self.core.cx.peers.forget_early();
        self.core.cx.peers.forget_idle();
    }

    /// Begins an operation of the current epoch. Ends in `Done`, unless it is stopped first.
    pub fn start(&mut self, op: OpStart, now: Time) {
        self.enter_epoch(op.key.epoch);
        assert_eq!(op.key.epoch, self.core.ops.epoch, "{} is of an epoch that is over", op.key);
        if let Some(last) = op.key.seq.checked_sub(1) {
            self.core.cx.peers.drop_early_until(OpKey { seq: last, ..op.key });
        }
        let saves = if op.buffers.in_place() || op.buffers.has_feedback() { op.buffers.len() } else { 0 };
        self.core.cx.saves.trim(saves);
        (self.core.cx.now, self.busy) = (now, now);
        let slot = self.core.ops.free_slot();
        self.core.ops.insert(slot, Running::new(slot, op, &mut self.core.cx));
        self.core.ops.get_mut(slot).begin(&mut self.core.cx);
        self.flush(now);
    }

    /// Aborts: the input is as it was before, and no byte of the memory is touched any more. `None` if no such
    /// operation runs.
    pub fn stop(&mut self, key: OpKey) -> Option<Buffers> {
        let op = self.remove(key)?;
        let pieces_to_forget = self.pieces_to_forget();
        Some(op.stop(pieces_to_forget, &mut self.core.cx))
    }

    #[cfg(feature = "seeded-bugs")]
    fn pieces_to_forget(&self) -> usize {
        usize::from(self.core.cx.config.bug == Some(SeededBug::PartialSumLeftBehind))
    }

    #[cfg(not(feature = "seeded-bugs"))]
    fn pieces_to_forget(&self) -> usize {
        0
    }

    /// The result stands. No byte of the memory is touched any more. `None` if no such operation runs.
    pub fn finish(&mut self, key: OpKey) -> Option<(Buffers, OpTraffic)> {
        let op = self.remove(key)?;
        Some(op.finish(&mut self.core.cx))
    }

    /// Ends an operation on all links and for all late frames.
    fn remove(&mut self, key: OpKey) -> Option<Running> {
        self.core.ops.retire(key);
        self.core.cx.peers.drop_early_until(key);
        let slot = self.core.ops.find(key)?;
        // No news of an operation comes after its end.
        self.core.cx.outputs.retain(|output| *output != Output::Done { key });
        self.detach(slot);
        // Of the last call that told the time. There is one with every heartbeat, and idle time is far longer.
        self.busy = self.core.cx.now;
        self.core.ops.remove(slot)
    }

    /// Takes back every mention of an operation outside the table of operations.
    fn detach(&mut self, slot: usize) {
        let op = self.core.ops.get_mut(slot);
        op.leave_room(&mut self.core.cx);
        let key = op.key();
        for peer in op.peer_slots() {
            self.core.cx.peers.withdraw(peer, slot, key);
        }
        for conn in self.conns.iter_mut().flatten() {
            conn.forget(slot, key, &mut self.core.cx);
        }
    }
}

/// Shared state.
impl<L: Link> Engine<L> {
    /// Serves the tensors to whoever asks, and fetches what this peer needs. Where it needs something, ends in
    /// `StateDone`, unless `end_sync` comes first.
    pub fn begin_sync(&mut self, start: SyncStart, now: Time) {
        self.core.cx.now = now;
        self.core.syncs.begin(start, &mut self.core.cx);
        self.flush(now);
    }

    /// Another source for the fetch under way.
    pub fn add_source(&mut self, number: SyncNumber, source: Source, now: Time) {
        self.core.cx.now = now;
        self.core.syncs.add_source(number, source, &mut self.core.cx);
        self.flush(now);
    }

    /// No byte of the tensors is touched any more. `None` if none was begun.
    pub fn end_sync(&mut self) -> Option<SyncEnd> {
        let end = self.core.syncs.end()?;
        #[cfg(feature = "seeded-bugs")]
        let is_mixture = end.is_mixture && self.core.cx.config.bug != Some(SeededBug::MixtureVotes);
        #[cfg(feature = "seeded-bugs")]
        let end = SyncEnd { is_mixture, ..end };
        // No news of a synchronization comes after its end.
        self.core.cx.outputs.retain(|output| !matches!(output, Output::StateDone { .. }));
        for conn in self.conns.iter_mut().flatten() {
            conn.forget_sync(&mut self.core.cx);
        }
        Some(end)
    }
}

/// Measurements.
impl<L: Link> Engine<L> {
    /// What came of each peer at best of late, whatever it was.
    pub fn observed(&self, now: Time) -> Vec<Heard> {
        self.core.cx.peers.observed(now)
    }

    /// Ends in `Probed`, unless another order or another epoch comes first.
    pub fn probe(&mut self, order: ProbeOrder, now: Time) {
        self.core.cx.now = now;
        self.core.cx.outputs.retain(|output| !matches!(output, Output::Probed(_)));
        self.core.probes.begin(order, &mut self.core.cx);
        self.flush(now);
    }
}

/// News and time.
impl<L: Link> Engine<L> {
    pub fn poll_output(&mut self) -> Option<Output> {
        self.core.cx.outputs.pop_front()
    }

    pub fn counters(&self) -> &Counters {
        &self.core.cx.counters
    }

    #[cfg(test)]
    pub fn runs_anything(&self) -> bool {
        !self.core.ops.is_empty()
    }

    pub fn next_deadline(&self) -> Option<Time> {
        let core = &self.core;
        let of_core = [core.syncs.next_deadline(), core.probes.next_deadline()];
        [self.next_stall(), self.idle_deadline()].into_iter().chain(of_core).flatten().min()
    }

    /// When kept areas for saved input have been of no use for long enough.
    fn idle_deadline(&self) -> Option<Time> {
        (!self.core.cx.saves.is_empty()).then(|| self.busy.plus_ms(SAVE_IDLE_MS))
    }

    /// Gives up links that stand still, and memory that is of no use.
    pub fn on_deadline(&mut self, now: Time) {
        if self.idle_deadline().is_some_and(|at| at <= now) {
            self.core.cx.saves.clear();
        }
        self.core.cx.now = now;
        self.judge_links(now);
        self.core.syncs.tick(&mut self.core.cx);
        self.core.probes.tick(&mut self.core.cx);
        self.flush(now);
    }
}
