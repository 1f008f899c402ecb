//! Connections that have not said who they are: how many there may be, and how much is written about them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::limits::{MAX_STRANGER_LOG_LINES_PER_S, MAX_UNKNOWN_CONNECTIONS};

/// The unknown connections of one port, oldest first. One too many pushes the oldest out, so that silent ones
/// can never keep others from coming in.
#[derive(Clone, Debug, Default)]
pub struct Crowd(Rc<RefCell<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    present: BTreeMap<u64, Rc<Notify>>,
}

/// One connection's place among the unknown ones, given up when dropped.
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    out: Rc<Notify>,
    crowd: Crowd,
}

impl Crowd {
    pub fn enter(&self) -> Ticket {
        let mut waiting = self.0.borrow_mut();
        if waiting.present.len() >= MAX_UNKNOWN_CONNECTIONS
            && let Some((_, oldest)) = waiting.present.pop_first()
        {
            oldest.notify_one();
        }
        let number = waiting.next;
        waiting.next += 1;
        let out = Rc::new(Notify::new());
        waiting.present.insert(number, out.clone());
        Ticket { number, out, crowd: self.clone() }
    }

    /// Makes room without anybody coming, for when the system has no descriptors left.
    pub fn push_out_oldest(&self) {
        if let Some((_, oldest)) = self.0.borrow_mut().present.pop_first() {
            oldest.notify_one();
        }
    }

    pub fn len(&self) -> usize {
        self.0.borrow().present.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Ticket {
    /// Returns when this connection has to make room.
    pub async fn pushed_out(&self) {
        self.out.notified().await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.crowd.0.borrow_mut().present.remove(&self.number);
    }
}

/// Writes about strangers, a few lines a second; the rest are counted.
#[derive(Clone, Debug)]
pub struct StrangerLog {
    port: Rc<str>,
    rate: Rc<RefCell<Rate>>,
}

#[derive(Debug)]
struct Rate {
    since: Instant,
    lines: u32,
    more: u64,
}

impl StrangerLog {
    /// `port` says in the log which listening port it is about.
    pub fn new(port: &str) -> StrangerLog {
        let rate = Rate { since: Instant::now(), lines: 0, more: 0 };
        StrangerLog { port: port.into(), rate: Rc::new(RefCell::new(rate)) }
    }

    pub fn note(&self, text: fmt::Arguments<'_>) {
        let (write, more) = self.rate.borrow_mut().count(Instant::now());
        self.write_more(more);
        if write {
            tracing::warn!("{}: {text}", self.port);
        }
    }

    /// Writes how many lines were left out, once their second is over.
    pub fn settle(&self) {
        let more = self.rate.borrow_mut().roll(Instant::now());
        self.write_more(more);
    }

    fn write_more(&self, more: u64) {
        if more > 0 {
            tracing::warn!("{}: … and {more} more", self.port);
        }
    }
}

impl Rate {
    /// Whether one more line may be written, and how many were left out in the second that just ended.
    fn count(&mut self, now: Instant) -> (bool, u64) {
        let more = self.roll(now);
        if self.lines < MAX_STRANGER_LOG_LINES_PER_S {
            self.lines += 1;
            return (true, more);
        }
        self.more += 1;
        (false, more)
    }

    fn roll(&mut self, now: Instant) -> u64 {
        if now.duration_since(self.since) < Duration::from_secs(1) {
            return 0;
        }
        self.since = now;
        self.lines = 0;
        std::mem::take(&mut self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_too_many_pushes_the_oldest_out() {
        let crowd = Crowd::default();
        let mut tickets: Vec<Ticket> = (0..MAX_UNKNOWN_CONNECTIONS).map(|_| crowd.enter()).collect();
        drop(tickets.remove(0));
        assert_eq!(crowd.len(), MAX_UNKNOWN_CONNECTIONS - 1);
        let _one = crowd.enter();
        let _two = crowd.enter();
        tickets[0].pushed_out().await;
        assert_eq!(crowd.len(), MAX_UNKNOWN_CONNECTIONS);
    }

    #[test]
    fn a_flood_writes_a_few_lines_a_second_and_a_count() {
        let start = Instant::now();
        let mut rate = Rate { since: start, lines: 0, more: 0 };
        let written = (0..1000).filter(|_| rate.count(start).0).count();
        assert_eq!(written, MAX_STRANGER_LOG_LINES_PER_S as usize);
        let later = start + Duration::from_secs(1);
        assert_eq!(rate.count(later), (true, 1000 - u64::from(MAX_STRANGER_LOG_LINES_PER_S)));
        assert_eq!(rate.count(later), (true, 0));
    }
}
