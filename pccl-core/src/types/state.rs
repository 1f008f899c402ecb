//! The values of a shared state: named tensors, their content hashes, and what an election says of them.

use std::fmt;

use super::{DType, PeerId};

/// 128-bit hash of content. Tells different contents apart; no defence against somebody who wants two contents to
/// have the same one (ADR 12).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Digest(pub [u8; 16]);

impl fmt::Display for Digest {
    /// The first four bytes: enough to compare two log lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}")
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Numbers the synchronizations of a run; the master counts. 0: none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SyncNumber(pub u64);

impl fmt::Display for SyncNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sync #{}", self.0)
    }
}

/// What a peer lets happen to its tensors; the values are those of the C API and of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SyncStrategy {
    /// The content most peers hold wins, and replaces every other. If one peer says so, all must.
    EnforcePopular = 0,
    /// Receives what others hold; has no vote.
    ReceiveOnly = 1,
    /// Its content must win; it never receives.
    SendOnly = 2,
}

impl SyncStrategy {
    pub const ALL: [SyncStrategy; 3] =
        [SyncStrategy::EnforcePopular, SyncStrategy::ReceiveOnly, SyncStrategy::SendOnly];

    pub fn from_code(code: u8) -> Option<SyncStrategy> {
        SyncStrategy::ALL.get(usize::from(code)).copied()
    }

    pub const fn name(self) -> &'static str {
        match self {
            SyncStrategy::EnforcePopular => "enforce-popular",
            SyncStrategy::ReceiveOnly => "receive-only",
            SyncStrategy::SendOnly => "send-only",
        }
    }
}

impl fmt::Display for SyncStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor as all peers must describe it. Everywhere in the order of names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorKey {
    pub name: String,
    pub dtype: DType,
    /// Elements; may be 0.
    pub count: u64,
    /// Its content may differ between peers: it has no vote, and goes to outdated peers only.
    pub may_differ: bool,
}

impl fmt::Display for TensorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let differ = if self.may_differ { ", may differ" } else { "" };
        write!(f, "{:?} ({} × {}{differ})", self.name, self.count, self.dtype)
    }
}

/// What a peer brings to a synchronization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    pub revision: u64,
    pub strategy: SyncStrategy,
    /// A transfer ended half-way here, and this is what it left: no vote, whatever the strategy.
    pub left_behind: bool,
    pub tensors: u32,
    pub size_bytes: u64,
    /// Of names, types, counts and flags of all tensors.
    pub keys: Digest,
    /// Of the tensors that must not differ.
    pub content: Digest,
    /// Of all tensors.
    pub full: Digest,
}

/// A peer that holds the elected content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub peer: PeerId,
    /// Also that of the tensors that may differ.
    pub full: bool,
}

/// What the master tells everybody in the call; who receives what follows from it (`Offer::needs`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Election {
    pub number: SyncNumber,
    /// Everybody's afterwards.
    pub revision: u64,
    pub content: Digest,
    pub full: Digest,
    /// Whose content it is: the lowest rank that brought it.
    pub winner: PeerId,
    pub sources: Vec<Source>,
}

/// Which tensors a peer still needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    Nothing,
    /// Those that must not differ.
    Content,
    /// The ones that may differ as well: its revision is outdated, or a broken transfer has left a mixture.
    All,
}

impl Offer {
    /// What a peer with this offer lacks of what was elected. Computed by master and peer alike.
    pub fn needs(&self, revision: u64, content: Digest, full: Digest) -> Needs {
        // What a broken transfer left may be a mixture in the tensors that may differ, too.
        if (self.revision < revision || self.left_behind) && self.full != full {
            Needs::All
        } else if self.content != content {
            Needs::Content
        } else {
            Needs::Nothing
        }
    }
}

/// Why a peer cannot have what was elected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchFailure {
    /// Who had it is gone, and some of it had come: the next call begins with what can be had.
    BrokenOff { text: String },
    /// All in its reach were asked, and nobody is left who sends it.
    NoSource { text: String },
    /// It cannot be held there, whoever sends it.
    NotHere { text: String },
}

impl fmt::Display for FetchFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (FetchFailure::BrokenOff { text }
        | FetchFailure::NoSource { text }
        | FetchFailure::NotHere { text }) = self;
        f.write_str(text)
    }
}

/// How a synchronization ended, the same at everybody in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncOutcome {
    /// All hold the elected content, which is `revision` now.
    Synchronized { revision: u64 },
    /// Nobody has a vote; the text says why.
    NothingOffered { text: String },
    /// It could not be finished; calling again goes on where it stood.
    Aborted { text: String },
    /// Waits that can never meet; the text says who called what.
    Deadlocked { text: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_follows_from_what_was_offered() {
        let [same, other] = [Digest([1; 16]), Digest([2; 16])];
        let needs = |revision, left_behind, content, full| {
            let strategy = SyncStrategy::EnforcePopular;
            let (tensors, size_bytes, keys) = (1, 1, same);
            let offer = Offer { revision, strategy, left_behind, tensors, size_bytes, keys, content, full };
            offer.needs(5, same, same)
        };
        assert_eq!(needs(5, false, same, same), Needs::Nothing);
        assert_eq!(needs(4, false, same, same), Needs::Nothing);
        assert_eq!(needs(5, false, same, other), Needs::Nothing, "its own may differ");
        assert_eq!(needs(5, false, other, other), Needs::Content);
        assert_eq!(needs(4, false, same, other), Needs::All);
        assert_eq!(needs(6, false, same, other), Needs::Nothing, "receive-only, and not outdated");
        assert_eq!(needs(6, false, other, other), Needs::Content);
        assert_eq!(needs(5, true, same, other), Needs::All, "what may differ may be a mixture");
        assert_eq!(needs(5, true, same, same), Needs::Nothing);
    }
}
