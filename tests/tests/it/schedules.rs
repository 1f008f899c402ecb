//! Which schedule operations go by, as the log and the bytes between the peers tell. In processes of their own,
//! which have the environment and the log to themselves.

use pccl_core::api::{ErrorKind, Master};

use crate::harness::Process;
use crate::journal::Journal;
use crate::proxy::{Crew, Wire};

const SMALL: usize = 1000;
const LARGE: usize = 200_000;

fn crew_of_four(wire: Wire) -> Crew {
    Crew::new(4, wire, |master| master)
}

/// Pairs that have carried payload.
fn busy_pairs(wire: &Wire) -> usize {
    let pairs = (0..4).flat_map(|a| (a + 1..4).map(move |b| (a, b)));
    pairs.filter(|(a, b)| wire.payload(wire.peer(*a), wire.peer(*b)) > 0).count()
}

pub fn forced(choice: &str) {
    let journal = Journal::begin();
    let crew = crew_of_four(Wire::default());
    crew.reduce(LARGE, 1, true);
    let large = busy_pairs(&crew.wire);
    crew.reduce(SMALL, 2, false);
    let all = busy_pairs(&crew.wire);
    let told = |schedule: &str, why: &str| journal.count(&["goes by", schedule, why]);
    match choice {
        "ring" => {
            assert_eq!((large, all), (4, 4), "a ring of four has four neighbours");
            assert_eq!(told("by ring", "the master's setting"), 4, "once a peer");
        }
        "mesh" => {
            assert_eq!((large, all), (6, 6));
            assert_eq!(told("by mesh", "the master's setting"), 4);
        }
        _ => {
            // Over what the system takes for long paths, large ones go straight as well.
            let far = told("by mesh", "a round trip");
            assert_eq!(told("by ring", "bandwidth counts") + far, 4);
            assert_eq!((large, all), (if far == 0 { 4 } else { 6 }, 6), "small ones go straight");
            assert_eq!(told("by small", "all of it at once"), 4);
        }
    }
    assert_eq!(journal.count(&["have no link"]), 0);
}

pub fn there_is_no_such_schedule() {
    let error = Master::builder("127.0.0.1:0").build().unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    for part in ["PCCL_SCHEDULE", "star", "auto, ring, mesh and packed"] {
        assert!(error.reason.contains(part), "{error}");
    }
}

pub fn a_pair_has_no_link(choice: &str) {
    let journal = Journal::begin();
    let wire = Wire::default();
    wire.refuse(1, 3);
    let crew = crew_of_four(wire.clone());
    assert!(wire.refusals() >= 1);
    let (a, b) = (wire.peer(1), wire.peer(3));
    for (tag, len) in [SMALL, LARGE].into_iter().enumerate() {
        assert_eq!(crew.reduce(len, tag as u64, tag == 0), 0, "no link, no abort");
    }
    assert_eq!((wire.payload(a, b), busy_pairs(&wire)), (0, 4));
    let (a, b) = (&a.to_string()[..], &b.to_string()[..]);
    if choice == "ring" {
        assert_eq!(journal.count(&["have no link"]), 0, "the order is one in which the ring closes");
        return;
    }
    // The master says it at the epoch's beginning, each peer when it first makes use of it.
    let line = journal.line(&["WARN", "group 0: no mesh, as ranks", "have no link", a, b, ": ring"]);
    let epoch = line.split("WARN").nth(1).unwrap().split("group").next().unwrap();
    assert_eq!(journal.count(&["WARN", epoch, "have no link"]), 1, "once an epoch and group");
    assert_eq!(journal.count(&["goes by ring: no mesh, as ranks", "have no link"]), 4);
}

#[test]
fn the_masters_environment_decides_how_operations_go() {
    for choice in ["ring", "mesh", "auto"] {
        assert!(
            Process::start_where("schedule", choice, &[("PCCL_SCHEDULE", choice)]).succeeds(),
            "{choice}"
        );
    }
}

#[test]
fn an_impossible_schedule_in_the_environment_is_refused_with_what_is_possible() {
    assert!(Process::start_where("no-such-schedule", "-", &[("PCCL_SCHEDULE", "star")]).succeeds());
}

#[test]
fn where_a_pair_has_no_link_the_mesh_falls_back_to_the_ring_and_the_log_says_so() {
    for choice in ["ring", "mesh", "auto"] {
        assert!(Process::start_where("no-link", choice, &[("PCCL_SCHEDULE", choice)]).succeeds(), "{choice}");
    }
}
