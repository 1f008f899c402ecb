//! Strangers at the ports: nothing they send or do not send disturbs the run.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use pccl_core::api::Communicator;
use pccl_core::wire::hello::Hello;

use crate::harness::{Process, connect, loopback, master, reduce, wait_for_world};

/// For what should take milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends the bytes, and waits until the other end has closed the connection.
fn send_and_see_it_closed(to: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The other end may close before it has read all of it.
    let _ = stream.write_all(bytes);
    let Err(error) = stream.read_to_end(&mut Vec::new()) else { return };
    assert!(
        !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{to} was sent {} bytes, {:02x?} and so on, and has not closed the connection",
        bytes.len(),
        &bytes[..bytes.len().min(16)]
    );
}

fn garbage(to: SocketAddr) {
    send_and_see_it_closed(to, &[0; 4096]);
    send_and_see_it_closed(to, &[0xff; 4096]);
    send_and_see_it_closed(to, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n");
    let mut old_version = Hello::Control.encode();
    old_version[4] ^= 0x40;
    send_and_see_it_closed(to, &old_version);
    // A sound hello, and then a frame that claims to be of 4 GiB.
    let mut oversized = Hello::Control.encode().to_vec();
    oversized.extend([0xff; 12]);
    send_and_see_it_closed(to, &oversized);
}

/// Two peers that reduce without end, as a stranger sees them.
struct Run<'a> {
    master: SocketAddr,
    /// Of one of the two.
    data_port: SocketAddr,
    steps: &'a AtomicU64,
}

impl Run<'_> {
    /// Waits until both have reduced some more.
    fn goes_on(&self) {
        let (from, begun) = (self.steps.load(SeqCst), Instant::now());
        while self.steps.load(SeqCst) < from + 20 {
            assert!(begun.elapsed() < PATIENCE, "the run has come to a halt");
            std::thread::yield_now();
        }
    }
}

/// Reduces until both have seen `done`, which they do in the same step; the epoch must not change meanwhile.
fn member(address: &str, listen: SocketAddr, steps: &AtomicU64, done: &AtomicBool) {
    let peer = Communicator::builder(address).listen(listen).pool(2).build().unwrap();
    peer.connect().unwrap();
    wait_for_world(&peer, 2);
    let epoch = peer.epoch();
    let mut data = vec![0.0f32; 1000];
    while data[0] < 2.0 {
        // Not after the last step: the other may have left by then.
        assert_eq!(peer.epoch(), epoch, "a stranger has put a member out");
        data.fill(1.0);
        data[0] = f32::from(u8::from(done.load(SeqCst)));
        reduce(&peer, &mut data, 1);
        assert!(data[1..].iter().all(|sum| *sum == 2.0));
        steps.fetch_add(1, SeqCst);
    }
}

fn with_two_members(stranger: impl FnOnce(&Run)) {
    /// Ends the members even if the stranger's part panics.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let (_master, address) = master();
    let data_port = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    let (steps, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|threads| {
        for listen in [data_port, loopback()] {
            let (address, steps, done) = (&address, &steps, &done);
            threads.spawn(move || member(address, listen, steps, done));
        }
        let _done = Done(&done);
        let run = Run { master: address.parse().unwrap(), data_port, steps: &steps };
        run.goes_on();
        stranger(&run);
        run.goes_on();
    });
}

#[test]
fn garbage_at_the_masters_port_is_closed_and_the_run_goes_on() {
    with_two_members(|run| garbage(run.master));
}

#[test]
fn garbage_at_a_peers_data_port_is_closed_and_its_operations_go_on() {
    with_two_members(|run| garbage(run.data_port));
}

#[test]
fn two_bytes_held_open_do_not_keep_a_newcomer_out() {
    let (_master, address) = master();
    let mut held = TcpStream::connect(&address).unwrap();
    held.write_all(&Hello::Control.encode()[..2]).unwrap();
    let first = connect(&address, 1);
    std::thread::scope(|threads| {
        let newcomer = threads.spawn(|| connect(&address, 1));
        wait_for_world(&first, 2);
        assert_eq!(newcomer.join().unwrap().world_size(), 2);
    });
    drop(held);
}

fn crowd(at: SocketAddr) -> Vec<TcpStream> {
    let crowd: Vec<TcpStream> = (0..1000).filter_map(|_| TcpStream::connect(at).ok()).collect();
    assert!(crowd.len() > 500, "only {} connections could be made to {at}", crowd.len());
    crowd
}

#[test]
fn a_thousand_silent_connections_do_not_keep_a_newcomer_out() {
    let (_master, address) = master();
    let _crowd = crowd(address.parse().unwrap());
    let first = connect(&address, 1);
    assert_eq!(first.world_size(), 1);
}

/// Memory of this process that is present.
#[cfg(target_os = "linux")]
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// In a process of its own, where no other test takes memory.
#[cfg(target_os = "linux")]
pub fn crowds_at_both_ports() {
    with_two_members(|run| {
        for port in [run.master, run.data_port] {
            let before = resident_kib();
            let crowd = crowd(port);
            run.goes_on();
            let grown = resident_kib().saturating_sub(before);
            assert!(grown < 32 << 10, "{} connections took {grown} KiB", crowd.len());
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_thousand_silent_connections_at_either_port_take_little_memory_and_the_run_goes_on() {
    assert!(Process::start("crowds", "-").succeeds());
}
