//! The reference never sends tensors of two-byte types in shared state, and says it has.

use pccl_core::api::{DType, Memory, SharedState, SyncStrategy};

use crate::harness::{join, master, wait_for_world};

#[test]
fn two_byte_tensors_of_a_shared_state_are_sent() {
    for dtype in [DType::F16, DType::BF16, DType::I16, DType::U16] {
        let (_master, address) = master();
        let first = join(&address, 1);
        std::thread::scope(|threads| {
            let newcomer = threads.spawn(|| {
                let peer = join(&address, 2);
                let mut data = vec![0u16; 300_001];
                let count = data.len();
                let mut state =
                    SharedState::new(0).memory_tensor("w", dtype, count, Memory::in_place(&mut data), false);
                let info = peer.synchronize_shared_state(&mut state, SyncStrategy::EnforcePopular).unwrap();
                assert!(data.iter().all(|word| *word == 0x3C01), "{dtype} was not sent");
                assert_eq!(info.rx_bytes, 2 * count as u64);
            });
            wait_for_world(&first, 2);
            let mut data = vec![0x3C01u16; 300_001];
            let count = data.len();
            let mut state =
                SharedState::new(1).memory_tensor("w", dtype, count, Memory::in_place(&mut data), false);
            first.synchronize_shared_state(&mut state, SyncStrategy::EnforcePopular).unwrap();
            newcomer.join().unwrap();
        });
    }
}
