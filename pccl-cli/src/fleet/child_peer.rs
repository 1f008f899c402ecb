//! A peer of a fleet, as a process: what a training loop does, with numbers that can be checked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pccl_core::api::{Communicator, Error, ErrorKind, ReduceInfo, ReduceOp, Tag};

use super::child::{Check, PeerArgs, tell};
use super::clock::now_us;
use super::pattern::{Contribution, Instance};
use super::report::{Report, Step};

const TAG: Tag = Tag(1);
/// How often somebody who is alone asks for company.
const LONELY: Duration = Duration::from_millis(2);
/// How long a newcomer tries to join, and how often.
const JOIN_FOR: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_millis(50);

pub fn run(args: &PeerArgs, leave: &AtomicBool) -> Result<(), String> {
    let communicator = Communicator::builder(&args.master)
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        .build()
        .map_err(|e| e.to_string())?;
    let mut random = fastrand::Rng::with_seed(args.seed);
    let mut peer = Peer {
        contribution: Contribution::first(args.value, &mut random),
        mine: vec![0.0; args.count],
        sum: vec![0.0; args.count],
        random,
        check: args.check,
        in_place: false,
        membership: None,
        communicator,
    };
    peer.contribution.write(&mut peer.mine);
    while !leave.load(Ordering::Relaxed) {
        peer.join()?;
        match peer.take_part(leave) {
            // The run can do without its peers, and says so to one that it took for dead.
            Err(reason) if !peer.communicator.is_connected() => tell(&Report::Out { reason }),
            outcome => return outcome,
        }
    }
    Ok(())
}

struct Peer {
    communicator: Communicator,
    contribution: Contribution,
    /// The input, and in place the output too.
    mine: Vec<f32>,
    sum: Vec<f32>,
    random: fastrand::Rng,
    check: Check,
    in_place: bool,
    /// World size and sum of values of the last success.
    membership: Option<(u32, u32)>,
}

impl Peer {
    /// A newcomer whose master goes away before it is accepted may try again; whether there was reason to is for
    /// the parent to judge.
    fn join(&mut self) -> Result<(), String> {
        let until = Instant::now() + JOIN_FOR;
        while let Err(error) = self.communicator.connect() {
            let reason = format!("connect: {error}");
            if error.kind != ErrorKind::MasterConnectionFailed || Instant::now() > until {
                return Err(reason);
            }
            tell(&Report::Out { reason });
            std::thread::sleep(RETRY);
        }
        self.membership = None;
        tell(&Report::Accepted { at_us: now_us() });
        Ok(())
    }

    fn take_part(&mut self, leave: &AtomicBool) -> Result<(), String> {
        while !leave.load(Ordering::Relaxed) {
            if self.communicator.group_world_size() < 2 {
                self.find_company(leave)?;
            }
            self.step()?;
        }
        Ok(())
    }

    /// One all-reduce. An abort is no failure: the input is intact, the next turn calls it again.
    fn step(&mut self) -> Result<(), String> {
        let start_us = now_us();
        let outcome = self.reduce();
        let end_us = now_us();
        match outcome {
            Ok(info) => {
                self.report(info, start_us, end_us);
                self.contribute_anew();
                if info.peers_pending > 0 { self.admit() } else { Ok(()) }
            }
            Err(e) if e.kind == ErrorKind::Aborted => {
                tell(&Report::Aborted { start_us, end_us, reason: e.reason });
                Ok(())
            }
            // The turn that follows looks for company.
            Err(e) if e.kind == ErrorKind::TooFewPeers => Ok(()),
            Err(e) => Err(format!("all-reduce: {e}")),
        }
    }

    fn reduce(&mut self) -> Result<ReduceInfo, Error> {
        if self.in_place {
            self.communicator.all_reduce_in_place(&mut self.mine, ReduceOp::Sum, TAG)
        } else {
            self.communicator.all_reduce(&self.mine, &mut self.sum, ReduceOp::Sum, TAG)
        }
    }

    fn report(&mut self, info: ReduceInfo, start_us: u64, end_us: u64) {
        let result = if self.in_place { &self.mine } else { &self.sum };
        let (instance, wrong) = match Instance::read(result) {
            Ok(instance) => (instance, None),
            Err(wrong) => (Instance::default(), Some(wrong)),
        };
        let membership = Some((instance.world, instance.value));
        // The same at all who took part, so that their checksums can be compared.
        let everything = self.check == Check::Full || membership != self.membership;
        let range = if everything { 0..result.len() } else { instance.window(result.len()) };
        let wrong = wrong.or_else(|| instance.check(result, range.clone()).err());
        let wrong = wrong.or_else(|| {
            (instance.world != info.group_world_size).then(|| {
                format!("{} peers took part, but {} are said to have", instance.world, info.group_world_size)
            })
        });
        tell(&Report::Step(Step {
            instance,
            epoch: self.communicator.epoch().0,
            start_us,
            end_us,
            checked: range.len() as u64,
            checksum: crc32fast::hash(bytemuck::cast_slice(&result[range])),
            wrong,
        }));
        self.membership = membership;
    }

    /// New numbers after a success, never after an abort: there the old ones must still be in place.
    fn contribute_anew(&mut self) {
        match self.check {
            Check::Full => {
                self.contribution = self.contribution.next(&mut self.random);
                self.in_place = !self.in_place;
                self.contribution.write(&mut self.mine);
            }
            Check::Window => {
                self.contribution = self.contribution.renamed(&mut self.random);
                self.contribution.write_header(&mut self.mine);
            }
        }
    }

    /// Everybody knows from the same success that peers are pending, so everybody comes here.
    fn admit(&mut self) -> Result<(), String> {
        let start_us = now_us();
        loop {
            match self.communicator.update_topology() {
                Ok(()) => break,
                Err(e) if e.kind == ErrorKind::UpdateTopologyFailed => {}
                Err(e) => return Err(format!("update_topology: {e}")),
            }
        }
        tell(&Report::Updated { start_us, end_us: now_us() });
        Ok(())
    }

    fn find_company(&mut self, leave: &AtomicBool) -> Result<(), String> {
        let mut said = Instant::now();
        while self.communicator.group_world_size() < 2 && !leave.load(Ordering::Relaxed) {
            if self.communicator.are_peers_pending().map_err(|e| format!("are_peers_pending: {e}"))? {
                self.admit()?;
            } else {
                std::thread::sleep(LONELY);
            }
            if said.elapsed() > Duration::from_secs(1) {
                tell(&Report::Alone);
                said = Instant::now();
            }
        }
        Ok(())
    }
}
