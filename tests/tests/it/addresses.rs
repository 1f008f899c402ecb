//! Where masters and peers can be, and what is said when they cannot be there.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use pccl_core::api::{Communicator, ErrorKind, Master};

use crate::harness::{connect, loopback, master, reduce, wait_for_world};

fn two_meet(master: &str, listen: &str) {
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let peer = Communicator::builder(master).listen(listen.parse().unwrap()).build().unwrap();
                peer.connect().unwrap();
                wait_for_world(&peer, 2);
                let mut data = [1.0; 100];
                reduce(&peer, &mut data, 1);
                assert_eq!(data, [2.0; 100]);
            });
        }
    });
}

#[test]
#[cfg_attr(no_ipv6, ignore = "no IPv6 here")]
fn peers_meet_over_ipv6() {
    let master = Master::builder("[::1]:0").build().unwrap();
    master.run().unwrap();
    two_meet(&master.address().unwrap().to_string(), "[::1]:0");
}

/// Passes all connections on; where it listens, and how many it has passed on.
fn forwarder(host: &str, to: SocketAddr) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((host, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let passed_on = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&passed_on);
    // Ends with the process: a listener's `accept` has no other end.
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(to).unwrap());
            count.fetch_add(1, SeqCst);
            copy(near.try_clone().unwrap(), far.try_clone().unwrap());
            copy(far, near);
        }
    });
    (port, passed_on)
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        // Either end may be gone first.
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// A peer behind a forwarder, and one that can only be met by dialling the other.
fn meet_at_the_announced_address(host: &str) {
    let (_master, address) = master();
    let listen = TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    let (port, passed_on) = forwarder(host, listen);
    let behind = Communicator::builder(&address).listen(listen).announce(host, port).build().unwrap();
    let dials = Communicator::builder(&address).no_inbound().build().unwrap();
    std::thread::scope(|threads| {
        for peer in [behind, dials] {
            threads.spawn(move || {
                peer.connect().unwrap();
                wait_for_world(&peer, 2);
                let mut data = vec![1.0; 100_000];
                reduce(&peer, &mut data, 1);
                assert!(data.iter().all(|sum| *sum == 2.0));
            });
        }
    });
    assert!(passed_on.load(SeqCst) > 0, "nobody dialled the announced address");
}

#[test]
fn others_dial_the_announced_address() {
    meet_at_the_announced_address("127.0.0.1");
}

#[test]
fn an_address_may_be_announced_by_host_name() {
    meet_at_the_announced_address("localhost");
}

#[test]
fn the_master_may_be_given_by_host_name() {
    let (master, _) = master();
    two_meet(&format!("localhost:{}", master.address().unwrap().port()), "127.0.0.1:0");
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let (_master, address) = master();
    let error = Master::builder(&address).build().unwrap().run().unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidUsage);
    assert!(error.reason.contains(&address) && error.reason.contains("in use"), "{error}");
}

#[test]
fn an_unreachable_master_is_an_error_that_names_it_and_the_peer_may_connect_again() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let peer = Communicator::builder(&closed.to_string()).listen(loopback()).build().unwrap();
    let error = peer.connect().unwrap_err();
    assert_eq!(error.kind, ErrorKind::MasterConnectionFailed);
    assert!(
        error.reason.contains(&closed.to_string()) && error.reason.contains("is a master running"),
        "{error}"
    );
    let master = Master::builder(&closed.to_string()).build().unwrap();
    master.run().unwrap();
    peer.connect().unwrap();
    assert_eq!(peer.world_size(), 1);
    assert_eq!(peer.connect().unwrap_err().kind, ErrorKind::InvalidUsage);
}

#[test]
fn a_master_that_never_answers_fails_the_connect_in_time() {
    // It takes connections into its backlog and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let peer = Communicator::builder(&address).listen(loopback()).connect_timeout_ms(200).build().unwrap();
    let error = peer.connect().unwrap_err();
    assert_eq!(error.kind, ErrorKind::MasterConnectionFailed);
    assert!(error.reason.contains("did not answer within"), "{error}");
}

#[test]
fn the_first_peer_alone_is_told_that_an_operation_needs_company() {
    let (_master, address) = master();
    let error = connect(&address, 1).all_reduce_in_place(
        &mut [1.0f32],
        pccl_core::api::ReduceOp::Sum,
        pccl_core::api::Tag(1),
    );
    assert_eq!(error.unwrap_err().kind, ErrorKind::TooFewPeers);
}
