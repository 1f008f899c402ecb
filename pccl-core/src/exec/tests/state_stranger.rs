//! A peer written by hand that breaks the rules of shared state.

use std::sync::Arc;

use super::pipe::{PipeEnd, PipeRef, pipe};
use super::sync::{State, election};
use super::world::peer;
use crate::exec::{Engine, EngineConfig, Output, SyncStart};
use crate::limits::{MAX_EARLY_STATE_ASKS, MAX_STATE_NOTE_BYTES, STATE_SILENCE_MS};
use crate::types::{Election, Epoch, LinkId, Needs, OpKey, Tag, Time};
use crate::wire::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, TRAILER_BYTES, Trailer};
use crate::wire::state_ask::{StateAsk, Wanted};

pub const NUMBER: u64 = 3;

/// An engine in synchronization 3 with one tensor of 100 bytes (7 blocks), linked twice with peer 0, who is us.
pub struct Stage {
    pub engine: Engine<PipeEnd>,
    state: State,
    says: Vec<PipeRef>,
    pub hears: Vec<PipeRef>,
    pub reason: Option<String>,
    pub outcome: Option<Option<String>>,
    pub logs: Vec<String>,
    pub now: Time,
}

pub fn tensor(seed: u8) -> State {
    State::new(&[("w", vec![seed; 100], false), ("one", vec![seed; 5], false)])
}

impl Stage {
    fn new(needs: Needs) -> Stage {
        Stage::with_sources(needs, &[0])
    }

    pub fn with_sources(needs: Needs, sources: &[usize]) -> Stage {
        Stage::of(tensor(1), election(NUMBER, &mut tensor(2), sources), needs)
    }

    pub fn of(mut state: State, elected: Arc<Election>, needs: Needs) -> Stage {
        let mut engine = Engine::new(EngineConfig::default());
        let (mut says, mut hears) = (Vec::new(), Vec::new());
        for link in 0..2 {
            let (end, _, [there, back]) = pipe(1 << 20, 1 << 20);
            engine.add_link(LinkId(link), peer(0), 0, end, Time(0));
            says.push(back);
            hears.push(there);
        }
        let (tensors, survey) = state.lend();
        engine.begin_sync(SyncStart { me: peer(1), election: elected, needs, tensors, survey }, Time(0));
        let (reason, outcome, logs, now) = (None, None, Vec::new(), Time(0));
        Stage { engine, state, says, hears, reason, outcome, logs, now }
    }

    pub fn say(&mut self, link: usize, header: FrameHeader, payload: &[u8]) -> &mut Stage {
        self.say_with(link, header, payload, Trailer { crc32: crc32fast::hash(payload), void: false })
    }

    fn say_with(&mut self, link: usize, header: FrameHeader, payload: &[u8], trailer: Trailer) -> &mut Stage {
        self.say_bytes(link, &[&header.encode()[..], payload, &trailer.encode()].concat())
    }

    /// A part of a frame, or several.
    pub fn say_bytes(&mut self, link: usize, bytes: &[u8]) -> &mut Stage {
        self.says[link].borrow_mut().bytes.extend(bytes);
        self.engine.ready(LinkId(link as u64), self.now);
        self.take_outputs();
        self
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::LinkLost { reason, .. } => self.reason = Some(reason),
                Output::StateDone { failed, .. } => self.outcome = Some(failed.map(|f| f.to_string())),
                Output::Log { text, .. } => self.logs.push(text),
                _ => {}
            }
        }
    }

    /// The engine's next look at its sources.
    pub fn tick(&mut self) {
        self.tick_late(0);
    }

    /// The same, so much later than it was due.
    pub fn tick_late(&mut self, late_us: u64) {
        let due = self.engine.next_deadline().expect("a fetch under way looks after its sources");
        self.now = Time(due.0 + late_us);
        self.engine.on_deadline(self.now);
        self.take_outputs();
    }

    /// A second source, peer 5, with a link of its own; gives what it hears.
    pub fn link_another(&mut self) -> PipeRef {
        self.link_peer(5)
    }

    pub fn link_peer(&mut self, rank: usize) -> PipeRef {
        let (end, _, [there, back]) = pipe(1 << 20, 1 << 20);
        let link = self.says.len();
        self.engine.add_link(LinkId(link as u64), peer(rank), 0, end, self.now);
        self.says.push(back);
        there
    }

    fn ask(&mut self, number: u64, asks: &[StateAsk]) -> &mut Stage {
        let payload: Vec<u8> = asks.iter().flat_map(StateAsk::encode).collect();
        self.say(0, header(FrameKind::StateAsk, number, 0, 0, 0, payload.len()), &payload)
    }

    /// What the engine has asked of us, in the order it did.
    pub fn heard_asks(&mut self) -> Vec<StateAsk> {
        let mut asks = Vec::new();
        for pipe in &self.hears {
            let bytes: Vec<u8> = pipe.borrow_mut().bytes.drain(..).collect();
            let mut at = 0;
            while at < bytes.len() {
                let header: &[u8; FRAME_HEADER_BYTES] = bytes[at..].first_chunk().unwrap();
                let header = FrameHeader::decode(header).unwrap();
                at += FRAME_HEADER_BYTES;
                let payload = &bytes[at..at + header.len as usize];
                asks.extend(StateAsk::decode_list(payload).unwrap());
                at += payload.len() + TRAILER_BYTES;
            }
        }
        asks
    }

    fn assert_faulted(&self, part: &str) {
        assert!(self.reason.as_ref().is_some_and(|reason| reason.contains(part)), "{:?}", self.reason);
    }
}

pub fn header(kind: FrameKind, number: u64, tag: u64, chunk: u32, offset: u32, len: usize) -> FrameHeader {
    let key = OpKey { epoch: Epoch(number), tag: Tag(tag), seq: 0 };
    FrameHeader { kind, key, digest: 0, chunk, piece: 0, offset, len: len as u32 }
}

pub fn ask(wanted: Wanted, tensor: u32, first: u32, count: u32) -> StateAsk {
    StateAsk { wanted, tensor, first, count }
}

/// Answers the engine's asks for digests truthfully. Tensors by name: 0 is "one", 1 is "w".
fn told_digests() -> Stage {
    tell_digests(Stage::new(Needs::Content))
}

fn tell_digests(mut stage: Stage) -> Stage {
    let (_lent, survey) = tensor(2).lend();
    assert_eq!(stage.heard_asks(), [ask(Wanted::TensorDigests, 0, 0, 2)]);
    let list: Vec<u8> = survey.digests().iter().flat_map(|d| d.0).collect();
    stage.say(0, header(FrameKind::StateDigests, NUMBER, u64::MAX, 0, 0, list.len()), &list);
    assert_eq!(stage.heard_asks(), [ask(Wanted::BlockDigests, 1, 0, 7), ask(Wanted::Blocks, 0, 0, 1)]);
    let blocks: Vec<u8> = survey.blocks(1).iter().flat_map(|d| d.0).collect();
    stage.say(1, header(FrameKind::StateDigests, NUMBER, 1, 0, 0, blocks.len()), &blocks);
    assert_eq!(stage.heard_asks(), [ask(Wanted::Blocks, 1, 0, 7)]);
    stage
}

fn block(tensor: u64, block: u32, offset: u32, len: usize) -> (FrameHeader, Vec<u8>) {
    (header(FrameKind::StateBlock, NUMBER, tensor, block, offset, len), vec![2; len])
}

#[test]
fn an_honest_peer_is_believed() {
    let mut stage = told_digests();
    for (tensor, at, offset, len) in [(0, 0, 0, 5), (1, 6, 0, 4), (1, 0, 0, 10), (1, 0, 10, 6)] {
        let (header, payload) = block(tensor, at, offset, len);
        stage.say(0, header, &payload);
    }
    for at in 1..6 {
        assert_eq!(stage.outcome, None);
        let (header, payload) = block(1, at, 0, 16);
        stage.say(at as usize % 2, header, &payload);
    }
    assert_eq!((stage.outcome.clone(), stage.reason.clone()), (Some(None), None));
    assert!(stage.engine.end_sync().is_some_and(|end| end.rx_bytes == 105));
    assert_eq!(stage.state.bytes(0), [2; 100]);
}

#[test]
fn asks_for_what_is_not_there_end_the_link() {
    for bad in [
        ask(Wanted::Blocks, 1, 6, 2),
        ask(Wanted::Blocks, 2, 0, 1),
        ask(Wanted::Blocks, u32::MAX, 0, 1),
        ask(Wanted::BlockDigests, 1, 7, 1),
        ask(Wanted::TensorDigests, 0, 0, 3),
        ask(Wanted::TensorDigests, 0, u32::MAX - 1, 1),
    ] {
        let mut stage = Stage::new(Needs::Nothing);
        stage.ask(NUMBER, &[bad]).assert_faulted("which are not there");
    }
}

#[test]
fn asks_without_end_end_the_link_whether_they_come_early_or_in_time() {
    for (number, most) in [(NUMBER, 32 * 1024), (NUMBER + 1, MAX_EARLY_STATE_ASKS)] {
        let mut stage = Stage::new(Needs::Nothing);
        // Nobody reads, so nothing is answered.
        stage.hears.iter().for_each(|pipe| pipe.borrow_mut().capacity = 0);
        let many = vec![ask(Wanted::Blocks, 1, 0, 7); MAX_STATE_NOTE_BYTES / 16];
        let blocks = most.min(4096);
        stage.ask(number, &many).assert_faulted(&format!("more than {blocks} asks"));
        let mut stage = Stage::new(Needs::Nothing);
        stage.hears.iter().for_each(|pipe| pipe.borrow_mut().capacity = 0);
        let many = vec![ask(Wanted::BlockDigests, 1, 0, 7); MAX_STATE_NOTE_BYTES / 16];
        for _ in 0..64 {
            stage.ask(number, &many);
        }
        stage.assert_faulted(&format!("more than {most} asks"));
        assert!(stage.engine.kept().early_asks <= MAX_EARLY_STATE_ASKS);
    }
}

#[test]
fn asks_that_mean_nothing_end_the_link() {
    let mut stage = Stage::new(Needs::Nothing);
    stage
        .say(0, header(FrameKind::StateAsk, NUMBER, 0, 0, 0, 16), &[0xFF; 16])
        .assert_faulted("means nothing");
}

#[test]
fn asks_of_a_number_that_is_over_are_dropped() {
    let mut stage = Stage::new(Needs::Nothing);
    stage.ask(NUMBER - 1, &[ask(Wanted::Blocks, 9, 9, 9)]);
    assert_eq!((stage.reason.clone(), stage.engine.kept().early_asks), (None, 0));
}

#[test]
fn of_early_asks_those_of_the_newest_number_are_kept() {
    let mut stage = Stage::new(Needs::Nothing);
    for (number, kept) in [(5, 1), (4, 1), (5, 2), (6, 1)] {
        stage.ask(number, &[ask(Wanted::Blocks, 9, 9, 9)]);
        assert_eq!(stage.engine.kept().early_asks, kept, "{number}");
    }
    stage.engine.unlink(peer(0), Time(0));
    assert_eq!(stage.engine.kept().early_asks, 0);
}

#[test]
fn blocks_nobody_asked_for_are_dropped() {
    let mut stage = Stage::new(Needs::Content);
    let (early, payload) = block(1, 0, 0, 16);
    stage.say(0, early, &payload);
    let mut server = Stage::new(Needs::Nothing);
    server.say(0, early, &payload);
    for stage in [&mut stage, &mut server] {
        assert_eq!(stage.reason, None);
        assert!(stage.engine.end_sync().is_some_and(|end| end.rx_bytes == 0));
        assert_eq!(stage.state.bytes(0), [1; 100]);
    }
}

#[test]
fn a_block_out_of_place_ends_the_link() {
    for (tensor, at, offset, len) in
        [(1, 7, 0, 16), (5, 0, 0, 8), (1, 6, 0, 5), (1, 0, 8, 9), (u64::MAX, 0, 0, 1)]
    {
        let mut stage = told_digests();
        let (header, payload) = block(tensor, at, offset, len);
        stage.say(0, header, &payload).assert_faulted("were due");
    }
    let mut stage = told_digests();
    let (first, payload) = block(1, 0, 0, 4);
    stage.say(0, first, &payload);
    let (gap, payload) = block(1, 0, 8, 8);
    stage.say(0, gap, &payload).assert_faulted("where 4 were due");
}

#[test]
fn a_block_that_comes_over_two_links_at_once_lands_once() {
    let mut stage = told_digests();
    let (half, payload) = block(1, 0, 0, 8);
    stage.say(0, half, &payload).say(1, half, &[9; 8]);
    let (rest, payload) = block(1, 0, 8, 8);
    stage.say(1, rest, &[9; 8]).say(0, rest, &payload);
    assert_eq!(stage.reason, None);
    assert_eq!(stage.engine.counters().state_bytes_received, 16);
}

#[test]
fn digests_out_of_order_twice_or_too_many_are_dropped() {
    let mut stage = Stage::new(Needs::Content);
    for (tag, chunk, len) in
        [(u64::MAX, 1, 16), (u64::MAX, 0, 48), (u64::MAX, 0, 16), (1, 0, 112), (77, 0, 16)]
    {
        stage.say(0, header(FrameKind::StateDigests, NUMBER, tag, chunk, 0, len), &vec![0; len]);
    }
    assert_eq!((stage.reason.clone(), stage.outcome.clone()), (None, None));
    // The right length and the wrong content: the only source there is was found out.
    stage.say(0, header(FrameKind::StateDigests, NUMBER, u64::MAX, 0, 0, 32), &[0; 32]);
    assert!(stage.outcome.clone().flatten().is_some_and(|text| text.contains("no source is left")));
}

#[test]
fn damage_in_an_ask_ends_the_link_and_a_void_one_means_nothing() {
    let asks = ask(Wanted::Blocks, 1, 0, 7).encode();
    let place = header(FrameKind::StateAsk, NUMBER, 0, 0, 0, 16);
    let mut stage = Stage::new(Needs::Nothing);
    stage.say_with(0, place, &asks, Trailer { crc32: 1, void: false }).assert_faulted("arrived damaged");
    let mut stage = Stage::new(Needs::Nothing);
    stage.say_with(0, place, &asks, Trailer { crc32: 1, void: true });
    assert_eq!((stage.reason.clone(), stage.engine.counters().state_bytes_sent), (None, 0));
}

#[test]
fn a_void_block_is_not_believed() {
    let mut stage = told_digests();
    let (place, _) = block(1, 0, 0, 16);
    stage.say_with(0, place, &[7; 16], Trailer { crc32: 0, void: true });
    assert_eq!((stage.reason.clone(), stage.outcome.clone()), (None, None));
    let end = stage.engine.end_sync().unwrap();
    assert_eq!(end.rx_bytes, 0);
    assert!(end.is_mixture, "its bytes are in the tensor");
}

/// The links stay, so it is neither lost nor done with: it may not hold up the call for ever.
#[test]
fn a_sole_source_that_gives_up_a_block_and_stays_is_of_no_use_after_a_while() {
    let mut stage = told_digests();
    let (place, _) = block(1, 0, 0, 16);
    stage.say_with(0, place, &[7; 16], Trailer { crc32: 0, void: true });
    let until = Time((STATE_SILENCE_MS + 1000) * 1000);
    while stage.outcome.is_none() && stage.now < until {
        stage.tick();
    }
    let failed = stage.outcome.clone().flatten().expect("it has ended");
    assert!(failed.contains("no source is left"), "{failed}");
}

/// A slow source is asked once for each block, as long as nobody else could send it.
#[test]
fn what_a_slow_source_is_late_with_is_not_asked_of_it_again() {
    let mut stage = tell_digests(Stage::with_sources(Needs::Content, &[0, 5]));
    for _ in 0..16 {
        let now = stage.engine.next_deadline().unwrap();
        stage.engine.on_deadline(now);
    }
    assert_eq!(stage.heard_asks(), []);
    // Another one comes: what is late is asked of it as well.
    let (end, _, [there, _back]) = pipe(1 << 20, 1 << 20);
    let now = stage.engine.next_deadline().unwrap();
    stage.engine.add_link(LinkId(9), peer(5), 0, end, now);
    stage.engine.on_deadline(now);
    assert_eq!(stage.heard_asks(), []);
    let first = std::mem::replace(&mut stage.hears, vec![there]);
    assert_eq!(stage.heard_asks(), [ask(Wanted::Blocks, 0, 0, 1), ask(Wanted::Blocks, 1, 0, 7)]);
    // This one is late, too; and the first still has it to send, so it is not idle: it does not go back and forth.
    for _ in 0..16 {
        let now = stage.engine.next_deadline().unwrap();
        stage.engine.on_deadline(now);
    }
    assert_eq!(stage.heard_asks(), []);
    stage.hears = first;
    assert_eq!(stage.heard_asks(), []);
}

/// What nobody asked for says nothing about a source, and digests that it is late with are asked of another one.
#[test]
fn a_source_that_babbles_and_does_not_answer_is_passed_over() {
    let babble = |stage: &mut Stage| {
        stage.tick();
        let (stray, payload) = block(1, 0, 0, 1);
        stage.say(0, stray, &payload);
    };
    for knows_the_list in [false, true] {
        let mut stage = Stage::with_sources(Needs::Content, &[0, 5]);
        let mut wanted = vec![ask(Wanted::TensorDigests, 0, 0, 2)];
        assert_eq!(stage.heard_asks(), wanted);
        if knows_the_list {
            let (_lent, survey) = tensor(2).lend();
            let list: Vec<u8> = survey.digests().iter().flat_map(|d| d.0).collect();
            stage.say(0, header(FrameKind::StateDigests, NUMBER, u64::MAX, 0, 0, list.len()), &list);
            wanted = vec![ask(Wanted::BlockDigests, 1, 0, 7)];
        }
        let there = stage.link_another();
        let first = std::mem::replace(&mut stage.hears, vec![there]);
        (0..8).for_each(|_| babble(&mut stage));
        let asks = stage.heard_asks();
        assert_eq!(asks[..1], wanted, "asked of the other one");
        // That one says nothing either. The first is asked again only when there is nobody else.
        stage.hears = first;
        stage.heard_asks();
        (0..16).for_each(|_| babble(&mut stage));
        assert_eq!(stage.heard_asks(), []);
        assert_eq!((stage.reason.clone(), stage.outcome.clone()), (None, None));
    }
    let mut stage = Stage::new(Needs::Content);
    (0..60).for_each(|_| {
        if stage.outcome.is_none() {
            babble(&mut stage)
        }
    });
    assert!(stage.outcome.clone().flatten().is_some_and(|text| text.contains("no source is left")));
    assert!(stage.logs.iter().any(|line| line.contains("sent nothing for 10 s")), "{:?}", stage.logs);
}

/// The list is right, and the digests of a tensor's blocks are not: they are asked of another source.
#[test]
fn digests_of_blocks_that_are_not_those_of_the_tensor_end_the_trust_in_their_source() {
    for sources in [vec![0], vec![0, 5]] {
        let mut stage = Stage::with_sources(Needs::Content, &sources);
        let (_lent, survey) = tensor(2).lend();
        stage.heard_asks();
        let list: Vec<u8> = survey.digests().iter().flat_map(|d| d.0).collect();
        stage.say(0, header(FrameKind::StateDigests, NUMBER, u64::MAX, 0, 0, list.len()), &list);
        let there = (sources.len() > 1).then(|| stage.link_another());
        stage.say(0, header(FrameKind::StateDigests, NUMBER, 1, 0, 0, 112), &[9; 112]);
        let why = "its digests of blocks are not those of the elected tensor";
        assert!(stage.logs.iter().any(|line| line.contains(why)), "{:?}", stage.logs);
        let Some(there) = there else {
            let failed = stage.outcome.clone().flatten();
            assert!(failed.is_some_and(|text| text.contains("no source is left")));
            continue;
        };
        stage.hears = vec![there];
        let asks = stage.heard_asks();
        assert_eq!(asks, [ask(Wanted::BlockDigests, 1, 0, 7), ask(Wanted::Blocks, 0, 0, 1)]);
        let blocks: Vec<u8> = survey.blocks(1).iter().flat_map(|d| d.0).collect();
        stage.say(2, header(FrameKind::StateDigests, NUMBER, 1, 0, 0, blocks.len()), &blocks);
        assert_eq!(stage.heard_asks(), [ask(Wanted::Blocks, 1, 0, 7)]);
    }
}
