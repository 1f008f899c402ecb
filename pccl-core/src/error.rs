//! The errors a user meets: one table from kind to C code; the text says what, where and what to do.

use std::fmt;

/// What went wrong, as a type. The codes are those of the C API and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum ErrorKind {
    NotInitialized = 1,
    Internal = 2,
    InvalidArgument = 3,
    InvalidUsage = 4,
    TooFewPeers = 5,
    MasterConnectionFailed = 6,
    PeerConnectionFailed = 7,
    /// The operation was aborted because membership changed under it; inputs are intact, call again.
    Aborted = 8,
    NoSharedStateAvailable = 9,
    PendingAsyncOps = 10,
    UpdateTopologyFailed = 11,
    TopologyOptimizationFailed = 12,
}

impl ErrorKind {
    pub fn code(self) -> i32 {
        self as i32
    }

    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::NotInitialized => "not initialized",
            ErrorKind::Internal => "internal error",
            ErrorKind::InvalidArgument => "invalid argument",
            ErrorKind::InvalidUsage => "invalid usage",
            ErrorKind::TooFewPeers => "too few peers",
            ErrorKind::MasterConnectionFailed => "master connection failed",
            ErrorKind::PeerConnectionFailed => "peer connection failed",
            ErrorKind::Aborted => "aborted",
            ErrorKind::NoSharedStateAvailable => "no shared state available",
            ErrorKind::PendingAsyncOps => "asynchronous operations pending",
            ErrorKind::UpdateTopologyFailed => "update topology failed",
            ErrorKind::TopologyOptimizationFailed => "topology optimization failed",
        }
    }
}

/// An error with its reason in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    pub kind: ErrorKind,
    /// Names the peer, the operation or the address, and what to do next.
    pub reason: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.reason)
    }
}

impl Error {
    pub fn new(kind: ErrorKind, reason: impl Into<String>) -> Error {
        Error { kind, reason: reason.into() }
    }
}

pub type Result<T> = std::result::Result<T, Error>;
