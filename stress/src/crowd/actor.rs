//! A peer that is nothing but its control link: it speaks the protocol, and claims data links it does not have.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pccl_core::limits::MAX_CONTROL_FRAME_BYTES;
use pccl_core::types::{DType, Epoch, GroupId, OpDescriptor, OpKey, PeerId, PhaseCall, ReduceOp, Tag};
use pccl_core::wire::hello::{HELLO_ANSWER_BYTES, Hello, HelloAnswer, HelloStatus};
use pccl_core::wire::message::{Join, MasterMessage, PeerMessage, Verdict};
use pccl_core::wire::{FrameAssembler, decode_master, encode_peer};

const TAG: Tag = Tag(1);
const GROUP: GroupId = GroupId(0);
/// What every pair claims to have measured.
const RTT_US: u32 = 100;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub struct Actor {
    stream: TcpStream,
    assembler: FrameAssembler,
    out: Vec<u8>,
    /// As this peer knows the run: it counts for itself.
    since: Epoch,
    pub world_size: usize,
    phase_seq: u64,
    in_phase: bool,
    /// Commits of the present epoch.
    pub commits: u32,
}

impl Actor {
    /// Dials, and says that it wants to join.
    pub fn join(master: SocketAddr, number: u32) -> io::Result<Actor> {
        let mut stream = TcpStream::connect(master)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.write_all(&Hello::Control.encode())?;
        let mut answer = [0; HELLO_ANSWER_BYTES];
        stream.read_exact(&mut answer)?;
        let status = HelloAnswer::decode(&answer).map_err(io::Error::other)?.status;
        if status != HelloStatus::Ok {
            return Err(io::Error::other(format!("the master said {status}")));
        }
        stream.set_nonblocking(true)?;
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let mut actor = Actor {
            stream,
            assembler: FrameAssembler::new(MAX_CONTROL_FRAME_BYTES),
            out: Vec::new(),
            since: Epoch(0),
            world_size: 0,
            phase_seq: 0,
            in_phase: false,
            commits: 0,
        };
        let join = Join { peer: PeerId(id), group: GROUP, data_port: 1, announced: None, pool: 1 };
        actor.say(&PeerMessage::Join(join))?;
        Ok(actor)
    }

    pub fn is_member(&self) -> bool {
        self.world_size > 0
    }

    /// The outcome of `update` is here.
    pub fn is_idle(&self) -> bool {
        !self.in_phase
    }

    pub fn announce(&mut self) -> io::Result<()> {
        let descriptor = OpDescriptor::plain(1024, DType::F32, ReduceOp::Sum);
        self.say(&PeerMessage::Announce { key: self.key(), descriptor })
    }

    pub fn done(&mut self) -> io::Result<()> {
        self.say(&PeerMessage::Done { key: self.key() })
    }

    pub fn update(&mut self) -> io::Result<()> {
        self.in_phase = true;
        self.say(&PeerMessage::Phase { seq: self.phase_seq, call: PhaseCall::UpdateTopology })
    }

    pub fn heartbeat(&mut self) -> io::Result<()> {
        self.say(&PeerMessage::Heartbeat)
    }

    fn key(&self) -> OpKey {
        OpKey { epoch: self.since, tag: TAG, seq: self.commits }
    }

    fn say(&mut self, message: &PeerMessage) -> io::Result<()> {
        encode_peer(message, &mut self.out).map_err(io::Error::other)?;
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(bytes) => drop(self.out.drain(..bytes)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hears what has come, and answers all of it in one write. Whether anything had.
    pub fn hear(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 64 << 10];
        let read = match self.stream.read(&mut bytes) {
            Ok(0) => return Err(io::Error::other("the master ended the connection")),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.flush()?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let mut left = &bytes[..read];
        while let Some(body) = self.assembler.next_body(&mut left).map_err(io::Error::other)? {
            let message = decode_master(&body).map_err(io::Error::other)?;
            self.answer(message)?;
        }
        self.flush()?;
        Ok(true)
    }

    fn answer(&mut self, message: MasterMessage) -> io::Result<()> {
        let mut answer = |message| encode_peer(&message, &mut self.out).map_err(io::Error::other);
        match message {
            MasterMessage::LinkTo { peers } => {
                for to in peers {
                    let (peer, generation) = (to.peer, to.generation);
                    answer(PeerMessage::LinkUp { peer, generation, rtt_us: RTT_US })?;
                }
            }
            MasterMessage::Prepare { epoch } => answer(PeerMessage::Prepared { epoch })?,
            MasterMessage::NewEpoch { info, .. } => {
                if !self.is_member() {
                    self.phase_seq = info.phase_seq;
                }
                self.world_size = info.world_size();
                let since = info.group(GROUP).map_or(self.since, |group| group.since);
                if since != self.since {
                    (self.since, self.commits) = (since, 0);
                }
            }
            MasterMessage::PhaseDone { .. } => {
                self.phase_seq += 1;
                self.in_phase = false;
            }
            MasterMessage::Verdict { key, verdict: Verdict::Committed { .. } } if key == self.key() => {
                self.commits += 1;
            }
            MasterMessage::Verdict { key, verdict } => {
                return Err(io::Error::other(format!("{key}: {verdict:?}")));
            }
            MasterMessage::Refused { text, .. } | MasterMessage::Kicked { text } => {
                return Err(io::Error::other(text));
            }
            MasterMessage::SyncDescribe
            | MasterMessage::SyncElected { .. }
            | MasterMessage::SyncSource { .. }
            | MasterMessage::SyncEnded { .. } => {
                return Err(io::Error::other("told of a synchronization that nobody is in"));
            }
            MasterMessage::Probe { .. } => {
                return Err(io::Error::other("told to measure in a call that nobody makes"));
            }
            MasterMessage::Run { .. }
            | MasterMessage::Figures { .. }
            | MasterMessage::Welcome { .. }
            | MasterMessage::Pending
            | MasterMessage::Unlink { .. }
            | MasterMessage::Heartbeat => {}
        }
        Ok(())
    }
}
