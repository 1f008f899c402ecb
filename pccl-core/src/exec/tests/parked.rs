//! A peer written by hand that sends ahead what an engine never would.

use std::sync::Arc;

use super::pipe::{PipeEnd, PipeRef, pipe};
use super::world::{key, peer};
use crate::exec::{Engine, EngineConfig, OpStart, Output};
use crate::limits::{MAX_EAGER_BYTES_PER_PEER, MAX_EAGER_FRAME_BYTES, MAX_EAGER_FRAMES_PER_PEER};
use crate::mem::{Budget, TestMemory};
use crate::plan::{self, PlanView};
use crate::types::{
    DType, Epoch, EpochInfo, GroupId, GroupInfo, LinkId, OpDescriptor, OpKey, PeerId, ReduceOp, Time,
};
use crate::wire::frame::{FrameHeader, FrameKind, Trailer};

const INPUT: [u8; 12] = [3; 12];

/// Rank 0 of two, which has started nothing; rank 1 is ours, with two links.
struct Stage {
    engine: Engine<PipeEnd>,
    memory: TestMemory,
    /// Of other operations than `KEY`.
    other_memory: Vec<TestMemory>,
    view: PlanView,
    order: Arc<[PeerId]>,
    says: Vec<PipeRef>,
    reason: Option<String>,
    done: bool,
}

impl Stage {
    fn new() -> Stage {
        Stage::with_budget(Budget::default())
    }

    fn with_budget(budget: Budget) -> Stage {
        let order: Vec<PeerId> = (0..2).map(peer).collect();
        let group = GroupInfo {
            group: GroupId(0),
            since: Epoch(1),
            order,
            unlinked: Vec::new(),
            rtt_us: 0,
            planned: None,
        };
        let info = EpochInfo { epoch: Epoch(1), piece_bytes: 64, ..EpochInfo::default() };
        let view = plan::plan(&group, &info, 0, &DESCRIPTOR()).unwrap();
        let mut engine = Engine::new(EngineConfig { budget, ..EngineConfig::default() });
        engine.enter_epoch(Epoch(1));
        let mut says = Vec::new();
        for link in 0..2 {
            let (end, _, [_, back]) = pipe(4 << 20, 4 << 20);
            engine.add_link(LinkId(link), peer(1), 0, end, Time(0));
            says.push(back);
        }
        let order = group.order.into();
        let memory = TestMemory::new(&INPUT, true);
        let (other_memory, reason) = (Vec::new(), None);
        Stage { engine, memory, other_memory, view, order, says, reason, done: false }
    }

    fn say(&mut self, link: usize, bytes: &[u8]) -> &mut Stage {
        self.says[link].borrow_mut().bytes.extend(bytes);
        for _ in 0..8 {
            self.engine.ready(LinkId(link as u64), Time(0));
        }
        self.listen();
        self
    }

    fn listen(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::LinkLost { reason, .. } => self.reason = Some(reason),
                Output::Done { .. } => self.done = true,
                _ => {}
            }
        }
    }

    fn start(&mut self) {
        self.start_at(KEY());
    }

    fn start_at(&mut self, key: OpKey) {
        let (order, view) = (self.order.clone(), self.view.clone());
        let mut memory = TestMemory::new(&INPUT, true);
        let buffers = if key == KEY() { self.memory.lend() } else { memory.lend() };
        self.other_memory.push(memory);
        let start = OpStart { key, order, view, descriptor: DESCRIPTOR(), buffers };
        self.engine.start(start, Time(0));
        self.listen();
    }

    fn frame(&self, key: OpKey, len: usize) -> Vec<u8> {
        self.trailed(key, len, |payload| Trailer { crc32: crc32fast::hash(payload), void: false })
    }

    fn void(&self, key: OpKey, len: usize) -> Vec<u8> {
        self.trailed(key, len, |_| Trailer { crc32: 0, void: true })
    }

    fn trailed(&self, key: OpKey, len: usize, trailer: impl Fn(&[u8]) -> Trailer) -> Vec<u8> {
        let (kind, digest) = (FrameKind::Eager, self.view.digest);
        let header = FrameHeader { kind, key, digest, chunk: 0, piece: 0, offset: 0, len: len as u32 };
        let payload = vec![1; len];
        [&header.encode()[..], &payload, &trailer(&payload).encode()].concat()
    }

    fn parked(&self) -> usize {
        self.engine.kept().parked_bytes
    }

    #[track_caller]
    fn lost(&mut self, why: &str) {
        let reason = self.reason.clone().expect("the link should have been lost");
        assert!(reason.contains(why), "{reason}");
    }
}

const DESCRIPTOR: fn() -> OpDescriptor = || OpDescriptor::plain(12, DType::U8, ReduceOp::Sum);
const KEY: fn() -> OpKey = || key(1, 0, 0);

#[test]
fn more_bytes_than_the_allowance_end_the_link() {
    let mut stage = Stage::new();
    let most = MAX_EAGER_BYTES_PER_PEER / MAX_EAGER_FRAME_BYTES;
    for tag in 0..most as u64 {
        let frame = stage.frame(key(1, tag, 0), MAX_EAGER_FRAME_BYTES);
        stage.say(tag as usize % 2, &frame);
    }
    assert_eq!((stage.parked(), stage.reason.clone()), (MAX_EAGER_BYTES_PER_PEER, None));
    let frame = stage.frame(key(1, 1000, 0), 1);
    stage.say(0, &frame).lost("sent ahead");
}

#[test]
fn more_frames_than_the_allowance_end_the_link() {
    let mut stage = Stage::new();
    for tag in 0..MAX_EAGER_FRAMES_PER_PEER as u64 {
        let frame = stage.frame(key(1, tag, 0), 1);
        stage.say(0, &frame);
    }
    assert_eq!((stage.parked(), stage.reason.clone()), (MAX_EAGER_FRAMES_PER_PEER, None));
    let frame = stage.frame(key(1, 1000, 0), 1);
    stage.say(1, &frame).lost("sent ahead");
}

#[test]
fn a_header_takes_the_place_before_its_bytes_are_here() {
    let mut stage = Stage::new();
    let frame = stage.frame(KEY(), 12);
    stage.say(0, &frame[..48]);
    assert_eq!(stage.parked(), 12);
    stage.say(1, &frame).lost("a second whole contribution");
}

#[test]
fn a_contribution_under_way_at_the_start_lands_in_the_operation() {
    for cut in 48..48 + 12 + 8 {
        let mut stage = Stage::new();
        let frame = stage.frame(KEY(), 12);
        stage.say(0, &frame[..cut]);
        stage.start();
        assert_eq!((stage.parked(), stage.done), (0, false));
        stage.say(0, &frame[cut..]);
        assert!(stage.done);
        assert_eq!(stage.engine.finish(KEY()).map(|(_, traffic)| traffic.rx_bytes), Some(12));
        assert_eq!(stage.memory.result(), [4; 12]);
    }
}

#[test]
fn an_operation_that_ends_under_way_gets_nothing_more() {
    for cut in 0..48 + 12 + 8 {
        let mut stage = Stage::new();
        let frame = stage.frame(KEY(), 12);
        stage.start();
        stage.say(0, &frame[..cut]);
        stage.engine.stop(KEY()).unwrap();
        stage.say(0, &frame[cut..]);
        assert_eq!((stage.done, stage.parked(), stage.reason.clone()), (false, 0, None));
        assert_eq!(stage.memory.input(), INPUT);
    }
}

#[test]
fn a_second_contribution_is_refused_before_and_after_the_start_and_when_all_is_done() {
    for started in [false, true] {
        let mut stage = Stage::new();
        if started {
            stage.start();
        }
        let frame = stage.frame(KEY(), 12);
        stage.say(0, &frame).say(1, &frame).lost("a second whole contribution");
    }
}

#[test]
fn a_void_contribution_leaves_its_place() {
    let mut stage = Stage::new();
    let void = stage.void(KEY(), 12);
    stage.say(0, &void);
    assert_eq!((stage.parked(), stage.reason.clone()), (0, None));
    stage.start();
    let void = stage.void(KEY(), 12);
    stage.say(0, &void);
    assert!(!stage.done);
    assert_eq!(stage.engine.counters().voids_received, 2);
}

#[test]
fn a_contribution_of_another_length_is_refused_or_never_added() {
    let mut stage = Stage::new();
    stage.start();
    let frame = stage.frame(KEY(), 11);
    stage.say(0, &frame).lost("a whole contribution of 11 bytes");
    let mut stage = Stage::new();
    let frame = stage.frame(KEY(), 11);
    stage.say(0, &frame).start();
    assert_eq!((stage.done, stage.parked()), (false, 0));
}

#[test]
fn a_piece_of_a_small_operation_is_refused() {
    let mut stage = Stage::new();
    stage.start();
    let header = FrameHeader {
        kind: FrameKind::Reduce,
        key: KEY(),
        digest: stage.view.digest,
        chunk: 0,
        piece: 0,
        offset: 0,
        len: 12,
    };
    stage.say(0, &header.encode()).lost("which takes whole contributions");
}

#[test]
fn a_newer_epoch_replaces_what_was_parked_and_older_ones_are_dropped() {
    let mut stage = Stage::new();
    let (old, new) = (stage.frame(key(1, 0, 0), 12), stage.frame(key(2, 0, 0), 5));
    stage.say(0, &old[..50]).say(1, &new);
    assert_eq!(stage.parked(), 5);
    // The connections of a pair overtake each other.
    let late = stage.frame(key(1, 3, 0), 9);
    stage.say(0, &old[50..]).say(0, &late);
    assert_eq!((stage.parked(), stage.reason.clone()), (5, None));
}

#[test]
fn what_was_dropped_for_lack_of_room_comes_again_only_when_it_is_asked_for() {
    let stage = || {
        // Room for one of two, of which the other one lacks its contribution.
        let mut stage = Stage::with_budget(Budget::new(INPUT.len()));
        stage.start_at(key(1, 7, 0));
        stage.start_at(key(1, 8, 0));
        let frame = stage.frame(key(1, 8, 0), 12);
        stage.say(0, &frame);
        // It has room beside the budget now, and so nothing else has any.
        stage.start();
        let frame = stage.frame(KEY(), 12);
        stage.say(0, &frame);
        assert_eq!((stage.done, stage.reason.clone()), (false, None));
        stage
    };
    let frame = stage().frame(KEY(), 12);
    stage().say(1, &frame).lost("a second whole contribution");

    let mut asked = stage();
    let grants = asked.engine.counters().grants_sent;
    asked.engine.stop(key(1, 8, 0)).unwrap();
    asked.say(0, &[]);
    assert_eq!(asked.engine.counters().grants_sent, grants + 1);
    asked.say(1, &frame);
    assert_eq!((asked.done, asked.reason.clone()), (true, None));
}
