//! What a process takes besides the caller's buffers: 64 MiB for an operation of any size, in place a payload more.

use pccl_core::api::{ReduceOp, Tag};

use crate::harness::{Process, connect, master, wait_for_world};

const MIB: usize = 1 << 20;
const PAYLOAD_BYTES: usize = 1024 * MIB;
const MOST_BESIDES_BYTES: usize = 64 * MIB;

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let kib: usize = line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
    kib << 10
}

/// By how much the peak of the memory in use while `work` runs exceeds what was in use before.
fn growth(work: impl FnOnce()) -> usize {
    // The peak begins anew.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    work();
    status("VmHWM:").saturating_sub(before)
}

pub fn a_gibibyte(address: &str) {
    let peer = connect(address, 8);
    wait_for_world(&peer, 2);
    let mut send = vec![3u64; PAYLOAD_BYTES / 8];
    let before = status("VmRSS:");
    let mut recv = vec![1u64; PAYLOAD_BYTES / 8];
    let out_of_place = growth(|| {
        peer.all_reduce(&send, &mut recv, ReduceOp::Sum, Tag(1)).unwrap();
    });
    assert!(out_of_place <= MOST_BESIDES_BYTES, "out of place took {} MiB", out_of_place / MIB);
    assert!(recv.iter().all(|sum| *sum == 6));
    // Two such processes are much for a machine.
    drop(recv);
    let in_place = growth(|| {
        peer.all_reduce_in_place(&mut send, ReduceOp::Sum, Tag(1)).unwrap();
    });
    assert!(in_place <= PAYLOAD_BYTES + MOST_BESIDES_BYTES, "in place took {} MiB", in_place / MIB);
    assert!(in_place > PAYLOAD_BYTES / 2, "in place saved nothing: does this test measure anything?");
    assert!(send.iter().all(|sum| *sum == 6));
    peer.all_reduce(&send[..8], &mut [0; 8], ReduceOp::Sum, Tag(1)).unwrap();
    let left = status("VmRSS:").saturating_sub(before);
    assert!(left <= MOST_BESIDES_BYTES, "{} MiB are kept when an operation out of place follows", left / MIB);
}

#[test]
fn a_gibibyte_takes_64_mib_besides_the_buffers_and_in_place_a_payload_more() {
    let (_master, address) = master();
    let peers = [0; 2].map(|_| Process::start("gibibyte", &address));
    assert!(peers.into_iter().all(Process::succeeds));
}
