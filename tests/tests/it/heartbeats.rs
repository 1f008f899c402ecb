//! Messages and tensors have connections of their own, so that bulk never delays a heartbeat.

use pccl_core::api::{ReduceOp, Tag};

use crate::harness::{connect, master_with, wait_for_world};

const LEN: usize = (32 << 20) / size_of::<f32>();

#[test]
fn bulk_makes_no_peer_look_silent() {
    let (_master, address) = master_with(|master| master.silence_ms(1_000));
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                let peer = connect(&address, 4);
                wait_for_world(&peer, 3);
                let epoch = peer.epoch();
                let mut data = vec![1.0f32; LEN];
                for tag in 0..4 {
                    // No retry: an abort fails the test.
                    peer.all_reduce_in_place(&mut data, ReduceOp::Max, Tag(tag)).unwrap();
                }
                assert_eq!((peer.epoch(), peer.stats().ops_aborted), (epoch, 0), "somebody was lost");
            });
        }
    });
}
