//! Socket options. `SO_RCVBUF` is never set: it would end the kernel's own tuning.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Unsent bytes the kernel may hold before a data link stops being writable: a piece should wait where the next
/// free connection can take it, not in a full queue.
#[cfg(target_os = "linux")]
const NOTSENT_LOW_WATER_BYTES: u32 = 128 << 10;

/// For the connection that carries messages.
pub fn set_control_options(stream: &TcpStream, silence_ms: u32) {
    let socket = SockRef::from(stream);
    note("TCP_NODELAY", socket.set_tcp_nodelay(true));
    let keep_alive = TcpKeepalive::new().with_time(Duration::from_secs(15));
    #[cfg(target_os = "linux")]
    let keep_alive = keep_alive.with_interval(Duration::from_secs(5)).with_retries(3);
    note("SO_KEEPALIVE", socket.set_tcp_keepalive(&keep_alive));
    #[cfg(target_os = "linux")]
    note("TCP_USER_TIMEOUT", socket.set_tcp_user_timeout(Some(Duration::from_millis(silence_ms.into()))));
    #[cfg(not(target_os = "linux"))]
    let _ = silence_ms;
}

/// For connections that carry tensors.
pub fn set_data_options(stream: &TcpStream, silence_ms: u32) {
    set_control_options(stream, silence_ms);
    #[cfg(target_os = "linux")]
    note("TCP_NOTSENT_LOWAT", SockRef::from(stream).set_tcp_notsent_lowat(NOTSENT_LOW_WATER_BYTES));
}

/// An option the system does not have makes a link slower or its end later noticed, not wrong.
fn note(option: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!("{option} could not be set: {error}");
    }
}
