//! What does not depend on the weather.

/// Since the engine was made. Bytes are payload and framing where links are meant, payload elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Attempts to read from links, those that found nothing included.
    pub reads: u64,
    pub writes: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    /// Payload copied from memory to memory: inputs saved and restored, and the payload of a group of one.
    pub bytes_copied: u64,
    /// Payload combined with what was there.
    pub bytes_reduced: u64,
    /// Payload of contributions that came ahead of their turn, and waited in a window.
    pub bytes_parked: u64,
    pub pieces_sent: u64,
    pub pieces_received: u64,
    pub grants_sent: u64,
    pub grants_received: u64,
    /// Whole contributions sent, or received, without a grant.
    pub eager_sent: u64,
    pub eager_received: u64,
    /// Segments that an abort turned into filler while they were under way.
    pub voids_sent: u64,
    pub voids_received: u64,
    /// Frames of operations and epochs that are over, dropped.
    pub stale_frames: u64,
    pub links_lost: u64,
    /// Content of shared states sent, and received and found sound, in whole blocks.
    pub state_bytes_sent: u64,
    pub state_bytes_received: u64,
    /// Blocks that were not what they should be.
    pub state_blocks_refused: u64,
}
