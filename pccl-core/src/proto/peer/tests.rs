//! Given this state and this input, exactly these outputs. The conversation with a real master is tested in
//! `proto::master`.

mod links;
mod syncs;

use super::*;
use crate::limits::RELINK_RETRY_MS;
use crate::types::{DType, GroupId, OpDescriptor, Quantization, ReduceOp, Tag};
use crate::wire::message::{Incarnation, Join, LinkToken, MasterMessage, RunId};

fn peer() -> Peer {
    let join = Join { peer: PeerId([1; 16]), group: GroupId(0), data_port: 1, announced: None, pool: 4 };
    Peer::new(PeerConfig::new(join), Time(0))
}

fn welcome() -> MasterMessage {
    MasterMessage::Welcome {
        incarnation: Incarnation(1),
        run: RunId(1),
        token: LinkToken(7),
        heartbeat_ms: 500,
        silence_ms: 3_000,
    }
}

fn drain(peer: &mut Peer) -> Vec<Output> {
    std::iter::from_fn(|| peer.poll_output()).filter(|o| !matches!(o, Output::Log { .. })).collect()
}

fn error_of(outputs: &[Output]) -> (ErrorKind, &str) {
    match outputs.iter().find(|o| matches!(o, Output::Complete { outcome: Err(_), .. })) {
        Some(Output::Complete { outcome: Err(error), .. }) => (error.kind, &error.reason),
        _ => panic!("no call failed: {outputs:?}"),
    }
}

#[test]
fn connecting_dials_says_join_after_the_welcome_and_keeps_in_touch() {
    let mut peer = peer();
    peer.handle(Input::Call { work: WorkId(1), call: Call::Connect }, Time(0));
    assert_eq!(drain(&mut peer), [Output::DialMaster]);
    peer.handle(Input::ControlUp, Time(0));
    assert_eq!(drain(&mut peer), []);
    peer.handle(Input::Control(welcome()), Time(0));
    assert_eq!(drain(&mut peer), [Output::Send(PeerMessage::Join(peer.config.join.clone()))]);
    assert_eq!(peer.next_deadline(), Some(Time(500_000)));
    peer.on_deadline(Time(500_000));
    assert_eq!(drain(&mut peer), [Output::Send(PeerMessage::Heartbeat)]);
}

#[test]
fn an_unreachable_master_fails_the_call_and_the_peer_may_connect_again() {
    let mut peer = peer();
    peer.handle(Input::Call { work: WorkId(1), call: Call::Connect }, Time(0));
    peer.handle(Input::ControlLost { reason: "connection refused by 127.0.0.1:1".into() }, Time(0));
    let outputs = drain(&mut peer);
    let (kind, reason) = error_of(&outputs);
    assert_eq!(kind, ErrorKind::MasterConnectionFailed);
    assert!(reason.contains("127.0.0.1:1"));
    peer.handle(Input::Call { work: WorkId(2), call: Call::Connect }, Time(0));
    assert_eq!(drain(&mut peer), [Output::DialMaster]);
}

#[test]
fn a_master_that_says_nothing_fails_the_call_when_the_time_is_over() {
    let mut peer = peer();
    peer.handle(Input::Call { work: WorkId(1), call: Call::Connect }, Time(0));
    peer.handle(Input::ControlUp, Time(0));
    drain(&mut peer);
    let deadline = peer.next_deadline().unwrap();
    assert_eq!(deadline, Time(0).plus_ms(u64::from(crate::limits::DEFAULT_CONNECT_TIMEOUT_MS)));
    peer.on_deadline(deadline);
    let outputs = drain(&mut peer);
    assert_eq!(outputs[0], Output::HangUp);
    assert_eq!(error_of(&outputs).0, ErrorKind::MasterConnectionFailed);
}

#[test]
fn calls_before_connect_are_invalid_usage() {
    let descriptor = OpDescriptor::plain(1, DType::U8, ReduceOp::Sum);
    for call in
        [Call::Phase(crate::types::PhaseCall::UpdateTopology), Call::AllReduce { tag: Tag(0), descriptor }]
    {
        let mut peer = peer();
        peer.handle(Input::Call { work: WorkId(1), call }, Time(0));
        assert_eq!(error_of(&drain(&mut peer)).0, ErrorKind::InvalidUsage);
    }
}

fn member_of(world: u8) -> Peer {
    let mut peer = peer();
    peer.handle(Input::Call { work: WorkId(1), call: Call::Connect }, Time(0));
    peer.handle(Input::ControlUp, Time(0));
    peer.handle(Input::Control(welcome()), Time(0));
    let group = GroupInfo {
        group: GroupId(0),
        since: Epoch(1),
        order: (1..=world).map(|n| PeerId([n; 16])).collect(),
        unlinked: Vec::new(),
        rtt_us: 0,
        planned: None,
    };
    let info = EpochInfo { epoch: Epoch(1), piece_bytes: 8, groups: vec![group], ..EpochInfo::default() };
    let cause = crate::wire::message::EpochCause::Admitted;
    peer.handle(Input::Control(MasterMessage::NewEpoch { info, aborted: Vec::new(), cause }), Time(0));
    drain(&mut peer);
    peer
}

#[test]
fn bad_operations_are_refused_before_anything_is_sent() {
    let plain = OpDescriptor::plain(1, DType::U8, ReduceOp::Sum);
    let cases = [
        (2, OpDescriptor { count: 0, ..plain }, ErrorKind::InvalidArgument),
        (2, OpDescriptor { count: u64::MAX, ..plain }, ErrorKind::InvalidArgument),
        (
            2,
            OpDescriptor { quantization: Quantization::MinMax(DType::U8), ..plain },
            ErrorKind::InvalidArgument,
        ),
        (1, plain, ErrorKind::TooFewPeers),
    ];
    for (world, descriptor, kind) in cases {
        let mut peer = member_of(world);
        peer.handle(
            Input::Call { work: WorkId(2), call: Call::AllReduce { tag: Tag(0), descriptor } },
            Time(0),
        );
        let outputs = drain(&mut peer);
        assert_eq!(error_of(&outputs).0, kind, "{descriptor}");
        assert!(!outputs.iter().any(|o| matches!(o, Output::Send(_) | Output::Start { .. })));
    }
}

#[test]
fn a_tag_in_flight_cannot_be_used_again_nor_a_phase_call_be_made() {
    let mut peer = member_of(2);
    let descriptor = OpDescriptor::plain(1, DType::U8, ReduceOp::Sum);
    let call = Call::AllReduce { tag: Tag(4), descriptor };
    peer.handle(Input::Call { work: WorkId(2), call: call.clone() }, Time(0));
    drain(&mut peer);
    peer.handle(Input::Call { work: WorkId(3), call }, Time(0));
    assert_eq!(error_of(&drain(&mut peer)).0, ErrorKind::InvalidArgument);
    let call = Call::Phase(crate::types::PhaseCall::UpdateTopology);
    peer.handle(Input::Call { work: WorkId(4), call }, Time(0));
    assert_eq!(error_of(&drain(&mut peer)).0, ErrorKind::PendingAsyncOps);
}

#[test]
fn a_data_hello_is_taken_only_with_the_runs_token_and_the_pairs_generation() {
    let mut peer = member_of(2);
    let (other, token) = (PeerId([2; 16]), LinkToken(7));
    assert_eq!(peer.admits(other, 1, token), Admission::NotYet, "the master has not named it yet");
    let address = crate::wire::message::PeerAddress { peer: other, generation: 1, addresses: Vec::new() };
    peer.handle(Input::Control(MasterMessage::LinkTo { peers: vec![address] }), Time(0));
    assert_eq!(peer.admits(other, 1, token), Admission::Yes);
    assert_eq!(peer.admits(other, 0, token), Admission::No);
    assert_eq!(peer.admits(other, 2, token), Admission::NotYet);
    assert_eq!(
        peer.admits(other, 1, LinkToken(8)),
        Admission::NotYet,
        "a new master's token may be on its way"
    );
}

/// A member with this id and setting that is told to link the peer 2, whom it can dial and who can dial it.
fn linking(id: u8, pool: u16) -> Peer {
    let mut peer = member_of(2);
    peer.config.join.peer = PeerId([id; 16]);
    peer.config.join.pool = pool;
    let addresses = vec!["127.0.0.1:1".parse().unwrap()];
    let to = crate::wire::message::PeerAddress { peer: PeerId([2; 16]), generation: 1, addresses };
    peer.handle(Input::Control(MasterMessage::LinkTo { peers: vec![to] }), Time(0));
    peer
}

fn up(dialled: bool) -> Input {
    Input::LinkUp { peer: PeerId([2; 16]), generation: 1, dialled, rtt_us: 80_000, pool: 16 }
}

fn dialled(peer: &mut Peer) -> u16 {
    let dials = drain(peer).into_iter().map(|output| match output {
        Output::Dial { connections, .. } => connections,
        _ => 0,
    });
    dials.sum()
}

/// Lets all dials succeed, and the other end's first one too; how many connections there are in the end.
fn connections_of_a_pair(mut peer: Peer, theirs_come_first: bool) -> u16 {
    let mut dials = dialled(&mut peer);
    let (mut here, mut made) = (0, 0);
    if theirs_come_first {
        peer.handle(up(false), Time(0));
        here += 1;
    }
    for at in [0, 2_000_000, 4_000_000, 6_000_000, 8_000_000] {
        while made < dials {
            peer.handle(up(true), Time(at));
            made += 1;
            dials += dialled(&mut peer);
        }
        if at == 0 && !theirs_come_first {
            peer.handle(up(false), Time(at));
            here += 1;
        }
        peer.on_deadline(Time(at));
        dials += dialled(&mut peer);
    }
    here + made
}

#[test]
fn a_pool_is_of_its_size_whoever_dials() {
    for theirs_come_first in [false, true] {
        for id in [1, 3] {
            for pool in [2, 4, 64] {
                let there = connections_of_a_pair(linking(id, pool), theirs_come_first);
                assert_eq!(there, pool, "peer {id}, theirs first: {theirs_come_first}");
            }
            let by_path = connections_of_a_pair(linking(id, 0), theirs_come_first);
            assert_eq!(by_path, 16, "what the path needs");
        }
    }
}

#[test]
fn a_pool_of_one_is_dialled_by_one_end_and_by_the_other_only_if_nothing_comes() {
    assert_eq!(dialled(&mut linking(1, 1)), 1);
    let mut waits = linking(3, 1);
    assert_eq!(dialled(&mut waits), 0);
    waits.on_deadline(Time(1_000_000));
    assert_eq!(dialled(&mut waits), 1);
    let mut served = linking(3, 1);
    served.handle(up(false), Time(0));
    served.on_deadline(Time(1_000_000));
    assert_eq!(dialled(&mut served), 0);
}

#[test]
fn the_place_of_a_connection_that_never_comes_is_filled() {
    let mut peer = linking(1, 4);
    peer.handle(up(true), Time(0));
    assert_eq!(dialled(&mut peer), 1 + 2);
    for at in [0, 0] {
        peer.handle(up(true), Time(at));
    }
    peer.on_deadline(Time(1_000_000));
    assert_eq!(dialled(&mut peer), 1);
}

#[test]
fn a_pool_that_has_lost_its_last_dials_is_filled_later() {
    for (id, delay_ms) in [(1, RELINK_RETRY_MS), (3, RELINK_RETRY_MS + 1_000)] {
        let mut peer = linking(id, 4);
        peer.handle(up(true), Time(0));
        peer.handle(up(false), Time(0));
        peer.on_deadline(Time(1_000_000));
        assert_eq!(dialled(&mut peer), 1 + 2);
        let (failed, retry) = (Time(5_000_000), Time(5_000_000).plus_ms(delay_ms));
        for _ in 0..2 {
            let reason = String::from("timed out");
            peer.handle(Input::DialFailed { peer: PeerId([2; 16]), generation: 1, reason }, failed);
        }
        peer.on_deadline(Time(retry.0 - 1));
        assert_eq!(dialled(&mut peer), 0);
        peer.on_deadline(retry);
        assert_eq!(dialled(&mut peer), 2, "peer {id}");
        peer.handle(up(true), retry);
        peer.handle(up(true), retry);
        peer.on_deadline(retry.plus_ms(10 * delay_ms));
        assert_eq!(dialled(&mut peer), 0, "it is full");
    }
}

#[test]
fn pools_shrink_where_connections_are_short() {
    let mut peer = linking(1, 8);
    peer.config.max_data_connections = 3;
    peer.handle(up(true), Time(0));
    peer.handle(up(false), Time(0));
    peer.on_deadline(Time(2_000_000));
    assert_eq!(dialled(&mut peer), 1 + 1);
}
