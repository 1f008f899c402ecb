//! What every control message must survive, and what none may cause.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use proptest::prelude::*;

use super::control::*;
use super::error::{EncodeError, WireError};
use super::message::*;
use super::strategies::{master_message, peer_message};
use crate::limits::*;
use crate::types::*;

fn peer_frame(message: &PeerMessage) -> Vec<u8> {
    let mut out = Vec::new();
    encode_peer(message, &mut out).unwrap();
    out
}

fn master_frame(message: &MasterMessage) -> Vec<u8> {
    let mut out = Vec::new();
    encode_master(message, &mut out).unwrap();
    out
}

/// The body of one whole frame, its header checked.
fn body(frame: &[u8]) -> &[u8] {
    let (header, body) = frame.split_first_chunk().unwrap();
    ControlHeader::decode(header, MAX_CONTROL_FRAME_BYTES).unwrap().check_body(body).unwrap();
    body
}

fn new_epoch(groups: Vec<GroupInfo>, aborted: Vec<(Tag, u32)>) -> MasterMessage {
    let info = EpochInfo { epoch: Epoch(9), piece_bytes: DEFAULT_PIECE_BYTES, groups, ..Default::default() };
    MasterMessage::NewEpoch { info, aborted, cause: EpochCause::Admitted }
}

fn group(group: u32, order: Vec<PeerId>, unlinked: Vec<(Rank, Rank)>) -> GroupInfo {
    GroupInfo { group: GroupId(group), since: Epoch(9), order, unlinked, rtt_us: 0, planned: None }
}

fn peers(count: u16) -> Vec<PeerId> {
    (0..count)
        .map(|i| PeerId(std::array::from_fn(|at| i.to_le_bytes().get(at).copied().unwrap_or(7))))
        .collect()
}

proptest! {
    #[test]
    fn peer_messages_survive_the_wire_whole_and_only_whole(message in peer_message()) {
        let frame = peer_frame(&message);
        let body = body(&frame);
        prop_assert_eq!(decode_peer(body), Ok(message));
        for len in 0..body.len() {
            prop_assert!(decode_peer(&body[..len]).is_err(), "cut after {} bytes", len);
        }
        let trailing = [body, &[0]].concat();
        prop_assert_eq!(decode_peer(&trailing), Err(WireError::TrailingBytes { left: 1 }));
    }

    #[test]
    fn master_messages_survive_the_wire_whole_and_only_whole(message in master_message()) {
        let frame = master_frame(&message);
        let body = body(&frame);
        prop_assert_eq!(decode_master(body), Ok(message));
        for len in 0..body.len() {
            prop_assert!(decode_master(&body[..len]).is_err(), "cut after {} bytes", len);
        }
        let trailing = [body, &[0]].concat();
        prop_assert_eq!(decode_master(&trailing), Err(WireError::TrailingBytes { left: 1 }));
    }

    #[test]
    fn a_message_in_the_wrong_direction_is_an_error(up in peer_message(), down in master_message()) {
        prop_assert!(decode_master(body(&peer_frame(&up))).is_err());
        prop_assert!(decode_peer(body(&master_frame(&down))).is_err());
    }

    /// A body that decodes has one encoding only: its own.
    #[test]
    fn random_bodies_never_panic(code in 0u8..16, mut bytes in prop::collection::vec(0u8..8, 0..200)) {
        bytes.insert(0, code);
        if let Ok(message) = decode_peer(&bytes) {
            let again = peer_frame(&message);
            prop_assert_eq!(body(&again), &bytes[..]);
        }
        bytes[0] = code + 128;
        if let Ok(message) = decode_master(&bytes) {
            let again = master_frame(&message);
            prop_assert_eq!(body(&again), &bytes[..]);
        }
    }

    #[test]
    fn damaged_bodies_never_panic(message in peer_message(), down in master_message(), at: prop::sample::Index,
                                  value: u8) {
        for (frame, decodes) in [
            (peer_frame(&message), (|b| decode_peer(b).is_ok()) as fn(&[u8]) -> bool),
            (master_frame(&down), |b| decode_master(b).is_ok()),
        ] {
            let mut damaged = body(&frame).to_vec();
            let at = at.index(damaged.len());
            damaged[at] = value;
            // Whatever comes of it is a value; that the damage is noticed is the checksum's part.
            let _ = decodes(&damaged);
            let sound = ControlHeader { len: damaged.len() as u32, crc: crc32fast::hash(body(&frame)) };
            prop_assert_eq!(sound.check_body(&damaged).is_ok(), damaged == body(&frame));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_noticed(message in peer_message(), bit: prop::sample::Index) {
        let frame = peer_frame(&message);
        let check = |bit: usize| {
            let mut bytes = frame.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (header, body) = bytes.split_first_chunk().unwrap();
            let read = ControlHeader::decode(header, usize::MAX).and_then(|header| header.check_body(body));
            prop_assert!(read.is_err(), "bit {}", bit);
            Ok(())
        };
        for bit in 0..CONTROL_HEADER_BYTES * 8 {
            check(bit)?;
        }
        check(bit.index(frame.len() * 8))?;
    }

    #[test]
    fn long_texts_are_cut_where_a_character_ends(text in "\\PC{0,900}") {
        let frame = master_frame(&MasterMessage::Kicked { text: text.clone() });
        let Ok(MasterMessage::Kicked { text: read }) = decode_master(body(&frame)) else {
            return Err(TestCaseError::fail("no kick"));
        };
        prop_assert!(text.starts_with(&read) && read.len() <= MAX_TEXT_BYTES);
        prop_assert!(read == text || read.len() > MAX_TEXT_BYTES - 4);
    }
}

#[test]
fn unknown_numbers_are_named() {
    let unknown = |field, value| WireError::UnknownNumber { field, value };
    assert_eq!(decode_peer(&[77]), Err(unknown("peer message", 77)));
    assert_eq!(decode_master(&[1]), Err(unknown("master message", 1)));
    assert_eq!(decode_peer(&[7, 0, 0, 0, 0, 0, 0, 0, 0, 9]), Err(unknown("call", 9)));
    assert_eq!(decode_master(&[130, 2]), Err(unknown("fatal", 2)));
    let key = OpKey { epoch: Epoch(1), tag: Tag(2), seq: 3 };
    let descriptor = OpDescriptor::plain(5, DType::F32, ReduceOp::Sum);
    let frame = peer_frame(&PeerMessage::Announce { key, descriptor });
    for (at, field) in [(29, "dtype"), (30, "op"), (31, "quantization")] {
        let mut bytes = body(&frame).to_vec();
        bytes[at] = 99;
        assert_eq!(decode_peer(&bytes), Err(unknown(field, 99)));
    }
}

#[test]
fn texts_that_break_the_rules_are_refused() {
    let len = MAX_TEXT_BYTES + 1;
    let mut long = vec![138];
    long.extend_from_slice(&(len as u16).to_le_bytes());
    long.resize(3 + len, b'a');
    assert_eq!(decode_master(&long), Err(WireError::TextTooLong { field: "text", len }));
    assert_eq!(decode_master(&[138, 1, 0, 0xFF]), Err(WireError::TextNotUtf8 { field: "text" }));
}

#[test]
fn a_count_is_believed_only_as_far_as_bytes_are_there() {
    let peers = [&[132][..], &u32::MAX.to_le_bytes(), &[0; 100]].concat();
    assert_eq!(decode_master(&peers), Err(WireError::Truncated { field: "peers" }));
    let mut addresses = body(&master_frame(&MasterMessage::LinkTo {
        peers: vec![PeerAddress { peer: PeerId([1; 16]), generation: 0, addresses: Vec::new() }],
    }))
    .to_vec();
    addresses[25] = 5;
    let too_many = WireError::TooMany { field: "addresses", count: 5, max: MAX_PEER_ADDRESSES };
    assert_eq!(decode_master(&addresses), Err(too_many));
}

#[test]
fn epochs_that_no_master_makes_are_refused() {
    let [a, b, c] = [1, 2, 3].map(|i| PeerId([i; 16]));
    let three = vec![a, b, c];
    let late = GroupInfo { since: Epoch(10), ..group(0, vec![a], vec![]) };
    let cases = [
        (vec![group(0, vec![], vec![])], "order"),
        (vec![group(0, vec![a, b, a], vec![])], "order"),
        (vec![group(0, vec![a], vec![]), group(1, vec![a], vec![])], "order"),
        (vec![group(1, vec![a], vec![]), group(0, vec![b], vec![])], "groups"),
        (vec![group(1, vec![a], vec![]), group(1, vec![b], vec![])], "groups"),
        (vec![group(0, peers(600), vec![]), group(1, peers(600), vec![])], "groups"),
        (vec![group(0, peers(1025), vec![])], "order"),
        (vec![late], "since"),
        (vec![group(0, three.clone(), vec![(1, 0)])], "unlinked"),
        (vec![group(0, three.clone(), vec![(1, 3)])], "unlinked"),
        (vec![group(0, three.clone(), vec![(1, 2), (0, 1)])], "unlinked"),
        (vec![group(0, three, vec![(0, 1), (0, 1)])], "unlinked"),
    ];
    for (groups, broken) in cases {
        let message = new_epoch(groups, Vec::new());
        let read = decode_master(body(&master_frame(&message)));
        assert!(matches!(read, Err(WireError::RuleBroken { field, .. }) if field == broken), "{message:?}");
    }
    for piece_bytes in [0, 12, MAX_PIECE_BYTES + 8] {
        let groups = vec![group(0, vec![a], vec![])];
        let info = EpochInfo { epoch: Epoch(9), piece_bytes, groups, ..Default::default() };
        let message = MasterMessage::NewEpoch { info, aborted: Vec::new(), cause: EpochCause::Admitted };
        let read = decode_master(body(&master_frame(&message)));
        assert!(matches!(read, Err(WireError::RuleBroken { field: "piece_bytes", .. })), "{piece_bytes}");
    }
}

/// A forest of one tree over a group of three.
fn planned(owner: Rank, share: u32, reduce: &[Rank], broadcast: &[Rank]) -> Option<Arc<Planned>> {
    let tree =
        PackedTree { owner, share, reduce_parents: reduce.to_vec(), broadcast_parents: broadcast.to_vec() };
    let cost = Cost { latency_us: 1, ps_per_byte: 2 };
    let forest = Some(PlannedForest { kind: ForestKind::Packed, cost, trees: vec![tree] });
    Some(Arc::new(Planned { ring: cost, mesh: cost, forest }))
}

#[test]
fn forests_that_no_planner_makes_are_refused() {
    let read = |planned| {
        let group = GroupInfo { planned, ..group(0, peers(3), vec![(0, 2)]) };
        decode_master(body(&master_frame(&new_epoch(vec![group], Vec::new()))))
    };
    assert!(read(planned(0, 1, &[0, 0, 1], &[0, 0, 1])).is_ok());
    for refused in [
        planned(0, 0, &[0, 0, 1], &[0, 0, 1]),
        planned(3, 1, &[0, 0, 1], &[0, 0, 1]),
        planned(0, 1, &[0, 2, 1], &[0, 0, 1]),
        planned(0, 1, &[0, 0, 1], &[1, 0, 1]),
        planned(0, 1, &[0, 0, 3], &[0, 0, 1]),
        planned(0, 1, &[0, 0, 1], &[0, 0, 0]),
        planned(0, 1, &[0, 0], &[0, 0]),
    ] {
        let read = read(refused.clone());
        assert!(matches!(read, Err(WireError::RuleBroken { field: "forest", .. })), "{refused:?}");
    }
}

#[test]
fn a_forest_is_believed_only_as_far_as_bytes_and_limits_go() {
    let group = GroupInfo { planned: planned(0, 1, &[0, 0, 1], &[0, 0, 1]), ..group(0, peers(3), vec![]) };
    let sound = body(&master_frame(&new_epoch(vec![group], Vec::new()))).to_vec();
    // From the end: no instances (4), the cause (1), one tree of 18 bytes, and the two counts before it.
    let counts = sound.len() - 5 - 18 - 4;
    let damaged = |at: usize, value: u16| {
        let mut body = sound.clone();
        body[at..at + 2].copy_from_slice(&value.to_le_bytes());
        decode_master(&body)
    };
    assert!(damaged(counts, 3).is_ok() && damaged(counts + 2, 1).is_ok(), "these are the counts");
    let too_many = |field, count, max| Err(WireError::TooMany { field, count, max });
    assert_eq!(damaged(counts, 9999), too_many("parents", 9999, MAX_PEERS));
    assert_eq!(damaged(counts + 2, 65), too_many("trees", 65, MAX_FOREST_TREES));
    assert_eq!(damaged(counts, 1024), Err(WireError::Truncated { field: "parents" }));
    assert!(damaged(counts + 2, 64).is_err());
    assert!(matches!(
        damaged(counts + 2, 0),
        Err(WireError::TrailingBytes { .. }
            | WireError::RuleBroken { .. }
            | WireError::Truncated { .. }
            | WireError::UnknownNumber { .. })
    ));
}

#[test]
fn operations_without_elements_or_beyond_all_memory_are_refused() {
    let key = OpKey { epoch: Epoch(1), tag: Tag(2), seq: 3 };
    for (count, sound) in
        [(0, false), (1, true), (MAX_OP_BYTES / 8, true), (MAX_OP_BYTES / 8 + 1, false), (u64::MAX, false)]
    {
        let descriptor = OpDescriptor::plain(count, DType::F64, ReduceOp::Sum);
        let read = decode_peer(body(&peer_frame(&PeerMessage::Announce { key, descriptor })));
        assert_eq!(read.is_ok(), sound, "{count}");
    }
}

#[test]
fn what_exceeds_the_limits_is_not_sent_and_leaves_no_trace() {
    let addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 1)); MAX_PEER_ADDRESSES + 1];
    let peer = PeerAddress { peer: PeerId([1; 16]), generation: 0, addresses };
    let mut out = vec![1, 2, 3];
    let count = MAX_PEER_ADDRESSES + 1;
    let error = EncodeError::TooMany { field: "addresses", count, max: MAX_PEER_ADDRESSES };
    assert_eq!(encode_master(&MasterMessage::LinkTo { peers: vec![peer] }, &mut out), Err(error));
    let endless = new_epoch(Vec::new(), vec![(Tag(1), 2); MAX_CONTROL_FRAME_BYTES / 12]);
    assert!(matches!(encode_master(&endless, &mut out), Err(EncodeError::FrameTooLong { .. })));
    assert_eq!(out, [1, 2, 3]);
}

/// The largest run, a tenth of its pairs without a link, a forest, an instance aborted on every tag.
#[test]
fn the_largest_epoch_fits_a_frame() {
    let count = MAX_PEERS as u16;
    let pairs = (0..count).flat_map(|low| (low + 1..count).map(move |high| (low, high)));
    let unlinked = pairs.filter(|(low, high)| low + 2 < *high && (low + high) % 10 == 0).collect();
    let chain: Vec<Rank> = (0..count).map(|rank| rank.saturating_sub(1)).collect();
    let tree = PackedTree { owner: 0, share: 7, reduce_parents: chain.clone(), broadcast_parents: chain };
    let trees = vec![tree; MAX_FOREST_TREES];
    let forest = Some(PlannedForest { kind: ForestKind::Packed, cost: Cost::default(), trees });
    let planned = Some(Arc::new(Planned { ring: Cost::default(), mesh: Cost::NEVER, forest }));
    let group = GroupInfo { planned, ..group(0, peers(count), unlinked) };
    let message = new_epoch(vec![group], vec![(Tag(1), 2); MAX_OPS_IN_FLIGHT]);
    assert_eq!(decode_master(body(&master_frame(&message))), Ok(message));
}

#[test]
fn every_first_message_of_a_newcomer_is_short() {
    let join = Join {
        peer: PeerId([1; 16]),
        group: GroupId(2),
        data_port: 3,
        announced: Some((std::net::Ipv6Addr::LOCALHOST.into(), 4)),
        pool: 5,
    };
    assert!(body(&peer_frame(&PeerMessage::Join(join))).len() <= MAX_CONTROL_FRAME_BEFORE_JOIN_BYTES);
}
