//! Messages and tensors have connections of their own, so that bulk never delays a heartbeat.

use std::time::{Duration, Instant};

use pccl_core::api::{ReduceOp, Tag};

use crate::harness::{connect, master_with, wait_for_world};

const SILENCE_MS: u32 = 2_000;
const LEN: usize = (32 << 20) / size_of::<f32>();

#[test]
fn bulk_makes_no_peer_look_silent() {
    let (_master, address) = master_with(|master| master.silence_ms(SILENCE_MS));
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                let peer = connect(&address, 4);
                wait_for_world(&peer, 3);
                let epoch = peer.epoch();
                let mut data = vec![1.0f32; LEN];
                // Twice as long as a silent peer would be taken for a living one; all see in the same operation that
                // somebody has had enough.
                let begun = Instant::now();
                while data[0] < 2.0 {
                    let enough = begun.elapsed() > Duration::from_millis(2 * u64::from(SILENCE_MS));
                    data[0] = if enough { 2.0 } else { 1.0 };
                    // No retry: an abort fails the test.
                    peer.all_reduce_in_place(&mut data, ReduceOp::Max, Tag(1)).unwrap();
                }
                assert_eq!((peer.epoch(), peer.stats().ops_aborted), (epoch, 0), "somebody was lost");
            });
        }
    });
}
