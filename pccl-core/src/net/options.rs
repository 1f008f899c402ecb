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

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn stream() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn connections_send_at_once_and_notice_a_dead_end() {
        let seconds = Duration::from_secs;
        for set in [set_control_options, set_data_options] {
            let stream = stream().await;
            set(&stream, 1_234);
            let socket = SockRef::from(&stream);
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds(15));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds(5));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(1_234)));
        }
    }

    #[tokio::test]
    async fn only_tensors_wait_outside_of_the_kernel() {
        let (control, data) = (stream().await, stream().await);
        set_control_options(&control, 1_000);
        set_data_options(&data, 1_000);
        let low_water = |stream| SockRef::from(stream).tcp_notsent_lowat().unwrap();
        assert_eq!(low_water(&data), NOTSENT_LOW_WATER_BYTES);
        assert_ne!(low_water(&control), NOTSENT_LOW_WATER_BYTES);
    }
}
