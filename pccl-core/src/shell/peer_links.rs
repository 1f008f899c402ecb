//! A peer's connections: the control link, dialled and accepted data links, and those that wait at the door.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{Notify, SemaphorePermit};
use tokio::task::{spawn_local, yield_now};
use tokio::time::{Instant, timeout, timeout_at};

use super::node::Input;
use super::peer_loop::PeerLoop;
use crate::limits::{
    DEFAULT_LINK_TIMEOUT_MS, MAX_CONTROL_FRAME_BYTES, MAX_PARKED_CONNECTIONS, UNKNOWN_CONNECTION_TIMEOUT_MS,
};
use crate::net::congestion::in_force;
use crate::net::control::ControlLink;
use crate::net::dial::{Dialled, dial, dial_until_answered, resolve};
use crate::net::door::{Visitor, accept, refuse};
use crate::net::link::{Carried, TcpLink, end, ready_in_turn};
use crate::net::options::{set_control_options, set_data_options};
use crate::net::round_trip::round_trip_us;
use crate::net::strangers::StrangerLog;
use crate::proto::peer::Admission;
use crate::types::{LinkId, PeerId};
use crate::wire::hello::{Hello, HelloStatus};
use crate::wire::message::{LinkToken, PeerAddress};
use crate::wire::{FrameAssembler, decode_master};

/// What the task that watches a data connection is asked for.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) stream: Rc<TcpStream>,
    pub(super) peer: PeerId,
    pub(super) carried: Rc<Carried>,
    /// The congestion control that the system gave it.
    pub(super) own_congestion: String,
    /// What it is limited to, in bytes a second.
    pub(super) pace: Cell<Option<u64>>,
    writable: Cell<bool>,
    again: Cell<bool>,
    over: Cell<bool>,
    wake: Notify,
}

impl Watch {
    pub(super) fn new(stream: Rc<TcpStream>, peer: PeerId, carried: Rc<Carried>) -> Watch {
        Watch {
            own_congestion: in_force(&stream),
            stream,
            peer,
            carried,
            pace: Cell::new(None),
            writable: Cell::new(false),
            again: Cell::new(false),
            over: Cell::new(false),
            wake: Notify::new(),
        }
    }

    pub(super) fn want_writable(&self) {
        self.writable.set(true);
        self.wake.notify_one();
    }

    pub(super) fn is_writable_wanted(&self) -> bool {
        self.writable.get()
    }

    /// There is more to send than it takes. Whoever watches it may have been told of room and not had its turn yet, so the
    /// wish alone does not say so.
    pub(super) fn is_full(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.writable.get() && self.stream.poll_write_ready(&mut context).is_pending()
    }

    pub(super) fn want_again(&self) {
        self.again.set(true);
        self.wake.notify_one();
    }

    pub(super) fn end(&self) {
        self.over.set(true);
        self.wake.notify_one();
        end(&self.stream);
    }
}

/// What a data hello says.
#[derive(Clone, Copy, Debug)]
struct Claim {
    /// Who we are, as the hello has it: a membership that has ended leaves its connections behind.
    me: PeerId,
    peer: PeerId,
    generation: u32,
    token: LinkToken,
}

impl PeerLoop {
    pub(super) fn dial_master(self: &Rc<Self>) {
        let this = self.clone();
        let task = spawn_local(async move {
            match this.reach_master().await {
                Ok(stream) => this.speak_with_master(stream).await,
                Err(reason) => this.feed(Input::ControlLost { reason }),
            }
        });
        if let Some(before) = self.control_task.borrow_mut().replace(task) {
            before.abort();
        }
    }

    async fn reach_master(&self) -> Result<TcpStream, String> {
        let until = Instant::now() + Duration::from_millis(self.connect_timeout_ms.into());
        let addresses = timeout_at(until, resolve(&self.master))
            .await
            .map_err(|_| format!("looking up {:?} took too long: check the name server", self.master))??;
        dial_until_answered(&addresses, Hello::Control, until)
            .await
            .map_err(|reason| format!("cannot reach the master {}: {reason}", self.master))
    }

    async fn speak_with_master(self: &Rc<Self>, stream: TcpStream) {
        set_control_options(&stream, self.silence_ms.get());
        let control = ControlLink::new(stream);
        *self.control.borrow_mut() = Some(control.clone());
        self.feed(Input::ControlUp);
        let assembler = FrameAssembler::new(MAX_CONTROL_FRAME_BYTES);
        let reason = control
            .run(assembler, decode_master, |message, _| {
                if self.is_current(&control) {
                    self.overhear(&message);
                    self.feed(Input::Control(message));
                    self.news.notify_waiters();
                }
            })
            .await;
        if self.is_current(&control) {
            *self.control.borrow_mut() = None;
            let reason = reason.unwrap_or_else(|| "closed by order".into());
            self.feed(Input::ControlLost { reason });
        }
    }

    fn is_current(&self, control: &Rc<ControlLink>) -> bool {
        self.control.borrow().as_ref().is_some_and(|current| Rc::ptr_eq(current, control))
    }

    pub(super) fn dial(self: &Rc<Self>, to: PeerAddress, connections: u16) {
        for _ in 0..connections {
            spawn_local(self.clone().dial_peer(to.clone()));
        }
    }

    async fn dial_peer(self: Rc<Self>, to: PeerAddress) {
        let PeerAddress { peer, generation, addresses } = to;
        let (me, token) = {
            let node = self.node.borrow();
            (node.id(), node.token())
        };
        let reached = match token {
            Some(token) => {
                let hello = Hello::Data { from: me, to: peer, token, generation };
                dial(&addresses, hello, DEFAULT_LINK_TIMEOUT_MS.into()).await.map(|dialled| (dialled, token))
            }
            None => Err("not in a run any more".into()),
        };
        if self.node.borrow().id() != me {
            // What became of it concerns nobody any more.
            if let Ok((dialled, _)) = reached {
                end(&dialled.stream);
            }
            return;
        }
        match reached {
            Ok((Dialled { stream, connect_time }, token)) => {
                let claim = Claim { me, peer, generation, token };
                if self.judge(claim) == Admission::Yes {
                    self.add_link(stream, claim, Some(connect_time));
                } else {
                    let reason = "no longer wanted".into();
                    self.feed(Input::DialFailed { peer, generation, reason });
                }
            }
            Err(reason) => self.feed(Input::DialFailed { peer, generation, reason }),
        }
    }

    fn judge(&self, claim: Claim) -> Admission {
        let node = self.node.borrow();
        match node.id() == claim.me {
            true => node.admits(claim.peer, claim.generation, claim.token),
            false => Admission::No,
        }
    }

    /// Somebody has come to the data port and said a sound hello.
    pub(super) fn visit(self: &Rc<Self>, visitor: Visitor, log: &StrangerLog) {
        let me = self.node.borrow().id();
        let claim = match visitor.hello {
            Hello::Data { from, to, token, generation } if to == me => {
                Claim { me, peer: from, generation, token }
            }
            Hello::Data { to, .. } => {
                log.note(format_args!("{} refused: it looks for peer {to}, this is {me}", visitor.from));
                return turn_away(visitor, HelloStatus::WrongPeer);
            }
            Hello::Control => {
                log.note(format_args!("{} refused: it looks for a master, this is a peer", visitor.from));
                return turn_away(visitor, HelloStatus::WrongKind);
            }
        };
        match self.judge(claim) {
            Admission::Yes => self.let_in(visitor, claim),
            Admission::No => turn_away(visitor, HelloStatus::UnknownPeer),
            Admission::NotYet if self.parked.get() >= MAX_PARKED_CONNECTIONS => {
                turn_away(visitor, HelloStatus::Busy);
            }
            Admission::NotYet => {
                spawn_local(self.clone().park(visitor, claim, log.clone()));
            }
        }
    }

    /// The other end heard of us before we heard of it: its hello is answered when the master's word is here.
    async fn park(self: Rc<Self>, visitor: Visitor, claim: Claim, log: StrangerLog) {
        self.parked.set(self.parked.get() + 1);
        let verdict = tokio::select! {
            verdict = timeout(Duration::from_millis(UNKNOWN_CONNECTION_TIMEOUT_MS), self.hear_of(claim)) => {
                verdict.unwrap_or(Admission::NotYet)
            }
            () = visitor.ticket.pushed_out() => Admission::NotYet,
        };
        self.parked.set(self.parked.get() - 1);
        if verdict == Admission::Yes {
            return self.let_in(visitor, claim);
        }
        if verdict == Admission::NotYet {
            let from = visitor.from;
            log.note(format_args!(
                "{from} refused: it says it is peer {}, of whom the master said nothing",
                claim.peer
            ));
        }
        turn_away(visitor, HelloStatus::UnknownPeer);
    }

    async fn hear_of(&self, claim: Claim) -> Admission {
        loop {
            let news = self.news.notified();
            match self.judge(claim) {
                Admission::NotYet => news.await,
                verdict => return verdict,
            }
        }
    }

    fn let_in(self: &Rc<Self>, visitor: Visitor, claim: Claim) {
        // If the answer does not get out the dialler finds out, and so will whoever reads from it.
        if accept(&visitor.stream).is_ok() {
            self.add_link(visitor.stream, claim, None);
        }
    }

    /// `connect_time`: how long it took, if it was we who dialled.
    fn add_link(self: &Rc<Self>, stream: TcpStream, claim: Claim, connect_time: Option<Duration>) {
        let (dialled, measured_us) = (connect_time.is_some(), round_trip_us(&stream, connect_time));
        set_data_options(&stream, self.silence_ms.get(), &self.data);
        let link = LinkId(self.next_link.get());
        self.next_link.set(link.0 + 1);
        let stream = Rc::new(stream);
        let Claim { peer, generation, .. } = claim;
        let io = TcpLink::new(stream.clone());
        let watch = Rc::new(Watch::new(stream, peer, io.carried()));
        let (rtt_us, pool) = self.join_pair(link, &watch, measured_us);
        self.status.update(|snapshot| snapshot.stats.links_up += 1);
        self.feed(Input::LinkUp { link, peer, generation, dialled, rtt_us, pool, io });
        spawn_local(self.clone().watch(link, watch));
    }

    pub(super) fn forget_link(&self, link: LinkId) {
        if let Some(watch) = self.leave_pair(link) {
            watch.end();
            self.status.update(|snapshot| snapshot.stats.links_closed += 1);
        }
    }

    /// Tells the node when the connection is ready, as long as it has it.
    pub(super) async fn watch(self: Rc<Self>, link: LinkId, watch: Rc<Watch>) {
        while !watch.over.get() {
            let turn = if watch.again.take() {
                self.turn().await
            } else {
                let interest = match watch.writable.get() {
                    true => Interest::READABLE | Interest::WRITABLE,
                    false => Interest::READABLE,
                };
                let ready = tokio::select! {
                    ready = ready_in_turn(&watch.stream, interest) => ready,
                    () = watch.wake.notified() => continue,
                };
                match ready {
                    Ok(ready) if ready.is_writable() => watch.writable.set(false),
                    Ok(_) => {}
                    // Only when the runtime ends.
                    Err(_) => return,
                }
                match self.turns.try_acquire() {
                    Ok(turn) => Some(turn),
                    Err(_) => self.turn().await,
                }
            };
            self.feed(Input::LinkReady { link });
            drop(turn);
        }
    }

    /// Connections that have much to move do so one after the other, and before each the runtime looks at all else: so requests
    /// and messages of the master wait for one of them at most.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = self.turns.acquire().await.ok();
        yield_now().await;
        turn
    }
}

fn turn_away(visitor: Visitor, status: HelloStatus) {
    spawn_local(async move { refuse(visitor.stream, status, &visitor.ticket).await });
}

#[cfg(test)]
#[path = "peer_links_tests.rs"]
pub(super) mod tests;
