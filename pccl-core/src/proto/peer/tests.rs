//! Given this state and this input, exactly these outputs. The conversation with a real master is tested in
//! `proto::master`.

use super::*;
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

#[test]
fn a_pool_widens_to_its_size_and_no_further() {
    let mut peer = member_of(2);
    let to = crate::wire::message::PeerAddress {
        peer: PeerId([2; 16]),
        generation: 1,
        addresses: vec!["127.0.0.1:1".parse().unwrap()],
    };
    peer.handle(Input::Control(MasterMessage::LinkTo { peers: vec![to.clone()] }), Time(0));
    assert_eq!(drain(&mut peer), [Output::Dial { to: to.clone(), connections: 1 }]);
    let (up, mut dialled) = (|dialled| Input::LinkUp { peer: to.peer, generation: 1, dialled, rtt_us: 0 }, 1);
    // Each answer comes while the dials of before are still under way.
    for _ in 0..4 {
        peer.handle(up(true), Time(0));
        for output in drain(&mut peer) {
            if let Output::Dial { connections, .. } = output {
                dialled += connections;
            }
        }
    }
    assert_eq!(dialled, peer.config.join.pool);
}
