//! What the system knows of a connection: Linux's `struct tcp_info`, as much of it as this kernel writes.

use tokio::net::TcpStream;

/// What every Linux has, up to `tcpi_total_retrans`.
#[cfg(any(target_os = "linux", test))]
const SHORT: usize = 26;
/// Up to `tcpi_busy_time`.
const LONG: usize = 44;

/// Where fields begin, in words of 32 bits.
mod at {
    pub const UNACKED: usize = 6;
    pub const LAST_ACK_RECV: usize = 14;
    pub const RTT: usize = 17;
    pub const TOTAL_RETRANS: usize = 25;
    pub const BYTES_ACKED: usize = 30;
    pub const NOTSENT_BYTES: usize = 36;
    pub const MIN_RTT: usize = 37;
    pub const BUSY_TIME: usize = 42;
}

/// Each field is known only if the kernel wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    words: [u32; LONG],
    written: usize,
}

impl TcpInfo {
    fn of(written: &[u32]) -> TcpInfo {
        let mut words = [0; LONG];
        let known = written.len().min(LONG);
        words[..known].copy_from_slice(&written[..known]);
        TcpInfo { words, written: known }
    }

    fn word(&self, at: usize) -> Option<u32> {
        self.words[..self.written].get(at).copied()
    }

    fn long(&self, at: usize) -> Option<u64> {
        // As the system lays out its own numbers.
        let ([a, b, c, d], [e, f, g, h]) = (self.word(at)?.to_ne_bytes(), self.word(at + 1)?.to_ne_bytes());
        Some(u64::from_ne_bytes([a, b, c, d, e, f, g, h]))
    }

    /// The round trip as it is estimated now, queues included.
    pub fn smoothed_us(&self) -> Option<u32> {
        self.word(at::RTT).filter(|us| *us > 0)
    }

    /// The shortest round trip of late.
    pub fn least_us(&self) -> Option<u32> {
        self.word(at::MIN_RTT).filter(|us| (1..u32::MAX).contains(us))
    }

    /// Segments that were sent and not acknowledged.
    pub fn unacked(&self) -> Option<u32> {
        self.word(at::UNACKED)
    }

    /// How long ago the other end acknowledged anything.
    pub fn last_ack_ms(&self) -> Option<u32> {
        self.word(at::LAST_ACK_RECV)
    }

    /// Bytes that were written and not sent: the other end has no room for them, or congestion control holds them back.
    pub fn unsent_bytes(&self) -> Option<u32> {
        self.word(at::NOTSENT_BYTES)
    }

    /// Segments sent again so far.
    pub fn retransmitted(&self) -> Option<u32> {
        self.word(at::TOTAL_RETRANS)
    }

    /// Since the connection was made.
    pub fn acked_bytes(&self) -> Option<u64> {
        self.long(at::BYTES_ACKED)
    }

    /// Time in which something was under way.
    pub fn busy_us(&self) -> Option<u64> {
        self.long(at::BUSY_TIME)
    }
}

#[cfg(target_os = "linux")]
mod options {
    use nix::{getsockopt_impl, sockopt_impl};

    sockopt_impl!(Short, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, [u32; super::SHORT]);
    sockopt_impl!(Long, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, [u32; super::LONG]);
}

/// Nothing is known where the system does not tell.
#[cfg(target_os = "linux")]
pub fn tcp_info(stream: &TcpStream) -> TcpInfo {
    use nix::sys::socket::getsockopt;
    // To get less than what was asked for the macro takes for a mistake.
    let info = match is_recent_linux() {
        true => getsockopt(stream, options::Long).map(|words| TcpInfo::of(&words)),
        false => getsockopt(stream, options::Short).map(|words| TcpInfo::of(&words)),
    };
    info.unwrap_or_else(|_| TcpInfo::of(&[]))
}

#[cfg(not(target_os = "linux"))]
pub fn tcp_info(_: &TcpStream) -> TcpInfo {
    TcpInfo::of(&[])
}

/// From 4.20 on limits of a rate have 64 bits; the last field that is read came with 4.10.
#[cfg(target_os = "linux")]
pub fn is_recent_linux() -> bool {
    static IS_RECENT: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
        std::fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|release| is_recent(&release))
    });
    *IS_RECENT
}

#[cfg(any(target_os = "linux", test))]
fn is_recent(release: &str) -> bool {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(4), Some(20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_older_systems_do_not_write_is_not_asked_for() {
        for (release, expected) in [
            ("6.18.5", true),
            ("4.20.0-rc1", true),
            ("5.4", true),
            ("4.19.337-generic", false),
            ("3.10.0-1160.el7", false),
            ("", false),
        ] {
            assert_eq!(is_recent(release), expected, "{release}");
        }
    }

    #[test]
    fn a_field_is_known_only_if_the_kernel_wrote_all_of_it() {
        let words: Vec<u32> = (100..100 + LONG as u32).collect();
        let of = |written: usize| TcpInfo::of(&words[..written]);
        assert_eq!((of(0).smoothed_us(), of(0).unacked(), of(0).retransmitted()), (None, None, None));
        let short = of(SHORT);
        assert_eq!((short.smoothed_us(), short.unacked()), (Some(117), Some(106)));
        assert_eq!((short.last_ack_ms(), short.retransmitted()), (Some(114), Some(125)));
        assert_eq!((short.least_us(), short.unsent_bytes()), (None, None));
        assert_eq!((short.acked_bytes(), short.busy_us()), (None, None));
        assert_eq!(of(LONG - 1).busy_us(), None, "half of it");
        let long = of(LONG);
        assert_eq!((long.least_us(), long.unsent_bytes()), (Some(137), Some(136)));
        if cfg!(target_endian = "little") {
            assert_eq!(long.acked_bytes(), Some(131 << 32 | 130));
            assert_eq!(long.busy_us(), Some(143 << 32 | 142));
        }
    }

    #[test]
    fn a_round_trip_that_was_not_measured_is_none() {
        let mut words = [0; LONG];
        words[at::MIN_RTT] = u32::MAX;
        let info = TcpInfo::of(&words);
        assert_eq!((info.smoothed_us(), info.least_us()), (None, None));
    }
}
