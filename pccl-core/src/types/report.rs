//! A run, as its master tells whoever asks.

use std::net::IpAddr;

use super::{EpochInfo, GroupId, PeerId};

/// Answers `Inspect`; so many rows of figures follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunReport {
    pub epoch: EpochInfo,
    /// Connected, and not accepted yet.
    pub peers_pending: u32,
    /// Where the master sees its members.
    pub addresses: Vec<(PeerId, IpAddr)>,
    pub rows: u32,
    /// Rows there are beyond those: an answer is bounded.
    pub rows_left_out: u32,
}

/// What was measured of one member's links; 0 stands for what is not known, or is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FigureRow {
    pub group: GroupId,
    pub peer: PeerId,
    /// Its own link, where that holds up what it sends, or receives, in all.
    pub up_bytes_per_second: u64,
    pub down_bytes_per_second: u64,
    /// To the group's members by rank.
    pub bytes_per_second: Vec<u64>,
    pub rtt_us: Vec<u32>,
    /// Of the oldest of these figures.
    pub age_ms: u64,
}
