//! Deaths in the middle of a transfer.

use std::sync::{Arc, Barrier, Mutex};

use pccl_core::api::{Condition, ErrorKind, SharedState, SyncStrategy};

use super::{POPULAR, RECEIVES, SENDS, pattern};
use crate::harness::{Process, master, tell, wait_for_world};
use crate::proxy::{Wire, connect_at};

/// Elements of the state: 64 MiB.
const LEN: usize = 16 << 20;
const BYTES: u64 = 4 * LEN as u64;
const BLOCK_BYTES: u64 = 256 << 10;

/// Takes part once, and stays until it is killed. `told`: strategy, seed of the content, master, listening address,
/// announced port, world size.
pub fn state_peer(told: &str) {
    let told: Vec<&str> = told.split(' ').collect();
    let strategy = [POPULAR, RECEIVES, SENDS].into_iter().find(|s| s.name() == told[0]).unwrap();
    let mut data = pattern(LEN, told[1].parse().unwrap());
    let peer = connect_at(told[2], (told[3].parse().unwrap(), told[4].parse().unwrap()));
    wait_for_world(&peer, told[5].parse().unwrap());
    let outcome = peer.synchronize_shared_state(&mut SharedState::new(0).tensor("w", &mut data), strategy);
    tell(if outcome.is_ok() { "synchronized" } else { "failed" });
    std::thread::park();
}

fn start(strategy: SyncStrategy, seed: u32, address: &str, wire: &Wire, world: u32) -> Process {
    let (listen, port) = wire.place();
    Process::start("state-peer", &format!("{strategy} {seed} {address} {listen} {port} {world}"))
}

/// Kills the process when so many bytes of frames have passed.
fn doom(wire: &Wire, process: Process, at: u64) -> Arc<Mutex<Option<Process>>> {
    let doomed = Arc::new(Mutex::new(Some(process)));
    let there = Arc::clone(&doomed);
    wire.at_byte(at, move || {
        there.lock().unwrap().take().into_iter().for_each(Process::kill);
        None
    });
    doomed
}

#[test]
fn a_holder_killed_in_the_middle_is_replaced_by_the_others() {
    let (_master, address) = master();
    let wire = Wire::default();
    let mut holders: Vec<Process> = Vec::new();
    let receiver = std::thread::scope(|threads| {
        holders.push(start(POPULAR, 1, &address, &wire, 4));
        holders.push(start(POPULAR, 1, &address, &wire, 4));
        let victim = doom(&wire, start(POPULAR, 1, &address, &wire, 4), BYTES / 3);
        let receiver = threads.spawn(|| {
            let peer = connect_at(&address, wire.place());
            wait_for_world(&peer, 4);
            let mut data = pattern(LEN, 2);
            let mut state = SharedState::new(0).tensor("w", &mut data);
            // It has the vote of one: the three win.
            let info = peer.synchronize_shared_state(&mut state, POPULAR).unwrap();
            assert_eq!(state.conditions(), [Condition::Elected]);
            assert!(data == pattern(LEN, 1));
            info
        });
        let info = receiver.join().unwrap();
        assert!(victim.lock().unwrap().is_none(), "nobody was killed before the end");
        info
    });
    assert_eq!(receiver.rx_bytes, BYTES);
    for mut holder in holders {
        assert_eq!(holder.hears().as_deref(), Some("synchronized"));
    }
}

#[test]
fn a_receiver_killed_in_the_middle_harms_nobody() {
    let (_master, address) = master();
    let wire = Wire::default();
    let victim = doom(&wire, start(RECEIVES, 2, &address, &wire, 4), BYTES);
    let peers: Vec<_> = std::thread::scope(|threads| {
        let threads: Vec<_> = [SENDS, SENDS, RECEIVES]
            .into_iter()
            .enumerate()
            .map(|(at, strategy)| {
                let (address, wire) = (&address, &wire);
                threads.spawn(move || {
                    let peer = connect_at(address, wire.place());
                    wait_for_world(&peer, 4);
                    let mut data = pattern(LEN, if at == 2 { 3 } else { 1 });
                    let mut state = SharedState::new(0).tensor("w", &mut data);
                    let info = peer.synchronize_shared_state(&mut state, strategy).unwrap();
                    assert!(data == pattern(LEN, 1));
                    (peer, info)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(victim.lock().unwrap().is_none(), "nobody was killed before the end");
    assert_eq!(peers[2].1.rx_bytes, BYTES);
}

/// The only holder dies: the call fails and says what is there. When another one comes, only the rest travels.
#[test]
fn a_broken_transfer_says_what_it_left_and_the_next_one_fetches_the_rest() {
    let (_master, address) = master();
    let wire = Wire::default();
    let victim = doom(&wire, start(SENDS, 1, &address, &wire, 3), BYTES);
    let second = Mutex::new(None);
    let both_failed = Barrier::new(2);
    let both: Vec<(u64, u64)> = std::thread::scope(|threads| {
        let receiver = || {
            let peer = connect_at(&address, wire.place());
            wait_for_world(&peer, 3);
            let mut data = pattern(LEN, 2);
            let mut state = SharedState::new(0).tensor("w", &mut data);
            let error = peer.synchronize_shared_state(&mut state, RECEIVES).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Aborted, "{error}");
            assert_eq!(state.conditions(), [Condition::Mixed]);
            let received = peer.stats().counters.state_bytes_received;
            if both_failed.wait().is_leader() {
                *second.lock().unwrap() = Some(start(SENDS, 1, &address, &wire, 3));
            }
            wait_for_world(&peer, 3);
            let info = peer.synchronize_shared_state(&mut state, RECEIVES).unwrap();
            assert!(data == pattern(LEN, 1));
            (received, info.rx_bytes)
        };
        let receivers = [threads.spawn(receiver), threads.spawn(receiver)];
        receivers.map(|thread| thread.join().unwrap()).into()
    });
    assert!(victim.lock().unwrap().is_none(), "nobody was killed before the end");
    for (received, rest) in both {
        assert!(received > 0 && rest > 0, "received {received} first and {rest} afterwards");
        // Of each of the connections at most one block was cut.
        assert!((BYTES..=BYTES + 4 * BLOCK_BYTES).contains(&(received + rest)), "{received} and {rest}");
    }
}
