//! In-memory data connections: a pipe of few bytes per direction, which takes a few bytes at a time, reads
//! the source at that moment, and delivers after the connection's delay.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::rc::Rc;

use pccl_core::exec::{Answers, Link, LinkIo};

use super::forger::{Forger, Mood};
use super::queue::Us;
use super::rng::Rng;

/// One end of a connection: 0 dialled, 1 accepted.
pub type Side = usize;

/// What the pipes tell the world, to be planned as events.
#[derive(Debug)]
pub enum News {
    /// Bytes will be there to read for `side`.
    Arrival { conn: u32, side: Side, at: Us },
    /// `side` has taken bytes out: the other side's writes have room again.
    Room { conn: u32, side: Side },
    /// `side` shut its end down.
    Shut { conn: u32, side: Side },
    /// `side` has put something off until then.
    PutOff { conn: u32, side: Side, at: Us },
}

/// What all pipes of one world share.
pub struct Fabric {
    pub now: Cell<Us>,
    rng: RefCell<Rng>,
    news: RefCell<Vec<News>>,
    /// Most bytes one read or write moves.
    bite_bytes: u64,
}

impl Fabric {
    pub fn new(seed: u64, bite_bytes: u64) -> Rc<Fabric> {
        let (now, rng) = (Cell::new(0), RefCell::new(Rng::new(seed)));
        Rc::new(Fabric { now, rng, news: RefCell::default(), bite_bytes })
    }

    fn bite(&self) -> usize {
        self.rng.borrow_mut().between(1, self.bite_bytes) as usize
    }

    /// Moves the news into `into`.
    pub fn take_news(&self, into: &mut Vec<News>) {
        into.append(&mut self.news.borrow_mut());
    }

    pub fn has_news(&self) -> bool {
        !self.news.borrow().is_empty()
    }
}

/// The bytes on their way in one direction.
#[derive(Default)]
struct Stream {
    bytes: VecDeque<u8>,
    /// Bytes of `bytes` that have arrived.
    readable: usize,
    /// The others: when they arrive, and how many.
    under_way: VecDeque<(Us, usize)>,
    last_arrival: Us,
    /// The writer was turned away and said that it waits for room.
    writer_waits: bool,
    /// While nothing gets through, its system has room for so many more: what it has is not acknowledged.
    room_while_held: Option<usize>,
    /// Bytes that the writer's system does not know to have arrived.
    unacked: usize,
    /// What tells it on its way: when that is there, and for how many bytes. Not those of which it was lost.
    acks: VecDeque<(Us, usize)>,
    lost_acks: usize,
}

impl Stream {
    fn room(&self, capacity_bytes: usize) -> usize {
        let room = capacity_bytes.saturating_sub(self.bytes.len());
        self.room_while_held.map_or(room, |most| room.min(most))
    }

    /// Takes in the acknowledgements that have come; when the last of them did.
    fn hear(&mut self, now: Us) -> Option<Us> {
        let mut heard = None;
        while let Some((at, bytes)) = self.acks.front().copied().filter(|(at, _)| *at <= now) {
            self.acks.pop_front();
            self.unacked = self.unacked.saturating_sub(bytes);
            heard = Some(at);
        }
        heard
    }
}

pub struct Conn {
    pub index: u32,
    pub delay_us: Cell<Us>,
    /// What a slow connection needs for a byte.
    pub us_per_byte: Cell<Us>,
    pub capacity_bytes: usize,
    /// Nothing gets through: bytes are neither lost nor delivered (they would be sent again for ever).
    pub held: Cell<bool>,
    /// `streams[side]` is written by `side`.
    streams: [RefCell<Stream>; 2],
    /// Why this side can do no more.
    broken: [RefCell<Option<String>>; 2],
    /// The program at this side has ended it.
    shut: [Cell<bool>; 2],
    /// When this side's system last heard of the other.
    heard: [Cell<Us>; 2],
    /// What becomes of what this side writes.
    forgers: [RefCell<Forger>; 2],
}

impl Conn {
    /// `moods`: what the process at each side does to what its node sends.
    pub fn new(
        index: u32,
        delay_us: Us,
        us_per_byte: Us,
        capacity_bytes: usize,
        moods: [Mood; 2],
        now: Us,
    ) -> Rc<Conn> {
        Rc::new(Conn {
            index,
            delay_us: Cell::new(delay_us),
            us_per_byte: Cell::new(us_per_byte),
            capacity_bytes,
            held: Cell::new(false),
            streams: Default::default(),
            broken: Default::default(),
            shut: Default::default(),
            heard: [Cell::new(now), Cell::new(now)],
            forgers: moods.map(|mood| RefCell::new(Forger::new(mood))),
        })
    }

    /// Takes in what has arrived for `side`; whether there is something to read.
    pub fn arrive(&self, side: Side, now: Us) -> bool {
        let mut stream = self.streams[1 - side].borrow_mut();
        if self.held.get() {
            return false;
        }
        let before = stream.readable;
        self.heard[side].set(now);
        while let Some((at, len)) = stream.under_way.front().copied() {
            if at > now {
                break;
            }
            stream.readable += len;
            stream.under_way.pop_front();
        }
        // The system says so, whatever its process does.
        let come = stream.readable - before;
        if come > 0 {
            stream.acks.push_back((now + self.delay_us.get(), come));
        }
        come > 0
    }

    /// Nothing gets through from now on. False if nothing did before.
    pub fn hold(&self, now: Us) -> bool {
        if self.held.replace(true) {
            return false;
        }
        for side in 0..2 {
            self.hear(side, now);
            let mut stream = self.streams[side].borrow_mut();
            stream.lost_acks = stream.acks.drain(..).map(|(_, bytes)| bytes).sum();
            stream.room_while_held = Some(stream.room(self.capacity_bytes));
        }
        true
    }

    fn hear(&self, side: Side, now: Us) {
        if let Some(at) = self.streams[side].borrow_mut().hear(now) {
            self.heard[side].set(self.heard[side].get().max(at));
        }
    }

    /// Whether `side` has sent what is not known to have arrived.
    pub fn is_unacked(&self, side: Side) -> bool {
        self.streams[side].borrow().unacked > 0
    }

    /// Lets held bytes go again; the times at which they arrive at either side.
    pub fn release(&self, now: Us) -> [Option<Us>; 2] {
        self.held.set(false);
        let mut arrivals = [None; 2];
        for side in 0..2 {
            let mut stream = self.streams[side].borrow_mut();
            stream.room_while_held = None;
            let lost = std::mem::take(&mut stream.lost_acks);
            stream.acks.push_back((now + self.delay_us.get(), lost));
            let waiting: usize = stream.under_way.drain(..).map(|(_, len)| len).sum();
            if waiting > 0 {
                let at = now + self.delay_us.get();
                stream.under_way.push_back((at, waiting));
                stream.last_arrival = at;
                arrivals[1 - side] = Some(at);
            }
        }
        arrivals
    }

    /// When an end shut by `side` now is seen by the other.
    pub fn end_arrives(&self, side: Side, now: Us) -> Us {
        (now + self.delay_us.get()).max(self.streams[side].borrow().last_arrival)
    }

    /// `side` finds the connection broken. A clean end lets it read what has arrived before.
    pub fn break_side(&self, side: Side, reason: &str, clean: bool) {
        if !clean {
            let mut stream = self.streams[1 - side].borrow_mut();
            *stream = Stream::default();
        }
        self.broken[side].borrow_mut().get_or_insert_with(|| reason.to_string());
    }

    /// Inverts one bit of the bytes on their way from `side`; whether there was one.
    pub fn damage(&self, side: Side, rng: &mut Rng) -> bool {
        let mut stream = self.streams[side].borrow_mut();
        let len = stream.bytes.len() as u64;
        if len == 0 {
            return false;
        }
        let at = rng.below(len) as usize;
        stream.bytes[at] ^= 1 << rng.below(8);
        true
    }

    pub fn is_shut(&self, side: Side) -> bool {
        self.shut[side].get()
    }

    /// What `side` has put off until now leaves, if there still is a way; when it arrives.
    pub fn let_go(&self, side: Side, now: Us) -> Option<Us> {
        if self.is_shut(side) || self.broken[side].borrow().is_some() {
            return None;
        }
        let mut stream = self.streams[side].borrow_mut();
        let before = stream.bytes.len();
        self.forgers[side].borrow_mut().let_go(now, &mut stream.bytes);
        let passed = stream.bytes.len() - before;
        self.send(&mut stream, passed, now)
    }

    /// So many bytes at the end of `stream` leave now; when they arrive, if no others do just then.
    fn send(&self, stream: &mut Stream, passed: usize, now: Us) -> Option<Us> {
        if passed == 0 {
            return None;
        }
        stream.unacked += passed;
        stream.room_while_held = stream.room_while_held.map(|room| room.saturating_sub(passed));
        let travel = self.delay_us.get() + self.us_per_byte.get() * passed as u64;
        let at = (now + travel).max(stream.last_arrival);
        match stream.under_way.back_mut() {
            Some((last, len)) if *last == at => {
                *len += passed;
                None
            }
            _ => {
                stream.under_way.push_back((at, passed));
                stream.last_arrival = at;
                Some(at)
            }
        }
    }

    /// `side` wants to hear when it can write; whether it can already.
    pub fn watch_writable(&self, side: Side) -> bool {
        let mut stream = self.streams[side].borrow_mut();
        let room = stream.room(self.capacity_bytes) > 0 || self.broken[side].borrow().is_some();
        stream.writer_waits = !room;
        room
    }

    /// The other side has taken bytes out; whether `side` waits for that.
    pub fn room(&self, side: Side) -> bool {
        let mut stream = self.streams[side].borrow_mut();
        stream.room(self.capacity_bytes) > 0 && std::mem::take(&mut stream.writer_waits)
    }
}

/// One end of a connection, as the node holds it. Dropping it ends the connection, as a process's death does.
pub struct MemLink {
    conn: Rc<Conn>,
    side: Side,
    fabric: Rc<Fabric>,
}

impl MemLink {
    pub fn new(conn: Rc<Conn>, side: Side, fabric: Rc<Fabric>) -> MemLink {
        MemLink { conn, side, fabric }
    }

    /// As this end would have measured it.
    pub fn round_trip_us(&self) -> u32 {
        u32::try_from(2 * self.conn.delay_us.get()).unwrap_or(u32::MAX)
    }

    fn end(&self) -> Option<LinkIo> {
        if self.conn.shut[self.side].get() {
            return Some(LinkIo::Closed("shut down here".into()));
        }
        self.conn.broken[self.side].borrow().clone().map(LinkIo::Closed)
    }
}

impl Link for MemLink {
    fn try_read(&mut self, places: &mut [IoSliceMut<'_>]) -> LinkIo {
        let mut stream = self.conn.streams[1 - self.side].borrow_mut();
        if stream.readable == 0 || self.conn.shut[self.side].get() {
            return self.end().unwrap_or(LinkIo::Blocked);
        }
        let mut left = self.fabric.bite().min(stream.readable);
        let mut moved = 0;
        for place in places.iter_mut() {
            assert!(!place.is_empty(), "an empty place to read into");
            let take = left.min(place.len());
            for (to, from) in place.iter_mut().zip(stream.bytes.drain(..take)) {
                *to = from;
            }
            moved += take;
            left -= take;
        }
        stream.readable -= moved;
        if stream.writer_waits {
            let news = News::Room { conn: self.conn.index, side: self.side };
            self.fabric.news.borrow_mut().push(news);
        }
        LinkIo::Moved(moved)
    }

    fn try_write(&mut self, places: &[IoSlice<'_>]) -> LinkIo {
        if let Some(end) = self.end() {
            return end;
        }
        let mut stream = self.conn.streams[self.side].borrow_mut();
        let room = stream.room(self.conn.capacity_bytes);
        if room == 0 {
            return LinkIo::Blocked;
        }
        let mut left = self.fabric.bite().min(room);
        let (now, conn, side) = (self.fabric.now.get(), self.conn.index, self.side);
        let (mut moved, before) = (0, stream.bytes.len());
        for place in places {
            let take = left.min(place.len());
            let put_off = self.conn.forgers[side].borrow_mut().pass(&place[..take], now, &mut stream.bytes);
            let news = put_off.into_iter().map(|at| News::PutOff { conn, side, at });
            self.fabric.news.borrow_mut().extend(news);
            moved += take;
            left -= take;
        }
        assert!(moved > 0, "a write of nothing");
        let passed = stream.bytes.len() - before;
        if let Some(at) = self.conn.send(&mut stream, passed, now) {
            self.fabric.news.borrow_mut().push(News::Arrival { conn, side: 1 - side, at });
        }
        LinkIo::Moved(moved)
    }

    /// Not that in which they were made.
    fn order(&self) -> Option<u32> {
        Some(self.conn.index.reverse_bits() ^ 1 << 31)
    }

    /// It never holds much.
    fn hold_little(&mut self) -> bool {
        true
    }

    /// What is not on its way is put off by the program itself, so its system has sent all it was given.
    fn answers(&self) -> Option<Answers> {
        let now = self.fabric.now.get();
        self.conn.hear(self.side, now);
        let quiet_ms = (now - self.conn.heard[self.side].get()) / 1000;
        Some(Answers { unacked: self.conn.is_unacked(self.side), unsent: false, quiet_ms })
    }

    fn shutdown(&mut self) {
        if !self.conn.shut[self.side].replace(true) {
            let news = News::Shut { conn: self.conn.index, side: self.side };
            self.fabric.news.borrow_mut().push(news);
        }
    }
}

impl Drop for MemLink {
    fn drop(&mut self) {
        self.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(bite_bytes: u64, capacity_bytes: usize) -> (Rc<Fabric>, Rc<Conn>, MemLink, MemLink) {
        let fabric = Fabric::new(1, bite_bytes);
        let conn = Conn::new(0, 10, 0, capacity_bytes, Default::default(), 0);
        let end = |side| MemLink::new(conn.clone(), side, fabric.clone());
        let (a, b) = (end(0), end(1));
        (fabric, conn, a, b)
    }

    fn read(link: &mut MemLink) -> Result<Vec<u8>, LinkIo> {
        let mut place = [0; 64];
        match link.try_read(&mut [IoSliceMut::new(&mut place)]) {
            LinkIo::Moved(len) => Ok(place[..len].to_vec()),
            other => Err(other),
        }
    }

    #[test]
    fn bytes_arrive_after_the_delay_and_a_full_pipe_blocks() {
        let (_fabric, conn, mut a, mut b) = pair(64, 4);
        assert!(matches!(a.try_write(&[IoSlice::new(&[1, 2, 3, 4, 5, 6, 7, 8])]), LinkIo::Moved(1..=4)));
        while a.try_write(&[IoSlice::new(&[9])]) != LinkIo::Blocked {}
        assert_eq!(read(&mut b), Err(LinkIo::Blocked));
        assert!(conn.arrive(1, 10));
        assert_eq!(read(&mut b).map(|bytes| bytes[0]), Ok(1));
    }

    #[test]
    fn a_dropped_end_is_news_and_a_broken_side_says_why() {
        let (fabric, conn, a, mut b) = pair(64, 4);
        drop(a);
        let mut news = Vec::new();
        fabric.take_news(&mut news);
        assert!(matches!(news[..], [News::Shut { conn: 0, side: 0 }]));
        conn.break_side(1, "reset", false);
        assert_eq!(read(&mut b), Err(LinkIo::Closed("reset".into())));
    }

    #[test]
    fn what_has_arrived_is_acknowledged_a_delay_later_but_not_while_nothing_gets_through() {
        // Less than a header in all, which would have to be one.
        let (fabric, conn, mut a, mut b) = pair(4, 20);
        let at = |now: Us| fabric.now.set(now);
        let answers = |link: &MemLink| link.answers().unwrap();
        assert!(answers(&a).has_all());
        assert!(matches!(a.try_write(&[IoSlice::new(&[1; 4])]), LinkIo::Moved(_)));
        at(10);
        assert!(conn.arrive(1, 10));
        at(19);
        assert!(answers(&a).unacked, "the word of it is on its way");
        at(20);
        assert!(answers(&a).has_all());
        at(5_020);
        assert_eq!(answers(&a).quiet_ms, 5);

        assert!(matches!(a.try_write(&[IoSlice::new(&[1; 4])]), LinkIo::Moved(_)));
        at(5_030);
        assert!(conn.arrive(1, 5_030));
        at(5_035);
        assert!(conn.hold(5_035) && !conn.hold(5_036));
        at(9_000);
        assert!(answers(&a).unacked && conn.is_unacked(0));
        // The other program takes what has come, of which its system cannot tell.
        assert!(read(&mut b).is_ok());
        let mut taken = 0;
        while let LinkIo::Moved(bytes) = a.try_write(&[IoSlice::new(&[1; 4])]) {
            taken += bytes;
        }
        assert!(taken < 20, "what it took before is in the way: {taken}");
        let [_, arrival] = conn.release(9_000);
        assert_eq!(arrival, Some(9_010));
        at(9_010);
        assert!(conn.arrive(1, 9_010));
        at(9_020);
        assert!(answers(&a).has_all());
    }
}
