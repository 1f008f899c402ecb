//! Synchronizations of shared state: who has to go, who receives, from whom, and how they end.

use super::*;
use crate::proto::peer::SyncInfo;
use crate::types::{FetchFailure, SyncNumber};

/// What a peer brings: revision, content, and what else is to be said of it.
#[derive(Clone)]
pub(super) struct Brought {
    pub offer: Offer,
    pub keys: Vec<TensorKey>,
}

pub(super) fn key(name: &str, dtype: DType, count: u64, may_differ: bool) -> TensorKey {
    TensorKey { name: name.to_owned(), dtype, count, may_differ }
}

/// Enforce-popular, with two tensors.
pub(super) fn popular(revision: u64, content: u8) -> Brought {
    let keys = vec![key("a", DType::F32, 10, false), key("b", DType::F64, 2, true)];
    let digest = |n: u8| Digest([n; 16]);
    let offer = Offer {
        revision,
        strategy: SyncStrategy::EnforcePopular,
        left_behind: false,
        tensors: 2,
        size_bytes: 56,
        keys: digest(1),
        content: digest(content),
        full: digest(content + 100),
    };
    Brought { offer, keys }
}

pub(super) fn only(strategy: SyncStrategy, revision: u64, content: u8) -> Brought {
    let mut brought = popular(revision, content);
    brought.offer.strategy = strategy;
    brought
}

/// With these tensors; `digest` stands for them.
fn with(keys: Vec<TensorKey>, digest: u8) -> Brought {
    let mut brought = popular(0, 1);
    brought.offer.tensors = keys.len() as u32;
    brought.offer.size_bytes = keys.iter().map(|k| k.count * k.dtype.size_bytes() as u64).sum();
    brought.offer.keys = Digest([digest; 16]);
    brought.keys = keys;
    brought
}

impl World {
    pub(super) fn sync(&mut self, n: usize, brought: &Brought) -> WorkId {
        let Brought { offer, keys } = brought.clone();
        self.call(n, Call::Synchronize { offer, keys: keys.into() })
    }

    pub(super) fn sync_all(&mut self, brought: &[Brought]) -> Vec<WorkId> {
        brought.iter().enumerate().map(|(n, brought)| self.sync(n, brought)).collect()
    }

    pub(super) fn state_done(&mut self, n: usize, failed: Option<&str>) {
        let number = self.begun[&n].last().unwrap().0.number;
        let failed = failed.map(|text| FetchFailure::NoSource { text: text.to_owned() });
        self.peers[n].handle(peer::Input::StateDone { number, failed }, self.now);
        self.run();
    }

    fn needs(&self, n: usize) -> Needs {
        self.begun[&n].last().unwrap().1
    }

    fn say(&mut self, n: usize, message: PeerMessage) {
        let conn = self.conn_of[n].expect("connected");
        self.master.handle(Input::Message { conn, message }, self.now);
        self.run();
    }

    fn has_event(&self, parts: &[&str]) -> bool {
        self.events.iter().any(|event| parts.iter().all(|part| event.contains(part)))
    }

    fn reason(&self, n: usize, work: WorkId) -> String {
        match self.outcome(n, work) {
            Some(Err(error)) => error.reason,
            other => panic!("peer {n}: {other:?}"),
        }
    }

    /// All leave; nothing is kept for anybody.
    fn end(mut self) {
        for n in 0..self.peers.len() {
            if !self.dead[n] {
                self.call(n, Call::Leave);
            }
        }
        self.pass(1_000);
        assert_eq!(self.master.kept(), Kept::default());
    }
}

pub(super) fn synchronized(revision: u64) -> Option<Result<Done, Error>> {
    Some(Ok(Done::Synchronized(SyncInfo { revision, tx_bytes: 0, rx_bytes: 0 })))
}

#[test]
fn where_all_hold_the_same_nobody_receives_and_the_next_revision_is_one_more() {
    let mut world = World::of(3);
    for revision in [41, 42] {
        let works = world.sync_all(&[popular(revision, 1), popular(revision, 1), popular(revision, 1)]);
        assert!((0..3).all(|n| world.outcome(n, works[n]) == synchronized(revision)), "{:?}", world.events);
        assert!((0..3).all(|n| world.needs(n) == Needs::Nothing));
    }
    assert!(world.has_event(&["sync #2 of group 0", "revision 42", "3 of 3 votes", "all hold it"]));
    assert_eq!(world.master.kept().revisions, 1);
    world.end();
}

#[test]
fn who_holds_something_else_receives_before_anybody_returns() {
    let mut world = World::of(3);
    world.moves_bytes = false;
    let works = world.sync_all(&[popular(5, 1), popular(5, 2), popular(5, 1)]);
    assert_eq!([0, 1, 2].map(|n| world.needs(n)), [Needs::Nothing, Needs::Content, Needs::Nothing]);
    let (election, _) = &world.begun[&1][0];
    let sources: Vec<PeerId> = election.sources.iter().map(|s| s.peer).collect();
    assert_eq!((sources, election.winner), (vec![id(0), id(2)], id(0)));
    assert!((0..3).all(|n| world.outcome(n, works[n]).is_none()), "not all hold it");
    world.state_done(1, None);
    assert!((0..3).all(|n| world.outcome(n, works[n]) == synchronized(5)));
    assert!(world.has_event(&["2 of 3 votes", &format!("peer {} receives it", id(1))]), "{:?}", world.events);
    world.end();
}

#[test]
fn nothing_is_decided_before_the_last_member_has_offered_or_is_gone() {
    let mut world = World::of(4);
    let works = world.sync_all(&[popular(0, 1), popular(0, 2), popular(0, 2)]);
    assert!(world.begun.is_empty());
    world.kill(3);
    assert!((0..3).all(|n| world.outcome(n, works[n]) == synchronized(0)));
    assert_eq!(world.needs(0), Needs::Content);
    world.end();
}

#[test]
fn a_death_among_those_who_have_offered_takes_its_offer_away() {
    let mut world = World::of(4);
    let works = world.sync_all(&[popular(0, 1), popular(0, 2), popular(0, 2)]);
    world.kill(1);
    let last = world.sync(3, &popular(0, 1));
    assert_eq!(world.outcome(3, last), synchronized(0));
    assert_eq!([0, 2, 3].map(|n| world.needs(n)), [Needs::Nothing, Needs::Content, Needs::Nothing]);
    assert_eq!(world.outcome(0, works[0]), synchronized(0));
    world.end();
}

#[test]
fn who_is_ahead_of_the_run_is_put_out_with_both_numbers_and_the_rest_go_on() {
    let mut world = World::of(3);
    world.sync_all(&[popular(7, 1), popular(7, 1), popular(7, 1)]);
    let works = world.sync_all(&[popular(8, 1), popular(10, 2), popular(8, 1)]);
    assert_eq!(world.kind(1, works[1]), Some(ErrorKind::MasterConnectionFailed));
    let reason = world.reason(1, works[1]);
    assert!(reason.contains("revision 10") && reason.contains("8 is expected"), "{reason}");
    assert!([0, 2].iter().all(|n| world.outcome(*n, works[*n]) == synchronized(8)));
    assert_eq!(world.master.epoch().world_size(), 2);
    assert!(world.released.contains(&(1, works[1])));
    world.end();
}

#[test]
fn kicks_that_leave_only_one_peer_abort_its_call() {
    let mut world = World::of(2);
    let works = world.sync_all(&[popular(0, 1), only(SyncStrategy::ReceiveOnly, 0, 1)]);
    assert_eq!(world.kind(0, works[0]), Some(ErrorKind::Aborted));
    assert!(world.reason(1, works[1]).contains("if one says so, all must"));
    let alone = world.sync(0, &popular(0, 1));
    assert_eq!(world.kind(0, alone), Some(ErrorKind::TooFewPeers));
    world.end();
}

#[test]
fn an_outdated_state_is_taken_when_nobody_holds_the_expected_one_and_the_log_says_so() {
    let mut world = World::of(3);
    world.sync_all(&[popular(7, 1), popular(7, 1), popular(7, 1)]);
    let works = world.sync_all(&[popular(7, 1), popular(6, 2), popular(7, 1)]);
    assert!((0..3).all(|n| world.outcome(n, works[n]) == synchronized(7)));
    assert_eq!(world.needs(1), Needs::All);
    assert!(world.has_event(&["revision 8", "7, the highest there is, is taken"]), "{:?}", world.events);
    world.end();
}

#[test]
fn where_nobody_has_a_vote_all_hear_who_said_what_and_nobody_has_to_go() {
    let mut world = World::of(2);
    let receives = only(SyncStrategy::ReceiveOnly, 0, 1);
    let works = world.sync_all(&[receives.clone(), receives]);
    for (n, work) in works.iter().enumerate() {
        assert_eq!(world.kind(n, *work), Some(ErrorKind::NoSharedStateAvailable));
        assert!(world.reason(n, *work).contains("said receive-only"));
    }
    assert_eq!((world.master.epoch().world_size(), world.master.kept().revisions), (2, 0));
    world.end();
}

#[test]
fn a_transfer_that_fails_at_one_aborts_at_all_with_its_words_and_is_no_step() {
    let mut world = World::of(3);
    world.moves_bytes = false;
    world.sync_all(&[popular(0, 1), popular(0, 1), popular(0, 1)]);
    let works = world.sync_all(&[popular(1, 1), popular(1, 2), popular(1, 3)]);
    world.state_done(1, Some("its disk is full"));
    assert!(
        (0..3).all(|n| world.outcome(n, works[n]).is_none()),
        "what the others receive is not for nothing"
    );
    world.state_done(2, None);
    for (n, work) in works.iter().enumerate() {
        assert_eq!(world.kind(n, *work), Some(ErrorKind::Aborted));
        assert!(world.reason(n, *work).contains("its disk is full"));
    }
    let again = world.sync_all(&[popular(1, 1), popular(1, 1), popular(1, 1)]);
    assert!((0..3).all(|n| world.outcome(n, again[n]) == synchronized(1)), "the revision is expected still");
    world.end();
}

#[test]
fn who_dies_after_it_has_failed_holds_up_nobody() {
    let mut world = World::of(3);
    world.moves_bytes = false;
    let works = world.sync_all(&[popular(1, 1), popular(1, 2), popular(1, 1)]);
    world.state_done(1, Some("no source is left"));
    assert_eq!(world.kind(0, works[0]), Some(ErrorKind::Aborted));
    let works = world.sync_all(&[popular(1, 1), popular(1, 2), popular(1, 3)]);
    world.state_done(1, Some("no source is left"));
    world.kill(1);
    world.state_done(2, None);
    assert!([0, 2].iter().all(|n| world.outcome(*n, works[*n]) == synchronized(1)), "{:?}", world.events);
    world.end();
}

#[test]
fn who_cannot_hold_what_was_elected_is_put_out_with_the_reason_and_the_rest_go_on() {
    let mut world = World::of(3);
    world.moves_bytes = false;
    let works = world.sync_all(&[popular(1, 1), popular(1, 2), popular(1, 3)]);
    let number = world.begun[&1].last().unwrap().0.number;
    let failed = Some(FetchFailure::NotHere { text: "two are the same memory here".to_owned() });
    world.peers[1].handle(peer::Input::StateDone { number, failed }, world.now);
    world.run();
    assert_eq!(world.kind(1, works[1]), Some(ErrorKind::MasterConnectionFailed));
    assert!(world.reason(1, works[1]).contains("cannot hold what was elected: two are the same memory"));
    assert!(world.released.contains(&(1, works[1])));
    assert!([0, 2].iter().all(|n| world.outcome(*n, works[*n]).is_none()), "it goes on without it");
    world.state_done(2, None);
    assert!([0, 2].iter().all(|n| world.outcome(*n, works[*n]) == synchronized(1)), "{:?}", world.events);
    world.end();
}

/// Peer 0 holds it alone, the others fail in this way, again and again, or receive it. Whose fault it is cannot be told: a peer that
/// lies could have others put out.
#[test]
fn whoever_finds_no_source_has_all_call_again_and_nobody_is_put_out() {
    let no_source = |text: &str| Some(FetchFailure::NoSource { text: text.to_owned() });
    let broken_off = |text: &str| Some(FetchFailure::BrokenOff { text: text.to_owned() });
    let lost = "no source is left";
    let rows = [
        ("one of two", vec![[no_source(lost), None]; 3]),
        ("both, each time", vec![[no_source(lost), no_source(lost)]; 3]),
        ("one and then the other", vec![[no_source(lost), None], [None, no_source(lost)]]),
        ("broken off each time", vec![[broken_off(lost), None]; 3]),
        (
            "by turns",
            vec![[broken_off(lost), None], [no_source(lost), None], [broken_off(lost), no_source(lost)]],
        ),
    ];
    for (name, calls) in rows {
        let mut world = World::of(3);
        world.moves_bytes = false;
        for ends in &calls {
            let works = world.sync_all(&[popular(1, 1), popular(1, 2), popular(1, 3)]);
            for (n, failed) in [1, 2].into_iter().zip(ends.clone()) {
                assert!(
                    (0..3).all(|n| world.outcome(n, works[n]).is_none()),
                    "{name}: the other one is waited for"
                );
                let number = world.begun[&n].last().unwrap().0.number;
                world.peers[n].handle(peer::Input::StateDone { number, failed }, world.now);
                world.run();
            }
            assert!((0..3).all(|n| world.kind(n, works[n]) == Some(ErrorKind::Aborted)), "{name}");
            assert!(world.reason(0, works[0]).contains(lost), "{name}");
        }
        assert!(!world.has_event(&["kicked"]), "{name}: {:?}", world.events);
        let works = world.sync_all(&[popular(1, 1), popular(1, 2), popular(1, 1)]);
        world.state_done(1, None);
        assert!((0..3).all(|n| world.outcome(n, works[n]) == synchronized(1)), "{name}");
        world.end();
    }
}

/// The only source is out of the receiver's reach and the one that could pass it on has failed.
#[test]
fn a_failure_that_starves_the_others_aborts_at_all_and_puts_nobody_out() {
    let mut world = walled();
    let works = world.sync_all(&[popular(5, 1), popular(4, 2), popular(4, 2), popular(4, 2)]);
    world.state_done(1, Some("no source is left"));
    world.state_done(2, Some("no source is left"));
    assert!((0..4).all(|n| world.kind(n, works[n]) == Some(ErrorKind::Aborted)), "{:?}", world.events);
    assert!(!world.has_event(&["kicked"]), "{:?}", world.events);
    world.end();
}

#[test]
fn when_the_only_source_dies_before_anybody_has_it_all_hear_of_an_abort() {
    let mut world = World::of(4);
    world.moves_bytes = false;
    let receives = only(SyncStrategy::ReceiveOnly, 0, 2);
    let works =
        world.sync_all(&[only(SyncStrategy::SendOnly, 0, 1), receives.clone(), receives.clone(), receives]);
    world.kill(0);
    assert!((1..4).all(|n| world.kind(n, works[n]) == Some(ErrorKind::Aborted)));
    let reason = world.reason(1, works[1]);
    assert!(reason.contains(&id(1).to_string()) && reason.contains("revision 0"), "{reason}");
    world.end();
}

#[test]
fn when_the_only_source_dies_those_who_have_it_by_then_take_its_place() {
    let mut world = World::of(4);
    world.moves_bytes = false;
    let receives = only(SyncStrategy::ReceiveOnly, 0, 2);
    let works =
        world.sync_all(&[only(SyncStrategy::SendOnly, 0, 1), receives.clone(), receives.clone(), receives]);
    world.state_done(1, None);
    assert!(world.added.is_empty(), "all can reach the source");
    world.kill(0);
    for n in [2, 3] {
        assert_eq!(world.added[&n], [Source { peer: id(1), full: false }]);
        world.state_done(n, None);
    }
    assert!((1..4).all(|n| world.outcome(n, works[n]) == synchronized(0)));
    world.end();
}

#[test]
fn a_death_of_the_last_who_has_not_got_it_ends_it_well() {
    let mut world = World::of(3);
    world.moves_bytes = false;
    let works = world.sync_all(&[popular(0, 1), popular(0, 1), popular(0, 2)]);
    world.kill(2);
    assert!((0..2).all(|n| world.outcome(n, works[n]) == synchronized(0)));
    world.end();
}

#[test]
fn a_group_that_shrinks_to_one_in_the_middle_aborts_at_the_last() {
    let mut world = World::of(2);
    world.moves_bytes = false;
    let works = world.sync_all(&[popular(0, 1), popular(0, 2)]);
    world.kill(1);
    assert_eq!(world.kind(0, works[0]), Some(ErrorKind::Aborted));
    world.end();
    let mut early = World::of(2);
    let alone = early.sync(0, &popular(0, 1));
    early.kill(1);
    assert_eq!(early.kind(0, alone), Some(ErrorKind::Aborted));
    early.end();
}

/// Four members; the pair of peer 0 and peer 3 has no link.
fn walled() -> World {
    let mut world = World::of(3);
    world.walls = vec![(0, 3)];
    world.join(0);
    world.update(&[0, 1, 2]);
    assert_eq!(world.master.epoch().group(GroupId(0)).unwrap().unlinked.len(), 1, "{:?}", world.events);
    world.moves_bytes = false;
    world
}

#[test]
fn who_has_no_link_with_the_source_receives_from_those_who_have_received() {
    let mut world = walled();
    let works = world.sync_all(&[popular(5, 1), popular(4, 2), popular(4, 2), popular(4, 2)]);
    assert_eq!(world.needs(3), Needs::All);
    assert!(world.added.is_empty());
    world.state_done(1, None);
    assert_eq!(world.added[&3], [Source { peer: id(1), full: true }]);
    world.state_done(2, None);
    assert_eq!(world.added[&3].len(), 1, "one is enough");
    world.kill(1);
    assert_eq!(world.added[&3][1..], [Source { peer: id(2), full: true }]);
    world.state_done(3, None);
    assert!([0, 2, 3].iter().all(|n| world.outcome(*n, works[*n]) == synchronized(5)));
    world.end();
}

#[test]
fn a_source_of_what_must_not_differ_is_none_for_who_needs_everything() {
    let mut world = walled();
    let mut outdated = popular(4, 1);
    outdated.offer.full = Digest([9; 16]); // holds the content, but other things in what may differ
    let works = world.sync_all(&[popular(5, 1), outdated.clone(), outdated.clone(), popular(4, 2)]);
    assert_eq!([1, 2, 3].map(|n| world.needs(n)), [Needs::All; 3]);
    assert!(world.added.is_empty(), "those who hold the content only were named in the election");
    world.state_done(2, None);
    assert_eq!(world.added[&3], [Source { peer: id(2), full: true }], "it has everything by now");
    world.state_done(1, None);
    world.state_done(3, None);
    assert!((0..4).all(|n| world.outcome(n, works[n]) == synchronized(5)));
    world.end();
}

#[test]
fn who_can_reach_nobody_with_everything_settles_for_what_must_not_differ() {
    let mut world = walled();
    // They hold what was elected, but other things in what may differ, and lack nothing.
    let mut other = popular(5, 1);
    other.offer.full = Digest([9; 16]);
    let works = world.sync_all(&[popular(5, 1), other.clone(), other, popular(4, 2)]);
    let [told] = world.added[&3][..] else { panic!("one source is enough: {:?}", world.added) };
    assert!(!told.full && [id(1), id(2)].contains(&told.peer), "{told:?}");
    world.state_done(3, None);
    assert!((0..4).all(|n| world.outcome(n, works[n]) == synchronized(5)), "{:?}", world.events);
    world.end();
}

#[test]
fn a_mixture_that_nobody_in_reach_can_mend_puts_its_peer_out_and_the_rest_go_on() {
    let mut world = walled();
    let mut other = popular(5, 1);
    other.offer.full = Digest([9; 16]);
    // Its revision is current, but a broken transfer was in its tensors.
    let mut left = popular(5, 1);
    (left.offer.full, left.offer.left_behind) = (Digest([8; 16]), true);
    let works = world.sync_all(&[popular(5, 1), other.clone(), other, left]);
    assert!(world.added.is_empty(), "it is told of nobody who has less");
    assert_eq!(world.kind(3, works[3]), Some(ErrorKind::MasterConnectionFailed));
    assert!(world.reason(3, works[3]).contains("has left a mixture"), "{}", world.reason(3, works[3]));
    assert!((0..3).all(|n| world.outcome(n, works[n]) == synchronized(5)), "{:?}", world.events);
    world.end();
}

#[test]
fn a_group_that_falls_apart_in_the_middle_is_over_for_everybody() {
    let mut world = walled();
    world.kill(1);
    let brought = |n| if n == 0 { popular(5, 1) } else { popular(4, 2) };
    let works = [0, 2, 3].map(|n| (n, world.sync(n, &brought(n))));
    world.kill(2);
    // Without peer 2 the two others have no link: one of them has to go, and the other is alone.
    let ended = |(n, work): &(usize, WorkId)| *n == 2 || world.kind(*n, *work).is_some();
    assert!(works.iter().all(ended), "{:?}", world.events);
}

#[test]
fn the_first_difference_of_tensors_is_named_to_those_who_have_to_go() {
    let base = || {
        vec![key("a", DType::F32, 10, false), key("m", DType::F32, 4, false), key("z", DType::U8, 3, true)]
    };
    let changed = |at: usize, change: fn(&mut TensorKey)| {
        let mut keys = base();
        change(&mut keys[at]);
        keys
    };
    let cases: [(Vec<TensorKey>, &str); 7] = [
        (base()[1..].to_vec(), "it lacks \"a\" (10 × f32)"),
        (base()[..2].to_vec(), "it lacks \"z\" (3 × u8, may differ)"),
        (
            [base(), vec![key("zz", DType::U8, 1, false)]].concat(),
            "it has \"zz\" (1 × u8), which is not there",
        ),
        (changed(1, |k| k.name = "b".into()), "it has \"b\" (4 × f32), which is not there"),
        (changed(1, |k| k.dtype = DType::F16), "it has \"m\" (4 × f16), but there it is \"m\" (4 × f32)"),
        (changed(0, |k| k.count = 11), "it has \"a\" (11 × f32), but there it is \"a\" (10 × f32)"),
        (
            changed(2, |k| k.may_differ = false),
            "it has \"z\" (3 × u8), but there it is \"z\" (3 × u8, may differ)",
        ),
    ];
    for (keys, difference) in cases {
        let mut world = World::of(3);
        let works = world.sync_all(&[with(base(), 1), with(keys, 2), with(base(), 1)]);
        let reason = world.reason(1, works[1]);
        assert!(reason.contains(difference) && reason.contains(&id(0).to_string()), "{reason}");
        assert!([0, 2].iter().all(|n| world.outcome(*n, works[*n]) == synchronized(0)));
        assert_eq!(world.master.kept().tensors, 0);
        world.end();
    }
}

/// More than fits a page, with long names.
fn many(count: usize) -> Vec<TensorKey> {
    let name = |n: usize| format!("{n:06} {}", "x".repeat(1_000));
    (0..count).map(|n| key(&name(n), DType::U8, 1, false)).collect()
}

#[test]
fn descriptions_of_many_pages_are_compared_to_the_end_and_each_odd_class_hears_its_own_difference() {
    let mut world = World::of(5);
    let (mut second, mut third) = (many(1_000), many(1_000));
    second[999].count = 2;
    third.truncate(500);
    let works = world.sync_all(&[
        with(many(1_000), 1),
        with(second.clone(), 2),
        with(third, 3),
        with(many(1_000), 1),
        with(second, 2),
    ]);
    for (n, parts) in [(1, ["000999", "(2 × u8)"]), (2, ["it lacks", "000500"]), (4, ["000999", "(2 × u8)"])]
    {
        let reason = world.reason(n, works[n]);
        assert!(parts.iter().all(|part| reason.contains(part)) && reason.len() < 1_000, "{reason}");
    }
    assert!([0, 3].iter().all(|n| world.outcome(*n, works[*n]) == synchronized(0)));
    world.end();
}

#[test]
fn tensors_described_alike_but_hashed_differently_are_told_so() {
    let mut world = World::of(3);
    let works = world.sync_all(&[with(many(3), 1), with(many(3), 2), with(many(3), 1)]);
    assert!(world.reason(1, works[1]).contains("its digest of them is another"));
    world.end();
}

/// Three members, of whom peer 1 is odd; all but peer 2 have offered. What peer 0 or 1 says is up to the test.
fn about_to_describe(mute: usize) -> World {
    let mut world = World::of(3);
    world.dead[mute] = true; // frozen: what it would say is said by the test
    for n in 0..3 {
        let brought = with(many(4), if n == 1 { 2 } else { 1 });
        if n == mute {
            world.say(n, PeerMessage::SyncOffer { offer: brought.offer });
        } else {
            world.sync(n, &brought);
        }
    }
    world
}

#[test]
fn a_description_that_breaks_the_rules_puts_its_peer_out_and_the_rest_go_on() {
    let mut heavy = many(4);
    heavy[0].count = 2;
    let page = |first, last, keys| PeerMessage::SyncKeys { first, last, keys };
    let cases = [
        (page(1, false, many(1)), "tensor 1 where 0 was due"),
        (page(0, false, Vec::new()), "no tensor on a page that is not the last"),
        (page(0, true, many(3)), "described 3 tensors, but has offered 4"),
        (page(0, false, many(5)), "described 5 tensors, but has offered 4"),
        (page(0, true, many(4).into_iter().rev().collect()), "another order"),
        (page(0, true, vec![key("a", DType::U8, 1, false); 4]), "another order"),
        (page(0, true, heavy), "described tensors of 5 bytes, but has offered 4"),
    ];
    for mute in [0, 1] {
        for (message, wrong) in &cases {
            let mut world = about_to_describe(mute);
            world.say(mute, message.clone());
            assert!(
                world.has_event(&["kicked", &id(mute).to_string(), wrong]),
                "{wrong}: {:?}",
                world.events
            );
            assert_eq!(world.master.kept().tensors, 0, "{:?}", world.events);
        }
    }
}

#[test]
fn names_beyond_the_limit_are_not_taken_in() {
    let mut world = World::of(2);
    world.dead[0] = true;
    let mut brought = with(many(65_536), 1);
    world.say(0, PeerMessage::SyncOffer { offer: brought.offer });
    world.sync(1, &with(many(1), 2));
    for first in (0..65_536).step_by(512) {
        if world.conn_of[0].is_none() {
            break;
        }
        let keys = brought.keys.drain(..512).collect();
        world.say(0, PeerMessage::SyncKeys { first, last: false, keys });
        assert!(world.master.kept().tensors <= 6_500);
    }
    assert!(world.has_event(&["kicked", "names have more than"]), "{:?}", world.events);
}

#[test]
fn a_death_while_tensors_are_described_asks_another_of_the_same_ones() {
    for mute in [0, 1] {
        let mut world = World::of(4);
        world.dead[mute] = true;
        let brought = |n| with(if n == 1 { many(3) } else { many(4) }, if n == 1 { 2 } else { 1 });
        world.say(mute, PeerMessage::SyncOffer { offer: brought(mute).offer });
        let works: Vec<(usize, WorkId)> =
            (0..4).filter(|n| *n != mute).map(|n| (n, world.sync(n, &brought(n)))).collect();
        assert!(works.iter().all(|(n, work)| world.outcome(*n, *work).is_none()), "somebody is asked");
        world.kill(mute);
        for (n, work) in works {
            match n {
                1 => assert!(world.reason(n, work).contains("it lacks")),
                _ => assert_eq!(world.outcome(n, work), synchronized(0), "{:?}", world.events),
            }
        }
        world.end();
    }
}

#[test]
fn what_a_peer_says_out_of_turn_puts_it_out_or_is_ignored() {
    let done = |n| PeerMessage::SyncDone { number: SyncNumber(n), failed: None };
    let offer = || PeerMessage::SyncOffer { offer: popular(0, 1).offer };
    let update = PeerMessage::Phase { seq: 2, call: PhaseCall::UpdateTopology };
    let key = OpKey { epoch: Epoch(3), tag: Tag(1), seq: 0 };
    let cases: [(&[PeerMessage], Option<&str>); 9] = [
        (&[offer(), offer()], Some("while in a synchronization")),
        (&[done(1)], Some("finished sync #1, but there was none after sync #0")),
        (&[offer(), done(1)], Some("there was none after")),
        (&[done(0)], None),
        (&[PeerMessage::SyncKeys { first: 7, last: false, keys: Vec::new() }], None),
        (&[offer(), PeerMessage::SyncKeys { first: 7, last: false, keys: Vec::new() }], None),
        (&[offer(), update.clone()], Some("while in a synchronization")),
        (&[update, offer()], Some("offered a shared state while in update_topology")),
        (&[offer(), PeerMessage::Announce { key, descriptor: sum(1) }], Some("while in a synchronization")),
    ];
    for (messages, kicked) in cases {
        let mut world = World::of(3);
        assert_eq!(world.master.epoch().epoch, Epoch(3));
        for message in messages {
            world.say(0, message.clone());
        }
        let out = world.events.iter().find(|event| event.contains("kicked"));
        match kicked {
            Some(words) => assert!(out.is_some_and(|event| event.contains(words)), "{:?}", world.events),
            None => assert_eq!(out, None),
        }
    }
}

#[test]
fn finishing_twice_puts_a_peer_out_but_not_after_the_end() {
    let mut world = World::of(3);
    world.moves_bytes = false;
    world.sync_all(&[popular(0, 1), popular(0, 1), popular(0, 2)]);
    let number = world.begun[&0][0].0.number;
    world.state_done(2, None);
    let done = PeerMessage::SyncDone { number, failed: None };
    world.say(2, done.clone());
    assert!(!world.has_event(&["kicked"]), "the end may have been on its way");
    world.sync_all(&[popular(1, 1), popular(1, 1), popular(1, 2)]);
    world.say(0, PeerMessage::SyncDone { number: SyncNumber(number.0 + 1), failed: None });
    assert!(world.has_event(&["kicked", "which it has finished already"]), "{:?}", world.events);
}

#[test]
fn newcomers_can_neither_offer_nor_describe_nor_finish() {
    for message in [
        PeerMessage::SyncOffer { offer: popular(0, 1).offer },
        PeerMessage::SyncKeys { first: 0, last: true, keys: Vec::new() },
        PeerMessage::SyncDone { number: SyncNumber(0), failed: None },
    ] {
        let mut world = World::of(2);
        world.join(0);
        world.say(2, message);
        assert!(world.has_event(&["kicked", "without being a member"]), "{:?}", world.events);
    }
}

#[test]
fn a_group_that_was_empty_begins_with_any_revision() {
    let mut world = World::of(2);
    let works = world.sync_all(&[popular(7, 1), popular(7, 1)]);
    assert_eq!(world.outcome(1, works[1]), synchronized(7));
    world.kill(0);
    world.kill(1);
    assert_eq!(world.master.kept(), Kept::default());
    for _ in 0..2 {
        world.join(0);
    }
    world.update(&[2]);
    let works = [2, 3].map(|n| (n, world.sync(n, &popular(99, 1))));
    assert!(works.iter().all(|(n, work)| world.outcome(*n, *work) == synchronized(99)), "{:?}", world.events);
    world.end();
}

#[test]
fn groups_synchronize_each_for_itself() {
    let mut world = World::of(2);
    for _ in 0..2 {
        world.join(5);
        world.update(&(0..world.peers.len() - 1).collect::<Vec<_>>());
    }
    let first = [0, 1].map(|n| (n, world.sync(n, &popular(7, 1))));
    assert!(first.iter().all(|(n, work)| world.outcome(*n, *work) == synchronized(7)));
    let other = [2, 3].map(|n| (n, world.sync(n, &popular(3, 2))));
    assert!(other.iter().all(|(n, work)| world.outcome(*n, *work) == synchronized(3)));
    assert_eq!(world.begun[&2][0].0.number, SyncNumber(2), "the run counts");
    assert_eq!(world.master.kept().revisions, 2);
    world.end();
}

#[test]
fn a_leave_a_kick_or_a_rejoin_in_the_middle_gives_the_tensors_back_first() {
    for way in 0..3 {
        let mut world = World::of(3);
        world.moves_bytes = false;
        let works = world.sync_all(&[popular(0, 1), popular(0, 1), popular(0, 2)]);
        let kind = match way {
            0 => {
                world.call(2, Call::Leave);
                ErrorKind::Aborted
            }
            1 => {
                world.master.kick(id(2), "for this test".into());
                world.pass(1_000);
                ErrorKind::MasterConnectionFailed
            }
            _ => {
                // The master has seen its control link break: it cannot come back to the same run.
                let conn = world.conn_of[2].take().unwrap();
                world.conns.remove(&conn);
                world.master.handle(Input::Closed { conn, reason: "reset".into() }, world.now);
                world.peers[2].handle(peer::Input::ControlLost { reason: "reset".into() }, world.now);
                world.pass(2_000);
                ErrorKind::MasterConnectionFailed
            }
        };
        assert_eq!(world.kind(2, works[2]), Some(kind));
        assert!(world.released.contains(&(2, works[2])));
        assert!((0..2).all(|n| world.outcome(n, works[n]) == synchronized(0)), "{:?}", world.events);
        world.end();
    }
}

#[test]
fn a_new_epoch_in_the_middle_ends_nothing() {
    let mut world = World::of(4);
    world.moves_bytes = false;
    let works = world.sync_all(&[popular(0, 1), popular(0, 1), popular(0, 2), popular(0, 2)]);
    let before = world.master.epoch().epoch;
    world.kill(3);
    assert!(world.master.epoch().epoch > before);
    assert!((0..3).all(|n| world.outcome(n, works[n]).is_none()));
    world.state_done(2, None);
    assert!((0..3).all(|n| world.outcome(n, works[n]) == synchronized(0)));
    world.end();
}
