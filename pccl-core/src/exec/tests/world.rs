//! A group of engines in one thread, with their callers' memory and the pipes between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::pipe::{PipeEnd, PipeRef, pipe};
use crate::exec::{Answers, Engine, EngineConfig, OpStart, Output};
use crate::kernel;
use crate::limits::MAX_EAGER_BYTES_PER_PEER;
use crate::mem::{Budget, TestMemory};
use crate::plan;
use crate::types::{
    DType, Epoch, EpochInfo, FetchFailure, GroupId, GroupInfo, LinkId, OpDescriptor, OpKey, PeerId, Planned,
    ProbeReport, Rank, ReduceOp, ScheduleChoice, SyncNumber, Tag, Time,
};

#[derive(Clone, Debug)]
pub struct Shape {
    pub world_size: usize,
    pub links_per_pair: usize,
    pub schedule: ScheduleChoice,
    pub unlinked: Vec<(Rank, Rank)>,
    pub planned: Option<Arc<Planned>>,
    pub piece_bytes: u32,
    /// Of links of which nothing is known, and of those that are near, if not the same.
    pub segment_bytes: usize,
    pub near_segment_bytes: Option<usize>,
    pub eager_bytes: usize,
    pub pump_budget_bytes: usize,
    /// Bytes a link takes or gives at once, and bytes on their way at most.
    pub step: usize,
    pub capacity: usize,
    /// 0: not known, so not near, and no link is the express.
    pub rtt_us: u32,
    /// What links say of the other end; see `Pipe::answers`.
    pub answers: Option<Answers>,
    /// Budget of each host.
    pub budget_bytes: usize,
    pub seed: u64,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            world_size: 2,
            links_per_pair: 1,
            schedule: ScheduleChoice::Ring,
            unlinked: Vec::new(),
            planned: None,
            piece_bytes: 64,
            segment_bytes: 24,
            near_segment_bytes: None,
            eager_bytes: MAX_EAGER_BYTES_PER_PEER,
            pump_budget_bytes: 200,
            step: 7,
            capacity: 100,
            rtt_us: 0,
            answers: None,
            budget_bytes: 1 << 20,
            seed: 1,
        }
    }
}

pub struct Host {
    pub engine: Engine<PipeEnd>,
    pub done: BTreeSet<OpKey>,
    pub lost: Vec<(LinkId, String)>,
    pub closed: Vec<LinkId>,
    pub links: Vec<LinkId>,
    /// How synchronizations ended, in words; `failures` has the kind.
    pub synced: Vec<(SyncNumber, Option<String>)>,
    pub failures: Vec<FetchFailure>,
    pub probed: Vec<ProbeReport>,
    pub logs: Vec<String>,
}

pub struct World {
    pub shape: Shape,
    pub group: GroupInfo,
    pub info: EpochInfo,
    pub hosts: Vec<Host>,
    pub memory: BTreeMap<(usize, OpKey), TestMemory>,
    /// By link id of the end that writes.
    pub pipes: BTreeMap<LinkId, PipeRef>,
    pub now: Time,
    rng: u64,
}

pub fn peer(rank: usize) -> PeerId {
    PeerId([rank as u8 + 1; 16])
}

pub fn key(epoch: u64, tag: u64, seq: u32) -> OpKey {
    OpKey { epoch: Epoch(epoch), tag: Tag(tag), seq }
}

impl World {
    pub fn new(shape: Shape) -> World {
        World::with_config(shape, EngineConfig::default())
    }

    #[cfg(feature = "seeded-bugs")]
    pub fn with_bug(shape: Shape, bug: crate::exec::SeededBug) -> World {
        World::with_config(shape, EngineConfig { bug: Some(bug), ..EngineConfig::default() })
    }

    pub fn with_config(shape: Shape, mut config: EngineConfig) -> World {
        let n = shape.world_size;
        let order = (0..n).map(peer).collect();
        let unlinked = shape.unlinked.clone();
        let planned = shape.planned.clone();
        let group = GroupInfo { group: GroupId(0), since: Epoch(1), order, unlinked, rtt_us: 0, planned };
        let info = EpochInfo {
            epoch: Epoch(1),
            schedule: shape.schedule,
            piece_bytes: shape.piece_bytes,
            groups: vec![group.clone()],
            ..EpochInfo::default()
        };
        config.near_segment_bytes = shape.near_segment_bytes.unwrap_or(shape.segment_bytes);
        config.far_segment_bytes = shape.segment_bytes;
        config.eager_bytes = shape.eager_bytes;
        config.pump_budget_bytes = shape.pump_budget_bytes;
        config.stall_ms = 100;
        let budget = || Budget::new(shape.budget_bytes);
        let host = |_| Host {
            engine: Engine::new(EngineConfig { budget: budget(), ..config.clone() }),
            done: BTreeSet::new(),
            lost: Vec::new(),
            closed: Vec::new(),
            links: Vec::new(),
            synced: Vec::new(),
            failures: Vec::new(),
            probed: Vec::new(),
            logs: Vec::new(),
        };
        let mut world = World {
            group,
            info,
            hosts: (0..n).map(host).collect(),
            memory: BTreeMap::new(),
            pipes: BTreeMap::new(),
            now: Time(0),
            rng: shape.seed,
            shape,
        };
        world.each(|host, _| host.engine.enter_epoch(Epoch(1)));
        for _ in 0..world.shape.links_per_pair {
            for a in 0..n {
                for b in a + 1..n {
                    if !world.shape.unlinked.contains(&(a as Rank, b as Rank)) {
                        world.connect(a, b);
                    }
                }
            }
        }
        world
    }

    pub fn each(&mut self, mut act: impl FnMut(&mut Host, usize)) {
        for (rank, host) in self.hosts.iter_mut().enumerate() {
            act(host, rank);
        }
    }

    /// A new link; gives its id at `a`, that at `b` is the next one.
    pub fn connect(&mut self, a: usize, b: usize) -> LinkId {
        let (end_a, end_b, [there, back]) = pipe(self.shape.capacity, self.shape.step);
        let ids = [LinkId(self.pipes.len() as u64), LinkId(self.pipes.len() as u64 + 1)];
        for pipe in [&there, &back] {
            pipe.borrow_mut().answers = self.shape.answers;
            pipe.borrow_mut().order = Some(u32::MAX - ids[0].0 as u32);
        }
        self.pipes.insert(ids[0], there);
        self.pipes.insert(ids[1], back);
        for (rank, other, id, end) in [(a, b, ids[0], end_a), (b, a, ids[1], end_b)] {
            self.hosts[rank].links.push(id);
            self.hosts[rank].engine.add_link(id, peer(other), self.shape.rtt_us, end, self.now);
        }
        ids[0]
    }

    pub fn random(&mut self, below: usize) -> usize {
        self.rng = self.rng.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.rng >> 33) as usize % below
    }

    pub fn start(&mut self, rank: usize, key: OpKey, descriptor: OpDescriptor, input: &[u8], in_place: bool) {
        self.start_over(rank, key, descriptor, TestMemory::new(input, in_place));
    }

    pub fn start_over(&mut self, rank: usize, key: OpKey, descriptor: OpDescriptor, memory: TestMemory) {
        let group = GroupInfo { since: key.epoch, ..self.group.clone() };
        let view = plan::plan(&group, &self.info, rank as Rank, &descriptor).unwrap();
        let memory = self.memory.entry((rank, key)).or_insert(memory);
        let buffers = memory.lend();
        let order: Arc<[PeerId]> = self.group.order.clone().into();
        self.hosts[rank].engine.start(OpStart { key, order, view, descriptor, buffers }, self.now);
    }

    /// Starts an operation at everybody, with its input by rank.
    pub fn start_all(&mut self, key: OpKey, descriptor: OpDescriptor, inputs: &[Vec<u8>], in_place: bool) {
        for (rank, input) in inputs.iter().enumerate() {
            self.start(rank, key, descriptor, input, in_place);
        }
    }

    pub fn drain_outputs(&mut self) {
        for host in &mut self.hosts {
            while let Some(output) = host.engine.poll_output() {
                match output {
                    Output::Done { key } => assert!(host.done.insert(key), "{key} was done twice"),
                    Output::LinkLost { link, reason, .. } => {
                        host.links.retain(|l| *l != link);
                        host.lost.push((link, reason));
                    }
                    Output::LinkClosed { link } => {
                        host.links.retain(|l| *l != link);
                        host.closed.push(link);
                    }
                    Output::Probed(report) => host.probed.push(report),
                    Output::StateDone { number, failed } => {
                        host.synced.push((number, failed.as_ref().map(FetchFailure::to_string)));
                        host.failures.extend(failed);
                    }
                    Output::Log { text, .. } => host.logs.push(text),
                    Output::WatchWritable { .. } | Output::Again { .. } => {}
                }
            }
        }
    }

    fn bytes_moved(&self) -> u64 {
        let moved = |host: &Host| host.engine.counters().bytes_read + host.engine.counters().bytes_written;
        self.hosts.iter().map(moved).sum()
    }

    /// Tells one host that one of its links, chosen at random, is ready.
    pub fn poke(&mut self) {
        let rank = self.random(self.hosts.len());
        if !self.hosts[rank].links.is_empty() {
            let link = self.random(self.hosts[rank].links.len());
            self.ready(rank, self.hosts[rank].links[link]);
        }
    }

    pub fn ready(&mut self, rank: usize, link: LinkId) {
        self.hosts[rank].engine.ready(link, self.now);
        self.drain_outputs();
    }

    /// Until nothing moves any more. Links become ready in a random order.
    pub fn run(&mut self) {
        loop {
            let before = self.bytes_moved();
            for _ in 0..4 * self.pipes.len() {
                self.poke();
            }
            for rank in 0..self.hosts.len() {
                for link in self.hosts[rank].links.clone() {
                    self.ready(rank, link);
                }
            }
            if self.bytes_moved() == before {
                return;
            }
        }
    }

    /// What is on its way now arrives everywhere, and what that sets free sets out.
    pub fn one_delay(&mut self) {
        for pipe in self.pipes.values() {
            let mut pipe = pipe.borrow_mut();
            pipe.arrived = Some(pipe.bytes.len());
        }
        for rank in 0..self.hosts.len() {
            for link in self.hosts[rank].links.clone() {
                self.ready(rank, link);
            }
        }
    }

    /// Every host is done: ends the operation everywhere and checks every result.
    pub fn commit(&mut self, key: OpKey, expected: &[u8]) {
        for rank in 0..self.hosts.len() {
            assert!(self.hosts[rank].done.contains(&key), "rank {rank} is not done with {key}");
            assert_eq!(self.hosts[rank].lost, [], "rank {rank}");
            assert!(self.hosts[rank].engine.finish(key).is_some());
            let engine = &self.hosts[rank].engine;
            assert!(engine.runs_anything() || engine.kept().budget_bytes == 0, "rank {rank} keeps windows");
            assert_eq!(self.memory[&(rank, key)].result(), expected, "rank {rank}, {key}");
        }
    }
}

/// Small whole numbers, so that every order of adding gives the same sum.
pub fn whole_numbers(dtype: DType, count: usize, salt: usize) -> Vec<u8> {
    (0..count).flat_map(|i| encode(dtype, ((i * 7 + salt * 13) % 4 + 1) as u8)).collect()
}

fn encode(dtype: DType, value: u8) -> Vec<u8> {
    match dtype {
        DType::F16 => half::f16::from_f32(value.into()).to_le_bytes().to_vec(),
        DType::BF16 => half::bf16::from_f32(value.into()).to_le_bytes().to_vec(),
        DType::F32 => f32::from(value).to_le_bytes().to_vec(),
        DType::F64 => f64::from(value).to_le_bytes().to_vec(),
        _ => u64::from(value).to_le_bytes()[..dtype.size_bytes()].to_vec(),
    }
}

pub fn inputs(descriptor: OpDescriptor, world_size: usize, salt: usize) -> Vec<Vec<u8>> {
    let count = descriptor.count as usize;
    (0..world_size).map(|rank| whole_numbers(descriptor.dtype, count, salt + rank)).collect()
}

pub fn expected(descriptor: OpDescriptor, inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut result = inputs[0].clone();
    for input in &inputs[1..] {
        kernel::reduce_into(descriptor.op, descriptor.dtype, &mut result, input);
    }
    if descriptor.op == ReduceOp::Avg {
        kernel::finish_average(descriptor.dtype, &mut result, inputs.len() as u64);
    }
    result
}
