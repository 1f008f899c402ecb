//! In-memory links that take and give a few bytes at a time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::rc::Rc;

use crate::exec::{Answers, Link, LinkIo};

/// One direction of a link, for the test to look into.
#[derive(Debug, Default)]
pub struct Pipe {
    pub bytes: VecDeque<u8>,
    pub capacity: usize,
    /// At most so many bytes each time.
    pub step: usize,
    pub closed: bool,
    /// Of what is in it so many bytes can be read; `None`: all.
    pub arrived: Option<usize>,
    /// Bytes written so far, and reads that found some.
    pub total: usize,
    pub reads: usize,
    /// Takes so many bytes, and no more until this is changed.
    pub stands_at: Option<usize>,
    /// What the system of the end that writes says of the other.
    pub answers: Option<Answers>,
    /// See `Link::order`.
    pub order: Option<u32>,
    /// The capacity it has when it is not to hold little.
    pub tuned_capacity: usize,
    /// Flips a bit of the byte at this position.
    pub damage_at: Option<usize>,
    /// The connection ends, both ways, when so many bytes have been written.
    pub cut_at: Option<usize>,
    /// The cut takes what is under way with it, as a reset does.
    pub cut_loses: bool,
}

/// Bytes on their way in a link that holds little.
pub const LITTLE: usize = 100;

pub type PipeRef = Rc<RefCell<Pipe>>;

#[derive(Debug)]
pub struct PipeEnd {
    pub from: PipeRef,
    pub to: PipeRef,
}

/// Both ends, and the two directions (first the one that the first end writes to).
pub fn pipe(capacity: usize, step: usize) -> (PipeEnd, PipeEnd, [PipeRef; 2]) {
    let new = || Rc::new(RefCell::new(Pipe { capacity, step, ..Pipe::default() }));
    let (there, back): (PipeRef, PipeRef) = (new(), new());
    let a = PipeEnd { from: back.clone(), to: there.clone() };
    let b = PipeEnd { from: there.clone(), to: back.clone() };
    (a, b, [there, back])
}

impl PipeEnd {
    /// Ends the connection if it has come to its cut.
    fn cut(&self) {
        if self.to.borrow().cut_at != Some(self.to.borrow().total) {
            return;
        }
        let loses = self.to.borrow().cut_loses;
        for pipe in [&self.from, &self.to] {
            let mut pipe = pipe.borrow_mut();
            pipe.closed = true;
            if loses {
                pipe.bytes.clear();
            }
        }
    }
}

impl Link for PipeEnd {
    fn try_read(&mut self, places: &mut [IoSliceMut<'_>]) -> LinkIo {
        assert!(places.iter().all(|place| !place.is_empty()), "an empty place");
        let mut pipe = self.from.borrow_mut();
        if pipe.bytes.is_empty() {
            let ended = pipe.closed.then(|| LinkIo::Closed("the other end is gone".into()));
            return ended.unwrap_or(LinkIo::Blocked);
        }
        let left = pipe.step.min(pipe.bytes.len()).min(pipe.arrived.unwrap_or(usize::MAX));
        if left == 0 {
            return LinkIo::Blocked;
        }
        pipe.reads += 1;
        let mut moved = 0;
        for byte in places.iter_mut().flat_map(|place| place.iter_mut()).take(left) {
            *byte = pipe.bytes.pop_front().unwrap();
            moved += 1;
        }
        pipe.arrived = pipe.arrived.map(|arrived| arrived - moved);
        LinkIo::Moved(moved)
    }

    fn try_write(&mut self, places: &[IoSlice<'_>]) -> LinkIo {
        assert!(places.iter().all(|place| !place.is_empty()), "an empty place");
        self.cut();
        let mut pipe = self.to.borrow_mut();
        if pipe.closed {
            return LinkIo::Closed("the other end is gone".into());
        }
        let until = |at: Option<usize>| at.map_or(usize::MAX, |at| at.saturating_sub(pipe.total));
        let until_end = until(pipe.cut_at).min(until(pipe.stands_at));
        let room = pipe.step.min(pipe.capacity.saturating_sub(pipe.bytes.len())).min(until_end);
        if room == 0 {
            return LinkIo::Blocked;
        }
        let mut moved = 0;
        for byte in places.iter().flat_map(|place| place.iter()).take(room) {
            let damaged = pipe.damage_at == Some(pipe.total);
            pipe.bytes.push_back(if damaged { byte ^ 0x10 } else { *byte });
            pipe.total += 1;
            moved += 1;
        }
        drop(pipe);
        self.cut();
        LinkIo::Moved(moved)
    }

    fn answers(&self) -> Option<Answers> {
        self.to.borrow().answers
    }

    fn order(&self) -> Option<u32> {
        self.to.borrow().order
    }

    fn hold_little(&mut self) -> bool {
        // It is the reader's buffer.
        let mut pipe = self.from.borrow_mut();
        pipe.tuned_capacity = pipe.capacity;
        pipe.capacity = pipe.capacity.min(LITTLE);
        true
    }

    fn hold_as_tuned(&mut self) {
        let mut pipe = self.from.borrow_mut();
        pipe.capacity = pipe.tuned_capacity;
    }

    fn shutdown(&mut self) {
        self.from.borrow_mut().closed = true;
        self.to.borrow_mut().closed = true;
    }
}
