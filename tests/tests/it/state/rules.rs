//! Who may take part, who gives and who receives, and who has to go.

use pccl_core::api::{Error, ErrorKind, Result, SharedState, SyncInfo};

use super::{Model, POPULAR, RECEIVES, SENDS, crew, each, pattern, state, synchronize};
use crate::harness::{connect, master};

fn models(seeds: &[u32]) -> Vec<Model> {
    seeds.iter().map(|seed| vec![("w", pattern(1000, *seed))]).collect()
}

/// The error of this rank, and that it says all of this.
fn refused(outcomes: &[Result<SyncInfo>], rank: usize, says: &[&str]) -> Error {
    let error = outcomes[rank].clone().unwrap_err();
    assert!(says.iter().all(|part| error.reason.contains(part)), "{says:?} in {error}");
    error
}

#[test]
fn where_nobody_has_a_vote_everybody_hears_it() {
    let (_master, address) = master();
    let crew = crew(&address, 3);
    let mut held = models(&[1, 2, 3]);
    let outcomes = synchronize(&crew, &mut held, &[(0, RECEIVES); 3]);
    for rank in 0..3 {
        let error = refused(&outcomes, rank, &["nobody offers a shared state", "receive-only"]);
        assert_eq!(error.kind, ErrorKind::NoSharedStateAvailable);
    }
    assert!(held == models(&[1, 2, 3]));
}

#[test]
fn who_only_sends_wins_over_those_who_only_receive() {
    let (_master, address) = master();
    let crew = crew(&address, 3);
    let mut held = models(&[1, 2, 2]);
    let outcomes = synchronize(&crew, &mut held, &[(0, SENDS), (9, RECEIVES), (9, RECEIVES)]);
    assert!(outcomes.iter().all(|o| o.as_ref().is_ok_and(|info| info.revision == 0)), "{outcomes:?}");
    assert!(held == models(&[1, 1, 1]));
}

#[test]
fn of_two_who_only_send_and_differ_one_has_to_go() {
    let (_master, address) = master();
    let crew = crew(&address, 3);
    let mut held = models(&[1, 2, 3]);
    let outcomes = synchronize(&crew, &mut held, &[(0, SENDS), (0, SENDS), (0, RECEIVES)]);
    refused(&outcomes, 1, &["only sends", "its content is not"]);
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    assert!(held[2] == models(&[1])[0] && held[1] == models(&[2])[0]);
}

#[test]
fn a_revision_ahead_of_the_run_is_put_out_with_both_numbers() {
    let (_master, address) = master();
    let crew = crew(&address, 3);
    let mut held = models(&[1, 1, 1]);
    assert!(synchronize(&crew, &mut held, &[(5, POPULAR); 3]).iter().all(Result::is_ok));
    let outcomes = synchronize(&crew, &mut held, &[(6, POPULAR), (8, POPULAR), (6, POPULAR)]);
    refused(&outcomes, 1, &["revision 8", "6 is expected"]);
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
}

#[test]
fn the_first_difference_between_tensors_is_named() {
    let cases: [(Model, &str); 4] = [
        (
            vec![("a", pattern(10, 1)), ("b", pattern(11, 1))],
            "\"b\" (11 × u32), but there it is \"b\" (10 × u32)",
        ),
        (vec![("a", pattern(10, 1))], "it lacks \"b\""),
        (vec![("a", pattern(10, 1)), ("b", pattern(10, 1)), ("c", pattern(1, 1))], "it has \"c\""),
        (vec![("A", pattern(10, 1)), ("b", pattern(10, 1))], "it has \"A\""),
    ];
    for (odd, says) in cases {
        let (_master, address) = master();
        let crew = crew(&address, 3);
        let usual: Model = vec![("a", pattern(10, 1)), ("b", pattern(10, 1))];
        let mut held = vec![odd, usual.clone(), usual];
        let outcomes = synchronize(&crew, &mut held, &[(0, POPULAR); 3]);
        refused(&outcomes, 0, &[says]);
        assert!(outcomes[1].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    }
}

#[test]
fn whoever_is_alone_or_not_connected_hears_what_to_do() {
    let (_master, address) = master();
    let mut data = [1u8];
    let unconnected = pccl_core::api::Communicator::builder(&address).build().unwrap();
    let call = |peer: &pccl_core::api::Communicator, data: &mut [u8]| {
        peer.synchronize_shared_state(&mut SharedState::new(0).tensor("w", data), POPULAR)
    };
    let error = call(&unconnected, &mut data).unwrap_err();
    assert!(error.kind == ErrorKind::InvalidUsage && error.reason.contains("connect first"), "{error}");
    let alone = connect(&address, 1);
    let error = call(&alone, &mut data).unwrap_err();
    assert!(error.kind == ErrorKind::TooFewPeers && error.reason.contains("alone"), "{error}");
}

#[test]
fn tensors_that_cannot_be_a_state_are_named() {
    let (_master, address) = master();
    let crew = crew(&address, 2);
    let (mut a, mut b) = ([1u8], [2u8]);
    let mut twice = SharedState::new(0).tensor("w", &mut a).tensor("w", &mut b);
    let error = crew[0].synchronize_shared_state(&mut twice, POPULAR).unwrap_err();
    assert!(error.kind == ErrorKind::InvalidArgument && error.reason.contains("named \"w\""), "{error}");
    let mut late = SharedState::new(u64::MAX).tensor("w", &mut a);
    let error = crew[0].synchronize_shared_state(&mut late, POPULAR).unwrap_err();
    assert!(error.kind == ErrorKind::InvalidArgument && error.reason.contains("revision"), "{error}");
    // Nothing of it has reached the others.
    let outcomes = synchronize(&crew, &mut models(&[1, 2]), &[(0, POPULAR); 2]);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

/// Two threads of one peer: whoever comes second is refused, and makes the other peer's call instead.
#[test]
fn of_two_calls_at_once_one_is_refused() {
    let (_master, address) = master();
    let crew = crew(&address, 2);
    let mut held = models(&[1, 1]);
    let refusals: Vec<Option<Error>> = each(&[&crew[0], &crew[0]], &mut held, |_, peer, model| {
        let outcome = peer.synchronize_shared_state(&mut state(0, model), POPULAR);
        let refused = outcome.err();
        if refused.is_some() {
            crew[1].synchronize_shared_state(&mut state(0, model), POPULAR).unwrap();
        }
        refused
    });
    let refused: Vec<Error> = refusals.into_iter().flatten().collect();
    assert!(refused.len() == 1 && refused[0].kind == ErrorKind::InvalidUsage, "{refused:?}");
    assert!(refused[0].reason.contains("another thread"), "{refused:?}");
}

#[test]
fn calls_that_can_never_meet_are_named() {
    let (_master, address) = master();
    let crew = crew(&address, 2);
    let outcomes = each(&crew, &mut models(&[1, 2]), |rank, peer, model| {
        if rank == 0 {
            peer.synchronize_shared_state(&mut state(0, model), POPULAR).map(|_| ())
        } else {
            peer.update_topology()
        }
    });
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidUsage);
        assert!(error.reason.contains("can never meet"), "{error}");
    }
    // Nothing is left of it.
    let outcomes = synchronize(&crew, &mut models(&[1, 2]), &[(0, POPULAR); 2]);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}
