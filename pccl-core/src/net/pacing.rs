//! What a connection has carried, and how fast it may send. Only Linux tells, and lets us say.

use tokio::net::TcpStream;

use super::tcp_info::tcp_info;

/// Since the connection was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The other end has said that it has them.
    pub acked_bytes: u64,
    /// Time in which something was under way.
    pub busy_us: u64,
}

#[cfg(target_os = "linux")]
mod options {
    use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

    sockopt_impl!(MaxPacingRate, Both, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, u64);
}

/// `None` where the system does not tell.
pub fn sent(stream: &TcpStream) -> Option<Sent> {
    let info = tcp_info(stream);
    Some(Sent { acked_bytes: info.acked_bytes()?, busy_us: info.busy_us()? })
}

/// `None`: as fast as congestion control lets it. Older systems, which know limits of 32 bits only, do not tell what a
/// connection has carried either, so nobody limits it there.
#[cfg(target_os = "linux")]
pub fn limit(stream: &TcpStream, bytes_per_s: Option<u64>) {
    let set = nix::sys::socket::setsockopt(stream, options::MaxPacingRate, &bytes_per_s.unwrap_or(u64::MAX));
    if let Err(error) = set {
        tracing::debug!("SO_MAX_PACING_RATE could not be set: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
pub fn limit(_: &TcpStream, _: Option<u64>) {}

/// As the system has it; for tests.
#[cfg(all(test, target_os = "linux"))]
pub fn limit_in_force(stream: &TcpStream) -> Option<u64> {
    let rate =
        nix::sys::socket::getsockopt(stream, options::MaxPacingRate).expect("a socket has this option");
    Some(rate).filter(|rate| *rate != u64::MAX)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::net::tcp_info::is_recent_linux;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_connection_tells_what_it_carried_and_keeps_to_a_limit_until_it_is_lifted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap().0);
        if !is_recent_linux() {
            return assert_eq!(sent(&ours), None);
        }
        // That the connection was made is acknowledged as well.
        let before = sent(&ours).unwrap().acked_bytes;
        ours.write_all(&[7; 1000]).await.unwrap();
        let mut bytes = [0; 1000];
        theirs.read_exact(&mut bytes).await.unwrap();
        // An answer carries the acknowledgement of all that was read before it.
        theirs.write_all(b"!").await.unwrap();
        ours.read_exact(&mut bytes[..1]).await.unwrap();
        assert_eq!(sent(&ours).unwrap().acked_bytes - before, 1000);

        assert_eq!(limit_in_force(&ours), None);
        limit(&ours, Some(1_000_000));
        assert_eq!(limit_in_force(&ours), Some(1_000_000));
        limit(&ours, None);
        assert_eq!(limit_in_force(&ours), None);
    }
}
