//! Socket options. `SO_RCVBUF` ends the kernel's own tuning, so it is set only where little is to wait (`hold_little`).

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::congestion::{self, Congestion};
use crate::limits::STALL_FACTOR_AMONG_OTHERS;

/// What data connections are given beyond what all connections are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataOptions {
    pub congestion: Congestion,
    /// Unsent bytes the kernel may hold before a data link stops being writable: a piece should wait where the next
    /// free connection can take it, not in a full queue. 0 leaves it to the system.
    pub notsent_lowat_bytes: u32,
    /// 0 leaves it to the system's own tuning.
    pub send_buffer_bytes: u32,
    /// Whether the connections of a wide-area pair are paced to what it carries.
    pub pacing: bool,
}

/// Where the system has no `TCP_USER_TIMEOUT`, and the longest time to the first probe.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// As many probes of an idle connection are lost before it counts as dead: one is not enough.
const PROBES: u32 = 4;

/// `SO_RCVBUF` of a connection that is to hold little; the system doubles it. On loopback a segment has 64 KiB, and fewer than three
/// make it wait.
#[cfg(target_os = "linux")]
const LITTLE_UNREAD_BYTES: usize = 128 << 10;
/// Its mark of unsent bytes.
#[cfg(target_os = "linux")]
const LITTLE_UNSENT_BYTES: u32 = 32 << 10;

/// For the connection that carries messages.
pub fn set_control_options(stream: &TcpStream, silence_ms: u32) {
    let socket = SockRef::from(stream);
    note("TCP_NODELAY", socket.set_tcp_nodelay(true));
    #[cfg(target_vendor = "apple")]
    note("SO_NOSIGPIPE", socket.set_nosigpipe(true));
    #[cfg(not(target_os = "linux"))]
    note("SO_KEEPALIVE", socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE)));
    set_patience(stream, silence_ms.into());
}

/// How long bytes may go unacknowledged before the system ends the connection; of effect at once. Probes of an idle one, too:
/// once this time is over since anything came, a single lost probe ends it, whatever their number may be. So several come before.
pub fn set_patience(stream: &TcpStream, patience_ms: u64) {
    #[cfg(target_os = "linux")]
    {
        let (socket, patience) = (SockRef::from(stream), Duration::from_millis(patience_ms));
        // The system counts seconds.
        let apart = Duration::from_secs((patience / PROBES).as_secs().clamp(1, KEEP_ALIVE.as_secs()));
        let keep_alive = TcpKeepalive::new().with_time(apart).with_interval(apart).with_retries(PROBES);
        note("SO_KEEPALIVE", socket.set_tcp_keepalive(&keep_alive));
        note("TCP_USER_TIMEOUT", socket.set_tcp_user_timeout(Some(patience)));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, patience_ms, PROBES);
}

/// For one of several connections of a pair. The engine notices earlier when all of them are silent.
pub fn set_data_patience(stream: &TcpStream, silence_ms: u32) {
    set_patience(stream, u64::from(silence_ms) * STALL_FACTOR_AMONG_OTHERS);
}

/// For connections that carry tensors. What follows from their path, congestion control, is set by `set_congestion`.
pub fn set_data_options(stream: &TcpStream, silence_ms: u32, options: &DataOptions) {
    set_control_options(stream, silence_ms);
    set_data_patience(stream, silence_ms);
    #[cfg(target_os = "linux")]
    if options.notsent_lowat_bytes > 0 {
        let set = SockRef::from(stream).set_tcp_notsent_lowat(options.notsent_lowat_bytes);
        note("TCP_NOTSENT_LOWAT", set);
    }
    if options.send_buffer_bytes > 0 {
        note("SO_SNDBUF", SockRef::from(stream).set_send_buffer_size(options.send_buffer_bytes as usize));
    }
}

/// Also on a connection that is in use: what is under way stays so.
pub fn set_congestion(stream: &TcpStream, name: &str) {
    if congestion::in_force(stream) != name {
        note("TCP_CONGESTION", congestion::set(stream, name));
    }
}

/// Bounds what may wait at either end, unsent or unread, whatever the system would tune its buffers to: of a fresh near connection
/// alone. (What a long path holds would be bounded with it; and a buffer that becomes smaller than what is on its way loses that: it
/// takes 200 ms until it is sent again.) Gives the mark of unsent bytes as it was; `None` where this cannot be undone.
#[cfg(target_os = "linux")]
pub fn hold_little(stream: &TcpStream) -> Option<u32> {
    // Linux before 5.14 has no such option.
    nix::sys::socket::getsockopt(stream, lock::BufferLock).ok()?;
    let (socket, before) = (SockRef::from(stream), notsent_lowat_bytes(stream)?);
    socket.set_recv_buffer_size(LITTLE_UNREAD_BYTES).ok()?;
    note("TCP_NOTSENT_LOWAT", socket.set_tcp_notsent_lowat(before.min(LITTLE_UNSENT_BYTES)));
    Some(before)
}

#[cfg(not(target_os = "linux"))]
pub fn hold_little(_: &TcpStream) -> Option<u32> {
    None
}

/// Undoes `hold_little`.
pub fn hold_as_tuned(stream: &TcpStream, notsent_bytes: u32) {
    #[cfg(target_os = "linux")]
    {
        // The program's own send buffer stays as it was set.
        let unlocked = nix::sys::socket::getsockopt(stream, lock::BufferLock).and_then(|locks| {
            nix::sys::socket::setsockopt(stream, lock::BufferLock, &(locks & lock::OF_SEND_BUFFER))
        });
        note("SO_BUF_LOCK", unlocked.map_err(Into::into));
        note("TCP_NOTSENT_LOWAT", SockRef::from(stream).set_tcp_notsent_lowat(notsent_bytes));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, notsent_bytes);
}

#[cfg(target_os = "linux")]
mod lock {
    use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

    /// Of `asm-generic/socket.h`.
    const SO_BUF_LOCK: i32 = 72;
    /// The bit of `SO_SNDBUF`; the other one is that of `SO_RCVBUF`.
    pub const OF_SEND_BUFFER: i32 = 1;

    sockopt_impl!(
        /// Which buffers of a socket the system does not tune.
        BufferLock,
        Both,
        libc::SOL_SOCKET,
        SO_BUF_LOCK,
        i32
    );
}

/// `TCP_NOTSENT_LOWAT` as in force; `None` where the system does not tell.
pub fn notsent_lowat_bytes(stream: &TcpStream) -> Option<u32> {
    #[cfg(target_os = "linux")]
    return SockRef::from(stream).tcp_notsent_lowat().ok();
    #[cfg(not(target_os = "linux"))]
    {
        let _ = stream;
        None
    }
}

/// The send buffer as it is now.
pub fn send_buffer_bytes(stream: &TcpStream) -> Option<u32> {
    u32::try_from(SockRef::from(stream).send_buffer_size().ok()?).ok()
}

/// A buffer that is set is not tuned any more, so it must be larger than what tuning could reach. The text says why
/// this one would not be.
pub fn check_send_buffer(bytes: u32) -> Result<(), String> {
    let read = |path| std::fs::read_to_string(path).ok();
    let last = |text: String| text.split_whitespace().last().and_then(|word| word.parse::<u64>().ok());
    // Elsewhere nothing is known, and the program's word counts.
    let Some(most) = read("/proc/sys/net/core/wmem_max").and_then(last) else { return Ok(()) };
    let tuned = read("/proc/sys/net/ipv4/tcp_wmem").and_then(last).unwrap_or(0);
    // The system doubles what it is asked for, to have room for its own.
    let granted = 2 * most.min(u64::from(bytes));
    if bytes == 0 || granted > tuned {
        return Ok(());
    }
    Err(format!(
        "tcp_send_buffer_bytes={bytes}: would end the system's own tuning, which goes up to {tuned} bytes (tcp_wmem), \
         for {granted} bytes (wmem_max is {most}); leave it at 0, or ask for more and raise net.core.wmem_max"
    ))
}

/// An option the system does not have makes a link slower or its end later noticed, not wrong.
fn note(option: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!("{option} could not be set: {error}");
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn stream() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()
    }

    fn options() -> DataOptions {
        DataOptions {
            congestion: Congestion::new("auto").unwrap(),
            notsent_lowat_bytes: 100_000,
            send_buffer_bytes: 0,
            pacing: true,
        }
    }

    #[tokio::test]
    async fn connections_send_at_once_and_notice_a_dead_end() {
        let seconds = Duration::from_secs;
        for data in [None, Some(options())] {
            let stream = stream().await;
            let patience_ms = if data.is_some() { 4 * 3_234 } else { 3_234 };
            let apart = seconds(if data.is_some() { 3 } else { 1 });
            match data {
                Some(options) => set_data_options(&stream, 3_234, &options),
                None => set_control_options(&stream, 3_234),
            }
            let socket = SockRef::from(&stream);
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), apart);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), apart);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(patience_ms)));
            // Else the first probe that is lost ends the connection.
            assert!(3 * apart.as_millis() <= u128::from(patience_ms));
        }
    }

    #[tokio::test]
    async fn a_connection_holds_little_until_it_is_left_to_the_system_again() {
        let stream = stream().await;
        set_data_options(&stream, 1_000, &options());
        let of = |stream| {
            let socket = SockRef::from(stream);
            (socket.recv_buffer_size().unwrap(), socket.tcp_notsent_lowat().unwrap())
        };
        let tuned = of(&stream).0;
        // As every Linux that these tests run on.
        assert_eq!(hold_little(&stream), Some(100_000));
        assert_eq!(of(&stream), (2 * LITTLE_UNREAD_BYTES, LITTLE_UNSENT_BYTES));
        let locks = |stream| nix::sys::socket::getsockopt(stream, lock::BufferLock).unwrap();
        assert_eq!(locks(&stream), 2);
        SockRef::from(&stream).set_send_buffer_size(1 << 16).unwrap();
        hold_as_tuned(&stream, 100_000);
        assert_eq!(locks(&stream), lock::OF_SEND_BUFFER);
        assert!(of(&stream).0 >= tuned && of(&stream).1 == 100_000);
    }

    #[tokio::test]
    async fn only_tensors_wait_outside_of_the_kernel() {
        let (control, data) = (stream().await, stream().await);
        set_control_options(&control, 1_000);
        set_data_options(&data, 1_000, &options());
        let low_water = |stream| SockRef::from(stream).tcp_notsent_lowat().unwrap();
        assert_eq!(low_water(&data), 100_000);
        assert_ne!(low_water(&control), 100_000);
        let left = stream().await;
        set_data_options(&left, 1_000, &DataOptions { notsent_lowat_bytes: 0, ..options() });
        assert_eq!(low_water(&left), low_water(&control), "0 leaves it to the system");
    }

    #[tokio::test]
    async fn what_is_chosen_is_in_force_and_may_be_changed_and_the_buffer_is_set_only_on_demand() {
        let (plain, reno) = (stream().await, stream().await);
        set_data_options(&plain, 1_000, &options());
        set_data_options(&reno, 1_000, &DataOptions { send_buffer_bytes: 20_000, ..options() });
        let own = congestion::in_force(&stream().await);
        set_congestion(&reno, "reno");
        assert_eq!(congestion::in_force(&reno), "reno");
        set_congestion(&reno, &own);
        assert_eq!(congestion::in_force(&reno), own);
        assert_eq!(congestion::in_force(&plain), own);
        assert_eq!(SockRef::from(&reno).send_buffer_size().unwrap(), 40_000);
        assert_ne!(SockRef::from(&plain).send_buffer_size().unwrap(), 40_000);
    }

    #[test]
    fn a_buffer_smaller_than_what_tuning_reaches_is_refused() {
        assert_eq!(check_send_buffer(0), Ok(()));
        let error = check_send_buffer(4_096).unwrap_err();
        assert!(error.contains("tcp_wmem") && error.contains("wmem_max"), "{error}");
    }
}
