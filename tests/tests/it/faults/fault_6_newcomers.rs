//! Newcomers that freeze while they join, or that nobody can reach: the members go on, nobody is put out.

use std::io::{Read, Write};
use std::net::TcpStream;

use pccl_core::api::{Communicator, ErrorKind};
use pccl_core::types::{GroupId, PeerId};
use pccl_core::wire::encode_peer;
use pccl_core::wire::hello::{HELLO_ANSWER_BYTES, Hello};
use pccl_core::wire::message::{Join, PeerMessage};

use crate::harness::{join, loopback, master, master_with, reduce};

/// Says hello and joins, and then nothing more: a process frozen while it joins.
fn frozen_newcomer(address: &str, data_port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&Hello::Control.encode()).unwrap();
    stream.read_exact(&mut [0; HELLO_ANSWER_BYTES]).unwrap();
    let join = Join { peer: PeerId([9; 16]), group: GroupId(0), data_port, announced: None, pool: 1 };
    let mut frame = Vec::new();
    encode_peer(&PeerMessage::Join(join), &mut frame).unwrap();
    stream.write_all(&frame).unwrap();
    stream
}

/// Two members that reduce and update while a newcomer is in trouble; both must be members at the end.
fn members_go_on(address: &str, newcomer: impl FnOnce()) {
    let met = std::sync::Barrier::new(3);
    std::thread::scope(|threads| {
        let met = &met;
        let members: Vec<_> = (0..2)
            .map(|_| {
                threads.spawn(move || {
                    let peer = join(address, 2);
                    met.wait();
                    met.wait();
                    for _ in 0..20 {
                        let mut data = [1.0; 1000];
                        reduce(&peer, &mut data, 1);
                        assert_eq!(data, [2.0; 1000]);
                        peer.update_topology().unwrap();
                    }
                    assert_eq!(peer.world_size(), 2);
                    met.wait();
                })
            })
            .collect();
        met.wait();
        newcomer();
        met.wait();
        met.wait();
        members.into_iter().for_each(|member| member.join().unwrap());
    });
}

#[test]
fn a_newcomer_frozen_while_it_joins_stops_nobody() {
    let (_master, address) = master();
    let mut held = None;
    members_go_on(&address, || held = Some(frozen_newcomer(&address, 0)));
}

#[test]
fn a_newcomer_nobody_can_dial_and_that_dials_nobody_gets_no_member_put_out() {
    let (_master, address) = master_with(|master| master.link_timeout_ms(300));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut held = None;
    members_go_on(&address, || held = Some(frozen_newcomer(&address, port)));
}

#[test]
fn a_newcomer_that_announces_a_wrong_port_still_takes_part_by_dialling() {
    let (_master, address) = master();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::thread::scope(|threads| {
        let members: Vec<_> = (0..2)
            .map(|_| {
                let address = &address;
                threads.spawn(move || {
                    let peer = join(address, 3);
                    reduce(&peer, &mut [1.0; 10], 1).group_world_size
                })
            })
            .collect();
        let wrong =
            Communicator::builder(&address).listen(loopback()).announce("127.0.0.1", port).build().unwrap();
        wrong.connect().unwrap();
        crate::harness::wait_for_world(&wrong, 3);
        let mut data = [1.0; 10];
        reduce(&wrong, &mut data, 1);
        assert_eq!(data, [3.0; 10]);
        assert!(members.into_iter().all(|member| member.join().unwrap() == 3));
    });
}

#[test]
fn peers_without_a_port_of_their_own_take_part_where_the_others_can_be_dialled() {
    let (_master, address) = master();
    std::thread::scope(|threads| {
        let open = threads.spawn(|| {
            let peer = join(&address, 2);
            let mut data = [1.0; 10];
            reduce(&peer, &mut data, 1);
            assert_eq!(data, [2.0; 10]);
        });
        let closed = Communicator::builder(&address).no_inbound().build().unwrap();
        closed.connect().unwrap();
        crate::harness::wait_for_world(&closed, 2);
        reduce(&closed, &mut [1.0; 10], 1);
        open.join().unwrap();
    });
}

#[test]
fn two_peers_that_can_only_dial_are_told_what_to_do() {
    let (_master, address) = master_with(|master| master.link_timeout_ms(300));
    let first = Communicator::builder(&address).no_inbound().build().unwrap();
    first.connect().unwrap();
    let second = Communicator::builder(&address).no_inbound().build().unwrap();
    let error = second.connect().unwrap_err();
    assert_eq!(error.kind, ErrorKind::MasterConnectionFailed);
    assert!(error.reason.contains("open the data port"), "{error}");
    assert_eq!(first.world_size(), 1);
}

#[test]
fn a_newcomer_nobody_can_reach_is_told_at_which_address() {
    let (_master, address) = master_with(|master| master.link_timeout_ms(300));
    let first = Communicator::builder(&address).no_inbound().build().unwrap();
    first.connect().unwrap();
    let closed = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    let newcomer = Communicator::builder(&address)
        .listen(loopback())
        .announce("127.0.0.1", closed.port())
        .build()
        .unwrap();
    let error = newcomer.connect().unwrap_err();
    assert_eq!(error.kind, ErrorKind::MasterConnectionFailed);
    assert!(error.reason.contains("open the data port"), "{error}");
    assert!(error.reason.contains(&closed.to_string()), "{error}");
    assert_eq!(first.world_size(), 1);
}
