//! How long a connection's path is, as measured, and what else the system knows of it.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::exec::Answers;

/// The round trip of a fresh connection in microseconds, 0 if it is not known. The system has timed it, and whoever
/// dialled knows how long that took: either may have been held up, so the less counts.
pub fn round_trip_us(stream: &TcpStream, connect_time: Option<Duration>) -> u32 {
    let dialled = connect_time.map(|time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
    [smoothed_us(stream), dialled].into_iter().flatten().min().unwrap_or(0)
}

#[cfg(target_os = "linux")]
mod info {
    use nix::{getsockopt_impl, sockopt_impl};

    /// As much of `struct tcp_info` as every Linux has, up to `tcpi_total_retrans`.
    pub type Words = [u32; 26];

    pub const UNACKED: usize = 6;
    pub const LAST_ACK_RECV: usize = 14;
    pub const RTT: usize = 17;
    pub const TOTAL_RETRANS: usize = 25;

    sockopt_impl!(TcpInfo, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, Words);
}

/// The system's smoothed estimate, `None` if it has none.
#[cfg(target_os = "linux")]
pub fn smoothed_us(stream: &TcpStream) -> Option<u32> {
    word(stream, info::RTT).filter(|us| *us > 0)
}

/// Segments sent again so far; 0 where the system does not tell.
#[cfg(target_os = "linux")]
pub fn retransmitted(stream: &TcpStream) -> u64 {
    word(stream, info::TOTAL_RETRANS).unwrap_or(0).into()
}

/// Segments that were sent and not acknowledged, and how long ago an acknowledgement came. Bytes the other end has no room for
/// were not sent yet: they count as nothing.
#[cfg(target_os = "linux")]
pub fn answers(stream: &TcpStream) -> Option<Answers> {
    let words = nix::sys::socket::getsockopt(stream, info::TcpInfo).ok()?;
    Some(Answers { all: words[info::UNACKED] == 0, quiet_ms: words[info::LAST_ACK_RECV].into() })
}

#[cfg(target_os = "linux")]
fn word(stream: &TcpStream, index: usize) -> Option<u32> {
    nix::sys::socket::getsockopt(stream, info::TcpInfo).ok().map(|words| words[index])
}

#[cfg(not(target_os = "linux"))]
pub fn smoothed_us(_: &TcpStream) -> Option<u32> {
    None
}

#[cfg(not(target_os = "linux"))]
pub fn answers(_: &TcpStream) -> Option<Answers> {
    None
}

#[cfg(not(target_os = "linux"))]
pub fn retransmitted(_: &TcpStream) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn either_end_of_a_fresh_connection_knows_its_path() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        let connect_time = Some(Duration::from_micros(70));
        for (stream, connect_time) in [(ours.unwrap(), connect_time), (theirs.unwrap().0, None)] {
            let us = round_trip_us(&stream, connect_time);
            assert_eq!(us > 0, connect_time.is_some() || cfg!(target_os = "linux"));
            assert!(us < 1_000_000, "microseconds, not nanoseconds: {us}");
        }
    }
}
