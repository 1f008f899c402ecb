//! What can happen in a world.

use pccl_core::types::WorkId;

use super::pipe::Side;
use super::scenario::Slot;

/// Index of a process in the world; never reused.
pub type ProcessId = usize;

/// Where a control message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    ToMaster = 0,
    ToPeer = 1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    NodeTimer {
        process: ProcessId,
    },
    AppWake {
        process: ProcessId,
    },
    /// The program has waited for this call for a second.
    StillWaiting {
        process: ProcessId,
        work: WorkId,
    },
    Resume {
        process: ProcessId,
    },
    Spawn {
        slot: Slot,
    },

    /// Bytes have arrived for this side.
    Arrival {
        conn: u32,
        side: Side,
    },
    /// The node's end of a connection may be readable or writable.
    Ready {
        conn: u32,
        side: Side,
    },
    /// What this side's process has put off may go out.
    LetGo {
        conn: u32,
        side: Side,
    },
    /// The other side's end has been shut, and this is known here now.
    Ended {
        conn: u32,
        side: Side,
        clean: bool,
    },
    /// A held connection is given up, if it is still the same hold.
    GiveUp {
        conn: u32,
        hold: u32,
    },
    DialArrives {
        dial: usize,
    },
    DialAnswered {
        dial: usize,
    },
    DialExpires {
        dial: usize,
    },

    Control {
        link: usize,
        lane: Lane,
    },
    ControlDialArrives {
        link: usize,
    },
    ControlGiveUp {
        link: usize,
        hold: u32,
    },
    MasterTimer,
    /// The master is free for the next message.
    MasterTurn,
    /// A search for a plan, begun by the master with this number, is over.
    MasterHasPlan {
        master: u32,
    },
    MasterThaws,
    MasterStarts,
    HostileStep {
        hostile: usize,
    },

    Fault {
        index: usize,
    },
    HealPair {
        a: Slot,
        b: Slot,
    },
    HealLink {
        conn: u32,
    },
    HealControl {
        slot: Slot,
    },
    /// Faults are over.
    Calm,
    /// By now everybody must have made progress.
    ProgressDue,
    /// By now everybody must have left.
    LeavingDue,
    /// Everything that was to be closed must be closed by now.
    CleanDue,
}

impl Event {
    /// Whose process has to be running for this; others happen in the network or at the master.
    pub fn process(&self) -> Option<ProcessId> {
        match self {
            Event::NodeTimer { process } | Event::AppWake { process } => Some(*process),
            Event::StillWaiting { process, .. } => Some(*process),
            _ => None,
        }
    }
}
