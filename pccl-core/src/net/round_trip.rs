//! How long a connection's path is, as measured.

use std::time::Duration;

use tokio::net::TcpStream;

/// The round trip of a fresh connection in microseconds, 0 if it is not known. The system has timed it; where it does
/// not tell, whoever dialled knows how long that took.
pub fn round_trip_us(stream: &TcpStream, connect_time: Option<Duration>) -> u32 {
    let timed = smoothed_us(stream);
    let dialled = || connect_time.map(|time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
    timed.or_else(dialled).unwrap_or(0)
}

#[cfg(target_os = "linux")]
mod info {
    use nix::{getsockopt_impl, sockopt_impl};

    /// As much of `struct tcp_info` as every Linux has, up to `tcpi_total_retrans`.
    pub type Words = [u32; 26];

    sockopt_impl!(TcpInfo, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, Words);
}

/// The system's smoothed estimate, `None` if it has none.
#[cfg(target_os = "linux")]
pub fn smoothed_us(stream: &TcpStream) -> Option<u32> {
    /// Index of `tcpi_rtt`.
    const RTT: usize = 17;
    let words = nix::sys::socket::getsockopt(stream, info::TcpInfo).ok()?;
    Some(words[RTT]).filter(|us| *us > 0)
}

#[cfg(not(target_os = "linux"))]
pub fn smoothed_us(_: &TcpStream) -> Option<u32> {
    None
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
