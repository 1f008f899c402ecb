//! What a communicator has done so far, and over what.

use super::Counters;

/// Counts since the communicator was made, which only grow, and its links as they are now.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Stats {
    pub ops_reduced: u64,
    pub ops_aborted: u64,
    /// Ended by anything but `Aborted`. Calls that are no operations count nowhere.
    pub ops_failed: u64,
    /// Synchronizations of shared state that succeeded.
    pub syncs: u64,
    /// Payload of the operations that were reduced, and content of tensors that travelled in synchronizations.
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    /// Epochs this peer has been a member of.
    pub epochs: u64,
    pub links_up: u64,
    pub links_closed: u64,
    pub counters: Counters,
    /// One for each peer there are data connections with.
    pub links: Vec<LinkStats>,
}

/// The data connections with one peer.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LinkStats {
    /// The peer's id as the log has it.
    pub peer: String,
    /// Its rank, if it is in our group.
    pub rank: Option<u16>,
    pub connections: u32,
    /// Of all of them; with commas between, if they differ. Empty where the system does not tell.
    pub congestion: String,
    /// The least that any of them has shown: that of the path without load. 0 if unknown.
    pub rtt_us: u32,
    /// As the system estimates it now, queues included: the least of the connections. 0 if unknown.
    pub rtt_now_us: u32,
    /// Unsent bytes that a connection's system takes before it says that it is full (`TCP_NOTSENT_LOWAT`), as in force: the most of
    /// the connections, as the express of a near pair has less. 0 where the system does not tell.
    pub notsent_lowat_bytes: u32,
    /// Send buffer of a connection as it is now, tuned by the system or set (`SO_SNDBUF`): the least of the connections.
    pub send_buffer_bytes: u32,
    /// Bytes a second to which they are limited at this moment, all together (`SO_MAX_PACING_RATE`); `None`: they are not.
    pub pace_bytes_per_s: Option<u64>,
    /// Segments sent again.
    pub retransmitted: u64,
    /// All that these connections have carried, framing included.
    pub tx_bytes: u64,
    pub rx_bytes: u64,
}
