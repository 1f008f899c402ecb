//! Somebody who speaks the protocol of the control link and means no good: valid messages in any order, with
//! the ids of others, for operations and epochs that are none of its business.

use pccl_core::types::{
    DType, Digest, Epoch, FetchFailure, GroupId, Offer, OpDescriptor, OpKey, PeerId, PhaseCall, ReduceOp,
    SyncNumber, SyncStrategy, Tag, TensorKey,
};
use pccl_core::wire::message::{Join, PeerMessage};

use super::event::Event;
use super::invariants::Verdict;
use super::rng::Rng;
use super::world::{World, trace};

pub struct Hostile {
    link: usize,
    rng: Rng,
    steps_left: u64,
    own: PeerId,
}

impl Hostile {
    pub fn new(link: usize, seed: u64) -> Hostile {
        let mut rng = Rng::new(seed);
        let own = PeerId((u128::from(rng.next()) << 64).to_be_bytes());
        Hostile { link, steps_left: rng.between(1, 12), rng, own }
    }

    /// The next message; `others` are the peers of the run.
    fn message(&mut self, others: &[PeerId], groups: &[GroupId]) -> PeerMessage {
        let rng = &mut self.rng;
        let somebody = if others.is_empty() || rng.percent(10) { self.own } else { rng.pick(others) };
        let group = rng.pick(groups);
        let epoch = Epoch(rng.below(6));
        let key = OpKey { epoch, tag: Tag(rng.below(5)), seq: rng.below(3) as u32 };
        let peer = if rng.percent(75) { self.own } else { somebody };
        let generation = rng.below(3) as u32;
        let reason = "because".to_string();
        match rng.below(17) {
            0..4 => {
                let (data_port, pool) = (rng.pick(&[0, 1, 48_150]), rng.pick(&[1, 64]));
                PeerMessage::Join(Join { peer, group, data_port, announced: None, pool })
            }
            4 => PeerMessage::LinkUp { peer: somebody, generation, rtt_us: generation },
            5 => PeerMessage::LinkFailed { peer: somebody, generation, reason },
            6 => PeerMessage::LinkDown { peer: somebody, generation, reason },
            7 => PeerMessage::Prepared { epoch },
            8 => PeerMessage::Phase { seq: rng.below(9), call: PhaseCall::UpdateTopology },
            9 => {
                let descriptor = OpDescriptor::plain(1 + rng.below(9), DType::F32, ReduceOp::Sum);
                PeerMessage::Announce { key, descriptor }
            }
            10 => PeerMessage::Done { key },
            11 => PeerMessage::Blocked { key, alone: true },
            12 => PeerMessage::Heartbeat,
            13 => PeerMessage::SyncOffer { offer: offer(rng) },
            14 => {
                let name = rng.pick(&["", "t0", "t3"]).to_owned();
                let key = TensorKey { name, dtype: DType::F32, count: rng.below(9), may_differ: false };
                PeerMessage::SyncKeys { first: rng.below(2) as u32, last: rng.percent(50), keys: vec![key] }
            }
            15 => {
                let failure = match rng.below(3) {
                    0 => FetchFailure::BrokenOff { text: reason },
                    1 => FetchFailure::NoSource { text: reason },
                    _ => FetchFailure::NotHere { text: reason },
                };
                let failed = rng.percent(50).then_some(failure);
                PeerMessage::SyncDone { number: SyncNumber(rng.below(4)), failed }
            }
            _ => PeerMessage::Leave,
        }
    }
}

fn offer(rng: &mut Rng) -> Offer {
    let mut digest = || Digest([rng.below(3) as u8; 16]);
    let (keys, content, full) = (digest(), digest(), digest());
    let (revision, strategy) = (rng.below(5), rng.pick(&SyncStrategy::ALL));
    Offer {
        revision,
        strategy,
        left_behind: false,
        tensors: 1,
        size_bytes: rng.below(99),
        keys,
        content,
        full,
    }
}

impl World {
    pub fn hostile_step(&mut self, hostile: usize) -> Verdict {
        // Nobody can know the id of a peer that has not been introduced yet.
        let members = self.processes.iter().filter(|process| !process.is_newcomer());
        let others: Vec<PeerId> = members.map(|process| process.id).collect();
        let groups: Vec<GroupId> = self.scenario.slots.iter().map(|slot| slot.group).collect();
        let silence_us = u64::from(self.scenario.silence_ms) * 1000;
        let this = &mut self.hostiles[hostile];
        let link = this.link;
        if this.steps_left == 0 || !self.controls[link].peer_open {
            // From here on it says nothing, but holds the connection; half of them go away later.
            if this.rng.percent(50) {
                self.close_peer_end(link);
            }
            return Ok(());
        }
        this.steps_left -= 1;
        let message = this.message(&others, &groups);
        let next = this.rng.between(1, silence_us / 4);
        trace!(self, "hostile {hostile} → {message:?}");
        self.send_from_peer(link, message);
        self.queue.push(self.now + next, Event::HostileStep { hostile });
        Ok(())
    }
}
