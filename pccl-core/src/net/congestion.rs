//! Which congestion control a data connection gets. On long paths a lost packet must not count as a full pipe: there
//! `bbr`, wherever this process may choose it. On short ones the host's own.

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpStream;

use crate::limits::WIDE_AREA_RTT_US;

/// For wide-area paths.
const PACED: &str = "bbr";

/// Leave it to us.
const AUTO: &str = "auto";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Congestion {
    /// By the path; `paced`: whether this process may choose `PACED`.
    ByPath { paced: bool },
    /// The same for all connections.
    Always(String),
}

impl Congestion {
    /// Finds out what this process may choose. An error names what there is.
    pub fn new(wanted: &str) -> Result<Congestion, String> {
        if wanted == AUTO {
            return Ok(Congestion::ByPath { paced: probe(PACED).is_ok() });
        }
        match probe(wanted) {
            Ok(()) => Ok(Congestion::Always(wanted.into())),
            Err(error) => Err(format!(
                "tcp_congestion={wanted:?}: the system does not let this process choose it ({error}); there are {}",
                choices().join(", ")
            )),
        }
    }

    /// What a connection over such a path is to get; `None`: what it has.
    pub fn choose(&self, rtt_us: u32) -> Option<&str> {
        match self {
            Congestion::Always(name) => Some(name),
            Congestion::ByPath { paced: true } if rtt_us >= WIDE_AREA_RTT_US => Some(PACED),
            Congestion::ByPath { .. } => None,
        }
    }
}

/// Whether a connection of this algorithm keeps its rate when packets are lost.
pub fn withstands_loss(name: &str) -> bool {
    name.starts_with(PACED)
}

/// `auto`, and all that this process may choose.
fn choices() -> Vec<String> {
    let known =
        std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap_or_default();
    let allowed = known.split_whitespace().filter(|name| probe(name).is_ok()).map(str::to_owned);
    std::iter::once(AUTO.to_owned()).chain(allowed).collect()
}

#[cfg(target_os = "linux")]
fn probe(name: &str) -> std::io::Result<()> {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?.set_tcp_congestion(name.as_bytes())
}

#[cfg(not(target_os = "linux"))]
fn probe(_: &str) -> std::io::Result<()> {
    let _ = (Domain::IPV4, Type::STREAM, Protocol::TCP, std::marker::PhantomData::<Socket>);
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
pub(super) fn set(stream: &TcpStream, name: &str) -> std::io::Result<()> {
    SockRef::from(stream).set_tcp_congestion(name.as_bytes())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn set(_: &TcpStream, _: &str) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// The name of what is in force; empty where the system does not tell.
pub fn in_force(stream: &TcpStream) -> String {
    name_of(&SockRef::from(stream)).unwrap_or_default()
}

#[cfg(target_os = "linux")]
fn name_of(socket: &SockRef<'_>) -> Option<String> {
    let name = socket.tcp_congestion().ok()?;
    let text = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(not(target_os = "linux"))]
fn name_of(_: &SockRef<'_>) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_get_bbr_where_it_may_be_chosen_and_short_ones_keep_the_hosts_own() {
        let (may, may_not) = (Congestion::ByPath { paced: true }, Congestion::ByPath { paced: false });
        assert_eq!(may.choose(80_000), Some("bbr"));
        assert_eq!(may.choose(WIDE_AREA_RTT_US), Some("bbr"));
        for rtt_us in [0, 40, WIDE_AREA_RTT_US - 1] {
            assert_eq!(may.choose(rtt_us), None);
        }
        assert_eq!(may_not.choose(80_000), None);
        assert_eq!(Congestion::Always("reno".into()).choose(80_000), Some("reno"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_not_to_be_had_is_an_error_that_names_what_is() {
        let error = Congestion::new("no-such-thing").unwrap_err();
        // The kernel has reno built in, and lets everybody choose it.
        assert!(
            error.contains("no-such-thing") && error.contains("auto, ") && error.contains("reno"),
            "{error}"
        );
        assert_eq!(Congestion::new("reno"), Ok(Congestion::Always("reno".into())));
        assert!(matches!(Congestion::new("auto"), Ok(Congestion::ByPath { .. })));
    }
}
