//! What must hold in every run, one file per guarantee of the design.

pub mod g1_agreement;
pub mod g2_parity;
pub mod g2_state;
pub mod g3_inputs;
pub mod g4_progress;
pub mod g5_crosstalk;
pub mod g6_newcomers;
pub mod g7_memory;

use std::fmt;

use pccl_core::types::{Epoch, GroupId, Tag};

/// One instance of an operation, by what every member can count for itself: the epoch of its group, and how
/// many verdicts on this tag it has seen in it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance {
    /// Which run, if masters have begun several.
    pub run: u32,
    pub group: GroupId,
    pub since: Epoch,
    pub tag: Tag,
    pub verdicts_before: u32,
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{} of {}, {}", self.tag, self.verdicts_before, self.since, self.group)
    }
}

/// A guarantee that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which guarantee, as the design names it.
    pub guarantee: &'static str,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.guarantee, self.text)
    }
}

pub type Verdict = Result<(), Violation>;

pub fn ensure(holds: bool, guarantee: &'static str, text: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Violation { guarantee, text: text() }) }
}
