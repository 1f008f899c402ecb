//! A master's thread: the machine, its control connections and its clock.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_local;

use super::clock::{Clock, Timer};
use crate::limits::{MAX_CONTROL_FRAME_BYTES, MAX_LINGER_MS, UNKNOWN_CONNECTION_TIMEOUT_MS};
use crate::net::control::ControlLink;
use crate::net::door::{Door, Visitor, accept, refuse};
use crate::net::options::set_control_options;
use crate::net::strangers::{StrangerLog, Ticket};
use crate::plan;
use crate::proto::master::{ConnId, Event, Input, Master, MasterConfig, Output, PlanJob};
use crate::types::{Epoch, Time};
use crate::wire::hello::{Hello, HelloStatus};
use crate::wire::message::PeerMessage;
use crate::wire::{FrameAssembler, decode_peer, encode_master};

#[derive(Debug)]
struct MasterLoop {
    machine: RefCell<Master>,
    conns: RefCell<BTreeMap<ConnId, Rc<ControlLink>>>,
    next_conn: Cell<u64>,
    /// Connections with something to send.
    unsent: RefCell<Vec<Rc<ControlLink>>>,
    silence_ms: u32,
    log: StrangerLog,
    clock: Clock,
    timer: Timer,
    /// Set while the machine works: still set afterwards if it panicked.
    broken: Cell<bool>,
    over: Notify,
    /// Ends the searches that are under way on other threads.
    searches_stop: Arc<AtomicBool>,
}

/// The thread's whole life, until `stop` is dropped or says so. `ready` hears whether it could begin. An error
/// if it ended by itself.
pub fn run(
    config: MasterConfig,
    listener: TcpListener,
    stop: oneshot::Receiver<()>,
    ready: std::sync::mpsc::Sender<Result<(), String>>,
) -> Result<(), String> {
    let no_queue = |error: std::io::Error| format!("the system gives no event queue: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    let outcome = runtime.map_err(no_queue).and_then(|runtime| {
        let outcome = runtime.block_on(async {
            let door = Door::new(listener, "master port").map_err(no_queue)?;
            let master = MasterLoop::new(config, &door);
            // If nobody waits for the word, nobody needs it.
            let _ = ready.send(Ok(()));
            master.serve(door, stop).await
        });
        runtime.shutdown_timeout(Duration::from_millis(MAX_LINGER_MS));
        outcome
    });
    if let Err(reason) = &outcome {
        let _ = ready.send(Err(reason.clone()));
    }
    outcome
}

impl MasterLoop {
    fn new(config: MasterConfig, door: &Door) -> Rc<MasterLoop> {
        let clock = Clock::start();
        Rc::new(MasterLoop {
            silence_ms: config.silence_ms,
            machine: RefCell::new(Master::new(config, clock.now())),
            conns: RefCell::default(),
            next_conn: Cell::new(0),
            unsent: RefCell::default(),
            log: door.log(),
            clock,
            timer: Timer::default(),
            broken: Cell::new(false),
            over: Notify::new(),
            searches_stop: Arc::default(),
        })
    }

    async fn serve(self: Rc<Self>, door: Door, stop: oneshot::Receiver<()>) -> Result<(), String> {
        let _searches = StopAtEnd(self.searches_stop.clone());
        let this = self.clone();
        spawn_local(door.serve(move |visitor| {
            spawn_local(this.clone().speak(visitor));
        }));
        let this = self.clone();
        spawn_local(async move {
            this.timer.run(this.clock, || this.with_machine(|machine, now| machine.on_deadline(now))).await;
        });
        self.timer.set(self.machine.borrow().next_deadline());
        tokio::select! {
            _ = stop => Ok(()),
            () = self.over.notified() => Err("the master's thread panicked: this is a bug".into()),
        }
    }

    /// One control connection from its hello to its end.
    async fn speak(self: Rc<Self>, visitor: Visitor) {
        let Visitor { stream, from, hello, ticket } = visitor;
        if hello != Hello::Control {
            self.log.note(format_args!("{from} refused: it looks for a peer, this is the master"));
            return refuse(stream, HelloStatus::WrongKind, &ticket).await;
        }
        if accept(&stream).is_err() {
            return;
        }
        set_control_options(&stream, self.silence_ms);
        let conn = ConnId(self.next_conn.get());
        self.next_conn.set(conn.0 + 1);
        let control = ControlLink::new(stream);
        self.conns.borrow_mut().insert(conn, control.clone());
        self.feed(Input::Connected { conn, from: from.ip().to_canonical() });
        let reason = self.hear_out(conn, &control, ticket).await;
        self.conns.borrow_mut().remove(&conn);
        self.feed(Input::Closed { conn, reason });
    }

    /// Until it has joined, a connection remains one of the unknown: limited in number and time.
    async fn hear_out(self: &Rc<Self>, conn: ConnId, control: &Rc<ControlLink>, ticket: Ticket) -> String {
        let joined = Notify::new();
        let hearing = control.run(FrameAssembler::before_join(), decode_peer, |message, assembler| {
            if matches!(message, PeerMessage::Join(_) | PeerMessage::Resume(_)) {
                assembler.set_max_len(MAX_CONTROL_FRAME_BYTES);
                joined.notify_one();
            }
            self.feed(Input::Message { conn, message });
        });
        tokio::pin!(hearing);
        let limit = Duration::from_millis(UNKNOWN_CONNECTION_TIMEOUT_MS);
        let early_end = tokio::select! {
            reason = &mut hearing => Some(reason.unwrap_or_else(closed_by_order)),
            () = joined.notified() => None,
            () = ticket.pushed_out() => Some("too many connections had not joined".into()),
            () = tokio::time::sleep(limit) => Some("it did not join in time".into()),
        };
        drop(ticket);
        match early_end {
            Some(reason) => reason,
            None => hearing.await.unwrap_or_else(closed_by_order),
        }
    }

    fn feed(self: &Rc<Self>, input: Input) {
        self.with_machine(|machine, now| machine.handle(input, now));
    }

    fn with_machine(self: &Rc<Self>, step: impl FnOnce(&mut Master, Time)) {
        if self.broken.replace(true) {
            return;
        }
        let alarm = Alarm(self);
        step(&mut self.machine.borrow_mut(), self.clock.now());
        loop {
            let Some(output) = self.machine.borrow_mut().poll_output() else { break };
            self.perform(output);
        }
        for control in self.unsent.take() {
            control.flush();
        }
        self.timer.set(self.machine.borrow().next_deadline());
        drop(alarm);
        self.broken.set(false);
    }

    fn perform(self: &Rc<Self>, output: Output) {
        match output {
            Output::Send { conn, message } => {
                if let Some(control) = self.conns.borrow().get(&conn) {
                    control.push(|out| encode_master(&message, out));
                    let mut unsent = self.unsent.borrow_mut();
                    if !unsent.last().is_some_and(|last| Rc::ptr_eq(last, control)) {
                        unsent.push(control.clone());
                    }
                }
            }
            Output::Close { conn } => {
                if let Some(control) = self.conns.borrow().get(&conn) {
                    control.close();
                }
            }
            Output::Plan(job) => self.search(job),
            Output::Event(event) => self.write_down(&event),
        }
    }

    /// On a thread of its own, as this one has heartbeats to answer.
    fn search(self: &Rc<Self>, job: PlanJob) {
        let (this, stop) = (self.clone(), self.searches_stop.clone());
        spawn_local(async move {
            let broken = job.broken();
            let search = move || job.run(&|| stop.load(Ordering::Relaxed));
            let result = tokio::task::spawn_blocking(search).await;
            this.feed(result.unwrap_or_else(|error| {
                tracing::error!("the search for a plan broke, a bug: {error}");
                broken
            }));
        });
    }

    fn write_down(&self, event: &Event) {
        match event {
            Event::Stranger { .. } => self.log.note(format_args!("{event}")),
            Event::PeerRefused { .. }
            | Event::PeerLost { .. }
            | Event::PeerKicked { .. }
            | Event::PairTrouble { .. }
            | Event::Illegal { .. }
            | Event::StateAwaited { .. }
            | Event::OpMismatch { .. }
            | Event::Deadlock { .. } => tracing::warn!("{event}"),
            Event::EpochBegan { epoch, .. } => {
                tracing::info!("{event}");
                self.write_down_fallbacks(*epoch);
            }
            _ => tracing::info!("{event}"),
        }
    }

    /// Of the groups this epoch is about: which schedules a missing link rules out.
    fn write_down_fallbacks(&self, epoch: Epoch) {
        let machine = self.machine.borrow();
        let info = machine.epoch();
        for group in info.groups.iter().filter(|group| group.since == epoch) {
            for line in plan::fallbacks(group, info) {
                tracing::warn!("{epoch}: {line}");
            }
        }
    }
}

fn closed_by_order() -> String {
    "closed by the master".into()
}

/// Says stop however the loop ends.
struct StopAtEnd(Arc<AtomicBool>);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Ends the loop if the machine panics: a master that decides nothing must not look alive.
struct Alarm<'a>(&'a MasterLoop);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.over.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::{Incarnation, LinkToken};

    #[test]
    fn a_master_that_ends_leaves_no_search_behind() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let config = MasterConfig::new(Incarnation(1), LinkToken(1));
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build_local(Default::default()).unwrap();
        let searches_stop = runtime.block_on(async {
            let door = Door::new(listener, "master port").unwrap();
            let master = MasterLoop::new(config, &door);
            let searches_stop = master.searches_stop.clone();
            master.search(PlanJob::endless());
            // The search begins before this one does: threads take what is to be done in order.
            tokio::task::yield_now().await;
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            let (stop, stopped) = oneshot::channel();
            drop(stop);
            master.serve(door, stopped).await.unwrap();
            searches_stop
        });
        runtime.shutdown_timeout(Duration::from_secs(60));
        assert_eq!(Arc::strong_count(&searches_stop), 1, "nobody else holds it: the search is over");
    }
}
