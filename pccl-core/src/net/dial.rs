//! Making connections. Errors name the address, what failed, and what to do.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::limits::UNANSWERED_REDIAL_MS;
use crate::wire::hello::{
    HELLO_ANSWER_BYTES, HELLO_PREFIX_BYTES, Hello, HelloAnswer, HelloError, HelloStatus, PROTOCOL_VERSION,
};

/// A connection whose hello was answered with yes.
#[derive(Debug)]
pub struct Dialled {
    pub stream: TcpStream,
    /// The time of the system's own handshake: a round trip.
    pub connect_time: Duration,
}

/// Connects to the first of the addresses that answers the hello with yes. The time is for all of them.
pub async fn dial(addresses: &[SocketAddr], hello: Hello, timeout_ms: u64) -> Result<Dialled, String> {
    let until = Instant::now() + Duration::from_millis(timeout_ms);
    dial_each(addresses, hello, until).await.map_err(|failure| failure.reason)
}

/// As `dial`, but dials again while somebody takes the connection and ends it without an answer: he may have had
/// too many of them at that moment.
pub async fn dial_until_answered(
    addresses: &[SocketAddr],
    hello: Hello,
    until: Instant,
) -> Result<TcpStream, String> {
    loop {
        let failure = match dial_each(addresses, hello, until).await {
            Ok(dialled) => return Ok(dialled.stream),
            Err(failure) => failure,
        };
        let again = Instant::now() + Duration::from_millis(UNANSWERED_REDIAL_MS);
        if !failure.unanswered || again >= until {
            return Err(failure.reason);
        }
        sleep_until(again).await;
    }
}

struct Failure {
    reason: String,
    /// The connection was taken, and ended without an answer.
    unanswered: bool,
}

impl From<String> for Failure {
    fn from(reason: String) -> Failure {
        Failure { reason, unanswered: false }
    }
}

async fn dial_each(addresses: &[SocketAddr], hello: Hello, until: Instant) -> Result<Dialled, Failure> {
    let mut failures = Vec::new();
    let mut unanswered = false;
    for (index, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - index) as u32;
        match timeout(share, dial_one(*address, hello)).await {
            Ok(Ok(dialled)) => return Ok(dialled),
            Ok(Err(failure)) => {
                unanswered |= failure.unanswered;
                failures.push(failure.reason);
            }
            Err(_) => failures.push(format!(
                "{address} did not answer within {} ms: {}",
                share.as_millis(),
                advice_when_silent(hello)
            )),
        }
    }
    if failures.is_empty() {
        return Err("there is no address to dial".to_owned().into());
    }
    Err(Failure { reason: failures.join("; "), unanswered })
}

/// All addresses behind `host:port`, in the resolver's order.
pub async fn resolve(text: &str) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::net::lookup_host(text).await.map_err(|error| {
        format!("{text:?} has no address ({error}): check the host name, and write host:port")
    })?;
    let addresses: Vec<SocketAddr> = found.collect();
    if addresses.is_empty() {
        return Err(format!("{text:?} has no address: check the host name"));
    }
    Ok(addresses)
}

async fn dial_one(address: SocketAddr, hello: Hello) -> Result<Dialled, Failure> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => {
            format!("connection refused by {address}: {}", advice_when_refused(hello))
        }
        _ => format!("cannot connect to {address}: {error}"),
    })?;
    let connect_time = begun.elapsed();
    // The hello goes out at once, and what follows it too.
    let _ = stream.set_nodelay(true);
    let unanswered = |error: std::io::Error| Failure {
        reason: format!(
            "{address} ended the connection instead of answering the hello ({error}): is it pccl?"
        ),
        unanswered: true,
    };
    stream.write_all(&hello.encode()).await.map_err(unanswered)?;
    let mut bytes = [0; HELLO_ANSWER_BYTES];
    stream.read_exact(&mut bytes[..HELLO_PREFIX_BYTES]).await.map_err(unanswered)?;
    let mut prefix = [0; HELLO_PREFIX_BYTES];
    prefix.copy_from_slice(&bytes[..HELLO_PREFIX_BYTES]);
    HelloAnswer::check_prefix(&prefix).map_err(|error| unsound(address, error))?;
    stream.read_exact(&mut bytes[HELLO_PREFIX_BYTES..]).await.map_err(unanswered)?;
    match HelloAnswer::decode(&bytes).map_err(|error| unsound(address, error))?.status {
        HelloStatus::Ok => Ok(Dialled { stream, connect_time }),
        status => Err(format!("{address} refused the connection: {status}").into()),
    }
}

fn unsound(address: SocketAddr, error: HelloError) -> String {
    match error {
        HelloError::WrongVersion { theirs } => format!(
            "{address} speaks version {theirs} of the protocol, this is version {PROTOCOL_VERSION}: update the older one"
        ),
        error => format!("{address}: {error}"),
    }
}

fn advice_when_refused(hello: Hello) -> &'static str {
    match hello {
        Hello::Control => "is a master running there, and is the port right?",
        Hello::Data { .. } => "the peer is gone, or the port it announced is not the one it listens on",
    }
}

fn advice_when_silent(hello: Hello) -> &'static str {
    match hello {
        Hello::Control => "check the address, and that no firewall drops connections to the master's port",
        Hello::Data { .. } => "a firewall may drop connections to the peer's port",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Dials somebody who answers a hello with these bytes.
    async fn answered(answer: &[u8]) -> String {
        let (listener, address) = listener().await;
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; crate::wire::hello::HELLO_BYTES];
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(answer).await.unwrap();
        };
        let to = [address];
        let (result, ()) = tokio::join!(dial(&to, Hello::Control, 5_000), answering);
        let text = result.map(|_| ()).unwrap_err();
        assert!(text.contains(&address.to_string()), "{text}");
        text
    }

    #[tokio::test]
    async fn nobody_there_is_named_with_a_question() {
        let (listener, address) = listener().await;
        drop(listener);
        let text = dial(&[address], Hello::Control, 5_000).await.unwrap_err();
        assert!(
            text.contains(&format!("refused by {address}")) && text.contains("is a master running"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn the_next_address_is_tried_when_one_refuses() {
        let (dead, dead_address) = listener().await;
        drop(dead);
        let (listener, address) = listener().await;
        let yes = async {
            let (stream, _) = listener.accept().await.unwrap();
            crate::net::door::accept(&stream).unwrap();
            stream
        };
        let to = [dead_address, address];
        let (stream, _theirs) = tokio::join!(dial(&to, Hello::Control, 5_000), yes);
        assert_eq!(stream.unwrap().stream.peer_addr().unwrap(), address);
    }

    #[tokio::test]
    async fn another_version_and_a_stranger_are_told_apart() {
        let text = answered(b"PccA\x03\x00").await;
        assert!(
            text.contains("version 3") && text.contains("version 1") && text.contains("update"),
            "{text}"
        );
        let text = answered(b"HTTP/1.1 400 Bad Request").await;
        assert!(text.contains("does not speak the pccl protocol"), "{text}");
        let text = answered(b"").await;
        assert!(text.contains("ended the connection"), "{text}");
        let text = answered(&HelloAnswer { status: HelloStatus::WrongKind }.encode()).await;
        assert!(text.contains("refused"), "{text}");
    }

    #[tokio::test]
    async fn an_end_without_answer_is_dialled_again_in_time() {
        let (listener, address) = listener().await;
        let answering = async {
            for _ in 0..3 {
                drop(listener.accept().await.unwrap());
            }
            let (stream, _) = listener.accept().await.unwrap();
            crate::net::door::accept(&stream).unwrap();
            stream
        };
        let (to, until) = ([address], Instant::now() + Duration::from_secs(10));
        let (stream, _theirs) = tokio::join!(dial_until_answered(&to, Hello::Control, until), answering);
        assert_eq!(stream.unwrap().peer_addr().unwrap(), address);
        drop(listener);
        let text = dial_until_answered(&to, Hello::Control, until).await.unwrap_err();
        assert!(Instant::now() < until && text.contains("refused by"), "{text}");
    }

    #[tokio::test]
    async fn a_silent_end_is_given_up_in_time() {
        let (_listener, address) = listener().await;
        let text = dial(&[address], Hello::Control, 30).await.unwrap_err();
        assert!(text.contains("did not answer within") && text.contains("firewall"), "{text}");
    }

    #[tokio::test]
    async fn a_host_without_address_is_named() {
        let text = resolve("no-such-host.invalid:1").await.unwrap_err();
        assert!(text.contains("no-such-host.invalid"), "{text}");
        assert_eq!(resolve("[::1]:7").await.unwrap(), ["[::1]:7".parse().unwrap()]);
    }
}
