//! Strangers at the ports: nothing they send or do not send disturbs the run.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use pccl_core::api::Communicator;
use pccl_core::wire::hello::Hello;

use crate::harness::{connect, join, master, reduce, wait_for_world};

/// Sends the bytes, and waits until the other end has closed the connection.
fn send_and_see_it_closed(to: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(to).unwrap();
    // The other end may close before it has read all of it.
    let _ = stream.write_all(bytes);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
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

fn two_of_us(address: &str, work: impl FnOnce(&[SocketAddr]) + Send) {
    let (done, finished) = (std::sync::atomic::AtomicBool::new(false), std::sync::atomic::Ordering::SeqCst);
    std::thread::scope(|threads| {
        let done = &done;
        let peers: Vec<_> = (0..2)
            .map(|_| {
                threads.spawn(move || {
                    let peer = join(address, 2);
                    let mut stop = 0.0;
                    while stop < 2.0 {
                        // Both stop in the same step: when both have seen that it is time.
                        let mut data = vec![1.0f32; 1000];
                        data[0] = f32::from(u8::from(done.load(finished)));
                        reduce(&peer, &mut data, 1);
                        assert!(data[1..].iter().all(|sum| *sum == peer.group_world_size() as f32));
                        stop = if data[0] == peer.group_world_size() as f32 { 2.0 } else { 0.0 };
                        if peer.peers_pending() > 0 {
                            peer.update_topology().unwrap();
                        }
                    }
                    peer.epoch()
                })
            })
            .collect();
        work(&[address.parse().unwrap()]);
        done.store(true, finished);
        for peer in peers {
            peer.join().unwrap();
        }
    });
}

#[test]
fn garbage_at_the_masters_port_is_closed_and_the_run_goes_on() {
    let (_master, address) = master();
    two_of_us(&address, |ports| ports.iter().copied().for_each(garbage));
}

#[test]
fn garbage_at_a_peers_data_port_is_closed_and_its_operations_go_on() {
    let (_master, address) = master();
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::thread::scope(|threads| {
        let first = Communicator::builder(&address).listen(listen).build().unwrap();
        first.connect().unwrap();
        let other = threads.spawn(|| join(&address, 2));
        wait_for_world(&first, 2);
        let other = other.join().unwrap();
        garbage(listen);
        let theirs = threads.spawn(move || reduce(&other, &mut [1.0; 1000], 1));
        let mut data = [1.0; 1000];
        reduce(&first, &mut data, 1);
        assert_eq!(data, [2.0; 1000]);
        theirs.join().unwrap();
    });
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

#[test]
fn a_thousand_silent_connections_do_not_keep_a_newcomer_out() {
    let (_master, address) = master();
    let crowd: Vec<TcpStream> = (0..1000).filter_map(|_| TcpStream::connect(&address).ok()).collect();
    assert!(crowd.len() > 500, "only {} connections could be made", crowd.len());
    let first = connect(&address, 1);
    assert_eq!(first.world_size(), 1);
}
