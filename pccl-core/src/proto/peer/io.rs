//! What goes into the peer's machine and what comes out.

use std::sync::Arc;

use crate::error::Error;
use crate::limits;
use crate::types::{
    Election, EpochInfo, FetchFailure, Heard, Needs, Offer, OpDescriptor, OpKey, PeerId, PhaseCall,
    ProbeOrder, ProbeReport, Severity, Source, SyncNumber, Tag, TensorKey, WorkId,
};
use crate::wire::message::{Join, PeerAddress, PeerMessage};

#[derive(Clone, Debug)]
pub struct PeerConfig {
    pub join: Join,
    /// For the whole of reaching the master and hearing its welcome.
    pub connect_timeout_ms: u32,
    /// How long to look for a master that went away.
    pub reconnect_timeout_ms: u32,
    /// To all peers together.
    pub max_data_connections: usize,
}

impl PeerConfig {
    pub fn new(join: Join) -> PeerConfig {
        PeerConfig {
            join,
            connect_timeout_ms: limits::DEFAULT_CONNECT_TIMEOUT_MS,
            reconnect_timeout_ms: limits::DEFAULT_RECONNECT_TIMEOUT_MS,
            max_data_connections: limits::MAX_DATA_CONNECTIONS,
        }
    }
}

/// What a program may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Connect,
    Phase(PhaseCall),
    AllReduce {
        tag: Tag,
        descriptor: OpDescriptor,
    },
    /// Make all peers of the group hold the same tensors. `keys` describes them, in the order of their names.
    Synchronize {
        offer: Offer,
        keys: Arc<[TensorKey]>,
    },
    /// Leave the run. Everything in flight ends with `Aborted` first.
    Leave,
}

/// What a program gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    Connected,
    Updated,
    Optimized,
    PeersPending { peers_pending: u32 },
    Reduced(ReduceInfo),
    Synchronized(SyncInfo),
    Left,
}

/// How an all-reduce went. Byte counts are filled in by whoever moved them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ReduceInfo {
    /// Peers of the group that took part.
    pub group_world_size: u32,
    /// As of the commit, the same at every peer.
    pub peers_pending: u32,
    /// Payload sent and received by this peer for this operation.
    pub tx_bytes: u64,
    pub rx_bytes: u64,
}

/// How a synchronization went. Byte counts are filled in by whoever moved them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SyncInfo {
    /// Of the state that all hold now.
    pub revision: u64,
    /// Content of tensors sent and received by this peer, in whole blocks; 0 where nothing was needed. Sent is what the links
    /// have taken, also what did not arrive or had come from somebody else by then.
    pub tx_bytes: u64,
    pub rx_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The program calls; `work` names the call until its `Complete`.
    Call {
        work: WorkId,
        call: Call,
    },
    /// `DialMaster` worked: the hello is out, the master's welcome will come as a message.
    ControlUp,
    /// `DialMaster` failed, or the connection ended, or what came cannot be decoded.
    ControlLost {
        reason: String,
    },
    Control(crate::wire::message::MasterMessage),
    /// A data connection with `peer` has exchanged its hellos.
    LinkUp {
        peer: PeerId,
        generation: u32,
        dialled: bool,
        /// The least round trip known of the path; 0 if none is.
        rtt_us: u32,
        /// Connections such a path needs.
        pool: u16,
    },
    /// The path to `peer` has turned out to be shorter than `LinkUp` said.
    PathLength {
        peer: PeerId,
        rtt_us: u32,
        pool: u16,
    },
    /// A data connection with `peer` ended without our order, or carried something damaged.
    LinkLost {
        peer: PeerId,
        reason: String,
        others_left: usize,
    },
    DialFailed {
        peer: PeerId,
        generation: u32,
        reason: String,
    },
    /// The whole result of this instance is here.
    OpDone {
        key: OpKey,
    },
    /// The elected content is here. `failed`: it cannot be had, for this reason.
    StateDone {
        number: SyncNumber,
        failed: Option<FetchFailure>,
    },
    /// What came of each peer at best of late.
    Observed(Vec<Heard>),
    /// A round of measurements is over.
    Probed(ProbeReport),
    /// The program has waited for this call for `BLOCKED_REPORT_MS` and will go on waiting. `alone`: no other
    /// thread of it uses this peer, so nothing else is called meanwhile.
    Blocked {
        work: WorkId,
        alone: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make a control connection and say hello; answered with `ControlUp` or `ControlLost`.
    DialMaster,
    /// Close the control connection once everything sent so far is out. No `ControlLost` follows.
    HangUp,
    Send(PeerMessage),
    /// Make so many data connections to this peer; each ends in `LinkUp` or `DialFailed`.
    Dial {
        to: PeerAddress,
        connections: u16,
    },
    /// Close all data connections with this peer and forget it.
    Unlink {
        peer: PeerId,
    },
    /// From here on this epoch holds; nothing of an earlier one of the group may land. Comes before its first
    /// `Start`.
    Epoch(Arc<EpochInfo>),
    /// Begin to move the bytes of `work` as the instance `key`.
    Start {
        work: WorkId,
        key: OpKey,
        descriptor: OpDescriptor,
    },
    /// Move no more bytes of it and restore the input. It may be started again under another key.
    Stop {
        work: WorkId,
        key: OpKey,
    },
    /// The result stands; the memory goes back to the program.
    Finish {
        work: WorkId,
        key: OpKey,
    },
    /// Serve the tensors of `work` to whoever asks, and fetch what it `needs` from the sources; ends in `StateDone` where
    /// something is needed.
    BeginSync {
        work: WorkId,
        election: Arc<Election>,
        needs: Needs,
    },
    /// Another source for the fetch under way.
    AddSource {
        number: SyncNumber,
        source: Source,
    },
    /// Serve and fetch no more; no byte of the tensors is touched from here on. Comes before the `Complete` of every
    /// synchronization, begun or not.
    EndSync {
        work: WorkId,
    },
    /// Take part in this round of measurements, and in no earlier one; ends in `Probed`.
    Probe(ProbeOrder),
    /// The membership is over: forget its epochs. The next one counts anew, maybe under another master.
    Reset,
    Complete {
        work: WorkId,
        outcome: Result<Done, Error>,
    },
    /// For the log: something the user should know.
    Log {
        severity: Severity,
        text: String,
    },
}

/// Whether a data hello fits what the master has told us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Yes,
    /// The master's word about this peer or this generation may still be on its way: ask again later.
    NotYet,
    No,
}
