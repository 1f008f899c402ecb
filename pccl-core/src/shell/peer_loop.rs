//! A communicator's thread: the node, its sockets, its mailbox and its clock, all in one place, without locks.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::{JoinHandle, spawn_local};

use super::clock::{Clock, Timer};
use super::node::{Input, Node, NodeConfig, Output, Request};
use super::observe::Observed;
use super::pairs::Pair;
use super::peer_links::Watch;
use super::slot::Completer;
use super::status::{Snapshot, Status};
use crate::error::Result;
use crate::limits::{DEFAULT_SILENCE_MS, MAX_LINGER_MS};
use crate::net::control::ControlLink;
use crate::net::door::Door;
use crate::net::link::TcpLink;
use crate::net::options::{DataOptions, set_data_patience};
use crate::proto::peer::{Done, State};
use crate::types::{Epoch, LinkId, PeerId, Severity, Time, WorkId};
use crate::wire::message::MasterMessage;

/// The runtime looks at sockets and timers after so many turns of tasks: a turn of a busy link moves a pump's budget,
/// and heartbeats must not wait for many of them.
const EVENT_INTERVAL: u32 = 2;

/// What user threads tell a communicator's thread.
#[derive(Debug)]
pub enum Command {
    /// The memory in `request` goes before `completer`: whoever hears of an end may use it again.
    Call {
        work: WorkId,
        request: Request,
        completer: Completer,
    },
    /// See `node::Input::Blocked`.
    Blocked {
        work: WorkId,
        alone: bool,
    },
    /// How things stand; answered at once.
    Observe {
        answer: std::sync::mpsc::Sender<Observed>,
    },
    Stop,
}

#[derive(Debug)]
struct Awaited {
    completer: Completer,
    is_operation: bool,
    /// Its bytes go over data connections.
    moves_data: bool,
}

/// What a communicator's thread needs to know.
#[derive(Debug)]
pub struct PeerLoopConfig {
    pub node: NodeConfig,
    /// `host:port`; looked up anew at each attempt.
    pub master: String,
    pub connect_timeout_ms: u32,
    pub data: DataOptions,
    /// Where data connections come in; `None` if this peer only dials.
    pub listener: Option<TcpListener>,
}

pub(super) struct PeerLoop {
    // Dropped first: the memory of operations, before anybody hears that they have ended.
    pub(super) node: RefCell<Node<TcpLink>>,
    works: RefCell<HashMap<WorkId, Awaited>>,
    /// The epoch the node was a member of when the status was last written.
    told: Cell<Option<Epoch>>,
    pub(super) links: RefCell<BTreeMap<LinkId, Rc<Watch>>>,
    pub(super) next_link: Cell<u64>,
    /// One, of the connection whose turn it is.
    pub(super) turns: Semaphore,
    pub(super) control: RefCell<Option<Rc<ControlLink>>>,
    pub(super) control_task: RefCell<Option<JoinHandle<()>>>,
    /// Says its last words on a control connection we have hung up.
    winding_up: RefCell<Option<JoinHandle<()>>>,
    /// The master has said something: parked connections may be welcome now.
    pub(super) news: Notify,
    pub(super) parked: Cell<usize>,
    /// As the master told it; of use for the options of sockets.
    pub(super) silence_ms: Cell<u32>,
    pub(super) master: String,
    pub(super) connect_timeout_ms: u32,
    pub(super) data: DataOptions,
    pub(super) status: Arc<Status>,
    /// Calls under way whose bytes go over data connections.
    pub(super) moving: Cell<usize>,
    /// What is known of the ways to peers.
    pub(super) pairs: RefCell<BTreeMap<PeerId, Pair>>,
    /// Their round trips were looked at again then.
    pub(super) paths_looked_at: Cell<Time>,
    pub(super) paced: Notify,
    pub(super) clock: Clock,
    timer: Timer,
    /// Set while the node works: still set afterwards if it panicked.
    broken: Cell<bool>,
    over: Notify,
}

/// The thread's whole life. `ready` hears whether it could begin.
pub fn run(
    config: PeerLoopConfig,
    mailbox: mpsc::UnboundedReceiver<Command>,
    status: Arc<Status>,
    ready: std::sync::mpsc::Sender<std::result::Result<(), String>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build_local(Default::default())
    {
        Ok(runtime) => runtime,
        Err(error) => {
            // Whoever started this thread waits for the word; if not, there is nobody to tell.
            let _ = ready.send(Err(format!("the system gives no event queue: {error}")));
            return;
        }
    };
    runtime.block_on(async {
        let (peer_loop, door) = match PeerLoop::new(config, status) {
            Ok(made) => made,
            Err(error) => {
                let _ = ready.send(Err(error.to_string()));
                return;
            }
        };
        let _ = ready.send(Ok(()));
        peer_loop.serve(mailbox, door).await;
    });
    // Only a name look-up can still be under way.
    runtime.shutdown_timeout(Duration::from_millis(MAX_LINGER_MS));
}

impl PeerLoop {
    pub(super) fn new(
        config: PeerLoopConfig,
        status: Arc<Status>,
    ) -> std::io::Result<(Rc<PeerLoop>, Option<Door>)> {
        let door = config.listener.map(|listener| Door::new(listener, "data port")).transpose()?;
        let clock = Clock::start();
        let peer_loop = PeerLoop {
            node: RefCell::new(Node::new(config.node, clock.now())),
            works: RefCell::default(),
            told: Cell::new(None),
            links: RefCell::default(),
            next_link: Cell::new(0),
            turns: Semaphore::new(1),
            control: RefCell::default(),
            control_task: RefCell::default(),
            winding_up: RefCell::default(),
            news: Notify::new(),
            parked: Cell::new(0),
            silence_ms: Cell::new(DEFAULT_SILENCE_MS),
            master: config.master,
            connect_timeout_ms: config.connect_timeout_ms,
            data: config.data,
            status,
            moving: Cell::new(0),
            pairs: RefCell::default(),
            paths_looked_at: Cell::new(clock.now()),
            paced: Notify::new(),
            clock,
            timer: Timer::default(),
            broken: Cell::new(false),
            over: Notify::new(),
        };
        Ok((Rc::new(peer_loop), door))
    }

    async fn serve(self: Rc<Self>, mut mailbox: mpsc::UnboundedReceiver<Command>, door: Option<Door>) {
        if let Some(door) = door {
            let (this, log) = (self.clone(), door.log());
            spawn_local(door.serve(move |visitor| this.visit(visitor, &log)));
        }
        spawn_local(self.clone().keep_pace());
        let this = self.clone();
        spawn_local(async move {
            let again = this.clone();
            this.timer.run(this.clock, || again.on_deadline()).await;
        });
        loop {
            let command = tokio::select! {
                command = mailbox.recv() => command,
                () = self.over.notified() => break,
            };
            match command {
                Some(Command::Call { work, request, completer }) => {
                    let is_operation = matches!(request, Request::AllReduce { .. });
                    let moves_data = is_operation || matches!(request, Request::Synchronize(_));
                    self.moving.set(self.moving.get() + usize::from(moves_data));
                    self.works.borrow_mut().insert(work, Awaited { completer, is_operation, moves_data });
                    self.look_at_paths();
                    self.feed(Input::Request { work, request });
                }
                Some(Command::Blocked { work, alone }) => self.feed(Input::Blocked { work, alone }),
                Some(Command::Observe { answer }) => {
                    // Whoever asked may have gone.
                    let _ = answer.send(self.observe());
                }
                Some(Command::Stop) | None => break,
            }
        }
        self.wind_up().await;
    }

    fn hang_up(&self) {
        let task = self.control_task.borrow_mut().take();
        match (self.control.borrow_mut().take(), task) {
            (Some(control), task) => {
                control.flush();
                control.close();
                *self.winding_up.borrow_mut() = task;
            }
            (None, Some(dialling)) => dialling.abort(),
            (None, None) => {}
        }
    }

    /// Last words are said, then every connection ends: also for a forked child that has the sockets too.
    async fn wind_up(&self) {
        if !self.broken.get() {
            self.hang_up();
            let task = self.winding_up.borrow_mut().take();
            if let Some(mut task) = task {
                // It has a limit of its own, but the other end's time is not ours.
                let _ = tokio::time::timeout(Duration::from_millis(MAX_LINGER_MS), &mut task).await;
                task.abort();
            }
        }
        for watch in std::mem::take(&mut *self.links.borrow_mut()).into_values() {
            watch.end();
        }
    }

    /// Gives the node one input and does all it wants done.
    pub(super) fn feed(self: &Rc<Self>, input: Input<TcpLink>) {
        self.with_node(|node, now| node.handle(input, now));
    }

    fn on_deadline(self: &Rc<Self>) {
        self.with_node(|node, now| node.on_deadline(now));
    }

    fn with_node(self: &Rc<Self>, step: impl FnOnce(&mut Node<TcpLink>, Time)) {
        if self.broken.replace(true) {
            return;
        }
        let alarm = Alarm(self);
        step(&mut self.node.borrow_mut(), self.clock.now());
        self.tell_membership(false);
        loop {
            let Some(output) = self.node.borrow_mut().poll_output() else { break };
            self.perform(output);
        }
        self.timer.set(self.node.borrow().next_deadline());
        if let Some(control) = &*self.control.borrow() {
            control.flush();
        }
        drop(alarm);
        self.broken.set(false);
    }

    /// Never feeds the node: what comes of it is fed by a task.
    pub(super) fn perform(self: &Rc<Self>, output: Output) {
        match output {
            Output::DialMaster => self.dial_master(),
            Output::HangUp => self.hang_up(),
            Output::Send(message) => {
                if let Some(control) = &*self.control.borrow() {
                    control.push(|out| crate::wire::encode_peer(&message, out));
                }
            }
            Output::Dial { to, connections } => self.dial(to, connections),
            Output::LinkClosed { link } => self.forget_link(link),
            Output::WatchWritable { link } => self.with_watch(link, |watch| {
                watch.want_writable();
                self.held_up(watch);
            }),
            Output::Again { link } => self.with_watch(link, Watch::want_again),
            Output::Complete { work, outcome } => self.complete(work, outcome),
            Output::Log { severity: Severity::Warn, text } => tracing::warn!("{text}"),
            Output::Log { severity: Severity::Info, text } => tracing::info!("{text}"),
        }
    }

    fn with_watch(&self, link: LinkId, tell: impl FnOnce(&Watch)) {
        if let Some(watch) = self.links.borrow().get(&link) {
            tell(watch);
        }
    }

    fn complete(&self, work: WorkId, outcome: Result<Done>) {
        self.tell_membership(true);
        let Some(awaited) = self.works.borrow_mut().remove(&work) else { return };
        let Awaited { completer, is_operation, moves_data } = awaited;
        self.moving.set(self.moving.get() - usize::from(moves_data));
        if moves_data && self.moving.get() == 0 {
            self.pace_no_more();
        }
        self.status.update(|snapshot| snapshot.note(&outcome, is_operation));
        completer.complete(outcome);
    }

    /// What attributes tell is of the time the last call returned: so it is the same at all peers of the group after
    /// the same call, and a program may branch on it. Only the end of a membership is told at once.
    fn tell_membership(&self, call_returns: bool) {
        let node = self.node.borrow();
        let member = matches!(node.state(), State::Member | State::Searching | State::Resuming);
        let info = node.epoch().filter(|_| member);
        let epoch = info.map(|info| info.epoch);
        let goes_on = epoch.is_some() && self.told.get().is_some();
        if self.told.get() == epoch || (goes_on && !call_returns) {
            return;
        }
        self.told.set(epoch);
        self.status.update(|snapshot| match info {
            Some(info) => {
                snapshot.member = true;
                snapshot.stats.epochs += 1;
                snapshot.epoch = info.epoch;
                snapshot.world = info.world();
                snapshot.rank = node.rank().unwrap_or(0);
                snapshot.group_world_size = node.group_world_size() as u32;
            }
            None => {
                let stats = std::mem::take(&mut snapshot.stats);
                *snapshot = Snapshot { stats, ..Snapshot::default() };
            }
        });
    }

    /// What the shell itself has to know of a message.
    pub(super) fn overhear(&self, message: &MasterMessage) {
        if let MasterMessage::Welcome { silence_ms, .. } = message {
            self.silence_ms.set(*silence_ms);
            // Connections are made before the master has said it, or under a master that said another.
            if let Some(control) = &*self.control.borrow() {
                control.set_silence(*silence_ms);
            }
            for watch in self.links.borrow().values() {
                set_data_patience(&watch.stream, *silence_ms);
            }
            self.node.borrow_mut().set_stall_ms(u64::from(*silence_ms));
        }
    }
}

/// Ends the loop if the node panics: the callers that wait must hear of it.
struct Alarm<'a>(&'a PeerLoop);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.over.notify_one();
        }
    }
}
