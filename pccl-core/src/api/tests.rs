//! A whole run in one process, over loopback.

use std::sync::Barrier;
use std::thread::scope;

use super::*;
use crate::shell::node::Request;
use crate::types::PhaseCall;

fn master() -> (Master, String) {
    let master = Master::builder("127.0.0.1:0").build().unwrap();
    master.run().unwrap();
    let address = master.address().unwrap().to_string();
    (master, address)
}

fn communicator(address: &str) -> Communicator {
    Communicator::builder(address).listen("127.0.0.1:0".parse().unwrap()).build().unwrap()
}

/// Connects, and takes part in updates until the world is so large.
fn join(address: &str, world: u32) -> Communicator {
    let communicator = communicator(address);
    communicator.connect().unwrap();
    while communicator.world_size() < world {
        communicator.update_topology().unwrap();
    }
    communicator
}

/// Repeats an all-reduce until it is not aborted.
fn reduce(communicator: &Communicator, data: &mut [f32], tag: u64) -> ReduceInfo {
    loop {
        match communicator.all_reduce_in_place(data, ReduceOp::Sum, Tag(tag)) {
            Err(error) if error.kind == ErrorKind::Aborted => {}
            result => return result.unwrap(),
        }
    }
}

#[test]
fn three_reduce_one_leaves_and_two_go_on() {
    let (_master, address) = master();
    let met = Barrier::new(3);
    scope(|threads| {
        for index in 0..3u32 {
            let (address, met) = (&address, &met);
            threads.spawn(move || {
                let communicator = join(address, 3);
                assert_eq!((communicator.group_world_size(), communicator.num_groups()), (3, 1));
                let send: Vec<f64> = (0..100_000).map(|i| f64::from(i + index)).collect();
                let mut recv = vec![0.0; send.len()];
                let info = communicator.all_reduce(&send, &mut recv, ReduceOp::Sum, Tag(1)).unwrap();
                assert_eq!(info.group_world_size, 3);
                assert!(info.tx_bytes > 0 && info.rx_bytes > 0);
                assert!(recv.iter().enumerate().all(|(i, sum)| *sum == 3.0 * (i as f64 + 1.0)));
                met.wait();
                if index == 2 {
                    return communicator.destroy();
                }
                let mut data = vec![2.0f32; 1000];
                let info = reduce(&communicator, &mut data, 2);
                // The leaver may or may not have been noticed when this began; then it was aborted.
                assert_eq!(info.group_world_size, 2);
                assert!(data.iter().all(|sum| *sum == 4.0));
                assert_eq!(communicator.stats().ops_reduced, 2);
            });
        }
    });
}

#[test]
fn many_tags_at_once_and_a_list_with_retry() {
    let (_master, address) = master();
    scope(|threads| {
        for index in 0..2u64 {
            let address = &address;
            threads.spawn(move || {
                let communicator = join(address, 2);
                let mut data = vec![vec![index + 1; 5000]; 16];
                communicator.scope(|scope| {
                    let works: Vec<Work> = data
                        .iter_mut()
                        .enumerate()
                        .map(|(tag, part)| {
                            scope.all_reduce_in_place(part, ReduceOp::Prod, Tag(tag as u64)).unwrap()
                        })
                        .collect();
                    for work in works {
                        assert_eq!(work.wait(), work.wait());
                    }
                });
                assert!(data.iter().flatten().all(|product| *product == 2));
                let mut requests: Vec<ReduceRequest<'_>> = data
                    .iter_mut()
                    .enumerate()
                    .map(|(tag, part)| ReduceRequest::in_place(part, ReduceOp::Sum, Tag(tag as u64)))
                    .collect();
                let info = communicator.all_reduce_multiple_with_retry(&mut requests, 3).unwrap();
                assert_eq!(info.group_world_size, 2);
                drop(requests);
                assert!(data.iter().flatten().all(|sum| *sum == 4));
            });
        }
    });
}

#[test]
fn alone_there_is_nobody_to_reduce_with() {
    let (_master, address) = master();
    let alone = join(&address, 1);
    assert_eq!(alone.rank(), 0);
    assert!(!alone.are_peers_pending().unwrap());
    let error = alone.all_reduce_in_place(&mut [1u8], ReduceOp::Sum, Tag(0)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooFewPeers);
    assert_eq!(alone.stats().ops_failed, 1);
    assert_eq!(alone.connect().unwrap_err().kind, ErrorKind::InvalidUsage);
}

#[test]
fn calls_before_connect_are_refused_and_a_missing_master_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let lonely = communicator(&address);
    assert_eq!(lonely.update_topology().unwrap_err().kind, ErrorKind::InvalidUsage);
    assert_eq!(lonely.world_size(), 0);
    for _ in 0..2 {
        let error = lonely.connect().unwrap_err();
        assert_eq!(error.kind, ErrorKind::MasterConnectionFailed);
        assert!(error.reason.contains(&address) && error.reason.contains("is a master running"), "{error}");
    }
    assert_eq!(lonely.stats(), Stats::default());
}

/// For what the communicator's own thread finds out.
fn until(mut met: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !met() {
        assert!(begun.elapsed().as_secs() < 20, "it never came");
        std::thread::yield_now();
    }
}

#[test]
fn attributes_tell_of_the_last_call_and_at_once_of_the_end_of_a_membership() {
    let (master, address) = master();
    let builder = Communicator::builder(&address).listen("127.0.0.1:0".parse().unwrap());
    let stays = builder.reconnect_timeout_ms(100).build().unwrap();
    stays.connect().unwrap();
    scope(|threads| {
        let leaver = threads.spawn(|| join(&address, 2));
        while stays.world_size() < 2 {
            stays.update_topology().unwrap();
        }
        let epoch = stays.epoch();
        leaver.join().unwrap().destroy();
        assert_eq!(stays.world_size(), 2, "the same as at the others after the same call");
        stays.update_topology().unwrap();
        assert_eq!(stays.world_size(), 1);
        assert!(stays.is_connected() && stays.epoch() > epoch && stays.group_world_size() == 1);
    });
    drop(master);
    until(|| !stays.is_connected());
    assert_eq!((stays.world_size(), stays.num_groups(), stays.epoch().0), (0, 0, 0));
}

#[test]
fn to_shut_down_ends_what_others_wait_for() {
    let (master, address) = master();
    let first = communicator(&address);
    first.connect().unwrap();
    let second = communicator(&address);
    scope(|threads| {
        // Nobody lets it in.
        let waiting = threads.spawn(|| second.connect());
        until(|| first.are_peers_pending().unwrap());
        second.shut_down();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind, ErrorKind::Aborted);
        let ended = threads.spawn(|| master.await_termination());
        first.shut_down();
        master.shut_down();
        ended.join().unwrap().unwrap();
    });
    for communicator in [&first, &second] {
        communicator.shut_down();
        assert_eq!(communicator.connect().unwrap_err().kind, ErrorKind::InvalidUsage);
        assert!(communicator.update_topology().unwrap_err().reason.contains("shut down"));
    }
    assert!(master.run().unwrap_err().reason.contains("shut down"));
}

/// Two that are in one run, the second of which makes no calls.
fn pair(address: &str) -> (Communicator, Communicator) {
    scope(|threads| {
        let second = threads.spawn(|| join(address, 2));
        (join(address, 2), second.join().unwrap())
    })
}

/// How a call ends that is under way when its communicator is shut down. Two threads make it, so that the refusal of the one
/// tells that the other is in it.
fn shut_down_under<R: Send>(
    first: &Communicator,
    refusal: ErrorKind,
    call: impl Fn() -> Result<R> + Sync,
) -> ErrorKind {
    scope(|threads| {
        let calls = [threads.spawn(&call), threads.spawn(&call)];
        until(|| calls.iter().any(|call| call.is_finished()));
        let refused = usize::from(calls[1].is_finished());
        assert!(!calls[1 - refused].is_finished());
        first.shut_down();
        let mut outcomes = calls.map(|call| call.join().unwrap().err().unwrap());
        assert_eq!(outcomes[refused].kind, refusal, "{}", outcomes[refused]);
        outcomes.swap(0, refused);
        outcomes[1].kind
    })
}

#[test]
fn to_shut_down_ends_an_all_reduce_that_is_under_way() {
    let (_master, address) = master();
    let (first, _second) = pair(&address);
    let reduce = || {
        let mut data = [7.0f32];
        let outcome = first.all_reduce_in_place(&mut data, ReduceOp::Sum, Tag(1));
        assert_eq!(data, [7.0]);
        outcome
    };
    assert_eq!(shut_down_under(&first, ErrorKind::InvalidArgument, reduce), ErrorKind::Aborted);
}

#[test]
fn to_shut_down_ends_a_list_that_is_under_way() {
    let (_master, address) = master();
    let (first, _second) = pair(&address);
    let reduce = || {
        let mut data = [7.0f32];
        let outcome = first.all_reduce_multiple_with_retry(
            &mut [ReduceRequest::in_place(&mut data, ReduceOp::Sum, Tag(1))],
            1,
        );
        assert_eq!(data, [7.0]);
        outcome
    };
    // An abort is repeated, and the repetition refused.
    assert_eq!(shut_down_under(&first, ErrorKind::InvalidArgument, reduce), ErrorKind::InvalidUsage);
}

#[test]
fn to_shut_down_ends_a_phase_call_that_is_under_way() {
    type Call = fn(&Communicator) -> Result<()>;
    let calls: [Call; 3] = [
        Communicator::update_topology,
        |communicator| communicator.are_peers_pending().map(drop),
        Communicator::optimize_topology,
    ];
    let (_master, address) = master();
    for call in calls {
        let (first, _second) = pair(&address);
        assert_eq!(shut_down_under(&first, ErrorKind::InvalidUsage, || call(&first)), ErrorKind::Aborted);
    }
}

#[test]
fn to_shut_down_ends_a_synchronization_that_is_under_way() {
    let (_master, address) = master();
    let (first, _second) = pair(&address);
    let synchronize = || {
        let mut weights = [7.0f32];
        let mut state = SharedState::new(3).tensor("weights", &mut weights);
        let outcome = first.synchronize_shared_state(&mut state, SyncStrategy::EnforcePopular);
        assert_eq!(state.revision(), 3);
        drop(state);
        assert_eq!(weights, [7.0]);
        outcome
    };
    let ended = shut_down_under(&first, ErrorKind::InvalidUsage, synchronize);
    // Its tensors may not have been handed over yet.
    assert!(matches!(ended, ErrorKind::Aborted | ErrorKind::InvalidUsage), "{ended:?}");
}

#[test]
fn to_shut_down_ends_what_is_waited_for_with_a_work() {
    let (_master, address) = master();
    let (first, _second) = pair(&address);
    let mut data = [7.0f32];
    first.scope(|scope| {
        let work = scope.all_reduce_in_place(&mut data, ReduceOp::Sum, Tag(1)).unwrap();
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| work.wait());
            let for_long = threads.spawn(|| work.wait_timeout(u64::from(u32::MAX)));
            first.shut_down();
            assert_eq!(waiting.join().unwrap().unwrap_err().kind, ErrorKind::Aborted);
            assert_eq!(for_long.join().unwrap().unwrap().unwrap_err().kind, ErrorKind::Aborted);
        });
    });
    assert_eq!(data, [7.0]);
}

/// As if by another thread, after it has looked whether the communicator is in use, and before it hands over its call.
#[test]
fn a_call_that_comes_while_the_communicator_is_shut_down_is_refused() {
    let (_master, address) = master();
    let late = join(&address, 1);
    let thread = late.running().unwrap();
    late.shut_down();
    let (_, slot) = thread.call(Request::Phase(PhaseCall::UpdateTopology));
    let error = slot.wait().unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidUsage);
    assert!(error.reason.contains("shut down"), "{error}");
}

#[test]
fn a_port_in_use_and_a_second_run_are_errors() {
    let (first, address) = master();
    assert_eq!(first.run().unwrap_err().kind, ErrorKind::InvalidArgument);
    let second = Master::builder(&address).build().unwrap();
    let error = second.run().unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidUsage);
    assert!(error.reason.contains(&address), "{error}");
    first.interrupt().unwrap();
    first.await_termination().unwrap();
    second.run().unwrap();
}

#[test]
fn a_work_can_be_awaited() {
    let (_master, address) = master();
    scope(|threads| {
        for _ in 0..2 {
            let address = &address;
            threads.spawn(move || {
                let communicator = join(address, 2);
                let mut data = [1.5f32, 2.5];
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                communicator.scope(|scope| {
                    let work = scope.all_reduce_in_place(&mut data, ReduceOp::Avg, Tag(7)).unwrap();
                    assert_eq!(runtime.block_on(work).unwrap().group_world_size, 2);
                });
                assert_eq!(data, [1.5, 2.5]);
            });
        }
    });
}
