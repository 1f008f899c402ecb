//! Destroying everything leaves no thread and no socket; a forked child cannot disturb its parent's run. Each in
//! a process of its own, where nothing else starts threads.

use pccl_core::api::{ErrorKind, ReduceOp, Tag};

use crate::harness::{Process, join, master, reduce};

/// Threads and open descriptors of this process.
fn belongings() -> (usize, usize) {
    let count = |of| std::fs::read_dir(of).unwrap().count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

fn two_peers(address: &str, work: impl Fn(&pccl_core::api::Communicator) + Sync) {
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let peer = join(address, 2);
                work(&peer);
                peer.destroy();
            });
        }
    });
}

pub fn leaves_nothing_behind() {
    let run = || {
        let (master, address) = master();
        two_peers(&address, |peer| {
            reduce(peer, &mut [1.0; 100_000], 1);
        });
        master.interrupt().unwrap();
        master.await_termination().unwrap();
    };
    let (_, descriptors) = belongings();
    for _ in 0..5 {
        run();
    }
    // A joined thread is gone, but the system may list it a moment longer: this one and the harness's stay.
    let patience = std::time::Instant::now();
    while belongings() != (2, descriptors) {
        assert!(patience.elapsed().as_secs() < 5, "threads and descriptors left: {:?}", belongings());
        std::thread::yield_now();
    }
}

pub fn forks() {
    let (_master, address) = master();
    let forked = std::sync::Once::new();
    two_peers(&address, |peer| {
        forked.call_once(|| {
            // SAFETY: the child only makes calls that return at once, and ends without running destructors.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let outcome = peer.all_reduce_in_place(&mut [1.0f32; 10], ReduceOp::Sum, Tag(1));
                let told =
                    outcome.is_err_and(|e| e.kind == ErrorKind::InvalidUsage && e.reason.contains("fork"));
                let blank = !peer.is_connected() && peer.world_size() == 0;
                // SAFETY: as above.
                unsafe { libc::_exit(if told && blank { 0 } else { 1 }) };
            }
            let mut status = -1;
            // SAFETY: `child` is a child of ours, and `status` outlives the call.
            unsafe { libc::waitpid(child, &mut status, 0) };
            assert_eq!(status, 0, "the child was not told that it cannot use its parent's communicator");
        });
        let mut data = [1.0; 1000];
        reduce(peer, &mut data, 1);
        assert_eq!(data, [2.0; 1000], "the parent's run goes on");
    });
}

#[test]
fn destroying_everything_leaves_no_thread_and_no_descriptor() {
    assert!(Process::start("clean-exit", "-").succeeds());
}

#[test]
fn a_forked_child_is_refused_and_the_parents_run_goes_on() {
    assert!(Process::start("fork", "-").succeeds());
}
