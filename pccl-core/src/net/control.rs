//! A control connection: frames in order, each way. What is sent goes out at once if the system takes it, and
//! is queued within limits if it does not.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::link::{end, note_read, ready_in_turn};
use super::options::set_patience;
use crate::limits::{MAX_CONTROL_QUEUE_BYTES, MAX_LINGER_BYTES, MAX_LINGER_MS};
use crate::wire::{EncodeError, FrameAssembler, WireError};

/// Read at once before others have their turn.
const READ_BYTES: usize = 8 << 10;

/// The sending half, and the handle to close it by. Dropping it does not end the connection: `run` does.
#[derive(Debug)]
pub struct ControlLink {
    stream: TcpStream,
    out: RefCell<Outgoing>,
    /// Wakes `run` when there is something it cannot learn from the socket.
    wake: Notify,
}

#[derive(Debug, Default)]
struct Outgoing {
    queue: Vec<u8>,
    /// Bytes at the front of `queue` that are out.
    sent: usize,
    closing: bool,
    failed: Option<String>,
}

impl ControlLink {
    pub fn new(stream: TcpStream) -> Rc<ControlLink> {
        Rc::new(ControlLink { stream, out: RefCell::default(), wake: Notify::new() })
    }

    /// The run's silence time, heard over this very connection: a longer one than it was made with is of no use while the
    /// system ends it earlier.
    pub fn set_silence(&self, silence_ms: u32) {
        set_patience(&self.stream, silence_ms.into());
    }

    /// Appends a frame to what goes out with the next `flush`. A failure ends the connection by way of `run`.
    pub fn push(&self, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>) {
        let mut out = self.out.borrow_mut();
        if out.closing || out.failed.is_some() {
            return;
        }
        let before = out.queue.len();
        let failure = match encode(&mut out.queue) {
            Err(error) => Some(error.to_string()),
            Ok(()) if out.queue.len() - out.sent > MAX_CONTROL_QUEUE_BYTES => {
                Some("it does not read what it is sent".to_string())
            }
            Ok(()) => None,
        };
        if let Some(reason) = failure {
            out.queue.truncate(before);
            out.failed = Some(reason);
            self.wake.notify_one();
        }
    }

    /// Sends what the system takes now; the rest follows when it can.
    pub fn flush(&self) {
        let mut out = self.out.borrow_mut();
        while out.sent < out.queue.len() && out.failed.is_none() {
            match self.stream.try_write(&out.queue[out.sent..]) {
                Ok(bytes) => out.sent += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wake.notify_one();
                    break;
                }
                Err(error) => {
                    out.failed = Some(error.to_string());
                    self.wake.notify_one();
                }
            }
        }
        if out.sent == out.queue.len() {
            out.queue.clear();
            out.sent = 0;
        } else if out.sent > MAX_CONTROL_QUEUE_BYTES / 8 {
            let sent = std::mem::take(&mut out.sent);
            out.queue.drain(..sent);
        }
        // A burst does not hold its memory for ever.
        if out.queue.is_empty() && out.queue.capacity() > READ_BYTES {
            out.queue = Vec::new();
        }
    }

    /// Takes no more, and ends once everything pushed so far is out.
    pub fn close(&self) {
        self.out.borrow_mut().closing = true;
        self.wake.notify_one();
    }

    /// Hands on what arrives and sends what is queued, until the connection ends; returns why. `None`: it was
    /// closed by order. Messages after that order are dropped.
    pub async fn run<M>(
        &self,
        mut assembler: FrameAssembler,
        decode: fn(&[u8]) -> Result<M, WireError>,
        mut hand_on: impl FnMut(M, &mut FrameAssembler),
    ) -> Option<String> {
        let _end = End(&self.stream);
        let reason = self.exchange(&mut assembler, decode, &mut hand_on).await;
        if reason.is_none() {
            // Who does not read in time has had its chance.
            let _ = timeout(Duration::from_millis(MAX_LINGER_MS), self.wind_up()).await;
        }
        reason
    }

    async fn exchange<M>(
        &self,
        assembler: &mut FrameAssembler,
        decode: fn(&[u8]) -> Result<M, WireError>,
        hand_on: &mut impl FnMut(M, &mut FrameAssembler),
    ) -> Option<String> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            if let Some(reason) = self.out.borrow().failed.clone() {
                return Some(reason);
            }
            if self.out.borrow().closing {
                return None;
            }
            let ready = tokio::select! {
                ready = ready_in_turn(&self.stream, self.interest()) => ready,
                () = self.wake.notified() => continue,
            };
            match ready {
                Ok(ready) if ready.is_writable() => self.flush(),
                Ok(_) => {}
                Err(error) => return Some(error.to_string()),
            }
            if let Err(reason) = self.read(&mut buffer, assembler, decode, hand_on) {
                return Some(reason);
            }
        }
    }

    fn interest(&self) -> Interest {
        match self.out.borrow().queue.is_empty() {
            true => Interest::READABLE,
            false => Interest::READABLE | Interest::WRITABLE,
        }
    }

    /// One read, and whatever messages it completes.
    fn read<M>(
        &self,
        buffer: &mut [u8],
        assembler: &mut FrameAssembler,
        decode: fn(&[u8]) -> Result<M, WireError>,
        hand_on: &mut impl FnMut(M, &mut FrameAssembler),
    ) -> Result<(), String> {
        let result = self.stream.try_read(buffer);
        note_read(&self.stream, &result, buffer.len());
        let bytes = match result {
            Ok(0) => return Err("the connection was closed by the other end".into()),
            Ok(bytes) => bytes,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let mut rest = &buffer[..bytes];
        while let Some(body) = assembler.next_body(&mut rest).map_err(|error| error.to_string())? {
            let message = decode(&body).map_err(|error| error.to_string())?;
            if self.out.borrow().closing {
                return Ok(());
            }
            hand_on(message, assembler);
        }
        Ok(())
    }

    /// Sends the rest, then reads until the other end closes: to close before would make its system throw away
    /// what we said last.
    async fn wind_up(&self) {
        loop {
            self.flush();
            if self.out.borrow().failed.is_some() {
                return;
            }
            if self.out.borrow().queue.is_empty() {
                break;
            }
            if self.stream.writable().await.is_err() {
                return;
            }
        }
        let _ = socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write);
        let (mut scratch, mut left) = ([0; 1024], MAX_LINGER_BYTES);
        while self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut scratch) {
                Ok(bytes) if bytes > 0 && bytes <= left => left -= bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }
}

/// Ends the connection however `run` ends: dropped half-way, as when its loop stops, a forked child that has the
/// socket too would keep it open.
struct End<'a>(&'a TcpStream);

impl Drop for End<'_> {
    fn drop(&mut self) {
        end(self.0);
    }
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
