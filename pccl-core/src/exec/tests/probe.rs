//! Measuring: what comes of load and pings over pipes, and of those who do not keep to the rules.

use super::pipe::pipe;
use super::world::{Shape, World, expected, inputs, key, peer};
use crate::exec::{Engine, EngineConfig, Output};
use crate::limits::{MAX_PROBE_SPAN_MS, MIN_PROBE_SPAN_MS, PROBE_LIMIT_MS, PROBE_PINGS};
use crate::types::{DType, Epoch, LinkId, OpDescriptor, ProbeOrder, ProbeReport, ReduceOp, Time};
use crate::wire::frame::{
    FRAME_HEADER_BYTES, FrameHeader, FrameKind, PROBE_NOTE_BYTES, ProbePart, TRAILER_BYTES, Trailer,
};

const NUMBER: u64 = 7;

fn order(number: u64, to: &[usize], from: &[usize]) -> ProbeOrder {
    let ids = |ranks: &[usize]| ranks.iter().map(|rank| peer(*rank)).collect();
    ProbeOrder { number, round: 1, rounds: 1, to: ids(to), from: ids(from) }
}

impl World {
    fn probe(&mut self, rank: usize, order: ProbeOrder) {
        self.hosts[rank].engine.probe(order, self.now);
        self.drain_outputs();
    }

    /// Pipes take what they have room for each millisecond, until `ms` have passed.
    fn pass_ms(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now = self.now.plus_ms(1);
            for rank in 0..self.hosts.len() {
                for link in self.hosts[rank].links.clone() {
                    self.ready(rank, link);
                }
            }
        }
        for rank in 0..self.hosts.len() {
            let deadline = self.hosts[rank].engine.next_deadline();
            if deadline.is_some_and(|at| at <= self.now) {
                self.hosts[rank].engine.on_deadline(self.now);
            }
        }
        self.drain_outputs();
    }

    fn reports(&mut self, rank: usize) -> Vec<ProbeReport> {
        std::mem::take(&mut self.hosts[rank].probed)
    }
}

/// Each link carries 4 KiB a millisecond.
fn shape(world_size: usize, links_per_pair: usize) -> Shape {
    let (piece_bytes, segment_bytes, pump_budget_bytes) = (4096, 1024, 1 << 20);
    let (step, capacity) = (4096, 4096);
    Shape {
        world_size,
        links_per_pair,
        piece_bytes,
        segment_bytes,
        pump_budget_bytes,
        step,
        capacity,
        ..Shape::default()
    }
}

fn world(ranks: usize, links_per_pair: usize) -> World {
    World::with_config(shape(ranks, links_per_pair), EngineConfig::default())
}

#[test]
fn a_round_tells_rates_and_round_trips() {
    for links in [1, 3] {
        let mut world = world(2, links);
        world.probe(0, order(NUMBER, &[1], &[]));
        world.probe(1, order(NUMBER, &[], &[0]));
        world.pass_ms(MIN_PROBE_SPAN_MS + 50);
        let [sent, heard] = [0, 1].map(|rank| world.reports(rank));
        let ([sent], [heard]) = (&sent[..], &heard[..]) else { panic!("one report each") };
        assert_eq!((sent.number, heard.number), (NUMBER, NUMBER));
        assert_eq!((sent.round_trips.len(), sent.heard.len()), (1, 0));
        assert_eq!((sent.round_trips[0].to, heard.heard[0].from), (peer(1), peer(0)));
        assert!((1..=5_000).contains(&sent.round_trips[0].rtt_us), "{:?}", sent.round_trips);
        // Each pipe carries up to 4 KiB each millisecond.
        let most = 4_100_000 * links as u64;
        let rate = heard.heard[0].bytes_per_second;
        assert!((most / 3..=most).contains(&rate), "{rate} over {links} links");
        assert_eq!((sent.sent.len(), sent.sent[0].to), (1, peer(1)));
        assert!(sent.sent[0].bytes_per_second.abs_diff(rate) < rate / 5, "{:?}, not {rate}", sent.sent);
        assert_eq!(world.hosts[1].engine.next_deadline(), None, "nothing is left of it");
    }
}

#[test]
fn everybody_at_once() {
    let mut world = world(4, 2);
    for rank in 0..4 {
        let others: Vec<usize> = (0..4).filter(|other| *other != rank).collect();
        world.probe(rank, order(NUMBER, &others, &others));
    }
    world.pass_ms(MAX_PROBE_SPAN_MS + 100);
    for rank in 0..4 {
        let reports = world.reports(rank);
        assert_eq!(reports.len(), 1, "rank {rank}");
        assert!(reports[0].heard.iter().all(|heard| heard.bytes_per_second > 0), "{reports:?}");
        assert!(reports[0].sent.iter().all(|sent| sent.bytes_per_second > 0), "{reports:?}");
        assert_eq!((reports[0].sent.len(), reports[0].round_trips.len()), (3, 0));
    }
}

#[test]
fn flows_of_a_round_with_several_begin_and_end_together() {
    let mut world = world(3, 1);
    world.probe(0, order(NUMBER, &[1, 2], &[]));
    world.probe(1, order(NUMBER, &[], &[0]));
    world.probe(2, order(NUMBER, &[], &[0]));
    world.pass_ms(2);
    let bytes = world.hosts[0].engine.counters().bytes_written;
    assert!(bytes > 4 * 1024, "load from the first moment on: {bytes} bytes");
    world.pass_ms(MIN_PROBE_SPAN_MS + 100);
    assert_eq!((world.reports(1), world.reports(2)), (vec![], vec![]), "near ones no shorter than far ones");
    world.pass_ms(MAX_PROBE_SPAN_MS);
    assert_eq!((world.reports(1).len(), world.reports(2).len()), (1, 1));
}

#[test]
fn load_may_come_before_the_order() {
    let mut world = world(2, 1);
    world.probe(0, order(NUMBER, &[1], &[]));
    world.pass_ms(50);
    world.probe(1, order(NUMBER, &[], &[0]));
    world.pass_ms(MIN_PROBE_SPAN_MS);
    assert!(world.reports(1)[0].heard[0].bytes_per_second > 0);
}

#[test]
fn a_silent_peer_costs_the_limit_and_no_more() {
    let mut world = world(2, 1);
    world.probe(1, order(NUMBER, &[], &[0]));
    world.pass_ms(PROBE_LIMIT_MS - 1);
    assert_eq!(world.reports(1), []);
    world.pass_ms(1);
    let reports = world.reports(1);
    assert_eq!((reports.len(), reports[0].heard[0].bytes_per_second), (1, 0));
}

#[test]
fn whoever_has_no_link_is_not_waited_for() {
    let mut world = world(2, 1);
    world.probe(1, order(NUMBER, &[5], &[]));
    let reports = world.reports(1);
    assert_eq!((reports.len(), reports[0].round_trips.len()), (1, 0), "there is nobody to wait for");
    world.probe(1, order(NUMBER + 1, &[0], &[0]));
    world.pass_ms(3);
    world.hosts[1].engine.unlink(peer(0), world.now);
    world.drain_outputs();
    let reports = world.reports(1);
    assert_eq!((reports.len(), reports[0].heard.len(), reports[0].number), (1, 0, NUMBER + 1));
}

#[test]
fn an_order_takes_the_place_of_the_one_before_and_an_epoch_of_all() {
    let mut world = world(2, 1);
    for number in [NUMBER, NUMBER + 1] {
        world.probe(0, order(number, &[1], &[]));
        world.probe(1, order(number, &[], &[0]));
        world.pass_ms(100);
    }
    world.pass_ms(MIN_PROBE_SPAN_MS);
    let [reports, of_sender] = [1, 0].map(|rank| world.reports(rank));
    assert_eq!(of_sender.len(), 1);
    assert_eq!((reports.len(), reports[0].number), (1, NUMBER + 1), "the first was given up");
    assert!(reports[0].heard[0].bytes_per_second > 0, "what is left of the first does not count");

    world.probe(0, order(NUMBER + 2, &[1], &[]));
    world.probe(1, order(NUMBER + 2, &[], &[0]));
    world.pass_ms(20);
    world.each(|host, _| host.engine.enter_epoch(Epoch(2)));
    world.pass_ms(PROBE_LIMIT_MS);
    assert_eq!((world.reports(0), world.reports(1)), (vec![], vec![]));
}

#[test]
fn a_round_sends_no_more_than_it_may() {
    let config = EngineConfig { probe_bytes: 10_000, ..EngineConfig::default() };
    let mut world = World::with_config(shape(2, 1), config);
    world.probe(0, order(NUMBER, &[1], &[]));
    world.probe(1, order(NUMBER, &[], &[0]));
    world.pass_ms(100);
    assert_eq!(world.reports(1).len(), 1, "it is over before its time");
    let sent = world.hosts[0].engine.counters().bytes_written;
    assert!(sent < 2 * 10_000 + 2 * world.shape.segment_bytes as u64, "{sent} bytes");
}

#[test]
fn measurements_come_after_operations() {
    let mut world = world(2, 1);
    world.probe(0, order(NUMBER, &[1], &[]));
    world.pass_ms(20);
    let key = key(1, 1, 0);
    let descriptor = OpDescriptor::plain(5000, DType::F32, ReduceOp::Sum);
    let inputs = inputs(descriptor, 2, 3);
    world.start_all(key, descriptor, &inputs, false);
    world.pass_ms(60);
    world.commit(key, &expected(descriptor, &inputs));
}

#[test]
fn answers_that_nobody_reads_take_no_memory() {
    let (end, _, [answers, pings]) = pipe(10, 10);
    let mut engine = Engine::new(EngineConfig::default());
    engine.add_link(LinkId(0), peer(1), 0, end, Time(0));
    let frame_bytes = FRAME_HEADER_BYTES + PROBE_NOTE_BYTES + TRAILER_BYTES;
    for piece in 0..1000 {
        let header = FrameHeader {
            kind: FrameKind::Probe,
            key: key(1, 0, 0),
            digest: 0,
            chunk: ProbePart::Ping as u32,
            piece,
            offset: 0,
            len: PROBE_NOTE_BYTES as u32,
        };
        let mut pings = pings.borrow_mut();
        pings.bytes.extend(header.encode());
        pings.bytes.extend([0; PROBE_NOTE_BYTES]);
        pings.bytes.extend(Trailer { crc32: 0, void: false }.encode());
    }
    let ready = |engine: &mut Engine<_>| {
        engine.ready(LinkId(0), Time(0));
        while let Some(output) = engine.poll_output() {
            assert!(!matches!(output, Output::LinkLost { .. }), "{output:?}");
        }
    };
    while !pings.borrow().bytes.is_empty() {
        ready(&mut engine);
    }
    let mut answered = 0;
    loop {
        let taken = answers.borrow_mut().bytes.drain(..).count();
        answered += taken;
        ready(&mut engine);
        if taken == 0 && answers.borrow().bytes.is_empty() {
            break;
        }
    }
    // One under way, and those that waited for it.
    assert!((1..=1 + PROBE_PINGS as usize).contains(&(answered / frame_bytes)), "{answered} bytes");
}
