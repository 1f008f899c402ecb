//! What can be said about a communicator or a master before it is made.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Communicator, Master};
use crate::config::{MasterSettings, PeerSettings, Settings, variables_without_effect};
use crate::error::Result;
use crate::types::ScheduleChoice;

/// Settings of a communicator to be. `Display` prints them all, with their meaning. The environment
/// (`PCCL_POOL` and so on) overrides them in `build`.
#[derive(Clone, Debug, Default)]
pub struct CommunicatorBuilder {
    settings: PeerSettings,
}

impl CommunicatorBuilder {
    /// For the run of the master at `host:port`.
    pub fn new(master: &str) -> CommunicatorBuilder {
        CommunicatorBuilder { settings: PeerSettings { master: master.into(), ..PeerSettings::default() } }
    }

    /// The peer group: collectives span a group. Default 0.
    pub fn group(mut self, group: u32) -> Self {
        self.settings.group = group;
        self
    }

    /// Data connections of a pair. Default 0: by its round trip, congestion control and measured rate, 8 to 64.
    pub fn pool(mut self, connections: u16) -> Self {
        self.settings.pool = connections;
        self
    }

    /// Where data connections come in. Default 0.0.0.0 and any free port.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.settings.listen = address;
        self
    }

    /// Where others reach this peer, if not where the master sees it come from. Default: not announced.
    pub fn announce(mut self, host: &str, port: u16) -> Self {
        let host =
            if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.into() };
        self.settings.announce = Some(format!("{host}:{port}"));
        self
    }

    /// This peer listens nowhere and only dials, as behind a NAT. Default: it listens.
    pub fn no_inbound(mut self) -> Self {
        self.settings.inbound = false;
        self
    }

    /// For reaching the master and hearing its welcome. Default 5 s.
    pub fn connect_timeout_ms(mut self, ms: u32) -> Self {
        self.settings.connect_timeout_ms = ms;
        self
    }

    /// How long to look for a master that went away. Default 60 s.
    pub fn reconnect_timeout_ms(mut self, ms: u32) -> Self {
        self.settings.reconnect_timeout_ms = ms;
        self
    }

    /// Congestion control of data connections, as `"reno"`; `connect` fails if the system does not offer it to this
    /// process. Default `"auto"`: `bbr` on wide-area paths where it may be chosen, else the host's own.
    pub fn tcp_congestion(mut self, name: &str) -> Self {
        self.settings.tcp_congestion = name.into();
        self
    }

    /// Threads that hash a shared state. Default 0: one for each core, 8 at most.
    pub fn hash_threads(mut self, threads: u32) -> Self {
        self.settings.hash_threads = threads;
        self
    }

    /// Any setting by its key, as `("pool", "4")`. `InvalidArgument` names what is possible.
    pub fn set(mut self, key: &str, value: &str) -> Result<Self> {
        self.settings.set(key, value)?;
        Ok(self)
    }

    /// Checks the settings and takes over what the environment says. No thread, no socket yet.
    pub fn build(self) -> Result<Communicator> {
        let mut settings = self.settings;
        override_by_environment(&mut settings)?;
        // What was set directly passes the same checks as what was set by key.
        settings.recheck()?;
        Ok(Communicator::new(settings))
    }
}

impl fmt::Display for CommunicatorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

/// Settings of a master to be. `Display` prints them all, with their meaning. The environment
/// (`PCCL_SCHEDULE` and so on) overrides them in `build`.
#[derive(Clone, Debug, Default)]
pub struct MasterBuilder {
    settings: MasterSettings,
}

impl MasterBuilder {
    /// To listen on `host:port`; port 0 means any free one.
    pub fn new(listen: &str) -> MasterBuilder {
        MasterBuilder { settings: MasterSettings { listen: listen.into(), ..MasterSettings::default() } }
    }

    /// Which schedules the run may use. Default: chosen by size and links.
    pub fn schedule(mut self, schedule: ScheduleChoice) -> Self {
        self.settings.schedule = schedule;
        self
    }

    /// Largest piece of a chunk, a multiple of 8. Default 256 KiB.
    pub fn piece_bytes(mut self, bytes: u32) -> Self {
        self.settings.piece_bytes = bytes;
        self
    }

    /// Interval of heartbeats; a quarter of the silence time at most. Default 500 ms.
    pub fn heartbeat_ms(mut self, ms: u32) -> Self {
        self.settings.heartbeat_ms = ms;
        self
    }

    /// A peer silent for so long is dead. Default 3 s.
    pub fn silence_ms(mut self, ms: u32) -> Self {
        self.settings.silence_ms = ms;
        self
    }

    /// How long linking a newcomer, or re-linking a pair, may take. Default 5 s.
    pub fn link_timeout_ms(mut self, ms: u32) -> Self {
        self.settings.link_timeout_ms = ms;
        self
    }

    /// How long a newcomer may take to answer a prepare. Default 500 ms.
    pub fn prepare_timeout_ms(mut self, ms: u32) -> Self {
        self.settings.prepare_timeout_ms = ms;
        self
    }

    /// How long a restarted master waits for the peers of the run it finds. Default 10 s.
    pub fn resume_grace_ms(mut self, ms: u32) -> Self {
        self.settings.resume_grace_ms = ms;
        self
    }

    /// Any setting by its key, as `("schedule", "ring")`. `InvalidArgument` names what is possible.
    pub fn set(mut self, key: &str, value: &str) -> Result<Self> {
        self.settings.set(key, value)?;
        Ok(self)
    }

    /// Checks the settings and takes over what the environment says. No thread, no socket yet.
    pub fn build(self) -> Result<Master> {
        let mut settings = self.settings;
        override_by_environment(&mut settings)?;
        settings.recheck()?;
        Ok(Master::new(settings))
    }
}

impl fmt::Display for MasterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

/// The environment has the last word. Of what it says in vain the log tells once.
fn override_by_environment(settings: &mut impl Settings) -> Result<()> {
    // No lock: a forked child would wait for a thread of its parent.
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        for line in variables_without_effect(|variable| std::env::var_os(variable).is_some()) {
            tracing::warn!("{line}");
        }
    }
    settings.override_by_environment()
}
