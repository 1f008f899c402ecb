//! How long a connection's path is, as measured.

use std::time::Duration;

use tokio::net::TcpStream;

use super::tcp_info::tcp_info;

/// The least round trip known of a connection in microseconds, 0 if none is. The system times every few packets, and whoever
/// dialled knows how long that took: any of these may have been held up, so the least counts.
pub fn round_trip_us(stream: &TcpStream, connect_time: Option<Duration>) -> u32 {
    let info = tcp_info(stream);
    let dialled = connect_time.map(|time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
    [info.least_us(), info.smoothed_us(), dialled].into_iter().flatten().fold(0, lesser)
}

/// Of two round trips, of which 0 is none.
pub fn lesser(a_us: u32, b_us: u32) -> u32 {
    match (a_us, b_us) {
        (0, us) | (us, 0) => us,
        (a_us, b_us) => a_us.min(b_us),
    }
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

    #[test]
    fn the_lesser_counts_if_both_are_known() {
        for (a, b, expected) in [(0, 0, 0), (0, 7, 7), (7, 0, 7), (7, 9, 7), (9, 7, 7)] {
            assert_eq!(lesser(a, b), expected);
        }
    }
}
