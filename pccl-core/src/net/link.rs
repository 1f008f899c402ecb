//! A data connection as the engine sees it.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Result};
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use socket2::SockRef;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;

use super::options::{hold_as_tuned, hold_little};
use super::tcp_info::{TcpInfo, tcp_info};
use crate::exec::{Answers, Link, LinkIo};

/// One TCP connection. Whoever waits for its readiness holds the other reference to the stream.
#[derive(Debug)]
pub struct TcpLink {
    stream: Rc<TcpStream>,
    carried: Rc<Carried>,
    /// While it holds little: the `TCP_NOTSENT_LOWAT` it had before.
    tuned_notsent_bytes: Option<u32>,
}

/// Bytes each way so far.
#[derive(Debug, Default)]
pub struct Carried {
    pub read: Cell<u64>,
    pub written: Cell<u64>,
}

impl TcpLink {
    pub fn new(stream: Rc<TcpStream>) -> TcpLink {
        TcpLink { stream, carried: Rc::default(), tuned_notsent_bytes: None }
    }

    pub fn carried(&self) -> Rc<Carried> {
        self.carried.clone()
    }
}

impl Link for TcpLink {
    fn try_read(&mut self, places: &mut [IoSliceMut<'_>]) -> LinkIo {
        let room: usize = places.iter().map(|place| place.len()).sum();
        loop {
            match self.stream.try_read_vectored(places) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => {
                    note_read(&self.stream, &result, room);
                    return counted(outcome(result), &self.carried.read);
                }
            }
        }
    }

    fn try_write(&mut self, places: &[IoSlice<'_>]) -> LinkIo {
        loop {
            match send(&self.stream, places) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return counted(outcome(result), &self.carried.written),
            }
        }
    }

    fn answers(&self) -> Option<Answers> {
        answers(&tcp_info(&self.stream))
    }

    /// By the ports, which both ends know unless they are translated on the way. (Where both ends have one data port, and by chance
    /// dialled from one port, two connections have the same.)
    fn order(&self) -> Option<u32> {
        let ports = [self.stream.local_addr().ok()?.port(), self.stream.peer_addr().ok()?.port()];
        Some(u32::from(ports[0].min(ports[1])) << 16 | u32::from(ports[0].max(ports[1])))
    }

    fn hold_little(&mut self) -> bool {
        self.tuned_notsent_bytes = hold_little(&self.stream);
        self.tuned_notsent_bytes.is_some()
    }

    fn hold_as_tuned(&mut self) {
        if let Some(notsent_bytes) = self.tuned_notsent_bytes.take() {
            hold_as_tuned(&self.stream, notsent_bytes);
        }
    }

    fn shutdown(&mut self) {
        end(&self.stream);
    }
}

/// Bytes the other end has no room for were not sent yet, so they are not unacknowledged. Where the system does not tell of them
/// there are none.
fn answers(info: &TcpInfo) -> Option<Answers> {
    let (unacked, quiet_ms) = (info.unacked()? > 0, info.last_ack_ms()?.into());
    Some(Answers { unacked, unsent: info.unsent_bytes().unwrap_or(0) > 0, quiet_ms })
}

/// Writes to a connection that its other end has closed are an error. Plain `writev` makes them a signal that ends the process, wherever
/// nobody has it ignored: a program in C has not.
#[cfg(all(unix, not(target_vendor = "apple")))]
fn send(stream: &TcpStream, places: &[IoSlice<'_>]) -> Result<usize> {
    stream.try_io(Interest::WRITABLE, || {
        SockRef::from(stream).send_vectored_with_flags(places, nix::libc::MSG_NOSIGNAL)
    })
}

/// Apple's systems are told so once, with the other options of a socket. Windows has no signals.
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
fn send(stream: &TcpStream, places: &[IoSlice<'_>]) -> Result<usize> {
    stream.try_write_vectored(places)
}

fn counted(io: LinkIo, bytes: &Cell<u64>) -> LinkIo {
    if let LinkIo::Moved(moved) = io {
        bytes.set(bytes.get() + moved as u64);
    }
    io
}

fn outcome(result: Result<usize>) -> LinkIo {
    match result {
        Ok(0) => LinkIo::Closed("closed by the peer".into()),
        Ok(bytes) => LinkIo::Moved(bytes),
        Err(error) if error.kind() == ErrorKind::WouldBlock => LinkIo::Blocked,
        Err(error) => LinkIo::Closed(error.to_string()),
    }
}

/// A read that leaves room has emptied the socket: that saves asking once more before waiting.
pub fn note_read(stream: &TcpStream, result: &Result<usize>, room: usize) {
    // True of edge-triggered queues of events, of which Linux has one.
    if cfg!(target_os = "linux") && result.as_ref().is_ok_and(|bytes| *bytes > 0 && *bytes < room) {
        // The only way to tell tokio; the closure stands for the read that would find nothing.
        let _ = stream.try_io(Interest::READABLE, || Err::<(), _>(ErrorKind::WouldBlock.into()));
    }
}

/// Waits until the stream is ready. Where it is ready at once others have their turn first, so that nobody who
/// always has something to read keeps the thread to himself.
pub async fn ready_in_turn(stream: &TcpStream, interest: Interest) -> Result<Ready> {
    let mut ready = pin!(stream.ready(interest));
    if poll_fn(|context| Poll::Ready(ready.as_mut().poll(context).is_ready())).await {
        // Goes once around all tasks, and asks the system for more.
        tokio::task::yield_now().await;
        return stream.ready(interest).await;
    }
    ready.await
}

/// Ends both directions, also for whoever else holds the socket: a forked child would keep it open.
pub fn end(stream: &TcpStream) {
    // It may have ended by itself; then there is nothing left to do.
    let _ = SockRef::from(stream).shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn pair() -> (TcpLink, Rc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        let ours = Rc::new(ours.unwrap());
        (TcpLink::new(ours.clone()), ours, theirs.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_an_empty_link_is_blocked() {
        let (mut ours, ready, theirs) = pair().await;
        let mut theirs = TcpLink::new(Rc::new(theirs));
        let (mut a, mut b) = ([0; 3], [0; 8]);
        assert_eq!(ours.try_read(&mut [IoSliceMut::new(&mut a)]), LinkIo::Blocked);
        assert_eq!(theirs.try_write(&[IoSlice::new(b"hello"), IoSlice::new(b" you")]), LinkIo::Moved(9));
        ready.readable().await.unwrap();
        let places = &mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        assert_eq!(ours.try_read(places), LinkIo::Moved(9));
        assert_eq!((&a, &b[..6]), (b"hel", &b"lo you"[..]));
        let carried = |link: &TcpLink| (link.carried().written.get(), link.carried().read.get());
        assert_eq!((carried(&ours), carried(&theirs)), ((0, 9), (9, 0)));
    }

    #[tokio::test]
    async fn both_ends_know_the_same_order_of_links() {
        let mut orders = Vec::new();
        for _ in 0..3 {
            let (ours, _, theirs) = pair().await;
            let theirs = TcpLink::new(Rc::new(theirs));
            assert_eq!(ours.order(), theirs.order());
            orders.push((ours.order().unwrap(), ours, theirs));
        }
        orders.sort_by_key(|(order, ..)| *order);
        orders.dedup_by_key(|(order, ..)| *order);
        assert_eq!(orders.len(), 3);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_the_other_end_has_is_told() {
        let (mut ours, ready, theirs) = pair().await;
        let fresh = ours.answers().unwrap();
        assert!(fresh.has_all() && fresh.quiet_ms < 60_000, "{fresh:?}");
        ready.writable().await.unwrap();
        assert_eq!(ours.try_write(&[IoSlice::new(b"hello")]), LinkIo::Moved(5));
        theirs.readable().await.unwrap();
        // Its acknowledgement may be on its way.
        while !ours.answers().unwrap().has_all() {
            tokio::task::yield_now().await;
        }
    }

    /// The other end's system has acknowledged what it has room for. The rest was never sent.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn bytes_that_wait_for_room_at_the_other_end_are_not_there() {
        let (mut ours, ready, _theirs) = pair().await;
        ready.writable().await.unwrap();
        let bytes = vec![7; 1 << 20];
        // Until both ends are full, which may take some turns of the system.
        loop {
            if let LinkIo::Closed(reason) = ours.try_write(&[IoSlice::new(&bytes)]) {
                panic!("{reason}");
            }
            let answers = ours.answers().unwrap();
            // That the connection was made is acknowledged as well.
            let there = tcp_info(&ours.stream).acked_bytes().unwrap_or(u64::MAX).saturating_sub(1);
            if !answers.unacked && there < ours.carried.written.get() {
                break assert!(!answers.has_all(), "{answers:?}");
            }
            if there == u64::MAX - 1 {
                break eprintln!("SKIPPED: this system does not tell what was acknowledged");
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_full_link_is_blocked_and_an_ended_one_closed() {
        let (mut ours, ready, theirs) = pair().await;
        let bytes = vec![7; 1 << 20];
        let mut written = 0;
        loop {
            match ours.try_write(&[IoSlice::new(&bytes)]) {
                LinkIo::Moved(n) => written += n,
                other => break assert_eq!(other, LinkIo::Blocked),
            }
        }
        assert!(written > 0);
        drop(theirs);
        ready.readable().await.unwrap();
        let mut place = [0; 8];
        assert!(matches!(ours.try_read(&mut [IoSliceMut::new(&mut place)]), LinkIo::Closed(_)));
    }

    #[tokio::test]
    async fn shutdown_ends_it_for_the_other_side_while_a_reference_lives() {
        let (mut ours, _still_held, theirs) = pair().await;
        ours.shutdown();
        let mut theirs_link = TcpLink::new(Rc::new(theirs));
        theirs_link.stream.readable().await.unwrap();
        let mut place = [0; 8];
        assert_eq!(
            theirs_link.try_read(&mut [IoSliceMut::new(&mut place)]),
            LinkIo::Closed("closed by the peer".into())
        );
    }
}
