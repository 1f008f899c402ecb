//! Shared state over real sockets: what is the same afterwards, who has to go, and what a death in the middle costs.

mod churn;
mod contents;
mod rules;

use std::borrow::Borrow;
use std::sync::Mutex;

use pccl_core::api::{Communicator, Result, SharedState, SyncInfo, SyncStrategy};

pub use churn::state_peer;

use crate::harness::{connect, wait_for_world};

/// The named tensors of one peer.
type Model = Vec<(&'static str, Vec<u32>)>;

/// Connected one after the other, so that the index is the rank.
fn crew(address: &str, peers: u32) -> Vec<Communicator> {
    let mut crew = vec![connect(address, 2)];
    for world in 2..=peers {
        let newcomer = std::thread::scope(|threads| {
            let newcomer = threads.spawn(|| connect(address, 2));
            for peer in &crew {
                threads.spawn(move || wait_for_world(peer, world));
            }
            newcomer.join().unwrap()
        });
        crew.push(newcomer);
    }
    crew
}

fn state(revision: u64, model: &mut Model) -> SharedState<'_> {
    model.iter_mut().fold(SharedState::new(revision), |state, (name, data)| state.tensor(name, data))
}

/// Each peer with its own model, revision and strategy; the outcomes by rank.
fn synchronize(
    crew: &[Communicator],
    models: &mut [Model],
    brings: &[(u64, SyncStrategy)],
) -> Vec<Result<SyncInfo>> {
    each(crew, models, |rank, peer, model| {
        let (revision, strategy) = brings[rank];
        let mut state = state(revision, model);
        let outcome = peer.synchronize_shared_state(&mut state, strategy);
        if let Ok(info) = &outcome {
            assert_eq!(state.revision(), info.revision);
        }
        outcome
    })
}

/// All peers at once.
fn each<R: Send, P: Borrow<Communicator> + Sync>(
    crew: &[P],
    models: &mut [Model],
    act: impl Fn(usize, &Communicator, &mut Model) -> R + Sync,
) -> Vec<R> {
    let outcomes: Mutex<Vec<(usize, R)>> = Mutex::default();
    std::thread::scope(|threads| {
        for (rank, (peer, model)) in crew.iter().zip(models).enumerate() {
            let (act, outcomes) = (&act, &outcomes);
            threads.spawn(move || {
                let outcome = act(rank, peer.borrow(), model);
                outcomes.lock().unwrap().push((rank, outcome));
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap();
    outcomes.sort_by_key(|(rank, _)| *rank);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn pattern(len: usize, seed: u32) -> Vec<u32> {
    (0..len as u32).map(|at| at.wrapping_mul(2_654_435_761).wrapping_add(seed)).collect()
}

const POPULAR: SyncStrategy = SyncStrategy::EnforcePopular;
const RECEIVES: SyncStrategy = SyncStrategy::ReceiveOnly;
const SENDS: SyncStrategy = SyncStrategy::SendOnly;
