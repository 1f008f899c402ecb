//! What goes into the master's machine and what comes out.

use std::fmt;
use std::net::IpAddr;

use super::election::{Older, names};
use super::measure::{PlanJob, PlanResult};
use crate::limits;
use crate::types::{Epoch, GroupId, PeerId, ScheduleChoice, SyncNumber};
use crate::wire::message::{Incarnation, LinkToken, MasterMessage, PeerMessage};

/// One control connection of the master; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

#[derive(Clone, Debug)]
pub struct MasterConfig {
    /// Random, new at every start.
    pub incarnation: Incarnation,
    /// Random, new at every start.
    pub token: LinkToken,
    pub heartbeat_ms: u32,
    pub silence_ms: u32,
    pub link_timeout_ms: u32,
    pub prepare_timeout_ms: u32,
    pub resume_grace_ms: u32,
    pub schedule: ScheduleChoice,
    pub piece_bytes: u32,
    /// What the search for a plan may take while programs wait.
    pub plan_steps: u64,
    /// A bug to plant, for the proof that the simulator finds it.
    #[cfg(feature = "seeded-bugs")]
    pub commit_early: bool,
}

impl MasterConfig {
    pub fn new(incarnation: Incarnation, token: LinkToken) -> MasterConfig {
        MasterConfig {
            incarnation,
            token,
            heartbeat_ms: limits::DEFAULT_HEARTBEAT_MS,
            silence_ms: limits::DEFAULT_SILENCE_MS,
            link_timeout_ms: limits::DEFAULT_LINK_TIMEOUT_MS,
            prepare_timeout_ms: limits::DEFAULT_PREPARE_TIMEOUT_MS,
            resume_grace_ms: limits::DEFAULT_RESUME_GRACE_MS,
            schedule: ScheduleChoice::Auto,
            piece_bytes: limits::DEFAULT_PIECE_BYTES,
            plan_steps: limits::PLAN_STEPS,
            #[cfg(feature = "seeded-bugs")]
            commit_early: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A connection has said a valid hello for the control link.
    Connected {
        conn: ConnId,
        from: IpAddr,
    },
    Message {
        conn: ConnId,
        message: PeerMessage,
    },
    /// The connection ended, or sent what cannot be decoded. Also comes for connections closed by order.
    Closed {
        conn: ConnId,
        reason: String,
    },
    /// A `Plan` was made.
    Planned(PlanResult),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Send {
        conn: ConnId,
        message: MasterMessage,
    },
    /// Close it once everything sent so far is out.
    Close {
        conn: ConnId,
    },
    /// To be run; what it gives is an input. May take seconds: not where others wait.
    Plan(PlanJob),
    /// For the log.
    Event(Event),
}

/// A decision with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    PeerPending {
        peer: PeerId,
        from: IpAddr,
    },
    PeerRefused {
        peer: PeerId,
        reason: String,
    },
    PeerLeft {
        peer: PeerId,
    },
    PeerLost {
        peer: PeerId,
        reason: String,
    },
    PeerKicked {
        peer: PeerId,
        reason: String,
    },
    /// A transition that is not in the table: a bug of ours.
    Illegal {
        peer: PeerId,
        reason: String,
    },
    PairTrouble {
        a: PeerId,
        b: PeerId,
        reason: String,
    },
    EpochBegan {
        epoch: Epoch,
        world_size: usize,
        aborted: usize,
        reason: String,
    },
    OpMismatch {
        reason: String,
    },
    Deadlock {
        reason: String,
    },
    /// Who won in a group's synchronization, by how many votes of those with one, and who receives it.
    StateElected {
        group: GroupId,
        number: SyncNumber,
        revision: u64,
        winner: PeerId,
        votes: usize,
        voters: usize,
        receivers: Vec<PeerId>,
        note: Option<Older>,
    },
    /// Who holds up the others, for so long by now.
    StateAwaited {
        group: GroupId,
        number: SyncNumber,
        awaited: Vec<PeerId>,
        seconds: u64,
    },
    StateSynced {
        group: GroupId,
        number: SyncNumber,
        revision: u64,
    },
    StateNotSynced {
        group: GroupId,
        number: SyncNumber,
        reason: String,
    },
    /// What a group's links are worth, now that they were measured.
    Optimized {
        group: GroupId,
        text: String,
    },
    Recovering {
        epoch: Epoch,
        expected: usize,
    },
    Recovered {
        epoch: Epoch,
        present: usize,
        missing: usize,
    },
    Stranger {
        conn: ConnId,
        reason: String,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::PeerPending { peer, from } => write!(f, "peer {peer} from {from} is pending"),
            Event::PeerRefused { peer, reason } => write!(f, "peer {peer} refused: {reason}"),
            Event::PeerLeft { peer } => write!(f, "peer {peer} left"),
            Event::PeerLost { peer, reason } => write!(f, "peer {peer} lost: {reason}"),
            Event::PeerKicked { peer, reason } => write!(f, "peer {peer} kicked: {reason}"),
            Event::Illegal { peer, reason } => write!(f, "a bug, peer {peer}: {reason}"),
            Event::PairTrouble { a, b, reason } => write!(f, "link {a} – {b}: {reason}"),
            Event::EpochBegan { epoch, world_size, aborted, reason } => {
                write!(f, "{epoch} began with {world_size} peers, {aborted} operations aborted: {reason}")
            }
            Event::OpMismatch { reason } | Event::Deadlock { reason } => f.write_str(reason),
            Event::StateElected { group, number, revision, winner, votes, voters, receivers, note } => {
                write!(
                    f,
                    "{number} of {group}: revision {revision} of peer {winner} wins, {votes} of {voters} votes; "
                )?;
                match receivers.len() {
                    0 => f.write_str("all hold it")?,
                    n => write!(f, "{} receive{} it", names(receivers), if n == 1 { "s" } else { "" })?,
                }
                note.iter().try_for_each(|note| write!(f, "; {note}"))
            }
            Event::StateAwaited { group, number, awaited, seconds } => {
                write!(
                    f,
                    "{number} of {group}: for {seconds} s the others have waited for {}",
                    names(awaited)
                )
            }
            Event::StateSynced { group, number, revision } => {
                write!(f, "{number} of {group}: all hold revision {revision}")
            }
            Event::StateNotSynced { group, number, reason } => {
                write!(f, "{number} of {group} has ended without a result: {reason}")
            }
            Event::Optimized { group, text } => write!(f, "{group} was measured: {text}"),
            Event::Recovering { epoch, expected } => {
                write!(f, "found the run of {epoch}, waiting for its {expected} peers")
            }
            Event::Recovered { epoch, present, missing } => {
                write!(f, "took over the run of {epoch}: {present} peers are back, {missing} missing")
            }
            Event::Stranger { conn, reason } => write!(f, "connection {}: {reason}", conn.0),
        }
    }
}
