//! A link and its two halves, pumped until it blocks or has had its share.

use super::context::Context;
use super::engine::Output;
use super::frames::Core;
use super::link::{Answers, Link, LinkIo};
use super::patience::Patience;
use super::rx::{Rx, Speaker};
use super::tx::{Freight, Tx};
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
    /// Payload of one frame, but for the express.
    segment_bytes: usize,
    /// See `express`: payload of one frame, and what it takes of something long in one pump.
    express: Option<usize>,
    /// Its place in the order of the pair, as long as it holds little.
    order: Option<u32>,
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
    /// `may_be_express`: so at first it holds little.
    pub fn new(
        link: LinkId,
        id: PeerId,
        peer: usize,
        segment_bytes: usize,
        may_be_express: bool,
        mut io: L,
    ) -> Conn<L> {
        let order = io.order().filter(|_| may_be_express && io.hold_little());
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
            segment_bytes,
            express: None,
            order,
        }
    }

    /// For frames that are made from now on.
    pub fn set_segment_bytes(&mut self, segment_bytes: usize) {
        self.segment_bytes = segment_bytes;
        self.set_express(self.express);
    }

    /// `segment_bytes`: of one frame on an express; `None`: it is none.
    pub fn set_express(&mut self, segment_bytes: Option<usize>) {
        self.express = segment_bytes;
        self.tx.set_segment_bytes(
            segment_bytes.map_or(self.segment_bytes, |bytes| bytes.min(self.segment_bytes)),
        );
    }

    /// Something long is on it. Only the express goes on holding little: what a system has tuned to be much cannot be made
    /// little again without loss, so all that may become the express begin with little.
    fn take_long(&mut self, core: &mut Core) {
        if self.express.is_none()
            && let Some(order) = self.order.take()
        {
            self.io.hold_as_tuned();
            core.cx.peers.holds_as_tuned(self.speaker.peer, order);
        }
    }

    pub fn order(&self) -> Option<u32> {
        self.order
    }

    /// It is not known to take bytes, but may be asked.
    pub fn retry(&mut self) {
        self.blocked = false;
    }

    pub fn carries_long(&self) -> bool {
        self.tx.carries_long()
    }

    pub fn carries_short(&self) -> bool {
        self.tx.carries_short()
    }

    /// The host says that the link may have become ready.
    pub fn wake(&mut self) {
        self.blocked = false;
        self.again = false;
        self.paused = false;
    }

    /// Reads until the link blocks, or has had its share: then there may be more, and this is true. An error is the reason to
    /// drop the link.
    pub fn read(&mut self, core: &mut Core) -> Result<bool, String> {
        let mut bytes = 0;
        while bytes < core.cx.config.pump_budget_bytes {
            core.cx.counters.reads += 1;
            match self.rx.read(&mut self.io, core) {
                LinkIo::Moved(0) | LinkIo::Blocked => return Ok(false),
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
            if self.rx.carries_long() {
                self.take_long(core);
            }
        }
        self.tell_again(core);
        Ok(true)
    }

    /// Writes what is under way, and one new piece if there is one, as far as the link takes it.
    pub fn write(
        &mut self,
        freight: Freight,
        core: &mut Core,
        pump: u64,
        now: Time,
    ) -> Result<Wrote, String> {
        let is_short = freight == Freight::Short;
        if self.written.0 != pump {
            self.written = (pump, 0);
            // Its share is small: it has one whenever another has.
            self.paused &= self.express.is_none();
        }
        if self.blocked || (self.paused && !is_short) {
            return Ok(Wrote::Nothing);
        }
        let budget_bytes = core.cx.config.pump_budget_bytes;
        let share_bytes =
            self.express.filter(|_| !is_short).map_or(budget_bytes, |bytes| bytes.min(budget_bytes));
        while self.tx.stage(freight, self.speaker.peer, self.speaker.link, core) {
            if self.tx.carries_long() {
                self.take_long(core);
            }
            if self.written.1 >= share_bytes {
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
        if taken && !other.tx.under_way() && !other.tx.carries_long() {
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
        !self.blocked && self.answers().is_some_and(Answers::has_all)
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
