//! The threads behind a `Communicator` and a `Master`, as their owners hold them.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::master_loop;
use super::node::{NodeConfig, Request};
use super::observe::Observed;
use super::peer_loop::{self, Command, PeerLoopConfig};
use super::slot::{Completer, Slot};
use super::status::{Snapshot, Status};
use super::watch;
use crate::config::{MasterSettings, PeerSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::exec::EngineConfig;
use crate::limits::MAX_DATA_CONNECTIONS;
use crate::mem::Budget;
use crate::net::bind::{bind, listen_address};
use crate::net::congestion::Congestion;
use crate::net::options::{DataOptions, check_send_buffer};
use crate::net::pool::affordable;
use crate::proto::master::MasterConfig;
use crate::proto::peer::PeerConfig;
use crate::types::{GroupId, PeerId, WorkId};
use crate::wire::message::{Incarnation, Join, LinkToken};

/// A running communicator.
#[derive(Debug)]
pub struct PeerThread {
    mailbox: mpsc::UnboundedSender<Command>,
    status: Arc<Status>,
    next_work: AtomicU64,
    /// It has left and ends, or has ended: it was told to.
    stopped: Arc<AtomicBool>,
    /// `None` once it was stopped.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl PeerThread {
    /// Binds the data port and starts the thread; connects nowhere yet.
    pub fn start(settings: &PeerSettings) -> Result<PeerThread> {
        let listener = data_listener(settings)?;
        let data = data_options(settings).map_err(invalid_argument)?;
        let config = PeerLoopConfig {
            data,
            node: node_config(settings, listener.as_ref())?,
            master: settings.master.clone(),
            connect_timeout_ms: settings.connect_timeout_ms,
            listener,
        };
        let (mailbox, commands) = mpsc::unbounded_channel();
        let status = Arc::new(Status::default());
        let (ready, begun) = std_mpsc::channel();
        let shared = status.clone();
        let thread = std::thread::Builder::new()
            .name("pccl-peer".into())
            .spawn(move || peer_loop::run(config, commands, shared, ready))
            .map_err(|error| internal(format!("the system gives no thread: {error}")))?;
        match begun.recv() {
            Ok(Ok(())) => {
                let thread = Mutex::new(Some(thread));
                let (next_work, stopped) = (AtomicU64::new(0), Arc::default());
                Ok(PeerThread { mailbox, status, next_work, stopped, thread })
            }
            Ok(Err(reason)) => Err(internal(reason)),
            Err(_) => Err(internal("the communicator's thread ended at once".into())),
        }
    }

    /// Hands over a call; its outcome comes in the slot, whatever happens.
    pub fn call(&self, request: Request) -> (WorkId, Arc<Slot>) {
        let (completer, slot): (Completer, Arc<Slot>) = Slot::new(self.stopped.clone());
        let work = WorkId(self.next_work.fetch_add(1, Ordering::Relaxed));
        // If the thread is gone the command is dropped, and with it the completer, which says so.
        let _ = self.mailbox.send(Command::Call { work, request, completer });
        (work, slot)
    }

    /// For the calls of a `Work` that lives on its own.
    pub fn mailbox(&self) -> mpsc::UnboundedSender<Command> {
        self.mailbox.clone()
    }

    pub fn snapshot(&self) -> Snapshot {
        self.status.get()
    }

    /// Waits for the thread's answer, which takes no longer than a turn of a link; `None` if it is gone.
    pub fn observe(&self) -> Option<Observed> {
        let (answer, observed) = std_mpsc::channel();
        self.mailbox.send(Command::Observe { answer }).ok()?;
        observed.recv().ok()
    }

    /// Leaves the run, if in one, and ends the thread; whoever waits in a call hears of it. Returns when no socket and no
    /// thread is left, or whoever watches this thread's waits has given up: then it ends by itself. Who comes second waits
    /// as long.
    pub fn stop(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(thread) = thread.take() else { return };
        let (_, left) = self.call(Request::Leave);
        // At once, unless the thread is in trouble, which those that call are to hear of.
        if !left.wait().is_err_and(|error| error.kind == ErrorKind::Internal) {
            self.stopped.store(true, Ordering::Release);
        }
        let _ = self.mailbox.send(Command::Stop);
        if watch::until_ended(|| thread.is_finished()).is_ok() {
            // A panic was reported to those who waited.
            let _ = thread.join();
        }
    }
}

/// A running master.
#[derive(Debug)]
pub struct MasterThread {
    address: SocketAddr,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<JoinHandle<std::result::Result<(), String>>>>,
}

impl MasterThread {
    /// Binds the port and starts the thread.
    pub fn start(settings: &MasterSettings) -> Result<MasterThread> {
        let listen = settings.listen.clone();
        let wanted = aside_lookup(move || listen_address(&listen))?.map_err(invalid_argument)?;
        let listener = bind(wanted).map_err(|reason| Error::new(ErrorKind::InvalidUsage, reason))?;
        let address = listener.local_addr().map_err(|error| internal(error.to_string()))?;
        if !address.ip().is_loopback() {
            tracing::warn!(
                "listening on {address} without encryption: whoever can reach this port can join the run; \
                 use a network you trust"
            );
        }
        let config = master_config(settings)?;
        let (stop, stopped) = oneshot::channel();
        let (ready, begun) = std_mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("pccl-master".into())
            .spawn(move || master_loop::run(config, listener, stopped, ready))
            .map_err(|error| internal(format!("the system gives no thread: {error}")))?;
        match begun.recv() {
            Ok(Ok(())) => {
                Ok(MasterThread { address, stop: Mutex::new(Some(stop)), thread: Mutex::new(Some(thread)) })
            }
            Ok(Err(reason)) => Err(internal(reason)),
            Err(_) => Err(internal("the master's thread ended at once".into())),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn interrupt(&self) {
        // Dropping the sender is the word.
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Waits until the thread has ended, or whoever watches this thread's waits has given up. Whoever comes second waits
    /// as long.
    pub fn join(&self) -> Result<()> {
        // Who cannot look waits for one who joins.
        watch::until_ended(|| {
            self.thread.try_lock().is_ok_and(|thread| thread.as_ref().is_none_or(JoinHandle::is_finished))
        })?;
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        match thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(reason))) => Err(internal(reason)),
            Some(Err(_)) => Err(internal("the master's thread panicked: this is a bug".into())),
        }
    }
}

fn data_options(settings: &PeerSettings) -> std::result::Result<DataOptions, String> {
    check_send_buffer(settings.tcp_send_buffer_bytes)?;
    Ok(DataOptions {
        congestion: Congestion::new(&settings.tcp_congestion)?,
        notsent_lowat_bytes: settings.tcp_notsent_lowat_bytes,
        send_buffer_bytes: settings.tcp_send_buffer_bytes,
        pacing: settings.tcp_pacing,
    })
}

fn data_listener(settings: &PeerSettings) -> Result<Option<TcpListener>> {
    if !settings.inbound {
        return Ok(None);
    }
    let unlistened = |reason| Error::new(ErrorKind::PeerConnectionFailed, format!("data port: {reason}"));
    bind(settings.listen).map(Some).map_err(unlistened)
}

fn node_config(settings: &PeerSettings, listener: Option<&TcpListener>) -> Result<NodeConfig> {
    let data_port = match listener {
        Some(listener) => listener.local_addr().map_err(|error| internal(error.to_string()))?.port(),
        None => 0,
    };
    let announced = settings.announce.clone().map(announced_address).transpose()?;
    let join = Join {
        peer: PeerId(random()?),
        group: GroupId(settings.group),
        data_port,
        announced: announced.map(|address| (address.ip(), address.port())),
        pool: settings.pool,
    };
    let peer = PeerConfig {
        connect_timeout_ms: settings.connect_timeout_ms,
        reconnect_timeout_ms: settings.reconnect_timeout_ms,
        max_data_connections: affordable(MAX_DATA_CONNECTIONS),
        ..PeerConfig::new(join)
    };
    let engine = EngineConfig { budget: Budget::of_process(), ..EngineConfig::default() };
    Ok(NodeConfig { peer, engine })
}

fn announced_address(text: String) -> Result<SocketAddr> {
    let wrong = invalid_argument(format!("announce={text:?} has no address: write host:port"));
    let found = aside_lookup(move || text.to_socket_addrs().ok().and_then(|mut found| found.next()))?;
    found.ok_or(wrong)
}

/// The system's resolver may take long.
fn aside_lookup<T: Send + 'static>(find: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    watch::aside("pccl-lookup", find)
}

fn master_config(settings: &MasterSettings) -> Result<MasterConfig> {
    let incarnation = Incarnation(u64::from_le_bytes(random()?));
    let token = LinkToken(u128::from_le_bytes(random()?));
    Ok(MasterConfig {
        heartbeat_ms: settings.heartbeat_in_time_ms(),
        silence_ms: settings.silence_ms,
        link_timeout_ms: settings.link_timeout_ms,
        prepare_timeout_ms: settings.prepare_timeout_ms,
        resume_grace_ms: settings.resume_grace_ms,
        schedule: settings.schedule,
        piece_bytes: settings.piece_bytes,
        ..MasterConfig::new(incarnation, token)
    })
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| internal(format!("the system gives no random numbers: {error}")))?;
    Ok(bytes)
}

fn internal(reason: String) -> Error {
    Error::new(ErrorKind::Internal, reason)
}

fn invalid_argument(reason: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, reason)
}
