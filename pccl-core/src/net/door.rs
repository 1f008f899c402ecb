//! A listening port: takes connections, reads their hellos, and hands on those that have said one.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::strangers::{Crowd, StrangerLog, Ticket};
use crate::limits::{MAX_LINGER_BYTES, MAX_LINGER_MS, UNKNOWN_CONNECTION_TIMEOUT_MS};
use crate::wire::hello::{
    HELLO_BYTES, HELLO_PREFIX_BYTES, Hello, HelloAnswer, HelloError, HelloStatus, PROTOCOL_VERSION,
};

/// Out of descriptors or memory: how long to leave the queue of the system alone.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// A connection that has said a sound hello and waits for the answer.
#[derive(Debug)]
pub struct Visitor {
    pub stream: TcpStream,
    pub from: SocketAddr,
    pub hello: Hello,
    /// Still counted among the unknown connections of the port until this is dropped.
    pub ticket: Ticket,
}

/// Closes the port when dropped.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    crowd: Crowd,
    log: StrangerLog,
}

impl Door {
    /// `name` says in the log which port it is.
    pub fn new(listener: std::net::TcpListener, name: &str) -> std::io::Result<Door> {
        let listener = TcpListener::from_std(listener)?;
        Ok(Door { listener, crowd: Crowd::default(), log: StrangerLog::new(name) })
    }

    pub fn log(&self) -> StrangerLog {
        self.log.clone()
    }

    /// Serves for ever. Each connection is a local task until it has said its hello.
    pub async fn serve(self, welcome: impl Fn(Visitor) + 'static) {
        let welcome: Rc<dyn Fn(Visitor)> = Rc::new(welcome);
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, from)) => {
                        let ticket = self.crowd.enter();
                        let (log, welcome) = (self.log.clone(), welcome.clone());
                        tokio::task::spawn_local(async move {
                            if let Some(visitor) = greet(stream, from, ticket, log).await {
                                welcome(visitor);
                            }
                        });
                    }
                    Err(error) => self.back_off(error).await,
                },
                () = sleep(Duration::from_secs(1)) => {}
            }
            self.log.settle();
        }
    }

    async fn back_off(&self, error: std::io::Error) {
        if matches!(
            error.kind(),
            ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
        ) {
            // Only that one connection is gone.
            return;
        }
        self.log.note(format_args!("cannot take a connection: {error}"));
        self.crowd.push_out_oldest();
        sleep(PAUSE_AFTER_ERROR).await;
    }
}

async fn greet(mut stream: TcpStream, from: SocketAddr, ticket: Ticket, log: StrangerLog) -> Option<Visitor> {
    let limit = Duration::from_millis(UNKNOWN_CONNECTION_TIMEOUT_MS);
    let heard = tokio::select! {
        heard = timeout(limit, read_hello(&mut stream)) => heard,
        () = ticket.pushed_out() => {
            log.note(format_args!("{from} closed: it had not said who it is, and too many are waiting"));
            return None;
        }
    };
    match heard {
        Ok(Ok(hello)) => return Some(Visitor { stream, from, hello, ticket }),
        Ok(Err(Unheard::Ended(error))) => {
            log.note(format_args!("{from} went before it said who it is: {error}"));
        }
        Ok(Err(Unheard::Hello(HelloError::WrongVersion { theirs }))) => {
            log.note(format_args!(
                "{from} refused: it speaks version {theirs} of the protocol, this is version {PROTOCOL_VERSION}: \
                 all must run the same"
            ));
            refuse(stream, HelloStatus::WrongVersion, &ticket).await;
        }
        Ok(Err(Unheard::Hello(error))) => log.note(format_args!("{from} closed: {error}")),
        Err(_) => log.note(format_args!(
            "{from} closed: it had not said who it is within {UNKNOWN_CONNECTION_TIMEOUT_MS} ms"
        )),
    }
    None
}

enum Unheard {
    Ended(std::io::Error),
    Hello(HelloError),
}

async fn read_hello(stream: &mut TcpStream) -> Result<Hello, Unheard> {
    let mut bytes = [0; HELLO_BYTES];
    let (prefix, rest) = bytes.split_at_mut(HELLO_PREFIX_BYTES);
    stream.read_exact(prefix).await.map_err(Unheard::Ended)?;
    let mut seen = [0; HELLO_PREFIX_BYTES];
    seen.copy_from_slice(prefix);
    Hello::check_prefix(&seen).map_err(Unheard::Hello)?;
    stream.read_exact(rest).await.map_err(Unheard::Ended)?;
    Hello::decode(&bytes).map_err(Unheard::Hello)
}

/// Says no, in a way that arrives, and ends the connection.
pub async fn refuse(mut stream: TcpStream, status: HelloStatus, ticket: &Ticket) {
    let refusal = async {
        if stream.write_all(&HelloAnswer { status }.encode()).await.is_ok() {
            linger(&mut stream).await;
        }
    };
    tokio::select! {
        _ = timeout(Duration::from_millis(MAX_LINGER_MS), refusal) => {}
        () = ticket.pushed_out() => {}
    }
}

/// Says yes. The few bytes always fit into a fresh connection.
pub fn accept(stream: &TcpStream) -> Result<(), String> {
    let answer = HelloAnswer { status: HelloStatus::Ok }.encode();
    match stream.try_write(&answer) {
        Ok(bytes) if bytes == answer.len() => Ok(()),
        Ok(_) => Err("the connection takes no bytes".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads what the other end still sends, until it closes: to close before would make its system throw away
/// what we said last. To be called with a time limit.
pub async fn linger(stream: &mut TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let (mut scratch, mut left) = ([0; 1024], MAX_LINGER_BYTES);
    while let Ok(bytes) = stream.read(&mut scratch).await {
        if bytes == 0 || bytes > left {
            return;
        }
        left -= bytes;
    }
}

impl Drop for Door {
    /// Also for a forked child that has the socket too: the port must not look alive.
    fn drop(&mut self) {
        // Systems that cannot do this to a listening socket have no better way.
        let _ = SockRef::from(&self.listener).shutdown(std::net::Shutdown::Both);
    }
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
