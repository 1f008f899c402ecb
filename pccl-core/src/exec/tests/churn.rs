//! Random runs: operations start, end and are given up at different moments at different peers.

use std::collections::BTreeSet;

use super::world::{Shape, World, expected, inputs, key};
use crate::types::{DType, Epoch, OpDescriptor, OpKey, ReduceOp, ScheduleChoice};

const TAGS: u64 = 4;

/// What the master's messages would have told a host so far, and what waits to be told.
#[derive(Default)]
struct Peer {
    epoch: u64,
    /// By tag: the sequence in this epoch, and how many operations were committed in all.
    seq: [u32; TAGS as usize],
    round: [usize; TAGS as usize],
    running: BTreeSet<OpKey>,
    commits: Vec<OpKey>,
}

struct Churn {
    world: World,
    peers: Vec<Peer>,
    epoch: u64,
    committed: BTreeSet<OpKey>,
}

fn descriptor(tag: u64) -> OpDescriptor {
    OpDescriptor::plain([1, 9, 40, 130][tag as usize], DType::ALL[tag as usize * 3], ReduceOp::Avg)
}

impl Churn {
    fn new(seed: u64) -> Churn {
        let mut dice = World::new(Shape { seed, ..Shape::default() });
        let world_size = 2 + dice.random(4);
        let schedule = [ScheduleChoice::Auto, ScheduleChoice::Ring, ScheduleChoice::Mesh][dice.random(3)];
        let unlinked = if world_size > 2 && dice.random(3) == 0 { vec![(0, 1)] } else { Vec::new() };
        let shape = Shape {
            world_size,
            schedule,
            unlinked,
            eager_bytes: [0, 20, 100][dice.random(3)],
            links_per_pair: 1 + dice.random(3),
            step: 1 + dice.random(300),
            capacity: 1 + dice.random(800),
            budget_bytes: [0, 500, 2000, 1 << 20][dice.random(4)],
            seed,
            ..Shape::default()
        };
        let peers = (0..world_size).map(|_| Peer { epoch: 1, ..Peer::default() }).collect();
        Churn { world: World::new(shape), peers, epoch: 1, committed: BTreeSet::new() }
    }

    fn inputs(&self, tag: u64, round: usize) -> Vec<Vec<u8>> {
        inputs(descriptor(tag), self.peers.len(), round * 5 + tag as usize)
    }

    fn start(&mut self, rank: usize, tag: u64) {
        let peer = &self.peers[rank];
        let key = key(peer.epoch, tag, peer.seq[tag as usize]);
        if peer.running.contains(&key) || peer.commits.iter().any(|commit| commit.tag == key.tag) {
            return;
        }
        let input = &self.inputs(tag, peer.round[tag as usize])[rank];
        self.peers[rank].running.insert(key);
        self.world.start(rank, key, descriptor(tag), input, tag.is_multiple_of(2));
        self.world.drain_outputs();
    }

    /// The master's part: all are done, nobody was told otherwise.
    fn decide(&mut self) {
        for key in self.peers[0].running.clone() {
            let all = self.world.hosts.iter().all(|host| host.done.contains(&key));
            if all && key.epoch == Epoch(self.epoch) && self.committed.insert(key) {
                self.peers.iter_mut().for_each(|peer| peer.commits.push(key));
            }
        }
    }

    fn hear_commits(&mut self, rank: usize) {
        for key in std::mem::take(&mut self.peers[rank].commits) {
            let tag = key.tag.0 as usize;
            let inputs = self.inputs(key.tag.0, self.peers[rank].round[tag]);
            self.world.hosts[rank].engine.finish(key).unwrap();
            let result = self.world.memory[&(rank, key)].result();
            assert_eq!(result, expected(descriptor(key.tag.0), &inputs), "rank {rank}, {key}");
            let peer = &mut self.peers[rank];
            peer.running.remove(&key);
            peer.seq[tag] += 1;
            peer.round[tag] += 1;
        }
    }

    /// The peer hears of the newest epoch, after everything that was decided before it.
    fn hear_epoch(&mut self, rank: usize) {
        if self.peers[rank].epoch == self.epoch {
            return;
        }
        self.hear_commits(rank);
        if self.world.random(2) == 0 {
            self.world.hosts[rank].engine.enter_epoch(Epoch(self.epoch));
        }
        for key in std::mem::take(&mut self.peers[rank].running) {
            let input = &self.inputs(key.tag.0, self.peers[rank].round[key.tag.0 as usize])[rank];
            self.world.hosts[rank].engine.stop(key).unwrap();
            assert_eq!(self.world.memory[&(rank, key)].input(), input, "rank {rank}, {key}");
        }
        self.world.hosts[rank].engine.enter_epoch(Epoch(self.epoch));
        self.peers[rank].epoch = self.epoch;
        self.peers[rank].seq = [0; TAGS as usize];
    }

    fn step(&mut self) {
        let rank = self.world.random(self.peers.len());
        match self.world.random(300) {
            0 => self.epoch += 1,
            1..=6 => self.hear_epoch(rank),
            7..=20 => self.hear_commits(rank),
            21..=60 => {
                let tag = self.world.random(TAGS as usize) as u64;
                self.start(rank, tag);
            }
            _ => self.world.poke(),
        }
        self.decide();
    }

    /// Nothing more is given up: everything started everywhere must come to its end.
    fn settle(&mut self) {
        for rank in 0..self.peers.len() {
            self.hear_epoch(rank);
            self.hear_commits(rank);
        }
        for rank in 0..self.peers.len() {
            (0..TAGS).for_each(|tag| self.start(rank, tag));
        }
        self.world.run();
        self.decide();
        for rank in 0..self.peers.len() {
            self.hear_commits(rank);
            assert!(self.peers[rank].running.is_empty(), "rank {rank} hangs: {:?}", self.peers[rank].running);
            assert_eq!(self.world.hosts[rank].lost, []);
        }
    }
}

#[test]
fn random_runs_end_with_right_results_and_intact_inputs() {
    let seeds = std::env::var("PCCL_EXEC_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let mut commits = 0;
    for seed in 0..seeds {
        let mut churn = Churn::new(seed);
        for _ in 0..3000 {
            churn.step();
        }
        churn.settle();
        commits += churn.committed.len();
    }
    assert!(commits > 10 * seeds as usize, "only {commits} operations were committed");
}
