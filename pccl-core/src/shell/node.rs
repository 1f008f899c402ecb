//! A peer without its sockets: the peer's machine and the engine, glued together. The product and the
//! simulator run the same node, each over its own links.

use crate::error::Error;
use crate::exec::Link;
use crate::mem::Buffers;
use crate::proto::peer::Done;
use crate::types::{LinkId, OpDescriptor, PeerId, PhaseCall, Tag, WorkId};
use crate::wire::message::{MasterMessage, PeerAddress, PeerMessage};

/// What a program asks for, with the memory it hands over until the outcome.
#[derive(Debug)]
pub enum Request {
    Connect,
    Phase(PhaseCall),
    AllReduce { tag: Tag, descriptor: OpDescriptor, buffers: Buffers },
    Leave,
}

#[derive(Debug)]
pub enum Input<L: Link> {
    Request {
        work: WorkId,
        request: Request,
    },
    ControlUp,
    ControlLost {
        reason: String,
    },
    Control(MasterMessage),
    /// A data connection whose hellos are exchanged.
    LinkUp {
        link: LinkId,
        peer: PeerId,
        generation: u32,
        dialled: bool,
        io: L,
    },
    DialFailed {
        peer: PeerId,
        generation: u32,
        reason: String,
    },
    /// The link may have become readable or writable.
    LinkReady {
        link: LinkId,
    },
    /// The program has waited for this call for `BLOCKED_REPORT_MS` and will go on waiting.
    Blocked {
        work: WorkId,
    },
}

#[derive(Debug)]
pub enum Output {
    DialMaster,
    HangUp,
    Send(PeerMessage),
    Dial {
        to: PeerAddress,
        connections: u16,
    },
    /// The link was shut down and dropped; whoever watches it may stop.
    LinkClosed {
        link: LinkId,
    },
    /// There are bytes to write and the link did not take them: say `LinkReady` when it is writable.
    WatchWritable {
        link: LinkId,
    },
    /// More can be read at once, but others should have their turn first: say `LinkReady` again soon.
    Again {
        link: LinkId,
    },
    /// The call has ended. No byte of its memory is touched from here on.
    Complete {
        work: WorkId,
        outcome: Result<Done, Error>,
    },
    Log {
        text: String,
    },
}
