//! The master, and the control connections to it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use pccl_core::proto::master::{
    ConnId, Event as MasterEvent, Input, Kept, Master, MasterConfig, Output, PlanJob,
};
use pccl_core::shell::node;
use pccl_core::types::Time;
use pccl_core::wire::message::{Incarnation, LinkToken, MasterMessage, PeerMessage};

use super::control_link::{ControlLink, Item, Owner, master_message_on_the_wire, peer_message_on_the_wire};
use super::event::{Event, Lane, ProcessId};
use super::invariants::Verdict;
use super::queue::Us;
use super::rng::mix_all;
use super::scenario::Scenario;
use super::world::{Bug, Options, World, trace};

/// The master's process.
pub struct MasterHost {
    /// `None` while it is down.
    pub machine: Option<Master>,
    /// Counts the masters of this run.
    pub number: u32,
    seed: u64,
    config: MasterConfig,
    inbox: VecDeque<(usize, Item)>,
    /// Searches that are under way.
    plans: VecDeque<PlanJob>,
    pub us_per_message: Us,
    pub frozen: bool,
    turn_planned: bool,
    timer_at: Option<Us>,
    /// Which run this is: the number of the master that began it. Two masters in a row may have two runs, with the
    /// same epoch numbers, if nobody came back.
    run: u32,
    /// The run that is being recovered.
    run_found: u32,
    /// Whose message is being handled.
    reads: Option<usize>,
    /// Handled so far, heartbeats excluded.
    pub inputs: u64,
    pub outputs: u64,
    /// Time spent in the machine.
    pub cpu: Duration,
}

impl MasterHost {
    pub fn new(scenario: &Scenario, options: Options) -> MasterHost {
        let mut config = MasterConfig::new(Incarnation(0), LinkToken(0));
        config.heartbeat_ms = scenario.heartbeat_ms;
        config.silence_ms = scenario.silence_ms;
        config.link_timeout_ms = scenario.link_timeout_ms;
        config.prepare_timeout_ms = scenario.prepare_timeout_ms;
        config.resume_grace_ms = scenario.resume_grace_ms;
        config.schedule = scenario.schedule;
        config.piece_bytes = scenario.piece_bytes;
        #[cfg(feature = "seeded-bugs")]
        {
            config.commit_early = options.bug == Some(Bug::CommitEarly);
        }
        #[cfg(not(feature = "seeded-bugs"))]
        let _: Option<Bug> = options.bug;
        let mut host = MasterHost {
            machine: None,
            number: 0,
            seed: scenario.seed,
            config,
            inbox: VecDeque::new(),
            plans: VecDeque::new(),
            us_per_message: 0,
            frozen: false,
            turn_planned: false,
            timer_at: None,
            run: 0,
            run_found: 0,
            reads: None,
            inputs: 0,
            outputs: 0,
            cpu: Duration::ZERO,
        };
        host.start(0);
        host
    }

    /// What a master keeps of peers that are gone.
    pub fn left_behind(&self) -> Vec<String> {
        let Some(kept) = self.machine.as_ref().map(Master::kept) else { return Vec::new() };
        if kept == Kept::default() { Vec::new() } else { vec![format!("at the master {kept:?}")] }
    }

    fn start(&mut self, now: Us) {
        self.number += 1;
        self.run = self.number;
        self.plans.clear();
        let random = |what| mix_all(&[self.seed, 8, u64::from(self.number), what]);
        self.config.incarnation = Incarnation(random(0));
        self.config.token = LinkToken(u128::from(random(1)));
        self.machine = Some(Master::new(self.config.clone(), Time(now)));
    }
}

impl World {
    pub fn push_control(&mut self, link: usize, lane: Lane, item: Item) {
        let at = self.controls[link].push(lane, item, self.now);
        self.queue.push(at, Event::Control { link, lane });
    }

    // The peer's end.

    pub fn dial_master(&mut self, process: ProcessId) {
        let slot = self.processes[process].slot;
        let delay = self.slots[slot].control_delay_us;
        let held = self.slots[slot].control_cut;
        let link = self.open_control(Owner::Process(process), delay, held);
        self.processes[process].control = Some(link);
    }

    pub fn open_control(&mut self, owner: Owner, delay: Us, held: bool) -> usize {
        let link = self.controls.len();
        self.controls.push(ControlLink::new(owner, delay, self.now, held));
        self.queue.push(self.now + delay, Event::ControlDialArrives { link });
        link
    }

    pub fn control_dial_arrives(&mut self, link: usize) -> Verdict {
        if !self.controls[link].peer_open {
            return Ok(());
        }
        let patience = u64::from(self.scenario.silence_ms) * 2_000;
        if self.controls[link].held {
            if self.now < self.controls[link].dialled_at + patience {
                self.queue.push(self.now + 30_000, Event::ControlDialArrives { link });
            } else {
                self.controls[link].held = false;
                self.push_control(link, Lane::ToPeer, Item::End("no answer"));
            }
            return Ok(());
        }
        if self.master.machine.is_none() {
            self.push_control(link, Lane::ToPeer, Item::End("connection refused"));
            return Ok(());
        }
        self.controls[link].master_open = true;
        self.controls[link].master = self.master.number;
        self.push_control(link, Lane::ToPeer, Item::Up);
        // The hello comes with it; the master hears of it in its turn.
        self.master_hears(link, Item::Connected)
    }

    pub fn hang_up(&mut self, process: ProcessId) {
        if let Some(link) = self.processes[process].control.take() {
            self.close_peer_end(link);
        }
    }

    pub fn close_peer_end(&mut self, link: usize) {
        if std::mem::take(&mut self.controls[link].peer_open) {
            self.push_control(link, Lane::ToMaster, Item::End("closed by the peer"));
        }
    }

    pub fn send_to_master(&mut self, process: ProcessId, message: PeerMessage) {
        let Some(link) = self.processes[process].control else { return };
        if message != PeerMessage::Heartbeat {
            trace!(self, "{} → {message:?}", self.processes[process]);
        }
        self.send_from_peer(link, message);
    }

    pub fn send_from_peer(&mut self, link: usize, message: PeerMessage) {
        let message = peer_message_on_the_wire(message, &mut self.wire);
        self.push_control(link, Lane::ToMaster, Item::FromPeer(message));
    }

    pub fn control_arrives(&mut self, link: usize, lane: Lane) -> Verdict {
        if lane == Lane::ToPeer
            && let Owner::Process(process) = self.controls[link].owner
            && self.put_off(process, Event::Control { link, lane })
        {
            return Ok(());
        }
        let Some(item) = self.controls[link].pop(lane, self.now) else { return Ok(()) };
        match lane {
            Lane::ToMaster => self.master_hears(link, item),
            Lane::ToPeer => self.peer_hears(link, item),
        }
    }

    fn peer_hears(&mut self, link: usize, item: Item) -> Verdict {
        let process = match self.controls[link].owner {
            Owner::Process(process) if self.processes[process].control == Some(link) => process,
            Owner::Hostile(_) => {
                if let Item::End(_) = item {
                    self.close_peer_end(link);
                }
                return Ok(());
            }
            Owner::Process(_) => return Ok(()),
        };
        match item {
            Item::Up => self.feed(process, node::Input::ControlUp)?,
            Item::End(reason) => {
                self.hang_up(process);
                self.feed(process, node::Input::ControlLost { reason: reason.to_string() })?;
            }
            Item::FromMaster(message) => {
                if message != MasterMessage::Heartbeat {
                    trace!(self, "{} ← {message:?}", self.processes[process]);
                }
                if self.newcomer_fault_strikes(process, &message) {
                    if self.processes[process].frozen {
                        let at =
                            self.controls[link].push_front(Lane::ToPeer, Item::FromMaster(message), self.now);
                        self.queue.push(at, Event::Control { link, lane: Lane::ToPeer });
                    }
                    return Ok(());
                }
                if self.processes[process].is_newcomer() {
                    self.processes[process].run = self.controls[link].run;
                }
                let judged = match &message {
                    MasterMessage::Verdict { key, .. } => Some(*key),
                    _ => None,
                };
                self.overhear_sync(process, &message)?;
                self.feed(process, node::Input::Control(message))?;
                if let Some(key) = judged {
                    self.count_verdict(process, key);
                }
            }
            Item::Connected | Item::FromPeer(_) => {}
        }
        self.look_at_parked(process)
    }

    // The master's end.

    fn master_hears(&mut self, link: usize, item: Item) -> Verdict {
        let control = &self.controls[link];
        if !control.master_open || control.master != self.master.number || self.master.machine.is_none() {
            return Ok(());
        }
        self.master.inbox.push_back((link, item));
        if self.master.us_per_message == 0 && !self.master.frozen {
            self.master_turn_now()
        } else {
            self.plan_turn();
            Ok(())
        }
    }

    fn plan_turn(&mut self) {
        if !self.master.frozen && !self.master.inbox.is_empty() && !self.master.turn_planned {
            self.master.turn_planned = true;
            self.queue.push(self.now + self.master.us_per_message, Event::MasterTurn);
        }
    }

    pub fn master_turn(&mut self) -> Verdict {
        self.master.turn_planned = false;
        if self.master.frozen {
            return Ok(());
        }
        self.master_turn_now()
    }

    fn master_turn_now(&mut self) -> Verdict {
        if let Some((link, item)) = self.master.inbox.pop_front() {
            self.master_reads(link, item);
            self.master_settles()?;
        }
        self.plan_turn();
        Ok(())
    }

    fn master_reads(&mut self, link: usize, item: Item) {
        let now = Time(self.now);
        let conn = ConnId(link as u64);
        let from = self.address_of(link);
        let Some(machine) = &mut self.master.machine else { return };
        if !self.controls[link].master_open {
            return;
        }
        self.master.inputs += u64::from(!matches!(item, Item::FromPeer(PeerMessage::Heartbeat)));
        self.master.reads = Some(link);
        let began = self.options.measure.then(Instant::now);
        match item {
            Item::Connected => machine.handle(Input::Connected { conn, from }, now),
            Item::FromPeer(message) => machine.handle(Input::Message { conn, message }, now),
            Item::End(reason) => {
                self.controls[link].master_open = false;
                machine.handle(Input::Closed { conn, reason: reason.to_string() }, now);
                self.push_control(link, Lane::ToPeer, Item::End("closed by the master"));
            }
            Item::Up | Item::FromMaster(_) => {}
        }
        self.master.cpu += began.map_or(Duration::ZERO, |began| began.elapsed());
    }

    fn address_of(&self, link: usize) -> IpAddr {
        match self.controls[link].owner {
            Owner::Process(process) => self.processes[process].ip,
            Owner::Hostile(index) => IpAddr::V4(Ipv4Addr::new(192, 168, 0, index as u8)),
        }
    }

    fn master_settles(&mut self) -> Verdict {
        while let Some(output) = self.master.machine.as_mut().and_then(Master::poll_output) {
            let heartbeat = matches!(&output, Output::Send { message: MasterMessage::Heartbeat, .. });
            self.master.outputs += u64::from(!heartbeat);
            match output {
                Output::Send { conn, message } => {
                    let message = master_message_on_the_wire(message, &mut self.wire);
                    self.note_election(&message);
                    self.controls[conn.0 as usize].run = self.master.run;
                    self.push_control(conn.0 as usize, Lane::ToPeer, Item::FromMaster(message));
                }
                Output::Close { conn } => self.master_closes(conn),
                Output::Plan(job) => self.search(job),
                Output::Event(event) => {
                    trace!(self, "master: {event}");
                    self.master_decided(&event);
                }
            }
        }
        self.arm_master();
        Ok(())
    }

    /// Takes its time, beside everything else.
    fn search(&mut self, job: PlanJob) {
        let at = self.now + self.rng.between(10, 50_000);
        self.master.plans.push_back(job);
        self.queue.push(at, Event::MasterHasPlan { master: self.master.number });
    }

    pub fn master_has_plan(&mut self, master: u32) -> Verdict {
        if master != self.master.number {
            return Ok(());
        }
        if self.master.frozen {
            self.queue.push(self.now + 10_000, Event::MasterHasPlan { master });
            return Ok(());
        }
        let (Some(job), Some(machine)) = (self.master.plans.pop_front(), &mut self.master.machine) else {
            return Ok(());
        };
        self.report.plans += 1;
        machine.handle(job.run(&|| false), Time(self.now));
        self.master_settles()
    }

    fn master_decided(&mut self, event: &MasterEvent) {
        match event {
            MasterEvent::EpochBegan { .. } => self.report.epochs += 1,
            // The run of whoever has just resumed, if it comes to that.
            MasterEvent::Recovering { .. } => {
                let owner = self.master.reads.map(|link| self.controls[link].owner);
                if let Some(Owner::Process(process)) = owner {
                    self.master.run_found = self.processes[process].run;
                }
            }
            MasterEvent::Recovered { .. } => self.master.run = self.master.run_found,
            _ => {}
        }
    }

    fn master_closes(&mut self, conn: ConnId) {
        let link = conn.0 as usize;
        if !self.controls[link].master_open {
            return;
        }
        self.push_control(link, Lane::ToPeer, Item::End("closed by the master"));
        // The machine hears of it in its turn, as for any other end.
        self.master.inbox.push_back((link, Item::End("closed by order")));
        self.plan_turn();
    }

    fn arm_master(&mut self) {
        let Some(deadline) = self.master.machine.as_ref().and_then(Master::next_deadline) else { return };
        let at = deadline.0.max(self.now);
        if self.master.timer_at.is_none_or(|armed| armed > at) {
            self.master.timer_at = Some(at);
            self.queue.push(at, Event::MasterTimer);
        }
    }

    pub fn master_timer(&mut self) -> Verdict {
        self.master.timer_at = None;
        // A master drains its input before it judges silence.
        if self.master.frozen {
            return Ok(());
        }
        while self.master.us_per_message == 0 && !self.master.inbox.is_empty() {
            self.master_turn_now()?;
        }
        let now = Time(self.now);
        if let Some(machine) = &mut self.master.machine
            && machine.next_deadline().is_some_and(|deadline| deadline <= now)
        {
            machine.on_deadline(now);
            return self.master_settles();
        }
        self.arm_master();
        Ok(())
    }

    pub fn master_thaws(&mut self) -> Verdict {
        if std::mem::take(&mut self.master.frozen) {
            trace!(self, "the master goes on, {} messages waited", self.master.inbox.len());
            while self.master.us_per_message == 0 && !self.master.inbox.is_empty() {
                self.master_turn_now()?;
            }
            self.plan_turn();
            return self.master_timer();
        }
        Ok(())
    }

    pub fn master_dies(&mut self) {
        self.master.machine = None;
        self.master.inbox.clear();
        self.master.frozen = false;
        for link in 0..self.controls.len() {
            if std::mem::take(&mut self.controls[link].master_open) {
                self.push_control(link, Lane::ToPeer, Item::End("the master is gone"));
            }
        }
    }

    pub fn master_starts(&mut self) -> Verdict {
        if self.master.machine.is_none() {
            self.master.start(self.now);
            trace!(self, "master number {} begins", self.master.number);
            self.arm_master();
        }
        Ok(())
    }

    // Cuts.

    pub fn hold_control(&mut self, link: usize) {
        let silence_us = u64::from(self.scenario.silence_ms) * 1000;
        let patience = silence_us * 2 + self.rng.below(silence_us);
        let control = &mut self.controls[link];
        if !std::mem::replace(&mut control.held, true) {
            control.hold += 1;
            let hold = control.hold;
            self.queue.push(self.now + patience, Event::ControlGiveUp { link, hold });
        }
    }

    pub fn release_control(&mut self, link: usize) {
        if !std::mem::take(&mut self.controls[link].held) {
            return;
        }
        for lane in [Lane::ToMaster, Lane::ToPeer] {
            let (at, items) = self.controls[link].release(lane, self.now);
            for _ in 0..items {
                self.queue.push(at, Event::Control { link, lane });
            }
        }
    }

    pub fn control_give_up(&mut self, link: usize, hold: u32) -> Verdict {
        if self.controls[link].held && self.controls[link].hold == hold {
            self.reset_control(link);
        }
        Ok(())
    }

    /// Both ends find the connection broken.
    pub fn reset_control(&mut self, link: usize) {
        trace!(self, "control connection {link} breaks");
        self.controls[link].held = false;
        for lane in [Lane::ToMaster, Lane::ToPeer] {
            self.controls[link].clear(lane);
            self.push_control(link, lane, Item::End("timed out"));
        }
    }

    /// Control connections with an open end, for the end of the run.
    pub fn open_controls(&self) -> Vec<String> {
        let open = |link: &&ControlLink| link.peer_open || link.master_open;
        let name = |link: &ControlLink| format!("control connection of {:?}", link.owner);
        self.controls.iter().filter(open).map(name).collect()
    }
}
