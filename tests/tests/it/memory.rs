//! What a process takes besides the caller's buffers: 64 MiB for an operation of any size, in place a payload more.

use pccl_core::api::{Communicator, Quantization, ReduceOp, ScheduleChoice, Tag};

use crate::harness::{Process, connect, master, master_with, wait_for_world};

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

const THREE_BYTES: usize = 256 * MIB;

/// Where two children's contributions meet there are windows: for shares that are not so large that turns suffice, as one
/// operation or as many.
pub fn three_in_a_mesh(address: &str) {
    let peer = connect(address, 4);
    wait_for_world(&peer, 3);
    let send = vec![3u64; THREE_BYTES / 8];
    let mut recv = vec![1u64; THREE_BYTES / 8];
    for (count, operations) in [(THREE_BYTES / 8, 1), (64 * MIB / 8, 1), (THREE_BYTES / 8, 64)] {
        recv.fill(1);
        let before = peer.stats().counters.bytes_parked;
        let taken = growth(|| at_once(&peer, &send[..count], &mut recv[..count], operations));
        let all = count * 8 / MIB;
        let parked = peer.stats().counters.bytes_parked - before;
        // Each share of the first is so large that turns suffice.
        let has_windows = (count, operations) != (THREE_BYTES / 8, 1);
        assert_eq!(parked > 0, has_windows, "{all} MiB as {operations}: {parked} bytes waited in windows");
        assert!(taken <= MOST_BESIDES_BYTES, "{all} MiB as {operations} took {} MiB", taken / MIB);
        assert!(recv[..count].iter().all(|sum| *sum == 9));
    }
    drop((send, recv));

    // In place, and the residual is saved as well.
    const COUNT: usize = 64 * MIB / 4;
    let (mut data, mut residual) = (vec![1.5f32; COUNT], vec![0.25f32; COUNT]);
    let taken = growth(|| {
        let quantization = Quantization::Bits4;
        peer.all_reduce_with_feedback(&mut data, &mut residual, ReduceOp::Sum, quantization, Tag(1)).unwrap();
    });
    let most = 2 * COUNT * 4 + MOST_BESIDES_BYTES;
    assert!(taken <= most, "with error feedback 64 MiB took {} MiB", taken / MIB);
}

fn at_once(peer: &Communicator, send: &[u64], recv: &mut [u64], operations: usize) {
    let each = send.len() / operations;
    peer.scope(|scope| {
        let pairs = send.chunks(each).zip(recv.chunks_mut(each)).enumerate();
        let works: Vec<_> = pairs
            .map(|(tag, (send, recv))| scope.all_reduce(send, recv, ReduceOp::Sum, Tag(tag as u64)).unwrap())
            .collect();
        for work in works {
            work.wait().unwrap();
        }
    });
}

#[test]
fn windows_are_within_the_64_mib_too_and_error_feedback_takes_two_payloads_more() {
    let (_master, address) = master_with(|master| master.schedule(ScheduleChoice::Mesh));
    let peers = [0; 3].map(|_| Process::start("three-in-a-mesh", &address));
    assert!(peers.into_iter().all(Process::succeeds));
}
