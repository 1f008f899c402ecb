//! Settings, their defaults, and the environment variables that override them.
//!
//! Each setting has a key. A program sets it through a builder or by its key; whoever starts the program has
//! the last word: the environment variable `PCCL_<KEY>`, where there is one, wins.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::types::ScheduleChoice;

/// No line of a log or an error has its value.
const RUN_KEY: &str = "run_key";
/// What an optional setting reads while it is not set.
const NOT_SET: &str = "-";

/// Environment variables of PCCL 1.0 that are accepted, and why they change nothing here.
const WITHOUT_EFFECT: [(&str, &str); 3] = [
    (
        "PCCL_NUM_BENCHMARK_CONNECTIONS",
        "links are measured over their data connections; PCCL_POOL says how many",
    ),
    (
        "PCCL_MAX_CONCURRENT_COLLECTIVE_OPS",
        "operations under way need no threads, so 4096 of them may be in flight",
    ),
    (
        "PCCL_MULTIPLEX_CHUNK_SIZE",
        "what travels is cut alike at all peers, as the master says: its PCCL_PIECE_BYTES",
    ),
];

/// A line for the log for each variable that somebody has set in vain.
pub fn variables_without_effect(look_up: impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
    let set = WITHOUT_EFFECT.into_iter().filter(move |(variable, _)| look_up(variable));
    set.map(|(variable, why)| format!("environment variable {variable} has no effect: {why}"))
}

/// A setting that can be named in text.
pub struct Key<S: 'static> {
    pub name: &'static str,
    pub help: &'static str,
    pub get: fn(&S) -> String,
    set: fn(&mut S, &str) -> std::result::Result<(), String>,
}

impl<S> Key<S> {
    /// The environment variable that overrides this setting.
    pub fn variable(&self) -> String {
        format!("PCCL_{}", self.name.to_uppercase())
    }
}

/// A set of settings that can be named in text.
pub trait Settings: Sized + 'static {
    const KEYS: &'static [Key<Self>];

    /// Sets one by its key. An unknown key or an impossible value is `InvalidArgument`, with what is possible.
    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let Some(found) = Self::KEYS.iter().find(|k| k.name == key) else {
            let known: Vec<&str> = Self::KEYS.iter().map(|k| k.name).collect();
            let reason = format!("there is no setting {key:?}; there are {}", known.join(", "));
            return Err(Error::new(ErrorKind::InvalidArgument, reason));
        };
        let shown = if key == RUN_KEY { "…" } else { value };
        (found.set)(self, value.trim())
            .map_err(|why| Error::new(ErrorKind::InvalidArgument, format!("setting {key}={shown:?}: {why}")))
    }

    /// Checks what was put into the fields directly.
    fn recheck(&mut self) -> Result<()> {
        for key in Self::KEYS {
            let value = (key.get)(self);
            if value != NOT_SET {
                self.set(key.name, &value)?;
            }
        }
        Ok(())
    }

    /// Takes over what the environment says. An impossible value is `InvalidArgument` and names the variable.
    fn override_by_environment(&mut self) -> Result<()> {
        self.override_by(|variable| std::env::var_os(variable))
    }

    #[doc(hidden)]
    fn override_by(&mut self, look_up: impl Fn(&str) -> Option<OsString>) -> Result<()> {
        if look_up("PCCL_RUN_KEY").is_some_and(|key| !key.is_empty()) {
            let reason = "PCCL_RUN_KEY is set, but this version cannot encrypt: it would run in the open; \
                          unset it, and run on a network you trust";
            return Err(Error::new(ErrorKind::InvalidUsage, reason));
        }
        for key in Self::KEYS.iter().filter(|key| key.name != RUN_KEY) {
            let variable = key.variable();
            if let Some(value) = look_up(&variable) {
                let text = value.to_str().ok_or_else(|| "is no UTF-8".to_string());
                text.and_then(|text| (key.set)(self, text.trim())).map_err(|why| {
                    Error::new(
                        ErrorKind::InvalidArgument,
                        format!("environment variable {variable}={value:?}: {why}"),
                    )
                })?;
            }
        }
        Ok(())
    }

    /// One line a setting: key, value, meaning.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for key in Self::KEYS {
            writeln!(f, "{:<22} {:<16} {}", key.name, (key.get)(self), key.help)?;
        }
        Ok(())
    }
}

/// What a communicator can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// `host:port` of the master.
    pub master: String,
    pub group: u32,
    pub pool: u16,
    pub listen: SocketAddr,
    /// `host:port` to be told to others, if they cannot use the address the master sees.
    pub announce: Option<String>,
    pub inbound: bool,
    pub connect_timeout_ms: u32,
    pub reconnect_timeout_ms: u32,
    pub tcp_congestion: String,
    pub tcp_notsent_lowat_bytes: u32,
    pub tcp_send_buffer_bytes: u32,
    pub tcp_pacing: bool,
    pub hash_threads: u32,
}

impl Default for PeerSettings {
    fn default() -> PeerSettings {
        PeerSettings {
            master: "127.0.0.1:48148".into(),
            group: 0,
            pool: 0,
            listen: SocketAddr::from(([0, 0, 0, 0], 0)),
            announce: None,
            inbound: true,
            connect_timeout_ms: limits::DEFAULT_CONNECT_TIMEOUT_MS,
            reconnect_timeout_ms: limits::DEFAULT_RECONNECT_TIMEOUT_MS,
            tcp_congestion: "auto".into(),
            tcp_notsent_lowat_bytes: limits::DEFAULT_NOTSENT_LOWAT_BYTES,
            tcp_send_buffer_bytes: 0,
            tcp_pacing: true,
            hash_threads: 0,
        }
    }
}

impl Settings for PeerSettings {
    const KEYS: &'static [Key<PeerSettings>] = &[
        Key {
            name: "master",
            help: "host:port of the master",
            get: |s| s.master.clone(),
            set: |s, v| host_and_port(v).map(|()| s.master = v.into()),
        },
        Key {
            name: "group",
            help: "the peer group: collectives span a group",
            get: |s| s.group.to_string(),
            set: |s, v| number(v, 0, u32::MAX).map(|v| s.group = v),
        },
        Key {
            name: "pool",
            help: "data connections of a pair, 1 to 64; 0: by its round trip, congestion control and measured rate, 8 to 64",
            get: |s| s.pool.to_string(),
            set: |s, v| number(v, 0, limits::MAX_POOL_CONNECTIONS).map(|v| s.pool = v),
        },
        Key {
            name: "listen",
            help: "ip:port that data connections come to; port 0: any free one",
            get: |s| s.listen.to_string(),
            set: |s, v| {
                s.listen = v.parse().map_err(|_| "write ip:port, as 0.0.0.0:48150".to_string())?;
                Ok(())
            },
        },
        Key {
            name: "announce",
            help: "host:port where others reach this peer, if it is not what the master sees",
            get: |s| s.announce.clone().unwrap_or_else(|| NOT_SET.into()),
            set: |s, v| host_and_port(v).map(|()| s.announce = Some(v.into())),
        },
        Key {
            name: "inbound",
            help: "whether others can dial this peer: 0 if it only dials",
            get: |s| u8::from(s.inbound).to_string(),
            set: |s, v| switch(v).map(|v| s.inbound = v),
        },
        Key {
            name: "connect_timeout_ms",
            help: "for reaching the master and hearing its welcome",
            get: |s| s.connect_timeout_ms.to_string(),
            set: |s, v| number(v, 1, limits::MAX_TIMEOUT_MS).map(|v| s.connect_timeout_ms = v),
        },
        Key {
            name: "reconnect_timeout_ms",
            help: "how long to look for a master that went away",
            get: |s| s.reconnect_timeout_ms.to_string(),
            set: |s, v| number(v, 0, limits::MAX_TIMEOUT_MS).map(|v| s.reconnect_timeout_ms = v),
        },
        Key {
            name: "tcp_congestion",
            help: "congestion control of data connections; auto: bbr on wide-area paths where it may be chosen",
            get: |s| s.tcp_congestion.clone(),
            set: |s, v| {
                if v.is_empty() {
                    return Err("write auto, or a name the system knows".into());
                }
                s.tcp_congestion = v.into();
                Ok(())
            },
        },
        Key {
            name: "tcp_notsent_lowat_bytes",
            help: "unsent bytes a data connection may hold before pieces wait outside of it; 0: the system's",
            get: |s| s.tcp_notsent_lowat_bytes.to_string(),
            set: |s, v| number(v, 0, limits::MAX_SOCKET_BYTES).map(|v| s.tcp_notsent_lowat_bytes = v),
        },
        Key {
            name: "tcp_send_buffer_bytes",
            help: "SO_SNDBUF of data connections; 0: tuned by the system",
            get: |s| s.tcp_send_buffer_bytes.to_string(),
            set: |s, v| number(v, 0, limits::MAX_SOCKET_BYTES).map(|v| s.tcp_send_buffer_bytes = v),
        },
        Key {
            name: "tcp_pacing",
            help: "whether the bbr connections of a wide-area pair are paced to what the pair carries together",
            get: |s| u8::from(s.tcp_pacing).to_string(),
            set: |s, v| switch(v).map(|v| s.tcp_pacing = v),
        },
        Key {
            name: "transport",
            help: "what data connections are made of: tcp, the only one there is",
            get: |_| "tcp".into(),
            set: |_, v| if v == "tcp" { Ok(()) } else { Err("there is tcp only".into()) },
        },
        Key {
            name: RUN_KEY,
            help: "refused: this version cannot encrypt, and would run in the open",
            get: |_| NOT_SET.into(),
            set: |_, _| {
                Err("this version cannot encrypt: it would run in the open; use a network you trust".into())
            },
        },
        Key {
            name: "hash_threads",
            help: "threads that hash a shared state; 0: one for each core, 8 at most",
            get: |s| s.hash_threads.to_string(),
            set: |s, v| number(v, 0, limits::MAX_HASH_THREADS as u32).map(|v| s.hash_threads = v),
        },
    ];
}

impl fmt::Display for PeerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

/// What a master can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterSettings {
    /// `host:port` to listen on.
    pub listen: String,
    pub schedule: ScheduleChoice,
    pub piece_bytes: u32,
    pub heartbeat_ms: u32,
    pub silence_ms: u32,
    pub link_timeout_ms: u32,
    pub prepare_timeout_ms: u32,
    pub resume_grace_ms: u32,
}

impl Default for MasterSettings {
    fn default() -> MasterSettings {
        MasterSettings {
            listen: "0.0.0.0:48148".into(),
            schedule: ScheduleChoice::Auto,
            piece_bytes: limits::DEFAULT_PIECE_BYTES,
            heartbeat_ms: limits::DEFAULT_HEARTBEAT_MS,
            silence_ms: limits::DEFAULT_SILENCE_MS,
            link_timeout_ms: limits::DEFAULT_LINK_TIMEOUT_MS,
            prepare_timeout_ms: limits::DEFAULT_PREPARE_TIMEOUT_MS,
            resume_grace_ms: limits::DEFAULT_RESUME_GRACE_MS,
        }
    }
}

impl MasterSettings {
    /// The interval of heartbeats that fits the silence: several must be lost before a peer counts as dead.
    pub fn heartbeat_in_time_ms(&self) -> u32 {
        self.heartbeat_ms.min(self.silence_ms / 4).max(1)
    }
}

const SCHEDULES: [(&str, ScheduleChoice); 4] = [
    ("auto", ScheduleChoice::Auto),
    ("ring", ScheduleChoice::Ring),
    ("mesh", ScheduleChoice::Mesh),
    ("packed", ScheduleChoice::Packed),
];

impl Settings for MasterSettings {
    const KEYS: &'static [Key<MasterSettings>] = &[
        Key {
            name: "master_listen",
            help: "host:port the master listens on; port 0: any free one",
            get: |s| s.listen.clone(),
            set: |s, v| host_and_port(v).map(|()| s.listen = v.into()),
        },
        Key {
            name: "schedule",
            help: "auto, ring, mesh or packed (where the network was measured, else as auto)",
            get: |s| SCHEDULES.iter().find(|(_, c)| *c == s.schedule).map_or("?", |(n, _)| n).to_string(),
            set: |s, v| {
                let found = SCHEDULES.iter().find(|(name, _)| *name == v);
                s.schedule =
                    found.map(|(_, c)| *c).ok_or("there are auto, ring, mesh and packed".to_string())?;
                Ok(())
            },
        },
        Key {
            name: "piece_bytes",
            help: "largest piece of a chunk, a multiple of 8; near peers cut large chunks into pieces four times as long",
            get: |s| s.piece_bytes.to_string(),
            set: |s, v| {
                let bytes = number(v, 8, limits::MAX_PIECE_BYTES)?;
                if !bytes.is_multiple_of(8) {
                    return Err("must be a multiple of 8, the size of the largest element".into());
                }
                s.piece_bytes = bytes;
                Ok(())
            },
        },
        Key {
            name: "heartbeat_ms",
            help: "interval of heartbeats; a quarter of the silence time at most",
            get: |s| s.heartbeat_ms.to_string(),
            set: |s, v| number(v, 1, limits::MAX_TIMEOUT_MS).map(|v| s.heartbeat_ms = v),
        },
        Key {
            name: "silence_ms",
            help: "a peer silent for so long is dead",
            get: |s| s.silence_ms.to_string(),
            set: |s, v| number(v, limits::MIN_SILENCE_MS, limits::MAX_TIMEOUT_MS).map(|v| s.silence_ms = v),
        },
        Key {
            name: "link_timeout_ms",
            help: "how long linking a newcomer, or re-linking a pair, may take",
            get: |s| s.link_timeout_ms.to_string(),
            set: |s, v| number(v, 1, limits::MAX_TIMEOUT_MS).map(|v| s.link_timeout_ms = v),
        },
        Key {
            name: "prepare_timeout_ms",
            help: "how long a newcomer may take to answer a prepare",
            get: |s| s.prepare_timeout_ms.to_string(),
            set: |s, v| number(v, 1, limits::MAX_TIMEOUT_MS).map(|v| s.prepare_timeout_ms = v),
        },
        Key {
            name: "resume_grace_ms",
            help: "how long a restarted master waits for the peers of the run it finds",
            get: |s| s.resume_grace_ms.to_string(),
            set: |s, v| number(v, 0, limits::MAX_TIMEOUT_MS).map(|v| s.resume_grace_ms = v),
        },
    ];
}

impl fmt::Display for MasterSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

fn number<N: FromStr + PartialOrd + fmt::Display>(
    text: &str,
    least: N,
    most: N,
) -> std::result::Result<N, String> {
    match text.parse() {
        Ok(value) if value >= least && value <= most => Ok(value),
        _ => Err(format!("must be a whole number from {least} to {most}")),
    }
}

fn switch(text: &str) -> std::result::Result<bool, String> {
    match text {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("must be 0 or 1".into()),
    }
}

/// Only the form: whether there is such a host turns out when it is called.
fn host_and_port(text: &str) -> std::result::Result<(), String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(()),
        _ => Err("write host:port, as 10.0.0.1:48148 or [::1]:48148".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_reads_back_what_was_printed() {
        fn check<S: Settings + Default + PartialEq + fmt::Debug>() {
            let defaults = S::default();
            for key in S::KEYS {
                let text = (key.get)(&defaults);
                if text != NOT_SET {
                    let mut other = S::default();
                    other.set(key.name, &text).unwrap();
                    assert_eq!(other, defaults, "{}", key.name);
                }
            }
        }
        check::<PeerSettings>();
        check::<MasterSettings>();
    }

    #[test]
    fn the_environment_wins_over_the_program() {
        let mut settings = PeerSettings { pool: 2, ..PeerSettings::default() };
        settings.override_by(|name| (name == "PCCL_POOL").then(|| " 5 ".into())).unwrap();
        assert_eq!(settings.pool, 5);
    }

    #[test]
    fn impossible_values_are_refused_with_what_is_possible() {
        let mut master = MasterSettings::default();
        let peer = PeerSettings::default().set("transport", "pigeon").unwrap_err();
        assert!(peer.reason.contains("tcp only"), "{peer}");
        let secret = PeerSettings::default().set("run_key", "secret").unwrap_err();
        assert!(secret.reason.contains("cannot encrypt") && !secret.reason.contains("secret"), "{secret}");
        for (key, value, hint) in [
            ("schedule", "star", "auto, ring, mesh and packed"),
            ("silence_ms", "10", "200"),
            ("piece_bytes", "12", "multiple of 8"),
            ("master_listen", "here", "host:port"),
            ("nothing", "1", "there are master_listen"),
        ] {
            let error = master.set(key, value).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidArgument);
            assert!(error.reason.contains(hint), "{error}");
        }
        assert_eq!(master, MasterSettings::default());
        let error = PeerSettings::default()
            .override_by(|name| (name == "PCCL_POOL").then(|| "many".into()))
            .unwrap_err();
        assert!(error.reason.contains("PCCL_POOL"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_text_is_refused_too() {
        use std::os::unix::ffi::OsStringExt;
        let bytes = || OsString::from_vec(b"secret\xff".to_vec());
        for (variable, kind) in
            [("PCCL_POOL", ErrorKind::InvalidArgument), ("PCCL_RUN_KEY", ErrorKind::InvalidUsage)]
        {
            let error =
                PeerSettings::default().override_by(|name| (name == variable).then(bytes)).unwrap_err();
            assert_eq!(error.kind, kind);
            assert!(error.reason.contains(variable), "{error}");
        }
    }

    #[test]
    fn a_run_key_is_refused_rather_than_ignored() {
        let error = PeerSettings::default()
            .override_by(|name| (name == "PCCL_RUN_KEY").then(|| "secret".into()))
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidUsage);
        assert!(!error.reason.contains("secret"));
    }

    #[test]
    fn variables_that_change_nothing_are_told_by_name_and_with_what_does() {
        for (variable, instead) in [
            ("PCCL_NUM_BENCHMARK_CONNECTIONS", "PCCL_POOL"),
            ("PCCL_MAX_CONCURRENT_COLLECTIVE_OPS", &limits::MAX_OPS_IN_FLIGHT.to_string()),
            ("PCCL_MULTIPLEX_CHUNK_SIZE", "PCCL_PIECE_BYTES"),
        ] {
            let told: Vec<String> = variables_without_effect(|name| name == variable).collect();
            assert_eq!(told.len(), 1, "{variable}");
            assert!(told[0].contains(variable) && told[0].contains(instead), "{told:?}");
        }
        assert_eq!(variables_without_effect(|_| false).count(), 0);
    }

    #[test]
    fn heartbeats_fit_the_silence() {
        let short = MasterSettings { silence_ms: 400, ..MasterSettings::default() };
        assert_eq!(short.heartbeat_in_time_ms(), 100);
        assert_eq!(MasterSettings::default().heartbeat_in_time_ms(), limits::DEFAULT_HEARTBEAT_MS);
    }
}
