//! A peer without its sockets: the peer's machine and the engine, glued together. The product and the
//! simulator run the same node, each over its own links.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::node_sync::{SyncRequest, Syncs};
use crate::error::{Error, ErrorKind};
use crate::exec::{self, Engine, EngineConfig, Link, OpStart, OpTraffic};
use crate::mem::Buffers;
use crate::obs::Counters;
use crate::plan::{self, Schedule};
use crate::proto::peer::{self, Admission, Call, Done, Peer, PeerConfig, State};
use crate::types::{
    Epoch, EpochInfo, LinkId, OpDescriptor, OpKey, PeerId, PhaseCall, Rank, Severity, Tag, Time, WorkId,
};
use crate::wire::message::{LinkToken, MasterMessage, PeerAddress, PeerMessage};

/// What a program asks for, with the memory it hands over until the outcome.
#[derive(Debug)]
pub enum Request {
    Connect,
    Phase(PhaseCall),
    AllReduce { tag: Tag, descriptor: OpDescriptor, buffers: Buffers },
    Synchronize(Box<SyncRequest>),
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
        /// The least round trip known of the path, whichever connection showed it; 0 if none is.
        rtt_us: u32,
        /// Connections such a path needs.
        pool: u16,
        io: L,
    },
    /// The path to a peer has turned out to be shorter than `LinkUp` said; for all links there are.
    PathLength {
        peer: PeerId,
        rtt_us: u32,
        pool: u16,
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
    /// The program has waited for this call for `BLOCKED_REPORT_MS` and will go on waiting. `alone`: for
    /// `BLOCKED_ALONE_REPORT_MS`, and no other thread of it ever used this peer, so nothing else is called meanwhile.
    Blocked {
        work: WorkId,
        alone: bool,
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
        severity: Severity,
        text: String,
    },
}

#[derive(Debug)]
pub struct NodeConfig {
    pub peer: PeerConfig,
    pub engine: EngineConfig,
}

/// See the four verbs.
pub struct Node<L: Link> {
    pub(super) peer: Peer,
    pub(super) engine: Engine<L>,
    /// Memory of calls that is not in the engine's hands: between epochs, or on the way in or out.
    resting: BTreeMap<WorkId, Buffers>,
    /// What finished operations moved, until their `Complete`.
    traffic: BTreeMap<WorkId, OpTraffic>,
    /// The schedules the log has told of, in the group's present epoch.
    told: (Epoch, Vec<Schedule>),
    pub(super) syncs: Syncs,
    pub(super) outputs: VecDeque<Output>,
}

impl<L: Link> Node<L> {
    pub fn new(config: NodeConfig, now: Time) -> Node<L> {
        Node {
            peer: Peer::new(config.peer, now),
            engine: Engine::new(config.engine),
            resting: BTreeMap::new(),
            traffic: BTreeMap::new(),
            told: (Epoch(0), Vec::new()),
            syncs: Syncs::default(),
            outputs: VecDeque::new(),
        }
    }

    pub fn handle(&mut self, input: Input<L>, now: Time) {
        match input {
            Input::Request { work, request } => self.on_request(work, request, now),
            Input::ControlUp => self.peer.handle(peer::Input::ControlUp, now),
            Input::ControlLost { reason } => self.peer.handle(peer::Input::ControlLost { reason }, now),
            Input::Control(message) => self.peer.handle(peer::Input::Control(message), now),
            Input::LinkUp { link, peer, generation, dialled, rtt_us, pool, mut io } => {
                // While the hellos were exchanged the master may have changed its mind about this pair.
                if self.peer.expects(peer, generation) {
                    self.engine.add_link(link, peer, rtt_us, io, now);
                    let up = peer::Input::LinkUp { peer, generation, dialled, rtt_us, pool };
                    self.peer.handle(up, now);
                } else {
                    io.shutdown();
                    self.outputs.push_back(Output::LinkClosed { link });
                }
            }
            Input::PathLength { peer, rtt_us, pool } => {
                self.engine.set_round_trip(peer, rtt_us);
                self.peer.handle(peer::Input::PathLength { peer, rtt_us, pool }, now);
            }
            Input::DialFailed { peer, generation, reason } => {
                self.peer.handle(peer::Input::DialFailed { peer, generation, reason }, now);
            }
            Input::LinkReady { link } => self.engine.ready(link, now),
            Input::Blocked { work, alone } => self.peer.handle(peer::Input::Blocked { work, alone }, now),
        }
        self.settle(now);
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub fn next_deadline(&self) -> Option<Time> {
        [self.peer.next_deadline(), self.engine.next_deadline()].into_iter().flatten().min()
    }

    pub fn on_deadline(&mut self, now: Time) {
        self.peer.on_deadline(now);
        self.engine.on_deadline(now);
        self.settle(now);
    }

    /// How long a link may take nothing: the run's silence.
    pub fn set_stall_ms(&mut self, stall_ms: u64) {
        self.engine.set_stall_ms(stall_ms);
    }

    /// Whether a data connection with this hello may be taken. Asked before `Input::LinkUp`.
    pub fn admits(&self, peer: PeerId, generation: u32, token: LinkToken) -> Admission {
        self.peer.admits(peer, generation, token)
    }

    /// What the data hellos of this peer carry.
    pub fn token(&self) -> Option<LinkToken> {
        self.peer.token()
    }

    pub fn id(&self) -> PeerId {
        self.peer.id()
    }

    pub fn state(&self) -> State {
        self.peer.state()
    }

    pub fn epoch(&self) -> Option<&Arc<EpochInfo>> {
        self.peer.epoch()
    }

    pub fn rank(&self) -> Option<Rank> {
        self.peer.rank()
    }

    pub fn rank_of(&self, peer: PeerId) -> Option<Rank> {
        let order = &self.peer.group()?.order;
        order.iter().position(|id| *id == peer).map(|rank| rank as Rank)
    }

    pub fn group_world_size(&self) -> usize {
        self.peer.group().map_or(0, |g| g.order.len())
    }

    /// What the engine keeps for others.
    pub fn kept(&self) -> exec::Kept {
        self.engine.kept()
    }

    pub fn counters(&self) -> &Counters {
        self.engine.counters()
    }

    fn on_request(&mut self, work: WorkId, request: Request, now: Time) {
        let call = match request {
            Request::Connect => Call::Connect,
            Request::Phase(call) => {
                if call == PhaseCall::OptimizeTopology {
                    // Known to the master before this peer is in the call.
                    let observed = self.engine.observed(now);
                    self.peer.handle(peer::Input::Observed(observed), now);
                }
                Call::Phase(call)
            }
            Request::Leave => Call::Leave,
            Request::Synchronize(request) => self.syncs.take_call(work, *request),
            Request::AllReduce { tag, descriptor, buffers } => {
                if buffers.len() as u64 != descriptor.size_bytes() {
                    let reason = format!(
                        "all_reduce of {tag}: {descriptor} does not fit buffers of {} bytes",
                        buffers.len()
                    );
                    let outcome = Err(Error::new(ErrorKind::InvalidArgument, reason));
                    return self.outputs.push_back(Output::Complete { work, outcome });
                }
                self.resting.insert(work, buffers);
                Call::AllReduce { tag, descriptor }
            }
        };
        self.peer.handle(peer::Input::Call { work, call }, now);
    }

    /// Lets machine and engine answer each other until neither has anything to say.
    fn settle(&mut self, now: Time) {
        loop {
            if let Some(output) = self.peer.poll_output() {
                self.on_peer_output(output, now);
            } else if let Some(output) = self.engine.poll_output() {
                self.on_engine_output(output, now);
            } else {
                return;
            }
        }
    }

    fn on_peer_output(&mut self, output: peer::Output, now: Time) {
        match output {
            peer::Output::DialMaster => self.outputs.push_back(Output::DialMaster),
            peer::Output::HangUp => self.outputs.push_back(Output::HangUp),
            peer::Output::Send(message) => self.outputs.push_back(Output::Send(message)),
            peer::Output::Dial { to, connections } => {
                self.outputs.push_back(Output::Dial { to, connections })
            }
            peer::Output::Unlink { peer } => self.engine.unlink(peer, now),
            peer::Output::Reset => {
                self.engine.reset();
                self.syncs.forget_run();
            }
            peer::Output::Epoch(_) => {
                if let Some(group) = self.peer.group() {
                    self.engine.enter_epoch(group.since);
                    self.engine.members(&group.order, now);
                }
            }
            peer::Output::Start { work, key, descriptor } => self.start(work, key, descriptor, now),
            peer::Output::Stop { work, key } => {
                if let Some(buffers) = self.engine.stop(key) {
                    self.resting.insert(work, buffers);
                }
            }
            peer::Output::Finish { work, key } => {
                if let Some((buffers, traffic)) = self.engine.finish(key) {
                    self.resting.insert(work, buffers);
                    self.traffic.insert(work, traffic);
                }
            }
            peer::Output::BeginSync { work, election, needs } => self.begin_sync(work, election, needs, now),
            peer::Output::AddSource { number, source } => self.engine.add_source(number, source, now),
            peer::Output::EndSync { work } => self.end_sync(work),
            peer::Output::Probe(order) => self.engine.probe(order, now),
            peer::Output::Complete { work, outcome } => self.complete(work, outcome),
            peer::Output::Log { severity, text } => self.outputs.push_back(Output::Log { severity, text }),
        }
    }

    fn start(&mut self, work: WorkId, key: OpKey, descriptor: OpDescriptor, now: Time) {
        let (Some(info), Some(group), Some(rank)) = (self.peer.epoch(), self.peer.group(), self.peer.rank())
        else {
            return;
        };
        match plan::plan(group, info, rank, &descriptor) {
            Ok(view) => {
                let (since, told) = &mut self.told;
                if *since != group.since {
                    (*since, *told) = (group.since, Vec::new());
                }
                if !told.contains(&view.schedule)
                    && let Ok((schedule, reason)) = plan::choose(group, info, &descriptor)
                {
                    told.push(schedule);
                    let text = format!("{key} of {descriptor} goes by {schedule}: {reason}");
                    self.outputs.push_back(Output::Log { severity: Severity::Info, text });
                }
                let order = group.order.clone().into();
                if let Some(buffers) = self.resting.remove(&work) {
                    self.engine.start(OpStart { key, order, view, descriptor, buffers }, now);
                }
            }
            // The master lays out no epoch without a schedule. If it did, the operation waits for the next one.
            Err(error) => {
                let text = format!("{key} cannot begin: {error}");
                self.outputs.push_back(Output::Log { severity: Severity::Warn, text })
            }
        }
    }

    fn complete(&mut self, work: WorkId, mut outcome: Result<Done, Error>) {
        self.resting.remove(&work);
        if let (Ok(Done::Reduced(info)), Some(traffic)) = (&mut outcome, self.traffic.remove(&work)) {
            info.tx_bytes = traffic.tx_bytes;
            info.rx_bytes = traffic.rx_bytes;
        }
        let synchronized = match &mut outcome {
            Ok(Done::Synchronized(info)) => Some(info),
            _ => None,
        };
        self.syncs.complete(work, synchronized);
        self.outputs.push_back(Output::Complete { work, outcome });
    }

    fn on_engine_output(&mut self, output: exec::Output, now: Time) {
        match output {
            exec::Output::Done { key } => self.peer.handle(peer::Input::OpDone { key }, now),
            exec::Output::LinkLost { link, peer, reason, others_left } => {
                self.outputs.push_back(Output::LinkClosed { link });
                self.peer.handle(peer::Input::LinkLost { peer, reason, others_left }, now);
            }
            exec::Output::LinkClosed { link } => self.outputs.push_back(Output::LinkClosed { link }),
            exec::Output::WatchWritable { link } => self.outputs.push_back(Output::WatchWritable { link }),
            exec::Output::Again { link } => self.outputs.push_back(Output::Again { link }),
            exec::Output::StateDone { number, failed } => {
                self.peer.handle(peer::Input::StateDone { number, failed }, now);
            }
            exec::Output::Probed(report) => self.peer.handle(peer::Input::Probed(report), now),
            exec::Output::Log { severity, text } => self.outputs.push_back(Output::Log { severity, text }),
        }
    }
}
