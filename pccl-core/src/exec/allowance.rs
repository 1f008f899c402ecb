//! What may be sent to a peer before it is known to have started the operation.
//!
//! The sender's half of a limit that the receiver enforces (`early`). It never counts less than the receiver does: a
//! contribution counts from the moment it is queued until the peer has shown that it started the operation, and the
//! receiver stops counting when it starts it, which is before it can show anything.

use std::collections::BTreeMap;

use crate::limits::MAX_EAGER_FRAMES_PER_PEER;
use crate::types::OpKey;

/// Of one peer and the present epoch.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    used: BTreeMap<OpKey, usize>,
    bytes: usize,
}

impl Allowance {
    /// Whether the contribution may be sent now; if so, it counts.
    pub fn take(&mut self, key: OpKey, len: usize, limit_bytes: usize) -> bool {
        let free = self.bytes + len <= limit_bytes && self.used.len() < MAX_EAGER_FRAMES_PER_PEER;
        if free {
            self.used.insert(key, len);
            self.bytes += len;
        }
        free
    }

    /// The peer has started this instance, so all earlier ones of its tag are over there.
    pub fn met(&mut self, key: OpKey) {
        if self.used.is_empty() {
            return;
        }
        let first = OpKey { seq: 0, ..key };
        while let Some((&old, &len)) = self.used.range(first..=key).next() {
            self.used.remove(&old);
            self.bytes -= len;
        }
    }
}
