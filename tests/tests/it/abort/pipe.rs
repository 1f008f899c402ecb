//! Writing to a peer that has gone is an error, and no signal that ends the process: programs in C have `SIGPIPE` as the system
//! has it, which those in Rust and Python have not.

use pccl_core::api::{ReduceOp, Tag};

use crate::harness::{Process, connect, master, tell, wait_for_world};

/// Elements of an operation: its frames are many writes.
const LEN: usize = 1 << 20;

/// Reduces until that fails.
pub fn until_broken(address: &str) {
    // SAFETY: the system's own way, set before there is any other thread that could mind.
    assert_ne!(unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) }, libc::SIG_ERR);
    let peer = connect(address, 2);
    wait_for_world(&peer, 2);
    let mut data = vec![1.0f32; LEN];
    tell("in");
    while peer.scope(|scope| scope.all_reduce_in_place(&mut data, ReduceOp::Max, Tag(1))?.wait()).is_ok() {}
}

/// The survivor stands still meanwhile: it finds several connections ended at once, and writes to them.
#[test]
fn a_peer_that_dies_ends_no_process_by_a_signal() {
    for round in 0..12 {
        let (_master, address) = master();
        let [mut survivor, mut victim] = [0; 2].map(|_| Process::start("until-broken", &address));
        assert_eq!((survivor.hears().as_deref(), victim.hears().as_deref()), (Some("in"), Some("in")));
        // Rounds differ in how far the two have come.
        std::thread::sleep(std::time::Duration::from_millis(5 * round));
        survivor.signal(libc::SIGSTOP);
        victim.kill();
        survivor.signal(libc::SIGCONT);
        assert!(survivor.succeeds(), "round {round}: the survivor did not end by itself");
    }
}
