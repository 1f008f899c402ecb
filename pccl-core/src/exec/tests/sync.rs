//! Shared state: what travels, from whom, and what is left when it does not get there.

use std::sync::Arc;

use super::world::{Host, Shape, World, peer};
use crate::exec::{SyncEnd, SyncStart};
use crate::limits::STATE_SILENCE_MS;
use crate::mem::TestMemory;
use crate::state::{Condition, Survey, Tensors};
use crate::types::{
    DType, Digest, Election, FetchFailure, Needs, Source, SyncNumber, SyncStrategy, TensorKey, Time,
};

pub const BLOCK_BYTES: usize = 16;

/// One host's tensors.
pub struct State {
    keys: Vec<TensorKey>,
    memory: Vec<TestMemory>,
    pub block_bytes: usize,
}

impl State {
    pub fn new(tensors: &[(&str, Vec<u8>, bool)]) -> State {
        let key = |(name, bytes, may_differ): &(&str, Vec<u8>, bool)| TensorKey {
            name: (*name).to_owned(),
            dtype: DType::U8,
            count: bytes.len() as u64,
            may_differ: *may_differ,
        };
        let memory = tensors.iter().map(|(_, bytes, _)| TestMemory::new(bytes, true)).collect();
        State { keys: tensors.iter().map(key).collect(), memory, block_bytes: BLOCK_BYTES }
    }

    pub fn lend(&mut self) -> (Tensors, Survey) {
        let lent = self.keys.iter().cloned().zip(self.memory.iter_mut().map(TestMemory::lend)).collect();
        let tensors = Tensors::new(lent).unwrap();
        let survey = tensors.survey(self.block_bytes, 1);
        (tensors, survey)
    }

    pub fn bytes(&self, tensor: usize) -> &[u8] {
        self.memory[tensor].result()
    }
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + seed * 13) as u8).collect()
}

/// An election that host 0 has won.
pub fn election(number: u64, winner: &mut State, sources: &[usize]) -> Arc<Election> {
    let (_tensors, survey) = winner.lend();
    let offer = survey.offer(5, SyncStrategy::EnforcePopular, false);
    let sources = sources.iter().map(|rank| Source { peer: peer(*rank), full: true }).collect();
    Arc::new(Election {
        number: SyncNumber(number),
        revision: 5,
        content: offer.content,
        full: offer.full,
        winner: peer(0),
        sources,
    })
}

pub fn begin(world: &mut World, rank: usize, state: &mut State, election: &Arc<Election>, needs: Needs) {
    let (tensors, survey) = state.lend();
    let start = SyncStart { me: peer(rank), election: election.clone(), needs, tensors, survey };
    world.hosts[rank].engine.begin_sync(start, world.now);
}

/// Everybody in it; who has no need serves.
fn begin_all(world: &mut World, states: &mut [State], election: &Arc<Election>, needs: &[Needs]) {
    for (rank, state) in states.iter_mut().enumerate() {
        begin(world, rank, state, election, needs[rank]);
    }
}

fn end(world: &mut World, rank: usize) -> SyncEnd {
    world.hosts[rank].engine.end_sync().expect("it was begun")
}

fn succeeded(host: &Host) -> bool {
    host.synced.last().is_some_and(|(_, failed)| failed.is_none())
}

/// The last host is a newcomer, all others hold the same.
fn newcomer(world_size: usize, sizes: &[usize]) -> Vec<State> {
    let names: Vec<String> = (0..sizes.len()).map(|i| format!("t{i}")).collect();
    let of = |seed: usize| {
        let tensors: Vec<(&str, Vec<u8>, bool)> = names
            .iter()
            .zip(sizes)
            .enumerate()
            .map(|(i, (name, size))| (name.as_str(), pattern(*size, seed * (i + 1)), false))
            .collect();
        State::new(&tensors)
    };
    (0..world_size).map(|rank| of(if rank + 1 == world_size { 99 } else { 1 })).collect()
}

fn assert_equal(states: &[State]) {
    for state in &states[1..] {
        for tensor in 0..state.memory.len() {
            assert_eq!(state.bytes(tensor), states[0].bytes(tensor), "tensor {tensor}");
        }
    }
}

const NOTHING: Needs = Needs::Nothing;

#[test]
fn a_newcomer_gets_everything_from_all_who_hold_it() {
    for (world_size, links_per_pair, seed) in [(2, 1, 1), (2, 3, 2), (4, 2, 3), (5, 1, 4)] {
        let shape = Shape { world_size, links_per_pair, seed, segment_bytes: 16, ..Shape::default() };
        let mut world = World::new(shape);
        let sizes = [4000, 1, 0, 8, 9, 777];
        let mut states = newcomer(world_size, &sizes);
        let sources: Vec<usize> = (0..world_size - 1).collect();
        let election = election(1, &mut states[0], &sources);
        let mut needs = vec![NOTHING; world_size - 1];
        needs.push(Needs::Content);
        begin_all(&mut world, &mut states, &election, &needs);
        world.run();
        let receiver = &world.hosts[world_size - 1];
        assert_eq!(receiver.synced, [(SyncNumber(1), None)]);
        let total: u64 = sizes.iter().map(|size| *size as u64).sum();
        let ends: Vec<SyncEnd> = (0..world_size).map(|rank| end(&mut world, rank)).collect();
        assert_eq!(ends[world_size - 1].rx_bytes, total);
        assert_eq!(ends.iter().map(|end| end.tx_bytes).sum::<u64>(), total);
        let elected = |size: &usize| if *size > 0 { Condition::Elected } else { Condition::Kept };
        assert_eq!(ends[world_size - 1].conditions, sizes.iter().map(elected).collect::<Vec<_>>());
        assert!(ends.iter().all(|end| !end.is_mixture));
        drop(ends);
        assert_equal(&states);
    }
}

#[test]
fn only_blocks_that_differ_travel() {
    let mut world = World::new(Shape::default());
    let mut other = pattern(1000, 1);
    other[501] ^= 1;
    let tensor = |bytes: Vec<u8>| State::new(&[("w", bytes, false), ("same", pattern(64, 2), false)]);
    let mut states = vec![tensor(pattern(1000, 1)), tensor(other)];
    let election = election(1, &mut states[0], &[0]);
    begin_all(&mut world, &mut states, &election, &[NOTHING, Needs::Content]);
    world.run();
    assert!(succeeded(&world.hosts[1]));
    let end = end(&mut world, 1);
    assert_eq!((end.rx_bytes, end.tx_bytes), (BLOCK_BYTES as u64, 0));
    // In the order of names.
    assert_eq!(end.conditions, [Condition::Kept, Condition::Elected]);
    drop(end);
    assert_equal(&states);
}

#[test]
fn what_may_differ_goes_to_those_who_need_all_and_comes_from_those_who_have_it() {
    for needs in [Needs::Content, Needs::All] {
        let mut world = World::new(Shape { world_size: 3, ..Shape::default() });
        let of =
            |seed, own| State::new(&[("m", pattern(300, seed), false), ("rank", pattern(90, own), true)]);
        let mut states = vec![of(1, 10), of(1, 11), of(2, 12)];
        let elected = election(1, &mut states[0], &[0, 1]);
        let mut elected = (*elected).clone();
        elected.sources[1].full = false;
        let election = Arc::new(elected);
        begin_all(&mut world, &mut states, &election, &[NOTHING, NOTHING, needs]);
        world.run();
        assert!(succeeded(&world.hosts[2]));
        (0..3).for_each(|rank| drop(end(&mut world, rank)));
        assert_eq!(states[2].bytes(0), states[0].bytes(0));
        let own = if needs == Needs::All { pattern(90, 10) } else { pattern(90, 12) };
        assert_eq!(states[2].bytes(1), own, "{needs:?}");
    }
}

#[test]
fn a_source_that_sends_something_else_is_replaced() {
    for liars in [1, 2, 3] {
        let mut world = World::new(Shape { world_size: 4, ..Shape::default() });
        let mut states = newcomer(4, &[2000, 5, 64]);
        let election = election(1, &mut states[0], &[0, 1, 2]);
        // They hold something else than what was elected. The first one asked is honest as long as one is.
        for liar in &mut states[3 - liars..3] {
            *liar = newcomer(4, &[2000, 5, 64]).pop().unwrap();
        }
        begin_all(&mut world, &mut states, &election, &[NOTHING, NOTHING, NOTHING, Needs::Content]);
        world.run();
        let (number, failed) = world.hosts[3].synced.pop().unwrap();
        assert_eq!((number, failed.is_some()), (SyncNumber(1), liars == 3), "{failed:?}");
        let found_out =
            world.hosts[3].logs.iter().filter(|line| line.contains("is no source any more")).count();
        assert!(found_out <= liars && (found_out > 0 || liars < 3), "{:?}", world.hosts[3].logs);
        (0..4).for_each(|rank| drop(end(&mut world, rank)));
        if liars < 3 {
            assert_eq!(states[3].bytes(0), states[0].bytes(0));
        }
    }
}

/// Only one of the sources has what may differ, and its blocks are not what they should be.
#[test]
fn who_needs_everything_gives_up_when_nobody_has_everything() {
    let mut world = World::new(Shape { world_size: 3, ..Shape::default() });
    let of = |seed, own| State::new(&[("m", pattern(300, seed), false), ("own", pattern(90, own), true)]);
    let mut states = [of(1, 10), of(1, 11), of(2, 12)];
    let mut elected = (*election(1, &mut states[0], &[0, 1])).clone();
    elected.sources[1].full = false;
    let election = Arc::new(elected);
    let (mut tensors, survey) = states[0].lend();
    tensors.write(1, 0, 90).fill(0x55);
    let start = SyncStart { me: peer(0), election: election.clone(), needs: NOTHING, tensors, survey };
    world.hosts[0].engine.begin_sync(start, world.now);
    begin(&mut world, 1, &mut states[1], &election, NOTHING);
    begin(&mut world, 2, &mut states[2], &election, Needs::All);
    world.run();
    let (_, failed) = world.hosts[2].synced.pop().expect("it has ended");
    assert!(failed.as_ref().is_some_and(|text| text.contains("may differ")), "{failed:?}");
    (0..3).for_each(|rank| drop(end(&mut world, rank)));
}

#[test]
fn tied_tensors_are_received_if_they_are_tied_in_what_was_elected() {
    // Whether what was elected is the same in both, and whether the second one may differ and so is not received.
    for (same, second_differs, tied) in [(true, false, true), (false, false, false), (false, true, true)] {
        let mut world = World::new(Shape::default());
        let theirs = [pattern(100, 1), pattern(100, if same { 1 } else { 2 })];
        let [first, second] = theirs;
        let mut winner = State::new(&[("a", first, false), ("b", second, second_differs)]);
        let election = election(1, &mut winner, &[0]);
        begin(&mut world, 0, &mut winner, &election, NOTHING);
        let mut own = TestMemory::new(&pattern(100, 9), true);
        let keys = ["a", "b"].map(|name| TensorKey {
            name: name.to_owned(),
            dtype: DType::U8,
            count: 100,
            may_differ: second_differs && name == "b",
        });
        let tensors = Tensors::new(keys.into_iter().map(|key| (key, own.lend())).collect()).unwrap();
        let survey = tensors.survey(BLOCK_BYTES, 1);
        let start =
            SyncStart { me: peer(1), election: election.clone(), needs: Needs::Content, tensors, survey };
        world.hosts[1].engine.begin_sync(start, world.now);
        world.run();
        let (_, failed) = world.hosts[1].synced.pop().expect("it has ended");
        assert_eq!(failed.is_none(), tied, "{failed:?}");
        assert!(tied || failed.is_some_and(|text| text.contains("same memory")));
        let failure = world.hosts[1].failures.pop();
        assert!(tied || matches!(failure, Some(FetchFailure::NotHere { .. })), "{failure:?}");
        (0..2).for_each(|rank| drop(end(&mut world, rank)));
        assert_eq!(own.result(), if tied { pattern(100, 1) } else { pattern(100, 9) });
    }
}

/// A source whose tensors change after its survey: digests are right, blocks are not.
#[test]
fn a_block_that_is_not_the_elected_one_is_fetched_from_another_source() {
    let mut world = World::new(Shape { world_size: 3, ..Shape::default() });
    let mut states = newcomer(3, &[2000]);
    let election = election(1, &mut states[0], &[1, 0]);
    let (mut tensors, survey) = states[1].lend();
    tensors.write(0, 0, 2000).fill(0x55);
    let start = SyncStart { me: peer(1), election: election.clone(), needs: NOTHING, tensors, survey };
    world.hosts[1].engine.begin_sync(start, world.now);
    begin(&mut world, 0, &mut states[0], &election, NOTHING);
    begin(&mut world, 2, &mut states[2], &election, Needs::Content);
    world.run();
    assert!(succeeded(&world.hosts[2]));
    assert!(world.hosts[2].engine.counters().state_blocks_refused > 0);
    (0..3).for_each(|rank| drop(end(&mut world, rank)));
    assert_eq!(states[2].bytes(0), states[0].bytes(0));
}

fn relink(world: &mut World, a: usize, b: usize) {
    for (rank, other) in [(a, b), (b, a)] {
        world.hosts[rank].engine.unlink(peer(other), world.now);
        world.drain_outputs();
    }
    world.connect(a, b);
}

#[test]
fn a_link_cut_after_any_byte_costs_what_was_under_way_and_nothing_else() {
    let shape = |at: usize, links_per_pair| Shape {
        links_per_pair,
        segment_bytes: 8,
        step: 30 + at % 50,
        capacity: 300,
        seed: at as u64 + 1,
        ..Shape::default()
    };
    for (links, loses) in [(1, true), (1, false), (2, true)] {
        for direction in 0..2 {
            for at in (0..6000).step_by(if links == 1 { 13 } else { 37 }) {
                let mut world = World::new(shape(at, links));
                let mut states = newcomer(2, &[900, 8, 33]);
                let election = election(1, &mut states[0], &[0]);
                let cut = *world.pipes.keys().nth(direction).unwrap();
                world.pipes[&cut].borrow_mut().cut_at = Some(at);
                world.pipes[&cut].borrow_mut().cut_loses = loses;
                begin_all(&mut world, &mut states, &election, &[NOTHING, Needs::Content]);
                world.run();
                let broken = world.hosts.iter().any(|host| !host.lost.is_empty());
                if broken {
                    relink(&mut world, 0, 1);
                    world.run();
                }
                assert!(succeeded(&world.hosts[1]), "{links} links, cut {direction} at {at}, loses: {loses}");
                let ends = [end(&mut world, 0), end(&mut world, 1)];
                assert_eq!(ends[1].rx_bytes, 941);
                drop(ends);
                assert_equal(&states);
            }
        }
    }
}

#[test]
fn a_source_that_dies_is_replaced_in_the_middle() {
    for at in (100..4000).step_by(97) {
        let mut world = World::new(Shape { world_size: 4, seed: at as u64, ..Shape::default() });
        let mut states = newcomer(4, &[3000, 100]);
        let election = election(1, &mut states[0], &[0, 1, 2]);
        begin_all(&mut world, &mut states, &election, &[NOTHING, NOTHING, NOTHING, Needs::Content]);
        while world.hosts[3].engine.counters().bytes_read < at as u64 && !succeeded(&world.hosts[3]) {
            world.poke();
        }
        world.hosts[3].engine.unlink(peer(1), world.now);
        world.run();
        assert!(succeeded(&world.hosts[3]));
        let end = end(&mut world, 3);
        assert_eq!(end.rx_bytes, 3100);
        drop(end);
        assert_eq!(states[3].bytes(0), states[0].bytes(0));
    }
}

/// Where nobody in reach holds everything, a peer that needs all of it settles for what must not differ.
#[test]
fn who_can_reach_no_full_source_keeps_what_may_differ() {
    for touched in [false, true] {
        let mut world = World::new(Shape { world_size: 3, ..Shape::default() });
        let of =
            |seed, own| State::new(&[("m", pattern(300, seed), false), ("rank", pattern(900, own), true)]);
        let mut states = vec![of(1, 10), of(1, 11), of(2, 12)];
        let mut elected = (*election(1, &mut states[0], &[0, 1])).clone();
        elected.sources[1].full = false;
        begin_all(&mut world, &mut states, &Arc::new(elected), &[NOTHING, NOTHING, Needs::All]);
        while touched && world.hosts[2].engine.counters().state_bytes_received < 1000 {
            world.poke();
        }
        world.hosts[2].engine.unlink(peer(0), world.now);
        let less = Source { peer: peer(1), full: false };
        world.hosts[2].engine.add_source(SyncNumber(1), less, world.now);
        world.run();
        let failed = world.hosts[2].synced.pop().unwrap().1;
        assert_eq!(failed.is_some(), touched, "{failed:?}");
        let end = end(&mut world, 2);
        // In the order of names: "m", "rank".
        let rest = if touched { Condition::Mixed } else { Condition::Kept };
        assert_eq!(end.conditions, [Condition::Elected, rest]);
        assert_eq!(end.is_mixture, touched);
    }
}

#[test]
fn a_source_named_later_helps() {
    let mut world = World::new(Shape { world_size: 3, unlinked: vec![(0, 2)], ..Shape::default() });
    let mut states = newcomer(3, &[500]);
    let election = election(1, &mut states[0], &[0]);
    begin_all(&mut world, &mut states, &election, &[NOTHING, NOTHING, Needs::Content]);
    world.run();
    assert!(world.hosts[2].synced.is_empty());
    let now = world.now;
    world.hosts[2].engine.add_source(SyncNumber(2), Source { peer: peer(1), full: true }, now);
    world.run();
    assert!(world.hosts[2].synced.is_empty(), "a source of another synchronization");
    world.hosts[2].engine.add_source(SyncNumber(1), Source { peer: peer(1), full: true }, now);
    world.run();
    assert!(succeeded(&world.hosts[2]));
}

/// Ends in the middle, says what is left, and goes on from there.
#[test]
fn what_a_broken_transfer_left_is_known_and_the_next_one_fetches_the_rest() {
    for at in (0..5000).step_by(61) {
        let shape = Shape { seed: at as u64, segment_bytes: 8, step: 20, ..Shape::default() };
        let mut world = World::new(shape);
        let mut states = newcomer(2, &[1200, 50, 3]);
        let first = election(1, &mut states[0], &[0]);
        begin_all(&mut world, &mut states, &first, &[NOTHING, Needs::Content]);
        while world.hosts[1].engine.counters().bytes_read < at as u64 && !succeeded(&world.hosts[1]) {
            world.poke();
        }
        let finished = succeeded(&world.hosts[1]);
        let (ended, _) = (end(&mut world, 1), end(&mut world, 0));
        let SyncEnd { rx_bytes: rx_first, conditions, touched, is_mixture, .. } = ended;
        let before = newcomer(2, &[1200, 50, 3]).pop().unwrap();
        for (tensor, condition) in conditions.iter().enumerate() {
            let bytes = states[1].bytes(tensor);
            match condition {
                Condition::Kept => assert_eq!(bytes, before.bytes(tensor), "cut at {at}"),
                Condition::Elected => assert_eq!(bytes, states[0].bytes(tensor), "cut at {at}"),
                Condition::Mixed => {
                    assert!(bytes != before.bytes(tensor) && bytes != states[0].bytes(tensor), "cut at {at}");
                }
            }
        }
        let (tensors, survey) = states[1].lend();
        let changed = (0..3).filter(|tensor| conditions[*tensor] != Condition::Kept);
        let changed: Vec<(usize, Digest)> =
            changed.map(|tensor| (tensor, survey.digests()[tensor])).collect();
        assert_eq!(is_mixture, !changed.is_empty() && !finished, "cut at {at}");
        assert_eq!(touched, changed, "cut at {at}");
        drop(tensors);
        world.run();
        let second = election(2, &mut states[0], &[0]);
        let needs = if finished { NOTHING } else { Needs::Content };
        begin_all(&mut world, &mut states, &second, &[NOTHING, needs]);
        world.run();
        let rx_second = end(&mut world, 1).rx_bytes;
        assert!(finished || succeeded(&world.hosts[1]));
        // At most the block that was cut in two comes again; if all of it was here, but not its trailer, it never counts.
        let (least, most) = (1253 - BLOCK_BYTES as u64, 1253 + BLOCK_BYTES as u64);
        assert!((least..=most).contains(&(rx_first + rx_second)), "{rx_first} {rx_second}");
        drop(end(&mut world, 0));
        assert_equal(&states);
    }
}

#[test]
fn asks_that_come_early_wait_and_asks_that_come_late_are_dropped() {
    let mut world = World::new(Shape::default());
    let mut states = newcomer(2, &[300]);
    let election = election(7, &mut states[0], &[0]);
    begin(&mut world, 1, &mut states[1], &election, Needs::Content);
    world.run();
    assert_eq!(world.hosts[0].engine.kept().early_asks, 1);
    begin(&mut world, 0, &mut states[0], &election, NOTHING);
    assert_eq!(world.hosts[0].engine.kept().early_asks, 0);
    world.run();
    assert!(succeeded(&world.hosts[1]));
    drop(end(&mut world, 0));
    // Its number is over at the source: nobody answers, and nothing is kept.
    drop(end(&mut world, 1));
    begin(&mut world, 1, &mut states[1], &election, Needs::Content);
    world.run();
    assert_eq!(world.hosts[0].engine.kept().early_asks, 0);
    assert_eq!(world.hosts[0].lost, []);
}

/// Lets time pass at a receiver that waits, for so many looks at its sources.
fn wait(world: &mut World, rank: usize, looks: u64) {
    for _ in 0..looks {
        if !world.hosts[rank].synced.is_empty() {
            return;
        }
        let next =
            world.hosts[rank].engine.next_deadline().expect("a fetch under way looks after its sources");
        world.now = world.now.max(next);
        let now = world.now;
        world.hosts[rank].engine.on_deadline(now);
        world.run();
    }
}

#[test]
fn a_source_that_never_begins_is_passed_over() {
    let mut world = World::new(Shape { world_size: 3, ..Shape::default() });
    let mut states = newcomer(3, &[300]);
    let election = election(1, &mut states[0], &[1, 0]);
    begin(&mut world, 2, &mut states[2], &election, Needs::Content);
    // Peer 1 never begins. It is first in the list and was asked for the digests.
    begin(&mut world, 0, &mut states[0], &election, NOTHING);
    world.run();
    assert!(world.hosts[2].synced.is_empty());
    wait(&mut world, 2, 8);
    assert!(succeeded(&world.hosts[2]), "{:?}", world.hosts[2].logs);
}

#[test]
fn a_silent_source_counts_no_more() {
    let mut world = World::new(Shape::default());
    let mut states = newcomer(2, &[300]);
    let election = election(1, &mut states[0], &[0]);
    begin(&mut world, 1, &mut states[1], &election, Needs::Content);
    wait(&mut world, 1, STATE_SILENCE_MS / 250 + 2);
    let (_, failed) = world.hosts[1].synced.pop().expect("nobody else could send it");
    assert!(failed.is_some_and(|text| text.contains("no source is left")));
    assert!(world.hosts[1].logs.iter().any(|line| line.contains("sent nothing for 10 s")));
}

/// Of three sources one has no link to the receiver, one sends something else, and one lacks what may differ. Of the second
/// the master knows nothing: it takes the receiver for served.
#[test]
fn where_one_source_is_of_no_use_and_the_other_out_of_reach_the_fetch_fails() {
    for (needs, leaves) in
        [(Needs::Content, false), (Needs::All, false), (Needs::Content, true), (Needs::All, true)]
    {
        let world_size = if needs == Needs::All { 4 } else { 3 };
        let mut world = World::new(Shape { world_size, unlinked: vec![(0, 2)], ..Shape::default() });
        let of = |seed, own| State::new(&[("m", pattern(300, seed), false), ("own", pattern(90, own), true)]);
        let mut states = [of(1, 10), of(7, 11), of(2, 12), of(1, 13)];
        let mut elected = (*election(1, &mut states[0], &[0, 1])).clone();
        if needs == Needs::All {
            elected.sources.push(Source { peer: peer(3), full: false });
        }
        let election = Arc::new(elected);
        for (rank, state) in states.iter_mut().enumerate().take(world_size) {
            let needs = if rank == 2 { needs } else { NOTHING };
            begin(&mut world, rank, state, &election, needs);
        }
        world.run();
        assert!(world.hosts[2].logs.iter().any(|line| line.contains("is no source any more")));
        assert_eq!(world.hosts[2].synced, [], "a link may come yet");
        if leaves {
            let (members, now) = ([peer(1), peer(2), peer(3)], world.now);
            world.hosts[2].engine.members(&members, now);
            world.drain_outputs();
        } else {
            wait(&mut world, 2, STATE_SILENCE_MS / 250 + 2);
        }
        let (_, failed) =
            world.hosts[2].synced.pop().unwrap_or_else(|| panic!("{needs:?} {leaves}: it waits"));
        let text = failed.expect("nobody has it");
        assert!(text.contains("no source is left") && text.contains(&peer(1).to_string()), "{text}");
        assert_eq!(text.contains("may differ"), needs == Needs::All, "{text}");
        (0..world_size).for_each(|rank| drop(end(&mut world, rank)));
    }
}

/// Both hold it, and the first was asked for all of it, as nobody knew better. Then it turns slow.
#[test]
fn most_comes_from_the_faster_source_whoever_was_asked_first() {
    let mut world = World::new(Shape { world_size: 3, ..Shape::default() });
    let mut states = newcomer(3, &[8000]);
    let election = election(1, &mut states[0], &[0, 1]);
    begin_all(&mut world, &mut states, &election, &[NOTHING, NOTHING, Needs::Content]);
    while world.hosts[2].engine.counters().state_bytes_received < 160 {
        world.poke();
    }
    // Both ends of the link between this source and the receiver.
    let [slow, fast] =
        [0, 1].map(|rank| [(rank, world.hosts[rank].links[1]), (2, world.hosts[2].links[rank])]);
    let mut looks = 0;
    while world.hosts[2].synced.is_empty() {
        let next = world.hosts[2].engine.next_deadline().expect("a fetch looks after its sources");
        world.now = world.now.max(next);
        let now = world.now;
        world.hosts[2].engine.on_deadline(now);
        slow.into_iter()
            .chain(std::iter::repeat_n(fast, 4000).flatten())
            .for_each(|(rank, link)| world.ready(rank, link));
        looks += 1;
        assert!(looks < 60, "it waits for the slow one");
    }
    assert!(succeeded(&world.hosts[2]));
    let ends: Vec<SyncEnd> = (0..3).map(|rank| end(&mut world, rank)).collect();
    assert_eq!(ends[2].rx_bytes, 8000);
    assert!(
        ends[1].tx_bytes > 7000 && ends[0].tx_bytes < 1000,
        "{} and {}",
        ends[0].tx_bytes,
        ends[1].tx_bytes
    );
    drop(ends);
    assert_equal(&states);
}

/// More digests than one frame holds: of tensors, and of blocks of one of them.
#[test]
fn long_lists_of_digests_come_in_parts() {
    let shape = Shape {
        world_size: 3,
        links_per_pair: 2,
        segment_bytes: 1 << 14,
        pump_budget_bytes: 1 << 16,
        step: 1 << 12,
        capacity: 1 << 16,
        ..Shape::default()
    };
    let tensors = 4096 + 700;
    let mut sizes: Vec<usize> = (0..tensors).map(|at| at % 40).collect();
    sizes.push((4096 + 300) * BLOCK_BYTES - 3);
    let mut world = World::new(shape);
    let mut states = newcomer(3, &sizes);
    let election = election(1, &mut states[0], &[0, 1]);
    begin_all(&mut world, &mut states, &election, &[NOTHING, NOTHING, Needs::Content]);
    world.run();
    assert!(succeeded(&world.hosts[2]), "{:?}", world.hosts[2].logs);
    (0..3).for_each(|rank| drop(end(&mut world, rank)));
    assert_equal(&states);
}

#[test]
fn a_long_transfer_says_how_far_it_is_how_fast_it_comes_and_from_whom() {
    let mut world = World::new(Shape { world_size: 3, ..Shape::default() });
    let mut states = newcomer(3, &[3000, 40]);
    let election = election(1, &mut states[0], &[0, 1]);
    begin_all(&mut world, &mut states, &election, &[NOTHING, NOTHING, Needs::Content]);
    while world.hosts[2].engine.counters().state_bytes_received < 1000 {
        world.poke();
    }
    world.now = Time(1_900_000);
    world.hosts[2].engine.on_deadline(world.now);
    world.drain_outputs();
    assert_eq!(world.hosts[2].logs, Vec::<String>::new(), "not yet");
    let got = world.hosts[2].engine.counters().state_bytes_received;
    world.now = Time(2_200_000);
    world.hosts[2].engine.on_deadline(world.now);
    world.drain_outputs();
    let line = world.hosts[2].logs.pop().expect("two seconds are over");
    // What is here has come in 2.2 s; of the tensors that differ 3040 bytes are lacking.
    let mib = |bytes: f64| format!("{:.1} MiB", bytes / f64::from(1 << 20));
    let shown = format!(
        "sync #1: {} % of {} received, {}/s; from peer ",
        got * 100 / 3040,
        mib(3040.0),
        mib(got as f64 / 2.2)
    );
    assert!(line.starts_with(&shown), "{line}");
    let shares = |line: &str| -> u64 {
        let words: Vec<&str> = line.split("; from ").nth(1).unwrap().split([' ', ',']).collect();
        words.windows(2).filter(|pair| pair[1] == "%").map(|pair| pair[0].parse::<u64>().unwrap()).sum()
    };
    assert!((98..=100).contains(&shares(&line)), "{line}");
    world.run();
    let last = world.hosts[2].logs.pop().expect("the last words");
    assert!(last.starts_with(&format!("sync #1: received {} in 2.2 s, ", mib(3040.0))), "{last}");
    assert!((98..=100).contains(&shares(&last)), "{last}");
    (0..3).for_each(|rank| drop(end(&mut world, rank)));
}

#[test]
fn damage_on_the_way_ends_the_link_and_never_lands_for_good() {
    for at in (0..3000).step_by(41) {
        let mut world = World::new(Shape { segment_bytes: 8, ..Shape::default() });
        let mut states = newcomer(2, &[700]);
        let election = election(1, &mut states[0], &[0]);
        let out = *world.pipes.keys().next().unwrap();
        world.pipes[&out].borrow_mut().damage_at = Some(at);
        begin_all(&mut world, &mut states, &election, &[NOTHING, Needs::Content]);
        world.run();
        if world.hosts.iter().any(|host| !host.lost.is_empty()) {
            relink(&mut world, 0, 1);
            world.run();
        }
        assert!(succeeded(&world.hosts[1]), "damage at {at}");
        (0..2).for_each(|rank| drop(end(&mut world, rank)));
        assert_equal(&states);
    }
}

#[test]
fn the_receiver_itself_is_no_source_of_its_own() {
    let mut world = World::new(Shape::default());
    let mut states = newcomer(2, &[100]);
    let mut elected = (*election(1, &mut states[0], &[0])).clone();
    elected.sources.push(Source { peer: peer(1), full: false });
    states[0] = newcomer(2, &[100]).pop().unwrap();
    let election = Arc::new(elected);
    begin_all(&mut world, &mut states, &election, &[NOTHING, Needs::Content]);
    world.run();
    let failed = world.hosts[1].synced.pop().and_then(|(_, failed)| failed);
    assert!(failed.is_some_and(|text| text.contains("no source is left")));
}
