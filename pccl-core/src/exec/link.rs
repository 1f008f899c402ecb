//! The door between bytes and whoever carries them.

use std::io::{IoSlice, IoSliceMut};

/// What became of one attempt to move bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkIo {
    /// So many bytes moved, at least one.
    Moved(usize),
    /// Nothing now; the owner of the link says when it is worth trying again.
    Blocked,
    /// The link has ended, for this reason. No later attempt will do better.
    Closed(String),
}

/// What the other end's system says of the bytes it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// Some were sent and not acknowledged.
    pub unacked: bool,
    /// Some were not even sent: it has no room for them, or too many are on their way.
    pub unsent: bool,
    /// How long ago it last said anything.
    pub quiet_ms: u64,
}

impl Answers {
    /// It has all bytes that the link took.
    pub fn has_all(self) -> bool {
        !self.unacked && !self.unsent
    }
}

/// A full-duplex stream of bytes to one peer that never blocks: a socket in the product, a pipe of few bytes
/// in the simulator.
pub trait Link {
    /// Reads into the given places in order; none of them is empty.
    fn try_read(&mut self, places: &mut [IoSliceMut<'_>]) -> LinkIo;
    /// Copies from the given places in order; what is taken may be overwritten afterwards.
    fn try_write(&mut self, places: &[IoSlice<'_>]) -> LinkIo;
    /// `None`, always, where the system does not tell.
    fn answers(&self) -> Option<Answers> {
        None
    }
    /// Where this link stands among those of its pair; both ends say the same. `None` if nobody can tell.
    fn order(&self) -> Option<u32> {
        None
    }
    /// From now on only little may be on its way that was not read: so what is sent next arrives soon. Asked of a fresh link; false
    /// if that is not to be had.
    fn hold_little(&mut self) -> bool {
        false
    }
    /// Undoes `hold_little`.
    fn hold_as_tuned(&mut self) {}
    /// Ends both directions at once. Bytes under way may be lost.
    fn shutdown(&mut self);
}
