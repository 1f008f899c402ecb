//! G6: pending, refused or hostile connections cannot stop, slow or corrupt members.
//!
//! Judged in runs in which only newcomers misbehave.

use pccl_core::error::{Error, ErrorKind};

use super::{Verdict, ensure};

const G6: &str = "G6 harmless newcomers";

/// No call of a well-behaved process may end like this.
pub fn undisturbed(call: &str, error: &Error) -> Verdict {
    ensure(error.kind == ErrorKind::TooFewPeers, G6, || format!("{call} ended with {error}"))
}

/// How long a phase took from the last call on.
pub fn pause(took_us: u64, bound_us: u64) -> Verdict {
    ensure(took_us <= bound_us, G6, || {
        format!("a phase took {} ms, the bound is {} ms", took_us / 1000, bound_us / 1000)
    })
}
