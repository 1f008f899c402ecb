//! Data connections: dialling with hellos, parking, cuts, ends.

use std::net::SocketAddr;
use std::rc::Rc;

use pccl_core::limits::{DEFAULT_POOL_CONNECTIONS, STALL_FACTOR_AMONG_OTHERS};
use pccl_core::proto::peer::Admission;
use pccl_core::shell::node::{Input, Node};
use pccl_core::types::{LinkId, PeerId};
use pccl_core::wire::message::{LinkToken, PeerAddress};

use super::event::{Event, ProcessId};
use super::invariants::{Verdict, g4_progress, g7_memory};
use super::pipe::{Conn, MemLink, News, Side};
use super::process::{DATA_PORT, Process};
use super::queue::Us;
use super::world::{World, trace};

/// A connection and its two owners.
pub struct Joint {
    pub conn: Rc<Conn>,
    pub owners: [ProcessId; 2],
    /// How often it was held so far.
    pub hold: u32,
    /// When it was held last, and what each side had not heard of by then.
    pub held_at: Us,
    owed: [bool; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DialState {
    /// Not at the other end yet.
    OnTheWay,
    /// The other end has no word from the master about this hello yet.
    Parked,
    /// Accepted; the answer is on its way back.
    Made,
    Failed,
    Over,
}

/// One attempt to make a connection.
pub struct Dial {
    from: ProcessId,
    to: PeerId,
    address: Option<SocketAddr>,
    generation: u32,
    token: Option<LinkToken>,
    expires: Us,
    state: DialState,
    target: Option<ProcessId>,
    /// The dialler's end, until the answer is there.
    link: Option<(LinkId, MemLink)>,
}

const RETRY_US: Us = 40_000;

fn link_id(conn: u32, side: Side) -> LinkId {
    LinkId(u64::from(conn) * 2 + side as u64)
}

fn conn_of(link: LinkId) -> (u32, Side) {
    ((link.0 / 2) as u32, (link.0 % 2) as Side)
}

impl World {
    pub fn dial(&mut self, process: ProcessId, to: PeerAddress, connections: u16) {
        trace!(
            self,
            "{} dials {} × {connections}, generation {}", self.processes[process], to.peer, to.generation
        );
        let token = self.processes[process].node.as_ref().and_then(Node::token);
        let expires = self.now + u64::from(self.scenario.link_timeout_ms) * 1000;
        for _ in 0..connections {
            let dial = self.dials.len();
            self.dials.push(Dial {
                from: process,
                to: to.peer,
                address: to.addresses.first().copied(),
                generation: to.generation,
                token,
                expires,
                state: DialState::OnTheWay,
                target: None,
                link: None,
            });
            let delay = self.delay_to(process, to.peer);
            self.queue.push(self.now + delay, Event::DialArrives { dial });
        }
    }

    fn delay_to(&mut self, process: ProcessId, peer: PeerId) -> Us {
        let Some(target) = self.process_with(peer) else { return 1_000 };
        let (a, b) = (self.processes[process].slot, self.processes[target].slot);
        self.pair(a, b).delay_us
    }

    fn listener_at(&self, address: SocketAddr) -> Option<ProcessId> {
        let listens = |process: &super::process::Process| {
            process.ip == address.ip() && self.scenario.slots[process.slot].dialable
        };
        if address.port() != DATA_PORT {
            return None;
        }
        self.processes.iter().rposition(listens)
    }

    /// The connection's first packet reaches the other machine, or would.
    pub fn dial_arrives(&mut self, dial: usize) -> Verdict {
        let Dial { from, address, expires, .. } = self.dials[dial];
        let Some(address) = address else { return self.answer_dial(dial, DialState::Failed) };
        let Some(target) = self.listener_at(address) else {
            // Nobody has this address: packets go nowhere.
            self.queue.push(expires.max(self.now), Event::DialExpires { dial });
            return Ok(());
        };
        let (a, b) = (self.processes[from].slot, self.processes[target].slot);
        if self.pair(a, b).cut {
            if self.now < expires {
                self.queue.push(self.now + RETRY_US, Event::DialArrives { dial });
                return Ok(());
            }
            return self.answer_dial(dial, DialState::Failed);
        }
        if self.processes[target].node.is_none() {
            return self.answer_dial(dial, DialState::Failed);
        }
        self.dials[dial].target = Some(target);
        self.dials[dial].state = DialState::Parked;
        self.queue.push(expires.max(self.now), Event::DialExpires { dial });
        self.processes[target].parked.push(dial);
        self.look_at_parked(target)
    }

    /// The hellos that wait at this process: those that can be answered now are.
    pub fn look_at_parked(&mut self, process: ProcessId) -> Verdict {
        if self.processes[process].frozen || self.processes[process].parked.is_empty() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.processes[process].parked);
        let mut left = Vec::new();
        for dial in waiting {
            let Dial { from, generation, token, state, .. } = self.dials[dial];
            let Some(node) = &self.processes[process].node else { break };
            if state != DialState::Parked {
                continue;
            }
            // A dialler that is gone took its connection with it.
            if self.processes[from].node.is_none() {
                self.dials[dial].state = DialState::Over;
                continue;
            }
            let admission = match token {
                Some(token) => node.admits(self.processes[from].id, generation, token),
                None => Admission::No,
            };
            match admission {
                Admission::Yes => self.accept(dial, process)?,
                Admission::NotYet => left.push(dial),
                Admission::No => self.answer_dial(dial, DialState::Failed)?,
            }
        }
        left.append(&mut self.processes[process].parked);
        g7_memory::parked(left.len())?;
        self.processes[process].parked = left;
        Ok(())
    }

    fn accept(&mut self, dial: usize, target: ProcessId) -> Verdict {
        let Dial { from, generation, .. } = self.dials[dial];
        let slots = (self.processes[from].slot, self.processes[target].slot);
        let pair = *self.pair(slots.0, slots.1);
        let index = self.joints.len() as u32;
        let moods = [from, target].map(|process| self.processes[process].mood.clone());
        let conn =
            Conn::new(index, pair.delay_us, pair.us_per_byte, self.scenario.pipe_bytes, moods, self.now);
        let owners = [from, target];
        self.joints.push(Joint { conn: conn.clone(), owners, hold: 0, held_at: 0, owed: [false; 2] });
        let end = |side: Side| MemLink::new(conn.clone(), side, self.fabric.clone());
        self.dials[dial].link = Some((link_id(index, 0), end(0)));
        let io = end(1);
        self.answer_dial(dial, DialState::Made)?;
        if pair.cut {
            self.hold_joint(index);
        }
        trace!(self, "{} accepts connection {index} of {}", self.processes[target], self.processes[from]);
        let peer = self.processes[from].id;
        let link = link_id(index, 1);
        let rtt_us = io.round_trip_us();
        self.feed(
            target,
            Input::LinkUp {
                link,
                peer,
                generation,
                dialled: false,
                rtt_us,
                pool: DEFAULT_POOL_CONNECTIONS,
                io,
            },
        )
    }

    fn answer_dial(&mut self, dial: usize, state: DialState) -> Verdict {
        self.dials[dial].state = state;
        let delay = self.delay_to(self.dials[dial].from, self.dials[dial].to);
        self.queue.push(self.now + delay, Event::DialAnswered { dial });
        Ok(())
    }

    pub fn dial_answered(&mut self, dial: usize) -> Verdict {
        let process = self.dials[dial].from;
        if self.put_off(process, Event::DialAnswered { dial }) {
            return Ok(());
        }
        let state = std::mem::replace(&mut self.dials[dial].state, DialState::Over);
        let Dial { to: peer, generation, .. } = self.dials[dial];
        match (state, self.dials[dial].link.take()) {
            (DialState::Made, Some((link, io))) => {
                let rtt_us = io.round_trip_us();
                self.feed(
                    process,
                    Input::LinkUp {
                        link,
                        peer,
                        generation,
                        dialled: true,
                        rtt_us,
                        pool: DEFAULT_POOL_CONNECTIONS,
                        io,
                    },
                )
            }
            (DialState::Failed, _) => {
                trace!(self, "{} could not reach {peer}", self.processes[process]);
                let reason = "nobody answered".to_string();
                self.feed(process, Input::DialFailed { peer, generation, reason })
            }
            _ => Ok(()),
        }
    }

    /// A process that is gone took the connections with it whose answers were on their way.
    pub fn forget_dials(&mut self, process: ProcessId) {
        for dial in self.dials.iter_mut().filter(|dial| dial.from == process) {
            dial.link = None;
        }
    }

    pub fn dial_expires(&mut self, dial: usize) -> Verdict {
        match self.dials[dial].state {
            DialState::OnTheWay | DialState::Parked => {
                self.dials[dial].state = DialState::Failed;
                self.queue.push(self.now, Event::DialAnswered { dial });
            }
            DialState::Made | DialState::Failed | DialState::Over => {}
        }
        Ok(())
    }

    /// Plans what the pipes have told.
    pub fn take_news(&mut self) {
        if !self.fabric.has_news() {
            return;
        }
        let mut news = std::mem::take(&mut self.news);
        self.fabric.take_news(&mut news);
        for one in news.drain(..) {
            match one {
                News::Arrival { conn, side, at } => self.queue.push(at, Event::Arrival { conn, side }),
                News::PutOff { conn, side, at } => self.queue.push(at, Event::LetGo { conn, side }),
                News::Room { conn, side } => {
                    let joint = &self.joints[conn as usize];
                    if !joint.conn.held.get() && joint.conn.room(1 - side) {
                        let at = self.now + joint.conn.delay_us.get();
                        self.queue.push(at, Event::Ready { conn, side: 1 - side });
                    }
                }
                News::Shut { conn, side } => {
                    let clean = self.rng.percent(70);
                    let joint = &self.joints[conn as usize];
                    if !joint.conn.held.get() {
                        let at = joint.conn.end_arrives(side, self.now);
                        self.queue.push(at, Event::Ended { conn, side: 1 - side, clean });
                    }
                }
            }
        }
        self.news = news;
    }

    /// What this side's process has put off goes out.
    pub fn let_go(&mut self, conn: u32, side: Side) -> Verdict {
        let joint = &self.joints[conn as usize];
        let process = joint.owners[side];
        if !self.put_off(process, Event::LetGo { conn, side })
            && let Some(at) = self.joints[conn as usize].conn.let_go(side, self.now)
        {
            self.queue.push(at, Event::Arrival { conn, side: 1 - side });
        }
        Ok(())
    }

    pub fn arrival(&mut self, conn: u32, side: Side) -> Verdict {
        if !self.joints[conn as usize].conn.arrive(side, self.now) {
            return Ok(());
        }
        self.ready(conn, side)
    }

    pub fn ready(&mut self, conn: u32, side: Side) -> Verdict {
        let joint = &self.joints[conn as usize];
        let process = joint.owners[side];
        if joint.conn.is_shut(side) || self.put_off(process, Event::Ready { conn, side }) {
            return Ok(());
        }
        self.feed(process, Input::LinkReady { link: link_id(conn, side) })
    }

    pub fn ended(&mut self, conn: u32, side: Side, clean: bool) -> Verdict {
        let joint = &self.joints[conn as usize];
        if joint.conn.held.get() {
            return Ok(());
        }
        joint.conn.break_side(side, "closed by the other side", clean);
        self.ready(conn, side)
    }

    pub fn link_closed(&mut self, process: ProcessId, link: LinkId) {
        let (conn, side) = conn_of(link);
        let shut = self.joints[conn as usize].conn.is_shut(side);
        assert!(shut, "P{process} says that {link:?} is closed, but it was not shut down");
    }

    pub fn watch_writable(&mut self, _process: ProcessId, link: LinkId) {
        let (conn, side) = conn_of(link);
        if self.joints[conn as usize].conn.watch_writable(side) {
            self.queue.push(self.now, Event::Ready { conn, side });
        }
    }

    pub fn again(&mut self, _process: ProcessId, link: LinkId) {
        let (conn, side) = conn_of(link);
        self.queue.push(self.now + 1, Event::Ready { conn, side });
    }

    /// Nothing gets through this connection until it is released, or given up by its systems: that takes a little longer than the
    /// product lets a connection among others have.
    pub fn hold_joint(&mut self, conn: u32) {
        let silence_us = u64::from(self.scenario.silence_ms) * 1000;
        let longest = silence_us * STALL_FACTOR_AMONG_OTHERS;
        let patience = longest + silence_us / 4 + self.rng.below(silence_us / 4);
        let joint = &mut self.joints[conn as usize];
        if joint.conn.hold(self.now) {
            joint.hold += 1;
            joint.held_at = self.now;
            joint.owed = [0, 1].map(|side| joint.conn.is_unacked(side));
            let hold = joint.hold;
            self.queue.push(self.now + patience, Event::GiveUp { conn, hold });
        }
    }

    pub fn release_joint(&mut self, conn: u32) {
        let joint = &self.joints[conn as usize];
        if !joint.conn.held.get() {
            return;
        }
        let arrivals = joint.conn.release(self.now);
        for (side, at) in arrivals.into_iter().enumerate() {
            if let Some(at) = at {
                self.queue.push(at, Event::Arrival { conn, side });
            }
            let joint = &self.joints[conn as usize];
            if joint.conn.is_shut(1 - side) {
                let at = joint.conn.end_arrives(1 - side, self.now);
                self.queue.push(at, Event::Ended { conn, side, clean: true });
            }
            // A writer that waited may find room that was made before the hold.
            self.queue.push(self.now + joint.conn.delay_us.get(), Event::Ready { conn, side });
        }
    }

    /// Both machines have waited too long for a sign from the other.
    pub fn give_up(&mut self, conn: u32, hold: u32) -> Verdict {
        let joint = &self.joints[conn as usize];
        if !joint.conn.held.get() || joint.hold != hold {
            return Ok(());
        }
        self.was_given_up(conn)?;
        self.joints[conn as usize].conn.held.set(false);
        self.reset_joint(conn, "timed out")
    }

    /// Whoever was there all the time has noticed before its system did, if something it had sent was not answered.
    fn was_given_up(&self, conn: u32) -> Verdict {
        let joint = &self.joints[conn as usize];
        let keeps = (0..2).filter(|side| joint.owed[*side] && !joint.conn.is_shut(*side));
        let awake = |process: &Process| {
            process.node.is_some() && !process.frozen && process.resumed_at <= joint.held_at
        };
        let late = keeps.map(|side| &self.processes[joint.owners[side]]).find(|process| awake(process));
        g4_progress::dead_link(late.map(|process| format!("{process} keeps connection {conn}")))
    }

    pub fn reset_joint(&mut self, conn: u32, reason: &str) -> Verdict {
        trace!(self, "connection {conn} breaks: {reason}");
        for side in 0..2 {
            self.joints[conn as usize].conn.break_side(side, reason, false);
            self.ready(conn, side)?;
        }
        Ok(())
    }

    /// Connections with an end that nobody has shut, for the end of the run.
    pub fn open_joints(&self) -> Vec<String> {
        let open = |joint: &&Joint| (0..2).any(|side| !joint.conn.is_shut(side));
        let name = |joint: &Joint| {
            let [a, b] = joint.owners;
            format!("connection {} of P{a} and P{b}", joint.conn.index)
        };
        self.joints.iter().filter(open).map(name).collect()
    }
}
