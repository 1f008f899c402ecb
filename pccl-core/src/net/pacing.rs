//! What a connection has carried, and how fast it may send. Only Linux tells, and lets us say.

use tokio::net::TcpStream;

/// Since the connection was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The other end has said that it has them.
    pub acked_bytes: u64,
    /// Time in which something was under way.
    pub busy_us: u64,
}

#[cfg(target_os = "linux")]
mod info {
    use std::sync::LazyLock;

    use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

    /// `struct tcp_info` up to `tcpi_busy_time`, which came with Linux 4.10. Limits of 64 bits came with 4.20.
    pub type Words = [u32; 44];

    pub const BYTES_ACKED: usize = 30;
    pub const BUSY_TIME: usize = 42;

    sockopt_impl!(TcpInfo, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, Words);
    sockopt_impl!(MaxPacingRate, Both, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, u64);

    /// An older one would give less than is asked for, which the macro takes for a mistake.
    pub static IS_THERE: LazyLock<bool> = LazyLock::new(|| {
        std::fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|release| is_new_enough(&release))
    });

    pub fn is_new_enough(release: &str) -> bool {
        let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
        (numbers.next(), numbers.next()) >= (Some(4), Some(20))
    }
}

/// `None` where the system does not tell.
#[cfg(target_os = "linux")]
pub fn sent(stream: &TcpStream) -> Option<Sent> {
    let words = info::IS_THERE.then(|| nix::sys::socket::getsockopt(stream, info::TcpInfo).ok())??;
    // As the system lays out its own numbers.
    let long = |at: usize| {
        let [a, b, c, d] = words[at].to_ne_bytes();
        let [e, f, g, h] = words[at + 1].to_ne_bytes();
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    };
    Some(Sent { acked_bytes: long(info::BYTES_ACKED), busy_us: long(info::BUSY_TIME) })
}

/// `None`: as fast as congestion control lets it.
#[cfg(target_os = "linux")]
pub fn limit(stream: &TcpStream, bytes_per_s: Option<u64>) {
    let set = nix::sys::socket::setsockopt(stream, info::MaxPacingRate, &bytes_per_s.unwrap_or(u64::MAX));
    if let Err(error) = set {
        tracing::debug!("SO_MAX_PACING_RATE could not be set: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
pub fn sent(_: &TcpStream) -> Option<Sent> {
    None
}

#[cfg(not(target_os = "linux"))]
pub fn limit(_: &TcpStream, _: Option<u64>) {}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_connection_tells_what_it_carried_and_keeps_to_a_limit_until_it_is_lifted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap().0);
        if !*info::IS_THERE {
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

        let rate = || nix::sys::socket::getsockopt(&ours, info::MaxPacingRate).unwrap();
        let unlimited = rate();
        limit(&ours, Some(1_000_000));
        assert_eq!(rate(), 1_000_000);
        limit(&ours, None);
        assert_eq!(rate(), unlimited);
    }

    #[test]
    fn what_older_systems_do_not_tell_is_not_asked_for() {
        for (release, expected) in [
            ("6.18.5", true),
            ("4.20.0-rc1", true),
            ("5.4", true),
            ("4.19.337-generic", false),
            ("3.10.0-1160.el7", false),
            ("", false),
        ] {
            assert_eq!(info::is_new_enough(release), expected, "{release}");
        }
    }
}
