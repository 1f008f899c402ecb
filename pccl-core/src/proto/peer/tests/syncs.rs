//! What a peer says and does in a synchronization, and what it does not take.

use std::sync::Arc;

use super::*;
use crate::limits;
use crate::types::{
    Digest, Election, FetchFailure, Needs, Offer, PhaseCall, Source, SyncNumber, SyncOutcome, SyncStrategy,
    TensorKey,
};

fn keys(count: usize) -> Vec<TensorKey> {
    let key =
        |n: usize| TensorKey { name: format!("{n:06}"), dtype: DType::F32, count: 1, may_differ: false };
    (0..count).map(key).collect()
}

fn offer(content: u8, tensors: usize) -> Offer {
    let digest = |n| Digest([n; 16]);
    Offer {
        revision: 3,
        strategy: SyncStrategy::EnforcePopular,
        left_behind: false,
        tensors: tensors as u32,
        size_bytes: 4 * tensors as u64,
        keys: digest(0),
        content: digest(content),
        full: digest(content),
    }
}

fn election(number: u64, content: u8) -> Election {
    Election {
        number: SyncNumber(number),
        revision: 3,
        content: Digest([content; 16]),
        full: Digest([content; 16]),
        winner: PeerId([2; 16]),
        sources: vec![Source { peer: PeerId([2; 16]), full: true }],
    }
}

fn call_with(peer: &mut Peer, work: u64, offer: Offer, keys: Vec<TensorKey>) -> Vec<Output> {
    let call = Call::Synchronize { offer, keys: keys.into() };
    peer.handle(Input::Call { work: WorkId(work), call }, Time(0));
    drain(peer)
}

/// In the call as work 2, with content 1.
fn offering() -> Peer {
    let mut peer = member_of(3);
    let said = call_with(&mut peer, 2, offer(1, 2), keys(2));
    assert_eq!(said, [Output::Send(PeerMessage::SyncOffer { offer: offer(1, 2) })]);
    peer
}

fn hears(peer: &mut Peer, message: MasterMessage) -> Vec<Output> {
    peer.handle(Input::Control(message), Time(0));
    drain(peer)
}

fn elected(peer: &mut Peer, number: u64, content: u8) -> Vec<Output> {
    hears(peer, MasterMessage::SyncElected { election: Box::new(election(number, content)) })
}

fn ended(peer: &mut Peer, number: u64, outcome: SyncOutcome) -> Vec<Output> {
    hears(peer, MasterMessage::SyncEnded { number: SyncNumber(number), outcome })
}

fn begin(number: u64, content: u8, needs: Needs) -> Output {
    Output::BeginSync { work: WorkId(2), election: Arc::new(election(number, content)), needs }
}

fn done(number: u64) -> Output {
    Output::Send(PeerMessage::SyncDone { number: SyncNumber(number), failed: None })
}

fn state_done(peer: &mut Peer, number: u64, failed: Option<&str>) -> Vec<Output> {
    let failed = failed.map(|text| FetchFailure::NoSource { text: text.to_owned() });
    let number = SyncNumber(number);
    peer.handle(Input::StateDone { number, failed }, Time(0));
    drain(peer)
}

fn success() -> [Output; 2] {
    let info = SyncInfo { revision: 3, tx_bytes: 0, rx_bytes: 0 };
    let outcome = Ok(Done::Synchronized(info));
    [Output::EndSync { work: WorkId(2) }, Output::Complete { work: WorkId(2), outcome }]
}

#[test]
fn who_lacks_nothing_says_so_at_once_and_serves_until_the_end() {
    let mut peer = offering();
    assert_eq!(elected(&mut peer, 7, 1), [begin(7, 1, Needs::Nothing), done(7)]);
    assert_eq!(ended(&mut peer, 7, SyncOutcome::Synchronized { revision: 3 }), success());
}

#[test]
fn who_lacks_something_fetches_it_and_then_says_so() {
    let mut peer = offering();
    assert_eq!(elected(&mut peer, 7, 2), [begin(7, 2, Needs::Content)]);
    let source = Source { peer: PeerId([3; 16]), full: false };
    let message = |n| MasterMessage::SyncSource { number: SyncNumber(n), source };
    assert_eq!(hears(&mut peer, message(6)), []);
    let added = Output::AddSource { number: SyncNumber(7), source };
    assert_eq!(hears(&mut peer, message(7)), [added]);
    assert_eq!(state_done(&mut peer, 6, None), []);
    assert_eq!(state_done(&mut peer, 7, None), [done(7)]);
    assert_eq!(state_done(&mut peer, 7, None), [], "it has said so");
    assert_eq!(hears(&mut peer, message(7)), [], "of no use any more");
    assert_eq!(ended(&mut peer, 7, SyncOutcome::Synchronized { revision: 3 }), success());
}

#[test]
fn each_end_is_an_error_of_its_kind_with_the_masters_words() {
    let text = || "words".to_owned();
    for (outcome, kind) in [
        (SyncOutcome::NothingOffered { text: text() }, ErrorKind::NoSharedStateAvailable),
        (SyncOutcome::Aborted { text: text() }, ErrorKind::Aborted),
        (SyncOutcome::Deadlocked { text: text() }, ErrorKind::InvalidUsage),
    ] {
        for stage in 0..4 {
            let mut peer = offering();
            match stage {
                0 => {}
                1 => drop(elected(&mut peer, 7, 1)),
                2 => drop(elected(&mut peer, 7, 2)),
                _ => {
                    elected(&mut peer, 7, 2);
                    state_done(&mut peer, 7, Some("no"));
                }
            }
            let outputs = ended(&mut peer, 7, outcome.clone());
            assert_eq!(outputs[0], Output::EndSync { work: WorkId(2) }, "before the call returns");
            let (is, reason) = error_of(&outputs);
            assert!(is == kind && reason.contains("words"), "{reason}");
            assert!(matches!(call_with(&mut peer, 3, offer(1, 2), keys(2))[..], [Output::Send(_)]));
        }
    }
}

#[test]
fn a_success_that_is_not_here_is_an_internal_error() {
    for stage in 0..2 {
        let mut peer = offering();
        if stage == 1 {
            elected(&mut peer, 7, 2);
        }
        let outputs = ended(&mut peer, 7, SyncOutcome::Synchronized { revision: 3 });
        assert_eq!(
            (&outputs[0], error_of(&outputs).0),
            (&Output::EndSync { work: WorkId(2) }, ErrorKind::Internal)
        );
    }
}

#[test]
fn what_cannot_be_had_is_told_with_the_reason() {
    let mut peer = offering();
    elected(&mut peer, 7, 2);
    let said = state_done(&mut peer, 7, Some("no source is left"));
    let failed = Some(FetchFailure::NoSource { text: "no source is left".to_owned() });
    assert_eq!(said, [Output::Send(PeerMessage::SyncDone { number: SyncNumber(7), failed })]);
}

#[test]
fn messages_of_a_wrong_number_or_at_a_wrong_time_change_nothing() {
    let end = || SyncOutcome::Aborted { text: String::new() };
    let mut peer = member_of(3);
    assert_eq!(elected(&mut peer, 7, 1), []);
    assert_eq!(hears(&mut peer, MasterMessage::SyncDescribe), []);
    assert_eq!(state_done(&mut peer, 7, None), []);
    let mut peer = offering();
    elected(&mut peer, 7, 2);
    assert_eq!(elected(&mut peer, 8, 1), []);
    assert_eq!(hears(&mut peer, MasterMessage::SyncDescribe), []);
    assert_eq!(ended(&mut peer, 6, end()), []);
    assert_eq!(ended(&mut peer, 8, end()), []);
    assert_eq!(ended(&mut peer, 7, end()).len(), 2);
    call_with(&mut peer, 2, offer(1, 2), keys(2));
    assert_eq!(elected(&mut peer, 7, 1), [], "that one has ended");
    assert_eq!(ended(&mut peer, 7, end()), []);
    assert_eq!(elected(&mut peer, 8, 1).len(), 2);
}

#[test]
fn a_newcomer_that_hears_how_far_the_run_is_takes_part_in_what_comes_after() {
    let mut peer = member_of(3);
    assert_eq!(ended(&mut peer, 7, SyncOutcome::Aborted { text: String::new() }), []);
    call_with(&mut peer, 2, offer(1, 2), keys(2));
    assert_eq!(elected(&mut peer, 7, 1), [], "that one was before");
    assert_eq!(elected(&mut peer, 8, 1).len(), 2);
    lose_the_master(&mut peer);
    let resume = resumed(&mut peer);
    assert_eq!((resume.sync_number, resume.sync_last), (SyncNumber(8), None));
}

#[test]
fn tensors_are_described_in_pages_that_fit_and_lack_nothing() {
    let long = |n: usize| TensorKey { name: format!("{n:06}{}", "y".repeat(1_018)), ..keys(1)[0].clone() };
    for tensors in [Vec::new(), keys(1), (0..6_144).map(long).collect(), keys(limits::MAX_TENSORS)] {
        let mut peer = member_of(3);
        call_with(&mut peer, 2, offer(1, tensors.len()), tensors.clone());
        let outputs = hears(&mut peer, MasterMessage::SyncDescribe);
        let (mut described, mut ended) = (Vec::new(), false);
        for output in outputs {
            let Output::Send(message) = output else { panic!("{output:?}") };
            let PeerMessage::SyncKeys { first, last, keys } = message else { panic!("{message:?}") };
            // A name goes with its length, a type, a count and a flag.
            let frame_bytes: usize = 32 + keys.iter().map(|key| key.name.len() + 12).sum::<usize>();
            assert!(frame_bytes < limits::MAX_CONTROL_FRAME_BYTES / 4);
            assert!(!ended && first as usize == described.len());
            ended = last;
            described.extend(keys);
        }
        assert!(ended && described == tensors);
    }
}

#[test]
fn nothing_else_is_called_beside_a_synchronization() {
    let descriptor = OpDescriptor::plain(1, DType::U8, ReduceOp::Sum);
    let reduce = Call::AllReduce { tag: Tag(4), descriptor };
    let phase = Call::Phase(PhaseCall::UpdateTopology);
    let sync = Call::Synchronize { offer: offer(1, 1), keys: keys(1).into() };
    for call in [reduce.clone(), phase.clone(), sync.clone()] {
        let mut peer = offering();
        peer.handle(Input::Call { work: WorkId(9), call }, Time(0));
        let outputs = drain(&mut peer);
        let (kind, reason) = error_of(&outputs);
        assert!(
            kind == ErrorKind::InvalidUsage && reason.contains("is in synchronize_shared_state"),
            "{reason}"
        );
        assert_eq!(outputs.len(), 1);
    }
    for (before, kind) in [(phase, ErrorKind::InvalidUsage), (reduce, ErrorKind::PendingAsyncOps)] {
        let mut peer = member_of(2);
        peer.handle(Input::Call { work: WorkId(2), call: before }, Time(0));
        drain(&mut peer);
        peer.handle(Input::Call { work: WorkId(9), call: sync.clone() }, Time(0));
        assert_eq!(error_of(&drain(&mut peer)).0, kind);
    }
}

#[test]
fn what_cannot_be_offered_is_refused_by_name_before_anything_is_sent() {
    let with = |change: fn(&mut Offer)| {
        let mut changed = offer(1, 2);
        change(&mut changed);
        changed
    };
    let named = |names: &[&str]| -> Vec<TensorKey> {
        names.iter().map(|name| TensorKey { name: (*name).to_owned(), ..keys(1)[0].clone() }).collect()
    };
    let long = "n".repeat(limits::MAX_TEXT_BYTES + 1);
    let heavy: Vec<TensorKey> = (0..6_200)
        .map(|n| TensorKey { name: format!("{n:06}{}", "y".repeat(1_018)), ..keys(1)[0].clone() })
        .collect();
    let cases = [
        (3, with(|o| o.revision = u64::MAX), keys(2), ErrorKind::InvalidArgument, "revision"),
        (3, offer(1, 65_537), keys(65_537), ErrorKind::InvalidArgument, "65537 tensors"),
        (3, offer(1, 3), keys(2), ErrorKind::InvalidArgument, "3 tensors offered, 2 described"),
        (3, with(|o| o.size_bytes = (1 << 44) + 1), keys(2), ErrorKind::InvalidArgument, "bytes"),
        (3, offer(1, 1), named(&[&long]), ErrorKind::InvalidArgument, "name has 1025 bytes"),
        (3, offer(1, 6_200), heavy, ErrorKind::InvalidArgument, "names of the tensors"),
        (3, offer(1, 2), named(&["a", "a"]), ErrorKind::InvalidArgument, "the name \"a\""),
        (3, offer(1, 2), named(&["b", "a"]), ErrorKind::InvalidArgument, "\"a\" is described after \"b\""),
        (1, offer(1, 2), keys(2), ErrorKind::TooFewPeers, "only this peer"),
    ];
    for (world, offer, keys, kind, word) in cases {
        let mut peer = member_of(world);
        let outputs = call_with(&mut peer, 2, offer, keys);
        let (is, reason) = error_of(&outputs);
        assert!(is == kind && reason.contains(word), "{reason}");
        assert_eq!(outputs.len(), 1, "nothing was sent");
    }
    let mut stranger = peer();
    assert_eq!(error_of(&call_with(&mut stranger, 2, offer(1, 1), keys(1))).0, ErrorKind::InvalidUsage);
}

#[test]
fn a_membership_that_ends_gives_the_tensors_back_before_the_call_returns() {
    let kicked = MasterMessage::Kicked { text: "for this test".into() };
    let gone = [Input::Control(kicked), Input::Call { work: WorkId(9), call: Call::Leave }];
    for (input, kind) in gone.into_iter().zip([ErrorKind::MasterConnectionFailed, ErrorKind::Aborted]) {
        let mut peer = offering();
        elected(&mut peer, 7, 2);
        peer.handle(input, Time(0));
        let outputs = drain(&mut peer);
        let end = outputs.iter().position(|o| *o == Output::EndSync { work: WorkId(2) }).unwrap();
        assert!(
            matches!(&outputs[end + 1], Output::Complete { work: WorkId(2), outcome: Err(e) } if e.kind == kind)
        );
        assert_eq!(peer.syncs.number, SyncNumber(0), "the next membership counts anew");
    }
}

/// What a peer that finds a new master tells it of its synchronization.
fn resumed(peer: &mut Peer) -> crate::wire::message::Resume {
    peer.on_deadline(peer.next_deadline().unwrap());
    peer.handle(Input::ControlUp, Time(0));
    let outputs = hears(peer, welcome());
    let said = outputs.into_iter().find_map(|output| match output {
        Output::Send(PeerMessage::Resume(resume)) => Some(*resume),
        _ => None,
    });
    said.expect("it resumes")
}

fn lose_the_master(peer: &mut Peer) {
    peer.handle(Input::ControlLost { reason: "reset".into() }, Time(0));
    drain(peer);
}

#[test]
fn a_new_master_is_told_how_far_it_came() {
    let sync = |peer: &mut Peer| resumed(peer).sync.map(|s| (s.offer, s.elected, s.done));
    let at = Some((SyncNumber(7), 3));
    let mut peer = member_of(3);
    lose_the_master(&mut peer);
    assert_eq!(call_with(&mut peer, 2, offer(1, 2), keys(2)), [], "it goes into the resume");
    assert_eq!(sync(&mut peer), Some((offer(1, 2), None, false)));
    elected(&mut peer, 7, 2);
    lose_the_master(&mut peer);
    assert_eq!(sync(&mut peer), Some((offer(1, 2), at, false)));
    lose_the_master(&mut peer);
    assert_eq!(state_done(&mut peer, 7, None), []);
    assert_eq!(sync(&mut peer), Some((offer(1, 2), at, true)));
    let mut failed = offering();
    elected(&mut failed, 7, 2);
    state_done(&mut failed, 7, Some("no"));
    lose_the_master(&mut failed);
    assert_eq!(sync(&mut failed), Some((offer(1, 2), at, false)));
}

#[test]
fn a_new_master_is_told_the_last_end_and_the_last_success() {
    let mut peer = offering();
    elected(&mut peer, 7, 1);
    ended(&mut peer, 7, SyncOutcome::Synchronized { revision: 3 });
    call_with(&mut peer, 2, offer(1, 2), keys(2));
    let long = SyncOutcome::Aborted { text: "é".repeat(500) };
    ended(&mut peer, 9, long);
    lose_the_master(&mut peer);
    let resume = resumed(&mut peer);
    let kept = SyncOutcome::Aborted { text: "é".repeat(limits::MAX_REMEMBERED_TEXT_BYTES / 2) };
    assert_eq!(resume.sync_last, Some((SyncNumber(9), kept)));
    assert_eq!((resume.synced, resume.sync_number), (Some((SyncNumber(7), 3)), SyncNumber(9)));
    assert_eq!(resume.sync, None);
}
