//! What a communicator has done so far.

/// Counts since the communicator was made; they only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stats {
    pub ops_reduced: u64,
    pub ops_aborted: u64,
    /// Ended by anything but `Aborted`. Calls that are no operations count nowhere.
    pub ops_failed: u64,
    /// Payload of the operations that were reduced.
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    /// Epochs this peer has been a member of.
    pub epochs: u64,
    pub links_up: u64,
    pub links_closed: u64,
}
