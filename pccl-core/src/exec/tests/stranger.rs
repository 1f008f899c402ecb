//! A peer written by hand: it says what an engine never would.

use std::sync::Arc;

use super::pipe::{PipeRef, pipe};
use super::world::{key, peer};
use crate::exec::{Engine, EngineConfig, OpStart, Output};
use crate::limits::{MAX_EARLY_GRANTS_PER_PEER, WINDOW_OVERHEAD_BYTES};
use crate::mem::{Budget, TestMemory};
use crate::plan::{self, PlanView};
use crate::types::{
    DType, Epoch, EpochInfo, GroupId, GroupInfo, LinkId, OpDescriptor, OpKey, PeerId, Quantization, Rank,
    ReduceOp, ScheduleChoice, Time,
};
use crate::wire::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, TRAILER_BYTES, Trailer};

const INPUT: [u8; 30] = [3; 30];
const KEY: fn() -> OpKey = || key(1, 0, 0);

/// Rank 0 of a mesh of three, which has 10 bytes of each owner in pieces of 8; ranks 1 and 2 are ours.
struct Stage {
    engine: Engine<super::pipe::PipeEnd>,
    memory: TestMemory,
    input: Vec<u8>,
    view: PlanView,
    /// What we say, by rank; 0 is a second link of rank 1.
    says: Vec<PipeRef>,
    reason: Option<String>,
    done: bool,
}

impl Stage {
    /// Without windows: everybody waits for their turn.
    fn new() -> Stage {
        Stage::with_windows(0)
    }

    fn with_windows(bytes: usize) -> Stage {
        Stage::with(EngineConfig { budget: Budget::new(bytes), ..EngineConfig::default() })
    }

    fn with(config: EngineConfig) -> Stage {
        Stage::of(config, OpDescriptor::plain(30, DType::U8, ReduceOp::Sum), &INPUT, 8)
    }

    fn of(config: EngineConfig, descriptor: OpDescriptor, input: &[u8], piece_bytes: u32) -> Stage {
        let order: Vec<PeerId> = (0..3).map(peer).collect();
        let group = GroupInfo {
            group: GroupId(0),
            since: Epoch(1),
            order: order.clone(),
            unlinked: Vec::new(),
            rtt_us: 0,
            planned: None,
        };
        let info = EpochInfo {
            epoch: Epoch(1),
            schedule: ScheduleChoice::Mesh,
            piece_bytes,
            groups: vec![group.clone()],
            ..EpochInfo::default()
        };
        let view = plan::plan(&group, &info, 0, &descriptor).unwrap();
        let mut engine = Engine::new(config);
        let mut says = Vec::new();
        for (link, rank) in [1, 1, 2].into_iter().enumerate() {
            let (end, _, [_, back]) = pipe(1 << 20, 1 << 20);
            engine.add_link(LinkId(link as u64), peer(rank), 0, end, Time(0));
            says.push(back);
        }
        let mut memory = TestMemory::new(input, true);
        let buffers = memory.lend();
        let order: Arc<[PeerId]> = order.into();
        engine.start(OpStart { key: KEY(), order, view: view.clone(), descriptor, buffers }, Time(0));
        Stage { engine, memory, input: input.to_vec(), view, says, reason: None, done: false }
    }

    fn say(&mut self, link: usize, bytes: &[u8]) -> &mut Stage {
        self.says[link].borrow_mut().bytes.extend(bytes);
        self.engine.ready(LinkId(link as u64), Time(0));
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::LinkLost { reason, .. } => self.reason = Some(reason),
                Output::Done { .. } => self.done = true,
                _ => {}
            }
        }
        self
    }

    fn header(&self, kind: FrameKind, chunk: u32, piece: u32, offset: u32, len: u32) -> FrameHeader {
        FrameHeader { kind, key: KEY(), digest: self.view.digest, chunk, piece, offset, len }
    }

    /// A frame whose sender gave up after the header.
    fn void(header: FrameHeader) -> Vec<u8> {
        let filler = vec![0xAA; header.len as usize];
        [&header.encode()[..], &filler, &Trailer { crc32: 0, void: true }.encode()].concat()
    }

    fn frame(header: FrameHeader) -> Vec<u8> {
        let payload = vec![1; header.len as usize];
        let crc32 = crc32fast::hash(&payload);
        [&header.encode()[..], &payload, &Trailer { crc32, void: false }.encode()].concat()
    }

    /// A contribution to our chunk, 0, or part of it.
    fn contribute(&mut self, from: Rank, piece: u32, offset: u32, len: u32) -> &mut Stage {
        let header = self.header(FrameKind::Reduce, 0, piece, offset, len);
        self.say(usize::from(from), &Stage::frame(header))
    }

    #[track_caller]
    fn lost(&mut self, why: &str) {
        let reason = self.reason.clone().expect("the link should have been lost");
        assert!(reason.contains(why), "{reason}");
        self.engine.stop(KEY()).unwrap();
        assert!(self.memory.input() == self.input, "the input changed");
    }
}

#[test]
fn contributions_in_turn_land() {
    // Piece 0: child 1 then 2; piece 1, of 2 bytes: child 2 then 1.
    let mut stage = Stage::new();
    stage.contribute(1, 0, 0, 3).contribute(1, 0, 3, 5).contribute(2, 0, 0, 8);
    stage.contribute(2, 1, 0, 2).contribute(1, 1, 0, 2);
    assert_eq!(stage.reason, None);
    assert!(!stage.done, "the other chunks are missing");
    let counters = stage.engine.counters().clone();
    assert_eq!((counters.pieces_received, counters.bytes_reduced), (4, 20));
    assert_eq!(stage.engine.stop(KEY()).unwrap().len(), 30);
    assert_eq!(stage.memory.input(), INPUT);
}

#[test]
fn a_contribution_before_its_turn_is_refused() {
    Stage::new().contribute(2, 0, 0, 8).lost("without grant, or out of turn");
}

#[test]
fn a_contribution_that_came_already_is_refused() {
    Stage::new().contribute(1, 0, 0, 8).contribute(1, 0, 0, 8).lost("without grant, or out of turn");
}

#[test]
fn a_gap_and_an_overlap_within_a_piece_are_refused() {
    Stage::new().contribute(1, 0, 1, 4).lost("where offset 0 was due");
    Stage::new().contribute(1, 0, 0, 4).contribute(1, 0, 3, 4).lost("where offset 4 was due");
}

#[test]
fn a_segment_longer_than_its_piece_is_refused() {
    Stage::new().contribute(1, 0, 0, 9).lost("where offset 0 was due");
}

/// Of three owners' chunks of 5000 elements each in pieces of up to 4096, ours: a piece of two whole blocks of 2056 bytes on
/// the wire, and one of 904 elements.
fn quantized() -> Stage {
    let quantization = Quantization::MinMax(DType::U8);
    let descriptor = OpDescriptor { count: 15_000, dtype: DType::F32, op: ReduceOp::Sum, quantization };
    let config = EngineConfig { budget: Budget::new(0), ..EngineConfig::default() };
    let stage = Stage::of(config, descriptor, &[0; 60_000], 4096 * 4);
    assert_eq!(stage.view.chunks[0].piece_span(stage.view.piece_elements, 1), (4096, 904));
    stage
}

#[test]
fn blocks_of_codes_land_whole() {
    let mut stage = quantized();
    stage.contribute(1, 0, 0, 2056).contribute(1, 0, 2056, 2056).contribute(2, 0, 0, 4112);
    stage.contribute(2, 1, 0, 8 + 904).contribute(1, 1, 0, 8 + 904);
    assert_eq!(stage.reason, None);
    let counters = stage.engine.counters();
    assert_eq!((counters.pieces_received, counters.bytes_reduced), (4, 2 * 20_000));
}

#[test]
fn a_frame_that_cuts_a_block_is_refused() {
    quantized().contribute(1, 0, 0, 2055).lost("where offset 0 was due");
    quantized().contribute(1, 0, 0, 2057).lost("where offset 0 was due");
    quantized().contribute(1, 0, 0, 2056).contribute(1, 0, 2056, 2055).lost("where offset 2056 was due");
    quantized().contribute(1, 0, 1000, 2056).lost("where offset 0 was due");
    quantized().contribute(1, 0, 0, 2056).contribute(1, 0, 1000, 2056).lost("where offset 2056 was due");
}

/// As long as the elements, or any other length but that of what travels.
#[test]
fn a_quantized_piece_has_the_length_of_what_travels() {
    quantized().contribute(1, 0, 0, 4096 * 4).lost("where offset 0 was due");
    quantized().contribute(1, 0, 0, 3 * 2056).lost("where offset 0 was due");
    let of_length = |len| {
        let mut stage = quantized();
        stage.contribute(1, 0, 0, 4112).contribute(2, 0, 0, 4112).contribute(2, 1, 0, len);
        stage.lost("where offset 0 was due");
    };
    [8 + 903, 8 + 905, 904 * 4].into_iter().for_each(of_length);
}

#[test]
fn a_piece_over_two_connections_at_once_is_refused() {
    let mut stage = Stage::new();
    stage.contribute(1, 0, 0, 4);
    let header = stage.header(FrameKind::Reduce, 0, 0, 4, 4);
    stage.say(0, &Stage::frame(header)).lost("over two connections");
}

#[test]
fn a_result_before_our_contribution_has_left_is_refused() {
    let mut stage = Stage::new();
    let header = stage.header(FrameKind::Broadcast, 1, 0, 0, 8);
    stage.say(1, &Stage::frame(header)).lost("without grant, or out of turn");
}

#[test]
fn data_from_the_wrong_side_of_a_tree_is_refused() {
    for (link, kind, chunk) in
        [(1, FrameKind::Reduce, 1), (1, FrameKind::Broadcast, 0), (2, FrameKind::Broadcast, 1)]
    {
        let mut stage = Stage::new();
        let header = stage.header(kind, chunk, 0, 0, 8);
        stage.say(link, &Stage::frame(header)).lost("does not come from this peer");
    }
}

#[test]
fn places_outside_the_plan_are_refused() {
    for (chunk, piece) in [(3, 0), (0, 2), (u32::MAX, u32::MAX)] {
        for kind in [FrameKind::Reduce, FrameKind::Broadcast, FrameKind::PieceGrant] {
            let mut stage = Stage::new();
            let len = if kind.is_grant() { 0 } else { 8 };
            let header = stage.header(kind, chunk, piece, 0, len);
            let bytes = if kind.is_grant() { header.encode().to_vec() } else { Stage::frame(header) };
            stage.say(1, &bytes).lost("is not part of");
        }
    }
}

#[test]
fn a_grant_for_what_we_do_not_send_is_refused() {
    let mut stage = Stage::new();
    let header = stage.header(FrameKind::PieceGrant, 2, 0, 0, 0);
    stage.say(1, &header.encode()).lost("which this peer does not receive");
}

#[test]
fn data_for_another_plan_or_an_operation_not_started_is_refused() {
    let mut stage = Stage::new();
    let header = FrameHeader { digest: 1, ..stage.header(FrameKind::Reduce, 0, 0, 0, 8) };
    stage.say(1, &Stage::frame(header)).lost("for another plan");
    for ahead in [key(1, 1, 0), key(1, 0, 1), key(2, 0, 0)] {
        let mut stage = Stage::new();
        let header = FrameHeader { key: ahead, ..stage.header(FrameKind::Reduce, 0, 0, 0, 8) };
        stage.say(1, &Stage::frame(header)).lost("has not been started here");
    }
}

#[test]
fn data_of_the_past_is_dropped_without_a_word() {
    for past in [key(0, 0, 0), key(0, 7, 3)] {
        let mut stage = Stage::new();
        let header = FrameHeader { key: past, digest: 9, ..stage.header(FrameKind::Reduce, 9, 9, 9, 8) };
        stage.say(1, &Stage::frame(header)).contribute(1, 0, 0, 8);
        assert_eq!(stage.reason, None);
        let counters = stage.engine.counters();
        assert_eq!((counters.stale_frames, counters.pieces_received), (1, 1));
    }
}

#[test]
fn grants_for_another_plan_set_nothing_free() {
    let mut stage = Stage::new();
    let written = stage.engine.counters().bytes_written;
    let header = FrameHeader { digest: 1, ..stage.header(FrameKind::OpGrant, 0, 0, 0, 0) };
    stage.say(1, &header.encode());
    assert_eq!((stage.engine.counters().bytes_written, &stage.reason), (written, &None));
    let header = stage.header(FrameKind::OpGrant, 0, 0, 0, 0);
    stage.say(1, &header.encode());
    assert!(stage.engine.counters().bytes_written > written);
}

#[test]
fn early_grants_are_limited_per_peer_and_forgotten_with_their_epoch() {
    let mut stage = Stage::new();
    let grant = |epoch, tag| FrameHeader {
        kind: FrameKind::OpGrant,
        key: key(epoch, tag, 0),
        digest: 0,
        chunk: 0,
        piece: 0,
        offset: 0,
        len: 0,
    };
    let full: Vec<u8> =
        (1..=MAX_EARLY_GRANTS_PER_PEER as u64).flat_map(|tag| grant(1, tag).encode()).collect();
    stage.say(1, &full);
    assert_eq!(stage.reason, None);
    // A newer epoch: whoever is there has given up the older one.
    stage.say(1, &grant(2, 0).encode()).say(2, &full);
    assert_eq!(stage.reason, None);
    stage.say(2, &grant(1, 0).encode());
    assert_eq!(stage.reason, None, "a grant for what runs is not early");
    stage.say(2, &grant(1, 1 << 40).encode()).lost("grants for operations that have not been started here");
}

#[test]
fn every_damaged_byte_of_a_segment_is_noticed_before_anything_counts() {
    let sound = Stage::frame(Stage::new().header(FrameKind::Reduce, 0, 0, 0, 8));
    for at in 0..sound.len() {
        let mut stage = Stage::new();
        let mut bytes = sound.clone();
        bytes[at] ^= 0x20;
        stage.say(1, &bytes);
        assert_eq!(stage.engine.counters().pieces_received, 0, "byte {at}");
        stage.lost("");
    }
}

#[test]
fn void_segments_count_nothing_whatever_they_hold() {
    let mut stage = Stage::new();
    let bytes = Stage::void(stage.header(FrameKind::Reduce, 0, 0, 0, 8));
    stage.say(1, &bytes);
    assert_eq!(stage.reason, None);
    let counters = stage.engine.counters();
    assert_eq!((counters.voids_received, counters.pieces_received), (1, 0));
    stage.engine.stop(KEY()).unwrap();
    assert_eq!(stage.memory.input(), INPUT);
}

#[test]
fn garbage_is_no_frame() {
    Stage::new().say(1, &[0; 4096]).lost("no data frame begins here");
}

#[test]
fn a_stranger_to_the_group_is_refused() {
    let mut stage = Stage::new();
    let (end, _, [_, back]) = pipe(1 << 20, 1 << 20);
    stage.engine.add_link(LinkId(3), peer(9), 0, end, Time(0));
    stage.says.push(back);
    let header = stage.header(FrameKind::OpGrant, 0, 0, 0, 0);
    stage.say(3, &header.encode()).lost("not in the group's order");
    assert_eq!(stage.engine.links_to(peer(1)), 2, "others are not harmed");
}

/// Room for the contribution of rank 2 to piece 0, whose turn is second, and for no other.
fn one_window() -> Stage {
    Stage::with_windows(2 * (8 + WINDOW_OVERHEAD_BYTES))
}

#[test]
fn a_contribution_with_a_window_lands_before_its_turn_and_waits_for_it() {
    let mut stage = one_window();
    stage.contribute(2, 0, 0, 8);
    assert_eq!((&stage.reason, stage.engine.counters().bytes_reduced), (&None, 0));
    assert!(stage.engine.kept().budget_bytes > 0);
    stage.contribute(1, 0, 0, 8);
    let counters = stage.engine.counters();
    assert_eq!((counters.pieces_received, counters.bytes_reduced, counters.bytes_parked), (2, 16, 8));
    stage.contribute(2, 0, 0, 8).lost("without grant, or out of turn");
    assert_eq!(stage.engine.kept().budget_bytes, 0);
}

#[test]
fn a_turn_that_comes_while_its_contribution_is_under_way_adds_what_is_here() {
    let header =
        |stage: &Stage, offset, len| Stage::frame(stage.header(FrameKind::Reduce, 0, 0, offset, len));
    for cut in 0..FRAME_HEADER_BYTES + 8 + TRAILER_BYTES + FRAME_HEADER_BYTES {
        let mut stage = one_window();
        let bytes = [header(&stage, 0, 5), header(&stage, 5, 3)].concat();
        stage.say(2, &bytes[..cut]).contribute(1, 0, 0, 8).say(2, &bytes[cut..]);
        let counters = stage.engine.counters();
        assert_eq!(
            (&stage.reason, counters.pieces_received, counters.bytes_reduced),
            (&None, 2, 16),
            "{cut}"
        );
        stage.engine.stop(KEY()).unwrap();
        assert_eq!(stage.memory.input(), INPUT);
    }
}

#[test]
fn what_is_in_a_window_obeys_the_rules_of_all_that_lands() {
    one_window().contribute(2, 0, 1, 4).lost("where offset 0 was due");
    one_window().contribute(2, 0, 0, 4).contribute(2, 0, 3, 4).lost("where offset 4 was due");
    one_window().contribute(2, 0, 0, 9).lost("where offset 0 was due");
    one_window().contribute(2, 0, 0, 8).contribute(2, 0, 0, 8).lost("where offset 8 was due");
    one_window().contribute(1, 1, 0, 2).lost("without grant, or out of turn");
    let mut damaged = Stage::frame(one_window().header(FrameKind::Reduce, 0, 0, 0, 8));
    damaged[50] ^= 1;
    one_window().say(2, &damaged).lost("arrived damaged");
}

#[test]
fn a_contribution_in_a_window_comes_over_one_connection() {
    let mut stage = Stage::with_windows(1 << 20);
    stage.contribute(1, 1, 0, 1);
    let header = stage.header(FrameKind::Reduce, 0, 1, 1, 1);
    stage.say(0, &Stage::frame(header)).lost("over two connections");
}

#[test]
fn a_void_segment_counts_nothing_in_a_window_either() {
    let mut stage = one_window();
    let bytes = Stage::void(stage.header(FrameKind::Reduce, 0, 0, 0, 8));
    stage.say(2, &bytes).contribute(1, 0, 0, 8);
    let counters = stage.engine.counters();
    assert_eq!((counters.voids_received, counters.bytes_reduced, counters.pieces_received), (1, 8, 1));
    stage.contribute(2, 0, 0, 8).lost("had given it up");
    assert_eq!(stage.engine.kept().budget_bytes, 0);
}

#[test]
fn what_was_given_up_under_way_is_refused_when_it_comes_once_more() {
    // Turn 0 and turn 1 of piece 0, from the start and after a sound segment; ahead of the turn, and once it has come.
    for (rank, done) in [(1, 0), (1, 3), (2, 0), (2, 3)] {
        for windows in [0, 2 * (8 + WINDOW_OVERHEAD_BYTES)] {
            let mut stage = Stage::with_windows(windows);
            if rank == 2 && windows == 0 {
                stage.contribute(1, 0, 0, 8);
            }
            if done > 0 {
                stage.contribute(rank, 0, 0, done);
            }
            let void = Stage::void(stage.header(FrameKind::Reduce, 0, 0, done, 8 - done));
            stage.say(rank.into(), &void);
            assert_eq!((&stage.reason, stage.engine.links_to(peer(1))), (&None, 2), "an abort is no fault");
            // A second sum of the same bytes would be a wrong one.
            stage.contribute(rank, 0, done, 8 - done).lost("had given it up");
            assert!(!stage.done);
        }
    }
}

#[test]
fn a_result_that_was_given_up_under_way_is_refused_when_it_comes_once_more() {
    let mut stage = Stage::new();
    let grant = stage.header(FrameKind::OpGrant, 0, 0, 0, 0);
    let by_name = stage.header(FrameKind::PieceGrant, 1, 0, 0, 0);
    stage.say(1, &[grant.encode(), by_name.encode()].concat());
    let result = stage.header(FrameKind::Broadcast, 1, 0, 0, 8);
    stage.say(1, &Stage::void(result));
    assert_eq!((&stage.reason, stage.engine.counters().voids_received), (&None, 1));
    stage.say(1, &Stage::frame(result)).lost("had given it up");
}

#[test]
fn what_was_given_up_and_never_comes_again_holds_up_nothing_but_its_operation() {
    for windows in [0, 2 * (8 + WINDOW_OVERHEAD_BYTES)] {
        let mut stage = Stage::with_windows(windows);
        let void = Stage::void(stage.header(FrameKind::Reduce, 0, 0, 0, 8));
        // All else that our chunk needs comes; of piece 0 the second turn only where it has a window.
        stage.say(1, &void).contribute(2, 1, 0, 2).contribute(1, 1, 0, 2);
        if windows > 0 {
            stage.contribute(2, 0, 0, 8);
        }
        assert_eq!((&stage.reason, stage.done), (&None, false));
        stage.engine.stop(KEY()).unwrap();
        assert_eq!((stage.memory.input(), stage.engine.kept().budget_bytes), (&INPUT[..], 0));
        assert_eq!(stage.engine.links_to(peer(1)), 2);
    }
}

#[cfg(feature = "seeded-bugs")]
#[test]
fn the_planted_bug_takes_data_of_an_old_epoch() {
    let bug = Some(crate::exec::SeededBug::OldEpochAccepted);
    let mut stage = Stage::with(EngineConfig { bug, ..EngineConfig::default() });
    let header = FrameHeader { key: key(0, 0, 0), digest: 9, ..stage.header(FrameKind::Reduce, 0, 0, 0, 8) };
    stage.say(1, &Stage::frame(header));
    assert_eq!(stage.engine.counters().pieces_received, 1);
}
