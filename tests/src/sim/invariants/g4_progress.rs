//! G4: once nothing goes wrong any more, everybody goes on within bounded time; and no call ends in an error
//! that its documentation does not name.

use pccl_core::error::{Error, ErrorKind};

use super::{Verdict, ensure};

const G4: &str = "G4 progress";

/// The errors a call that was made in the documented order may end with.
pub fn outcome_is_documented(call: &str, error: &Error, obedient: bool) -> Verdict {
    use ErrorKind::*;
    let always = matches!(
        error.kind,
        Aborted
            | TooFewPeers
            | MasterConnectionFailed
            | PeerConnectionFailed
            | UpdateTopologyFailed
            | TopologyOptimizationFailed
    );
    let unruly = !obedient && matches!(error.kind, InvalidUsage | InvalidArgument);
    ensure(always || unruly, G4, || format!("{call} ended with {error}"))
}

/// A wrong call must be turned down at once, with the right kind of error.
pub fn turned_down(call: &str, outcome: Option<&Error>, expected: ErrorKind) -> Verdict {
    ensure(outcome.is_some_and(|error| error.kind == expected), G4, || {
        format!("the wrong call {call} should end with {expected:?}, but: {outcome:?}")
    })
}

pub fn everybody(stuck: Vec<String>, within_us: u64, to_do: &str) -> Verdict {
    ensure(stuck.is_empty(), G4, || {
        format!(
            "{} s after the faults were over, not all did {to_do}: {}",
            within_us / 1_000_000,
            stuck.join("; ")
        )
    })
}

/// A connection that is dead, and that somebody keeps although what it sent is not answered.
pub fn dead_link(kept: Option<String>) -> Verdict {
    ensure(kept.is_none(), G4, || {
        format!("{}, over which nothing has come for several silence times", kept.unwrap_or_default())
    })
}

/// A world that never comes to rest.
pub fn events(count: u64, most: u64) -> Verdict {
    ensure(count <= most, G4, || format!("more than {most} events: something goes round in circles"))
}
