//! Sources that are late, or do as if they were alive: what they are asked for is had from others, and every fetch ends.

use std::collections::VecDeque;
use std::sync::Arc;

use super::state_stranger::{NUMBER, Stage, ask, header, tensor};
use super::sync::{State, election};
use super::world::peer;
use crate::limits::{STATE_BLOCK_BYTES, STATE_LIFE_BYTES, STATE_SILENCE_MS, STATE_STUCK_MS};
use crate::types::{Needs, Source, Time};
use crate::wire::frame::{FRAME_HEADER_BYTES, FrameKind, Trailer};
use crate::wire::state_ask::{StateAsk, Wanted};

const LIST: u64 = u64::MAX;

impl Stage {
    /// Answers as somebody who holds this, with one frame for each digest list and each block.
    fn answer(&mut self, link: usize, asks: &[StateAsk], holds: &mut State) {
        let (tensors, survey) = holds.lend();
        for StateAsk { wanted, tensor, first, count } in asks.iter().copied() {
            let (at, tag) = (tensor as usize, u64::from(tensor));
            let range = first as usize..(first + count) as usize;
            let digests = match wanted {
                Wanted::TensorDigests => (LIST, &survey.digests()[range]),
                Wanted::BlockDigests => (tag, &survey.blocks(at)[range]),
                Wanted::Blocks => {
                    for block in range {
                        let from = block * survey.block_bytes();
                        let len = survey.block_bytes().min(tensors.size_bytes(at) - from);
                        let head = header(FrameKind::StateBlock, NUMBER, tag, block as u32, 0, len);
                        self.say(link, head, tensors.read(at, from, len));
                    }
                    continue;
                }
            };
            let payload: Vec<u8> = digests.1.iter().flat_map(|digest| digest.0).collect();
            self.say(
                link,
                header(FrameKind::StateDigests, NUMBER, digests.0, first, 0, payload.len()),
                &payload,
            );
        }
    }

    /// What one of the ends of ours has heard.
    fn heard_by(&mut self, end: usize) -> Vec<StateAsk> {
        let pipe = self.hears[end].clone();
        let others = std::mem::replace(&mut self.hears, vec![pipe]);
        let asks = self.heard_asks();
        self.hears = others;
        asks
    }
}

/// Peer 0 is honest and needs two seconds for each answer, longer than anybody is waited for at first. Peer 5 answers nothing:
/// of each block that it was asked for it sends a byte every nine seconds, and by and by the same one again.
#[test]
fn a_source_that_is_always_late_is_heard_beside_one_that_babbles() {
    for honest_first in [true, false] {
        let sources = if honest_first { [0, 5] } else { [5, 0] };
        let mut stage = Stage::with_sources(Needs::Content, &sources);
        let there = stage.link_another();
        stage.hears.push(there);
        let mut due: VecDeque<(Time, StateAsk)> = VecDeque::new();
        let mut babbled: Vec<(u32, u32)> = Vec::new();
        for look in 0.. {
            // Ten seconds of silence, and a few answers.
            assert!(look < 4 * 30, "it waits: {:?}", stage.logs);
            for end in 0..2 {
                due.extend(stage.heard_by(end).into_iter().map(|ask| (stage.now.plus_ms(2_000), ask)));
            }
            let asked = stage.heard_by(2).into_iter().filter(|ask| ask.wanted == Wanted::Blocks);
            babbled.extend(
                asked.flat_map(|ask| (ask.first..ask.first + ask.count).map(move |b| (ask.tensor, b))),
            );
            while due.front().is_some_and(|(at, _)| *at <= stage.now) {
                let (_, ask) = due.pop_front().unwrap();
                stage.answer(0, &[ask], &mut tensor(2));
            }
            for (tensor, block) in babbled.clone().into_iter().filter(|_| look % 36 == 0) {
                stage.say(2, header(FrameKind::StateBlock, NUMBER, u64::from(tensor), block, 0, 1), &[2]);
            }
            if stage.outcome.is_some() {
                break;
            }
            stage.tick();
        }
        assert_eq!(stage.outcome, Some(None), "{:?}", stage.logs);
    }
}

/// The answer of one that was passed over is as good as that of the other, whoever comes first.
#[test]
fn digests_that_come_after_another_was_asked_for_them_count() {
    for right in [true, false] {
        let mut stage = Stage::with_sources(Needs::Content, &[0, 5]);
        stage.heard_asks();
        let there = stage.link_another();
        (0..7).for_each(|_| stage.tick());
        stage.hears.push(there);
        let list = ask(Wanted::TensorDigests, 0, 0, 2);
        assert_eq!(stage.heard_asks(), [list]);
        stage.answer(0, &[list], &mut tensor(if right { 2 } else { 3 }));
        let is_bad = stage.logs.iter().any(|line| line.contains("is no source any more"));
        assert_eq!(is_bad, !right, "{:?}", stage.logs);
        let digests = ask(Wanted::BlockDigests, 1, 0, 7);
        assert_eq!(stage.heard_asks().contains(&digests), right);
        // The other one's is dropped, or believed.
        stage.answer(2, &[list], &mut tensor(2));
        assert_eq!(stage.heard_by(2).contains(&digests), !right);
        assert_eq!((stage.reason.clone(), stage.outcome.clone()), (None, None));
    }
}

/// Who is the only one, and sends a little now and then, is of no use.
#[test]
fn a_sole_source_that_sends_next_to_nothing_is_of_no_use() {
    let mut stage = Stage::with_sources(Needs::Content, &[0]);
    for wanted in [Wanted::TensorDigests, Wanted::BlockDigests] {
        let asks: Vec<StateAsk> = stage.heard_asks().into_iter().filter(|ask| ask.wanted == wanted).collect();
        stage.answer(0, &asks, &mut tensor(2));
    }
    let mut sent = 0;
    while stage.outcome.is_none() && stage.now < Time((2 * STATE_SILENCE_MS) * 1000) {
        let place = header(FrameKind::StateBlock, NUMBER, 1, 0, sent, 1);
        stage.say(0, place, &[2]);
        sent += 1;
        for _ in 0..36 {
            if stage.outcome.is_none() {
                stage.tick();
            }
        }
    }
    let failed = stage.outcome.clone().flatten().expect("it has ended");
    assert!(failed.contains("no source is left"), "{failed}");
    assert!(is_silent(&stage) && stage.now < Time((STATE_SILENCE_MS + 500) * 1000), "{:?}", stage.logs);
    assert_eq!(stage.reason, None);
}

fn is_silent(stage: &Stage) -> bool {
    stage.logs.iter().any(|line| line.contains("no source any more: it sent nothing for 10 s"))
}

/// A sole source of 1 MiB sends so much of a block in each nine seconds.
#[test]
fn less_than_4_kib_in_ten_seconds_are_no_sign_of_life() {
    for (each, lives) in [(STATE_LIFE_BYTES, true), (STATE_LIFE_BYTES - 1, false)] {
        let (mut stage, mut winner) = stage_of_mib(1, &[0]);
        let list = heard_of_first(&mut stage);
        stage.answer(0, &list, &mut winner);
        let digests = heard_of_first(&mut stage);
        stage.answer(0, &digests, &mut winner);
        let asked = blocks(&heard_of_first(&mut stage));
        let frame = frame_of(asked[0].first, 0, STATE_BLOCK_BYTES);
        let (head, payload) = frame.split_at(FRAME_HEADER_BYTES);
        stage.say_bytes(0, head);
        for part in payload.chunks(each).take(10) {
            (0..36).for_each(|_| {
                if stage.outcome.is_none() {
                    stage.tick();
                }
            });
            stage.say_bytes(0, part);
        }
        assert_eq!((stage.outcome.is_none(), !is_silent(&stage)), (lives, lives), "{each}: {:?}", stage.logs);
    }
}

#[test]
fn the_end_of_a_block_is_a_sign_of_life_however_small_it_is() {
    let mut stage = Stage::with_sources(Needs::Content, &[0]);
    let mut asks: VecDeque<StateAsk> = VecDeque::new();
    while stage.outcome.is_none() {
        loop {
            let heard = stage.heard_asks();
            if heard.is_empty() {
                break;
            }
            asks.extend(blocks(&heard));
            let digests = heard.into_iter().filter(|ask| ask.wanted != Wanted::Blocks);
            stage.answer(0, &digests.collect::<Vec<_>>(), &mut tensor(2));
        }
        (0..36).for_each(|_| stage.tick());
        let next = asks.pop_front().expect("it is asked for what is missing");
        stage.answer(0, &[next], &mut tensor(2));
    }
    assert_eq!(stage.outcome, Some(None), "{:?}", stage.logs);
}

/// It is linked anew before it counts as silent, again and again: of the list, or, where that has come, of blocks.
#[test]
fn a_fetch_to_which_nothing_comes_whole_fails_in_the_end() {
    for has_told in [false, true] {
        let mut stage = Stage::with_sources(Needs::Content, &[5]);
        let there = stage.link_another();
        stage.hears.push(there);
        if has_told {
            for _ in 0..2 {
                let asks = stage.heard_by(2).into_iter().filter(|ask| ask.wanted != Wanted::Blocks);
                stage.answer(2, &asks.collect::<Vec<_>>(), &mut tensor(2));
            }
            assert!(stage.heard_by(2).iter().any(|ask| ask.wanted == Wanted::Blocks && ask.tensor == 1));
        }
        fails_in_the_end(stage);
    }
}

fn fails_in_the_end(mut stage: Stage) {
    let looks = STATE_STUCK_MS / 250;
    for look in 0..looks + 8 {
        if look % 36 == 0 {
            stage.engine.unlink(peer(5), stage.now);
            stage.link_another();
        }
        assert_eq!(stage.outcome.is_some(), look > looks, "{look}: {:?}", stage.outcome);
        if stage.outcome.is_some() {
            break;
        }
        stage.tick();
    }
    let failed = stage.outcome.flatten().expect("it has ended");
    let expected = format!("nothing has come whole for 60 minutes of what was asked of peers {}", peer(5));
    assert_eq!(failed, expected);
}

/// What passes while we do not look says nothing about a source; but a receiver that always looks late finds out, too.
#[test]
fn a_receiver_that_looks_late_has_patience_for_as_long_as_it_looks() {
    let mut stage = Stage::with_sources(Needs::Content, &[0]);
    stage.tick_late(3_600_000_000);
    stage.tick();
    assert_eq!(stage.outcome, None);
    let mut looks = 0;
    while stage.outcome.is_none() {
        stage.tick_late(2_000_000);
        looks += 1;
        assert!(looks < 60, "a silent source is never found out");
    }
    assert!(looks > 36, "{looks} looks are not ten seconds of them");
}

const MIB: usize = 1 << 20;

/// All bytes of the elected state are 2.
fn stage_of_mib(mib: usize, sources: &[usize]) -> (Stage, State) {
    let of = |seed: u8| {
        let mut state = State::new(&[("w", vec![seed; mib * MIB], false)]);
        state.block_bytes = STATE_BLOCK_BYTES;
        state
    };
    let mut winner = of(2);
    let stage = Stage::of(of(1), election(NUMBER, &mut winner, sources), Needs::Content);
    (stage, winner)
}

/// A segment of a block of it.
fn frame_of(block: u32, offset: usize, len: usize) -> Vec<u8> {
    let place = header(FrameKind::StateBlock, NUMBER, 0, block, offset as u32, len);
    let payload = vec![2; len];
    let trailer = Trailer { crc32: crc32fast::hash(&payload), void: false };
    [&place.encode()[..], &payload, &trailer.encode()].concat()
}

/// A state of 8 MiB, two sources that were asked for 4 each, and what each was asked for.
fn halves_of_8_mib() -> (Stage, State, [Vec<StateAsk>; 2]) {
    let (mut stage, mut winner) = stage_of_mib(8, &[0, 5]);
    let there = stage.link_another();
    stage.hears.push(there);
    let list = stage.heard_asks();
    stage.answer(0, &list, &mut winner);
    let digests = heard_of_first(&mut stage);
    stage.answer(0, &digests, &mut winner);
    let (slow, fast) = (heard_of_first(&mut stage), stage.heard_by(2));
    assert_eq!((blocks(&slow).len(), blocks(&fast).len()), (16, 16));
    (stage, winner, [slow, fast])
}

/// The first source has two links.
fn heard_of_first(stage: &mut Stage) -> Vec<StateAsk> {
    stage.heard_by(0).into_iter().chain(stage.heard_by(1)).collect()
}

/// One by one.
fn blocks(asks: &[StateAsk]) -> Vec<StateAsk> {
    let of_blocks = asks.iter().filter(|ask| ask.wanted == Wanted::Blocks);
    of_blocks
        .flat_map(|ask| (0..ask.count).map(|at| StateAsk { first: ask.first + at, count: 1, ..*ask }))
        .collect()
}

/// One sends nothing; the other, once it is done, is asked for the rest as fast as it sends, not little by little.
#[test]
fn what_a_slow_source_was_asked_for_moves_to_a_fast_one() {
    let (mut stage, mut winner, [_, fast]) = halves_of_8_mib();
    // Sixteen blocks in 160 ms.
    for ask in blocks(&fast) {
        stage.now = stage.now.plus_ms(10);
        stage.answer(2, &[ask], &mut winner);
    }
    assert_eq!(stage.heard_asks(), [], "nobody is late yet");
    let mut looks = 0;
    let moved = loop {
        stage.tick();
        looks += 1;
        let asks = stage.heard_by(2);
        if !asks.is_empty() {
            break asks;
        }
        assert!(looks < 12, "nobody helps");
    };
    assert_eq!(blocks(&moved).len(), 16, "all of it fits what this one sends in a third of a second");
    stage.answer(2, &moved, &mut winner);
    assert_eq!(stage.outcome, Some(None));
    let end = stage.engine.end_sync().unwrap();
    assert_eq!(end.rx_bytes, 8 * MIB as u64);
}

/// Its bytes go on after that, and come to their end: it is not silent, and owes nothing any more. So it helps out in turn
/// when the one that took over is slow.
#[test]
fn a_slow_source_whose_blocks_were_taken_over_half_way_stays_a_source() {
    for segments in [1, 4] {
        let (mut stage, mut winner, [slow, fast]) = halves_of_8_mib();
        let slow = blocks(&slow);
        let len = STATE_BLOCK_BYTES / segments;
        let frames: Vec<u8> = (0..segments).flat_map(|at| frame_of(slow[0].first, at * len, len)).collect();
        // In the middle of the last.
        let (begin, rest) = frames.split_at(frames.len() - len / 2);
        stage.say_bytes(0, begin);
        stage.answer(2, &fast, &mut winner);
        let mut moved = Vec::new();
        for _ in 0..20 {
            stage.tick();
            let asks = blocks(&stage.heard_by(2));
            // First those of which nothing has come.
            if asks.len() > 1 {
                stage.answer(2, &asks, &mut winner);
            }
            moved.extend(asks);
        }
        assert_eq!((moved.len(), moved[15].first), (16, slow[0].first), "the one under way comes last");
        stage.say_bytes(0, rest);
        stage.answer(0, &slow[1..], &mut winner);
        assert_eq!(heard_of_first(&mut stage), []);
        // The one that took over sends as little as counts, for much longer than a source may be silent.
        let its = frame_of(slow[0].first, 0, STATE_BLOCK_BYTES);
        let (head, payload) = its.split_at(FRAME_HEADER_BYTES);
        stage.say_bytes(2, head);
        let mut again = Vec::new();
        for part in payload.chunks(STATE_LIFE_BYTES).take(5) {
            stage.say_bytes(2, part);
            for _ in 0..36 {
                stage.tick();
                again.extend(blocks(&heard_of_first(&mut stage)));
            }
            if !again.is_empty() {
                break;
            }
        }
        assert_eq!((again, &stage.reason), (vec![slow[0]], &None), "{:?}", stage.logs);
        assert!(!is_silent(&stage), "{:?}", stage.logs);
        stage.answer(0, &slow[..1], &mut winner);
        assert_eq!(stage.outcome, Some(None));
    }
}

/// A process that was suspended has not waited for anybody meanwhile.
#[test]
fn no_block_is_late_because_the_receiver_did_not_look() {
    let (mut stage, mut winner, [_, fast]) = halves_of_8_mib();
    stage.answer(2, &fast, &mut winner);
    stage.tick_late(60_000_000);
    for _ in 0..4 {
        assert_eq!(stage.heard_by(2), []);
        stage.tick();
    }
    (0..3).for_each(|_| stage.tick());
    assert_eq!(blocks(&stage.heard_by(2)).len(), 16);
}

/// Peer 5 has nothing to do and lacks what is late; peer 6, behind it, has it.
#[test]
fn the_idle_source_that_helps_is_one_that_has_what_is_late() {
    let of = |seed: u8| State::new(&[("own", vec![seed; 40], true), ("w", vec![7; 10], false)]);
    let mut winner = of(2);
    let mut elected = (*election(NUMBER, &mut winner, &[0, 5, 6])).clone();
    elected.sources[1] = Source { peer: peer(5), full: false };
    let mut stage = Stage::of(of(1), Arc::new(elected), Needs::All);
    for rank in [5, 6] {
        let there = stage.link_peer(rank);
        stage.hears.push(there);
    }
    for _ in 0..2 {
        let asks = stage.heard_asks();
        stage.answer(0, &asks, &mut winner);
        if asks.iter().any(|ask| ask.wanted == Wanted::BlockDigests) {
            break;
        }
    }
    (0..8).for_each(|_| stage.tick());
    assert_eq!(stage.heard_by(2), []);
    assert_eq!(stage.heard_by(3), [ask(Wanted::Blocks, 0, 0, 3)]);
}
