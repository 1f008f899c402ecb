//! A link and its two halves, pumped until it blocks or has had its share.

use super::context::Context;
use super::engine::Output;
use super::frames::Core;
use super::link::{Answers, Link, LinkIo};
use super::patience::Patience;
use super::rx::{Rx, Speaker};
use super::tx::Tx;
use crate::mem::Pool;
use crate::types::{LinkId, OpKey, PeerId, Time};

pub(super) struct Conn<L> {
    pub speaker: Speaker,
    io: L,
    rx: Rx,
    tx: Tx,
    /// The link took less than it was given; nothing more is tried until it is said to be ready.
    blocked: bool,
    pub(super) patience: Patience,
    /// `Again` was put out, and the host has not come back yet.
    again: bool,
    /// The share of writing was used up; nothing more is written until the host comes back.
    paused: bool,
    /// What was written during which pump.
    written: (u64, usize),
}

/// How an attempt to write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    /// A piece or grants went out whole; there may be more for this peer.
    Whole,
    /// Nothing to write, or not now.
    Nothing,
}

impl<L: Link> Conn<L> {
    pub fn new(link: LinkId, id: PeerId, peer: usize, segment_bytes: usize, io: L) -> Conn<L> {
        Conn {
            speaker: Speaker { link, id, peer, last: None },
            rx: Rx::new(),
            tx: Tx::new(segment_bytes),
            blocked: false,
            patience: Patience::new(io.answers().is_some()),
            io,
            again: false,
            paused: false,
            written: (0, 0),
        }
    }

    /// The host says that the link may have become ready.
    pub fn wake(&mut self) {
        self.blocked = false;
        self.again = false;
        self.paused = false;
    }

    /// Reads until the link blocks or has had its share. An error is the reason to drop the link.
    pub fn read(&mut self, core: &mut Core) -> Result<(), String> {
        let mut bytes = 0;
        while bytes < core.cx.config.pump_budget_bytes {
            core.cx.counters.reads += 1;
            match self.rx.read(&mut self.io, core) {
                LinkIo::Moved(0) | LinkIo::Blocked => return Ok(()),
                LinkIo::Moved(moved) => {
                    bytes += moved;
                    core.cx.counters.bytes_read += moved as u64;
                    if !core.probes.is_active() {
                        core.cx.peers.heard(self.speaker.peer, moved as u64, core.cx.now);
                    }
                }
                LinkIo::Closed(reason) => return Err(reason),
            }
            self.rx.digest(&mut self.speaker, core).map_err(|fault| fault.to_string())?;
        }
        self.tell_again(core);
        Ok(())
    }

    /// Writes what is under way, and one new piece if there is one, as far as the link takes it.
    pub fn write(&mut self, core: &mut Core, pump: u64, now: Time) -> Result<Wrote, String> {
        if self.blocked || self.paused {
            return Ok(Wrote::Nothing);
        }
        if self.written.0 != pump {
            self.written = (pump, 0);
        }
        while self.tx.stage(self.speaker.peer, self.speaker.link, core) {
            if self.written.1 >= core.cx.config.pump_budget_bytes {
                self.paused = true;
                self.tell_again(core);
                return Ok(Wrote::Nothing);
            }
            core.cx.counters.writes += 1;
            match self.tx.write(&mut self.io, core) {
                LinkIo::Moved(0) | LinkIo::Blocked => {
                    self.blocked = true;
                    self.patience.took_nothing(now);
                    core.cx.outputs.push_back(Output::WatchWritable { link: self.speaker.link });
                    return Ok(Wrote::Nothing);
                }
                LinkIo::Moved(moved) => {
                    self.written.1 += moved;
                    core.cx.counters.bytes_written += moved as u64;
                    self.patience.took(now);
                }
                LinkIo::Closed(reason) => return Err(reason),
            }
            if self.tx.settle(core) {
                return Ok(Wrote::Whole);
            }
        }
        Ok(Wrote::Nothing)
    }

    /// It takes bytes, as far as is known, and has none.
    pub fn is_free(&self) -> bool {
        !self.blocked && !self.paused && self.tx.is_idle()
    }

    /// Relieves another link to the same peer of what it does not take and has not begun to send: it was given that
    /// before it was known to be blocked. That one is watched already, and gets something else when it takes bytes again.
    pub fn take_over(&mut self, other: &mut Conn<L>) -> bool {
        let taken = self.is_free() && other.blocked && self.tx.take_over(&mut other.tx);
        if taken && !other.tx.under_way() {
            other.patience.has_nothing();
        }
        taken
    }

    fn tell_again(&mut self, core: &mut Core) {
        if !std::mem::replace(&mut self.again, true) {
            core.cx.outputs.push_back(Output::Again { link: self.speaker.link });
        }
    }

    pub fn answers(&self) -> Option<Answers> {
        self.io.answers()
    }

    /// The other end is known to have all that this link took, and there is no more that it does not take.
    pub fn has_all(&self) -> bool {
        !self.blocked && self.answers().is_some_and(|answers| answers.all)
    }

    /// The operation in this slot is over.
    pub fn forget(&mut self, op: usize, key: OpKey, cx: &mut Context) {
        self.rx.forget(op, &mut cx.windows);
        if self.tx.forget(op) {
            cx.counters.voids_sent += 1;
        }
        if self.speaker.last.is_some_and(|(last, ..)| last == key) {
            self.speaker.last = None;
        }
        self.rest();
    }

    /// The synchronization is over. What still comes of it finds no place.
    pub fn forget_sync(&mut self, cx: &mut Context) {
        cx.counters.voids_sent += u64::from(self.tx.forget_sync());
        self.rest();
    }

    /// Whoever has nothing to write is not kept waiting.
    fn rest(&mut self) {
        if !self.tx.under_way() {
            self.blocked = false;
            self.patience.has_nothing();
        }
    }

    pub fn close(mut self, windows: &mut Pool) {
        self.io.shutdown();
        self.rx.release(windows);
    }
}
