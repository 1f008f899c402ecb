//! A run whose peers are all in this process, each behind a proxy.

use pccl_core::api::{Communicator, ErrorKind, Master, MasterBuilder, ReduceOp, ReduceRequest, Tag};

use super::Wire;
use crate::harness::{master_with, reserved, wait_for_world};

pub struct Crew {
    // Dropped first: peers that leave a run with a master need not look for one.
    pub peers: Vec<Communicator>,
    pub wire: Wire,
    pub address: String,
    _master: Master,
}

/// Whole numbers, so that every order of adding gives the same sum.
fn element(number: usize, i: usize) -> f32 {
    ((i * 7 + number * 13) % 1000) as f32
}

fn input(number: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| element(number, i)).collect()
}

impl Crew {
    /// Peers that join one after the other, over a wire that has its orders already.
    pub fn new(world: usize, wire: Wire, settings: impl FnOnce(MasterBuilder) -> MasterBuilder) -> Crew {
        let (master, address) = master_with(settings);
        let mut crew = Crew { peers: Vec::new(), wire, address, _master: master };
        for _ in 0..world {
            crew.add();
        }
        crew
    }

    fn add(&mut self) {
        let listen = reserved();
        let port = self.wire.open(listen).port();
        let builder = Communicator::builder(&self.address).listen(listen).announce("127.0.0.1", port).pool(2);
        let newcomer = builder.build().unwrap();
        let world = self.peers.len() as u32 + 1;
        std::thread::scope(|threads| {
            for peer in &self.peers {
                threads.spawn(move || wait_for_world(peer, world));
            }
            newcomer.connect().unwrap();
        });
        self.peers.push(newcomer);
    }

    /// What this does with each peer, all at once.
    pub fn each<T: Send>(&self, act: impl Fn(&Communicator, usize) -> T + Sync) -> Vec<T> {
        let act = &act;
        std::thread::scope(|threads| {
            let peers = self.peers.iter().enumerate();
            let threads: Vec<_> = peers.map(|(n, peer)| threads.spawn(move || act(peer, n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    pub fn update(&self) {
        self.each(|peer, _| peer.update_topology().unwrap());
    }

    /// All reduce operations of several sizes at once, in place and not, until none is aborted: a lost input would
    /// be a wrong sum.
    pub fn reduce_many(&self, round: u64) {
        const LENS: [usize; 6] = [1, 300, 5_000, 40_000, 90_000, 200_000];
        let world = self.peers.len();
        self.each(|peer, number| {
            let inputs = LENS.map(|len| input(number, len));
            let mut results = inputs.clone();
            let mut requests: Vec<_> = inputs
                .iter()
                .zip(&mut results)
                .enumerate()
                .map(|(i, (send, recv))| {
                    let tag = Tag(1000 * round + i as u64);
                    match (round + i as u64).is_multiple_of(2) {
                        true => ReduceRequest::in_place(recv, ReduceOp::Sum, tag),
                        false => ReduceRequest::new(send, recv, ReduceOp::Sum, tag).unwrap(),
                    }
                })
                .collect();
            peer.all_reduce_multiple_with_retry(&mut requests, 4).unwrap();
            drop(requests);
            for result in results {
                let sum = |i: usize| -> f32 { (0..world).map(|n| element(n, i)).sum() };
                assert!(
                    result.iter().enumerate().all(|(i, x)| *x == sum(i)),
                    "peer {number} holds a wrong sum"
                );
            }
        });
    }

    /// All reduce so many elements, and repeat it until it is not aborted: inputs must be intact each time, the
    /// sum right, and all must have seen as many aborts. So many.
    pub fn reduce(&self, len: usize, tag: u64, in_place: bool) -> usize {
        let world = self.peers.len();
        let sum: Vec<f32> = (0..len).map(|i| (0..world).map(|n| element(n, i)).sum()).collect();
        let sum = &sum;
        let aborts = self.each(|peer, number| {
            let send = input(number, len);
            let mut recv = if in_place { send.clone() } else { vec![-1.0; len] };
            for aborts in 0.. {
                let outcome = match in_place {
                    true => peer.all_reduce_in_place(&mut recv, ReduceOp::Sum, Tag(tag)),
                    false => peer.all_reduce(&send, &mut recv, ReduceOp::Sum, Tag(tag)),
                };
                match outcome {
                    Ok(info) => {
                        assert_eq!(info.group_world_size as usize, world);
                        assert!(recv == *sum, "peer {number} holds a wrong sum");
                        return aborts;
                    }
                    Err(error) if error.kind == ErrorKind::Aborted => {
                        let left = if in_place { &recv } else { &send };
                        assert!(*left == input(number, len), "the input of peer {number} was lost: {error}");
                    }
                    Err(error) => panic!("peer {number}: neither reduced nor aborted: {error}"),
                }
            }
            unreachable!()
        });
        assert!(aborts.windows(2).all(|pair| pair[0] == pair[1]), "aborts by peer: {aborts:?}");
        aborts[0]
    }
}
