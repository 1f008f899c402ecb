//! The control messages, as values. `docs/PROTOCOL.md` has the conversation, `control.rs` the bytes.

use std::net::{IpAddr, SocketAddr};

use crate::types::{
    Election, Epoch, EpochInfo, FetchFailure, FigureRow, GroupId, Heard, Offer, OpDescriptor, OpKey, PeerId,
    PhaseCall, ProbeOrder, ProbeReport, RunReport, Source, SyncNumber, SyncOutcome, Tag, TensorKey,
    WorldSizes,
};

/// Chosen at random by a master when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub u64);

/// Chosen by the master of a run's first epoch; outlives that master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub u64);

/// Proves on a data link that the dialler was told about the run by its master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkToken(pub u128);

/// Where a peer may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    pub peer: PeerId,
    /// How often this pair has been linked anew. Data hellos carry it: connections of an older generation are
    /// closed, those of a newer one wait until the master's word has come here too.
    pub generation: u32,
    /// To be tried in order; at most `MAX_PEER_ADDRESSES`, possibly none (a peer that only dials).
    pub addresses: Vec<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    pub peer: PeerId,
    pub group: GroupId,
    /// The port that data links come to; 0 if nobody can dial this peer.
    pub data_port: u16,
    /// Where others reach this peer, if that is not where the master sees it.
    pub announced: Option<(IpAddr, u16)>,
    pub pool: u16,
}

/// What became of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All hold the result.
    Committed { world: WorldSizes, peers_pending: u32 },
    /// The peers do not agree on what the operation is; the text has the descriptions.
    Mismatched { text: String },
    /// Waits that can never meet; the text says who called what.
    Deadlocked { text: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PhaseOutcome {
    /// `update_topology`: the epoch message, if there is a new epoch, came before this one.
    Updated,
    Pending {
        peers_pending: u32,
    },
    /// Waits that can never meet; the text says who called what.
    Deadlocked {
        text: String,
    },
    /// `optimize_topology`: the epoch message, if there is a new epoch, came before this one.
    Optimized,
    /// Nothing could be measured, or nobody is left to measure with; the text says why.
    NotOptimized {
        text: String,
    },
}

/// An operation a resuming peer has in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumedOp {
    pub key: OpKey,
    pub descriptor: OpDescriptor,
    pub done: bool,
}

/// A pair as one of its ends knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumedLink {
    pub peer: PeerId,
    pub generation: u32,
    /// 0 if unknown.
    pub rtt_us: u32,
}

/// A synchronization a resuming peer is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumedSync {
    pub offer: Offer,
    /// The number of the election and the revision elected, once the master had held it.
    pub elected: Option<(SyncNumber, u64)>,
    /// The elected content is here.
    pub done: bool,
}

/// What a peer knows, told to a master that has forgotten it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    pub join: Join,
    pub run: RunId,
    /// The master this peer last spoke with.
    pub incarnation: Incarnation,
    pub epoch: EpochInfo,
    /// The epoch of the own group before the present one; 0 if this peer knew none.
    pub since_before: Epoch,
    /// The instances of `since_before` that the present one aborted.
    pub aborted: Vec<(Tag, u32)>,
    pub ops: Vec<ResumedOp>,
    /// The latest verdicts of this epoch, and of the one before.
    pub verdicts: Vec<(OpKey, Verdict)>,
    /// Phase outcomes seen so far, counted from the run's beginning.
    pub phase_seq: u64,
    /// A phase call without its outcome.
    pub phase: Option<PhaseCall>,
    /// The outcome of phase `phase_seq` − 1, if this peer saw it.
    pub phase_last: Option<PhaseOutcome>,
    /// The highest number heard of.
    pub sync_number: SyncNumber,
    /// The call under way, if there is one.
    pub sync: Option<ResumedSync>,
    /// The outcome of the last one of this group that this peer saw: a restarted master may need it for those who missed it.
    pub sync_last: Option<(SyncNumber, SyncOutcome)>,
    /// The last one that succeeded, and its revision: what the next revision has to be follows from it.
    pub synced: Option<(SyncNumber, u64)>,
    /// Peers this one has been told to link with. `LinkDown` follows for those whose
    /// link is not there, or has lost something since the group's epoch began.
    pub linked: Vec<ResumedLink>,
}

/// Peer to master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    Join(Join),
    Resume(Box<Resume>),
    /// The first data link to this peer is up, or its round trip has turned out to be shorter, by another power of two.
    LinkUp {
        peer: PeerId,
        generation: u32,
        /// Round trip as measured; 0 if it could not be.
        rtt_us: u32,
    },
    /// No data link to this peer can be made from here.
    LinkFailed {
        peer: PeerId,
        generation: u32,
        reason: String,
    },
    /// A data link to this peer was lost, or what came over it was damaged.
    LinkDown {
        peer: PeerId,
        generation: u32,
        reason: String,
    },
    /// A newcomer's answer to `Prepare`.
    Prepared {
        epoch: Epoch,
    },
    Phase {
        seq: u64,
        call: PhaseCall,
    },
    Announce {
        key: OpKey,
        descriptor: OpDescriptor,
    },
    /// The whole result is here.
    Done {
        key: OpKey,
    },
    /// The program has waited long for this operation. `alone`: it calls nothing else meanwhile.
    Blocked {
        key: OpKey,
        alone: bool,
    },
    /// The program is in `synchronize_shared_state`.
    SyncOffer {
        offer: Offer,
    },
    /// The answer to `SyncDescribe`: the tensors from index `first` on, in as many messages as it takes.
    SyncKeys {
        first: u32,
        last: bool,
        keys: Vec<TensorKey>,
    },
    /// The elected content is here. `failed`: it cannot be had, for this reason.
    SyncDone {
        number: SyncNumber,
        failed: Option<FetchFailure>,
    },
    /// What came of each peer at best of late, in operations or whatever else: before a call of `optimize_topology`.
    Observed {
        heard: Vec<Heard>,
    },
    /// The answer to `Probe`.
    Probed {
        report: ProbeReport,
    },
    /// Before a join, and instead of one: what is this run?
    Inspect,
    Heartbeat,
    Leave,
}

/// Why an epoch began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EpochCause {
    Admitted,
    /// Somebody is no longer there; the text says who and why.
    Lost {
        text: String,
    },
    /// A pair's data link; the text says which and why.
    Relinked {
        text: String,
    },
}

/// Master to peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterMessage {
    /// The answer to a hello.
    Welcome {
        incarnation: Incarnation,
        run: RunId,
        token: LinkToken,
        heartbeat_ms: u32,
        silence_ms: u32,
    },
    /// The connection ends; connecting again without a change is of no use if `fatal`.
    Refused {
        fatal: bool,
        text: String,
    },
    /// The join was taken down; the peer waits for the others to agree.
    Pending,
    /// Make data links to these peers (they are told the same). Where the generation is newer than the one
    /// known here, the data links of before are closed first.
    LinkTo {
        peers: Vec<PeerAddress>,
    },
    /// This peer is no longer part of the run: close its data links.
    Unlink {
        peer: PeerId,
    },
    /// To newcomers: they would be in this epoch.
    Prepare {
        epoch: Epoch,
    },
    /// From here on `info` holds. Where the receiver's group has a new `since`, `aborted` lists the instances
    /// of the old one that end here; every other one in flight is announced again.
    NewEpoch {
        info: EpochInfo,
        aborted: Vec<(Tag, u32)>,
        cause: EpochCause,
    },
    PhaseDone {
        seq: u64,
        call: PhaseCall,
        outcome: PhaseOutcome,
    },
    Verdict {
        key: OpKey,
        verdict: Verdict,
    },
    /// The tensors of some peers are not those of the others: tell them, so that the difference can be named.
    SyncDescribe,
    /// Everybody of the group is in the call, and this is what they shall hold.
    SyncElected {
        election: Box<Election>,
    },
    /// Another peer holds the elected content now: to those who can reach none of the others.
    SyncSource {
        number: SyncNumber,
        source: Source,
    },
    /// The call returns.
    SyncEnded {
        number: SyncNumber,
        outcome: SyncOutcome,
    },
    /// Measure these links. An earlier order is over.
    Probe {
        order: ProbeOrder,
    },
    /// The answer to `Inspect`.
    Run {
        report: Box<RunReport>,
    },
    /// Follows `Run`, as often as that says; then the connection ends.
    Figures {
        row: FigureRow,
    },
    /// The peer is out of the run, for this reason. The connection ends.
    Kicked {
        text: String,
    },
    Heartbeat,
}
