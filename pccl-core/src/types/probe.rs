//! Measuring links: what a master orders, and what a peer reports.

use super::PeerId;

/// One round of measurements, as one peer takes part in it. It sends to some, hears from some, and then reports, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeOrder {
    /// Counts up within a master's life. The frames of this round carry it.
    pub number: u64,
    /// Of `rounds`, from 1 on: for the log.
    pub round: u32,
    pub rounds: u32,
    pub to: Vec<PeerId>,
    pub from: Vec<PeerId>,
}

/// What one peer has found in a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeReport {
    pub number: u64,
    /// Of those it was to hear from.
    pub heard: Vec<Heard>,
    /// Of those it sent to, as far as they answered. None of a round with several at once.
    pub round_trips: Vec<RoundTrip>,
    /// Of those it sent to.
    pub sent: Vec<Sent>,
}

/// What came from a peer, in the later half of the time that it came in: by then a path carries what it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    pub from: PeerId,
    /// 0: too little to tell.
    pub bytes_per_second: u64,
}

/// What went out to a peer, measured in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub to: PeerId,
    pub bytes_per_second: u64,
}

/// The shortest of a few, over links without load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    pub to: PeerId,
    pub rtt_us: u32,
}
