//! A process of a peer: the node, its program, and the judgement of each outcome.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use pccl_core::error::{Error, ErrorKind};
use pccl_core::exec::EngineConfig;
#[cfg(feature = "seeded-bugs")]
use pccl_core::exec::SeededBug;
use pccl_core::mem::Budget;
use pccl_core::proto::peer::{Done, PeerConfig, ReduceInfo};
use pccl_core::shell::node::{Input, Node, NodeConfig, Output, Request};
use pccl_core::types::{
    Epoch, EpochInfo, GroupId, OpKey, PeerId, PhaseCall, SyncNumber, SyncOutcome, Tag, Time, WorkId,
};
use pccl_core::wire::message::Join;

use super::app::{Action, App, Call, Outcome};
use super::event::{Event, ProcessId};
use super::forger::Mood;
use super::invariants::g2_parity::Contribution;
use super::invariants::g2_state::Choice;
use super::invariants::{Instance, Verdict, g3_inputs, g4_progress, g5_crosstalk, g6_newcomers, g7_memory};
use super::leavings::Leavings;
use super::memory::CallMemory;
use super::pipe::MemLink;
use super::queue::Us;
use super::rng::mix_all;
use super::scenario::{Kind, STEP_TAG, Slot};
use super::sync::{Brings, StateMemory};
use super::world::{Bug, Stage, World, trace};

/// A call whose outcome is outstanding.
struct Outstanding {
    work: WorkId,
    call: Call,
    expect: Option<ErrorKind>,
    memory: Option<CallMemory>,
    state: Option<StateMemory>,
}

pub struct Process {
    pub index: ProcessId,
    pub slot: Slot,
    pub id: PeerId,
    pub ip: IpAddr,
    pub group: GroupId,
    /// `None` once the process has ended. Declared, and so dropped, before the memory it works on.
    pub node: Option<Node<MemLink>>,
    pub app: App,
    calls: Vec<Outstanding>,
    /// Memory that the program has back, poisoned; looked at again in the end.
    pub kept: Vec<(String, CallMemory)>,
    /// The latest all-reduce of each tag.
    pub latest: BTreeMap<Tag, Contribution>,
    /// Its tensors, while no call has them.
    pub model: Vec<Vec<u8>>,
    /// What it has brought to its latest synchronization, and what the master has chosen there.
    pub brings: Option<Brings>,
    /// What it does as a source, while it is in a synchronization.
    pub mood: Mood,
    /// What broken transfers have left, until a synchronization succeeds.
    pub leavings: Leavings,
    pub choice: Option<Rc<Choice>>,
    /// How the latest synchronization ended, as the master said.
    pub sync_ended: Option<(SyncNumber, SyncOutcome)>,
    /// Verdicts seen on each tag, in which epoch of the group.
    verdicts: BTreeMap<Tag, (Epoch, u32)>,
    /// The epoch before what happens now.
    before: Option<Arc<EpochInfo>>,
    timer_at: Option<Us>,
    pub frozen: bool,
    /// When it last went on.
    pub resumed_at: Us,
    /// What waits for the process to go on.
    put_off: Vec<Event>,
    pub control: Option<usize>,
    /// Which run it is a member of.
    pub run: u32,
    /// Dials whose hellos wait for the master's word.
    pub parked: Vec<usize>,
    pub steps_at_calm: u64,
    /// The fault of its slot's plan has happened.
    pub newcomer_fault_over: bool,
    /// Misbehaves by plan while it is pending: not one of those whom newcomers must not disturb.
    pub ill_fated: bool,
    phase_began_at: Us,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P{} ({}, slot {}, {})", self.index, self.id, self.slot, self.group)
    }
}

impl Process {
    /// Not a member of any epoch.
    pub fn is_newcomer(&self) -> bool {
        self.node.as_ref().and_then(Node::epoch).is_none()
    }
}

pub const DATA_PORT: u16 = 48_150;

impl World {
    pub fn spawn(&mut self, slot: Slot) -> Verdict {
        if self.slots[slot].process.is_some() || self.stage > Stage::Leaving {
            return Ok(());
        }
        let index = self.processes.len();
        let plan = self.scenario.slots[slot].clone();
        let first = self.slots[slot].processes_so_far == 0;
        self.slots[slot].processes_so_far += 1;
        self.slots[slot].process = Some(index);
        let id = mix_all(&[self.scenario.seed, 7, index as u64]);
        let id = PeerId((u128::from(id) << 64 | index as u128).to_be_bytes());
        let ip = IpAddr::V4(Ipv4Addr::new(10, slot as u8, (index >> 8) as u8, index as u8));
        let data_port = if plan.dialable { DATA_PORT } else { 0 };
        let join = Join { peer: id, group: plan.group, data_port, announced: None, pool: plan.pool };
        let mut peer = PeerConfig::new(join);
        peer.connect_timeout_ms = self.scenario.connect_timeout_ms;
        peer.reconnect_timeout_ms = self.scenario.reconnect_timeout_ms;
        let node = Node::new(NodeConfig { peer, engine: self.engine_config() }, Time(self.now));
        let mut app = App::new(self.scenario.clone(), plan.group, index as u64);
        if self.stage == Stage::Leaving {
            app.ask_to_leave();
        }
        self.processes.push(Process {
            index,
            slot,
            id,
            ip,
            group: plan.group,
            node: Some(node),
            app,
            calls: Vec::new(),
            kept: Vec::new(),
            latest: BTreeMap::new(),
            model: self.scenario.first_model(plan.group, index as u64),
            brings: None,
            mood: Mood::default(),
            leavings: Leavings::default(),
            choice: None,
            sync_ended: None,
            verdicts: BTreeMap::new(),
            before: None,
            timer_at: None,
            frozen: false,
            resumed_at: self.now,
            put_off: Vec::new(),
            control: None,
            run: 0,
            parked: Vec::new(),
            steps_at_calm: 0,
            newcomer_fault_over: !first || plan.newcomer_fault.is_none(),
            ill_fated: first && plan.newcomer_fault.is_some(),
            phase_began_at: 0,
        });
        trace!(self, "{} begins", self.processes[index]);
        self.queue.push(self.now, Event::AppWake { process: index });
        Ok(())
    }

    fn engine_config(&self) -> EngineConfig {
        #[cfg(not(feature = "seeded-bugs"))]
        let _: Option<Bug> = self.options.bug;
        EngineConfig {
            near_segment_bytes: 2 * self.scenario.segment_bytes,
            far_segment_bytes: self.scenario.segment_bytes,
            eager_bytes: self.scenario.eager_bytes,
            stall_ms: u64::from(self.scenario.silence_ms),
            budget: Budget::new(self.scenario.budget_bytes),
            #[cfg(feature = "seeded-bugs")]
            bug: match self.options.bug {
                Some(Bug::PartialSum) => Some(SeededBug::PartialSumLeftBehind),
                Some(Bug::OldEpoch) => Some(SeededBug::OldEpochAccepted),
                Some(Bug::StateBlock) => Some(SeededBug::StateBlockForgotten),
                Some(Bug::StateLie) => Some(SeededBug::StateBlockBelieved),
                Some(Bug::StateMixture) => Some(SeededBug::MixtureVotes),
                Some(Bug::DeadLink) => Some(SeededBug::DeadLinkKept),
                _ => None,
            },
            probe_bytes: 40 * self.scenario.segment_bytes as u64,
            ..EngineConfig::default()
        }
    }

    /// Whether the process cannot do this now; then it comes later, or never.
    pub fn put_off(&mut self, process: ProcessId, event: Event) -> bool {
        let process = &mut self.processes[process];
        if process.frozen {
            process.put_off.push(event);
        }
        process.frozen || process.node.is_none()
    }

    pub fn node_timer(&mut self, process: ProcessId) -> Verdict {
        let (now, this) = (Time(self.now), &mut self.processes[process]);
        this.timer_at = None;
        if let Some(node) = &mut this.node
            && node.next_deadline().is_some_and(|deadline| deadline <= now)
        {
            this.before = node.epoch().cloned();
            node.on_deadline(now);
            return self.settle(process);
        }
        self.arm(process);
        Ok(())
    }

    fn arm(&mut self, process: ProcessId) {
        let this = &mut self.processes[process];
        let Some(deadline) = this.node.as_ref().and_then(Node::next_deadline) else { return };
        let at = deadline.0.max(self.now);
        if this.timer_at.is_none_or(|armed| armed > at) {
            this.timer_at = Some(at);
            self.queue.push(at, Event::NodeTimer { process });
        }
    }

    pub fn app_wake(&mut self, process: ProcessId) -> Verdict {
        if let Some(node) = &self.processes[process].node {
            g7_memory::engine(node.kept(), self.processes.len(), self.scenario.calls_obey())?;
            g7_memory::budget(node.kept(), self.processes[process].calls.is_empty())?;
        }
        self.processes[process].app.wake(self.now);
        self.settle(process)
    }

    pub fn still_waiting(&mut self, process: ProcessId, work: WorkId) -> Verdict {
        if self.processes[process].app.waiting() != Some(work) {
            return Ok(());
        }
        self.feed(process, Input::Blocked { work, alone: true })
    }

    /// Tells the node, and does what comes of it.
    pub fn feed(&mut self, process: ProcessId, input: Input<MemLink>) -> Verdict {
        let this = &mut self.processes[process];
        let Some(node) = &mut this.node else { return Ok(()) };
        this.before = node.epoch().cloned();
        node.handle(input, Time(self.now));
        self.settle(process)
    }

    /// Takes the node's outputs and the program's calls until neither has any more to say.
    pub fn settle(&mut self, process: ProcessId) -> Verdict {
        loop {
            self.hear(process)?;
            let actions = self.processes[process].app.actions();
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.app_does(process, action)?;
                self.hear(process)?;
            }
        }
        self.take_news();
        self.arm(process);
        Ok(())
    }

    fn hear(&mut self, process: ProcessId) -> Verdict {
        while let Some(output) = self.processes[process].node.as_mut().and_then(Node::poll_output) {
            self.node_says(process, output)?;
        }
        self.epoch_may_have_changed(process)
    }

    fn node_says(&mut self, process: ProcessId, output: Output) -> Verdict {
        match output {
            Output::DialMaster => self.dial_master(process),
            Output::HangUp => self.hang_up(process),
            Output::Send(message) => self.send_to_master(process, message),
            Output::Dial { to, connections } => self.dial(process, to, connections),
            Output::LinkClosed { link } => self.link_closed(process, link),
            Output::WatchWritable { link } => self.watch_writable(process, link),
            Output::Again { link } => self.again(process, link),
            Output::Complete { work, outcome } => self.completed(process, work, outcome)?,
            Output::Log { text, .. } => trace!(self, "{} logs: {text}", self.processes[process]),
        }
        Ok(())
    }

    fn app_does(&mut self, process: ProcessId, action: Action) -> Verdict {
        match action {
            Action::Call { work, call, expect, only_during } => {
                let outstanding = |work| self.processes[process].calls.iter().any(|call| call.work == work);
                if only_during.is_none_or(outstanding) {
                    self.call(process, work, call, expect)
                } else {
                    Ok(())
                }
            }
            Action::Wake(at) => {
                self.queue.push(at, Event::AppWake { process });
                self.look_for_progress()
            }
            Action::Wait(work) => {
                self.queue.push(self.now + 1_000_000, Event::StillWaiting { process, work });
                Ok(())
            }
            Action::Exit(reason) => self.exit(process, &reason),
        }
    }

    fn call(&mut self, process: ProcessId, work: WorkId, call: Call, expect: Option<ErrorKind>) -> Verdict {
        trace!(self, "{} calls {work:?} {call:?}", self.processes[process]);
        let (mut memory, mut state) = (None, None);
        let mut synchronize = None;
        if let Call::Synchronize(brings) = &call {
            let (request, lent) = self.sync_request(process, *brings);
            (synchronize, state) = (Some(request), Some(lent));
        }
        let this = &mut self.processes[process];
        let request = match &call {
            Call::Connect => Request::Connect,
            Call::Leave => Request::Leave,
            Call::Synchronize(_) => match synchronize {
                Some(request) => Request::Synchronize(Box::new(request)),
                None => return Ok(()),
            },
            Call::Phase(phase) => {
                if expect.is_none() {
                    this.phase_began_at = self.now;
                }
                Request::Phase(*phase)
            }
            Call::Reduce { step, index, spec, in_place } => {
                let input = self.scenario.input(process as u64, *step, *index, spec);
                let residual = self.scenario.residual(process as u64, *step, *index, spec);
                let lent = CallMemory::new(&input, *in_place).with_residual(residual.as_deref());
                let (tag, descriptor) = (spec.tag, spec.descriptor);
                let buffers = lent.lend();
                memory = Some(lent);
                if expect.is_none() {
                    let contribution = Contribution { descriptor, exact: spec.exact, input, residual };
                    this.latest.insert(tag, contribution);
                }
                Request::AllReduce { tag, descriptor, buffers }
            }
        };
        this.calls.push(Outstanding { work, call, expect, memory, state });
        if let Some(node) = &mut this.node {
            this.before = node.epoch().cloned();
            node.handle(Input::Request { work, request }, Time(self.now));
        }
        Ok(())
    }

    fn completed(&mut self, process: ProcessId, work: WorkId, outcome: Outcome) -> Verdict {
        trace!(self, "{} has the outcome of {work:?}: {outcome:?}", self.processes[process]);
        let this = &mut self.processes[process];
        let Some(at) = this.calls.iter().position(|call| call.work == work) else {
            return g4_progress::everybody(
                vec![format!("{this}: {work:?} ended twice")],
                0,
                "end their calls once",
            );
        };
        let mut call = this.calls.remove(at);
        if let Some(memory) = call.memory.take() {
            self.memory_back(process, &call, memory, &outcome)?;
        }
        if let Some(state) = call.state.take() {
            self.state_back(process, work, state, &outcome)?;
        }
        match call.expect {
            Some(kind) => {
                g4_progress::turned_down(&format!("{:?}", call.call), outcome.as_ref().err(), kind)?
            }
            None => {
                self.judge(process, &call.call, &outcome)?;
                self.processes[process].app.complete(work, outcome, self.now);
            }
        }
        Ok(())
    }

    /// The memory of an all-reduce is the program's again: is it as it must be?
    fn memory_back(
        &mut self,
        process: ProcessId,
        call: &Outstanding,
        mut memory: CallMemory,
        outcome: &Outcome,
    ) -> Verdict {
        let Call::Reduce { step, index, spec, .. } = &call.call else { return Ok(()) };
        let this = &self.processes[process];
        let what = || format!("{this}, operation {index} of step {step}, {}", spec.descriptor);
        let input = self.scenario.input(process as u64, *step, *index, spec);
        let residual = self.scenario.residual(process as u64, *step, *index, spec);
        g3_inputs::check(&memory, &input, residual.as_deref(), outcome.is_ok(), what)?;
        g5_crosstalk::nothing_beside(&memory, what)?;
        if let (Ok(Done::Reduced(info)), None) = (outcome, call.expect) {
            self.reduced(process, &call.call, *info, memory.result())?;
        }
        memory.poison();
        let what = format!("P{process}, operation {index} of step {step}");
        self.processes[process].kept.push((what, memory));
        Ok(())
    }

    fn instance(&self, process: ProcessId, tag: Tag) -> Option<Instance> {
        let this = &self.processes[process];
        let group = this.group;
        let since = this.before.as_ref()?.group(group)?.since;
        let verdicts_before = match this.verdicts.get(&tag) {
            Some((epoch, verdicts)) if *epoch == since => *verdicts,
            _ => 0,
        };
        Some(Instance { run: this.run, group, since, tag, verdicts_before })
    }

    /// The master has judged this instance: after it, the next one of the tag counts one more.
    pub fn count_verdict(&mut self, process: ProcessId, key: OpKey) {
        let this = &mut self.processes[process];
        let verdicts = this.verdicts.entry(key.tag).or_insert((key.epoch, 0));
        *verdicts = (*verdicts).max((key.epoch, key.seq + 1));
    }

    /// The members of the own group, as the node knows them now.
    pub fn survivors(&self, process: ProcessId) -> Vec<PeerId> {
        let this = &self.processes[process];
        let now = this.node.as_ref().and_then(Node::epoch);
        now.and_then(|info| info.group(this.group).map(|group| group.order.clone())).unwrap_or_default()
    }

    fn reduced(&mut self, process: ProcessId, call: &Call, info: ReduceInfo, result: &[u8]) -> Verdict {
        let Call::Reduce { step, index, spec, .. } = call else { return Ok(()) };
        self.report.succeeded += 1;
        let Some(instance) = self.instance(process, spec.tag) else {
            let stuck = vec![format!("{} reduced outside any epoch", self.processes[process])];
            return g4_progress::everybody(stuck, 0, "reduce as members");
        };
        let this = &self.processes[process];
        let (at, survivors) = (this.id, self.survivors(process));
        let members = this.before.as_ref().and_then(|info| info.group(this.group));
        let members = members.map(|group| group.order.as_slice()).unwrap_or_default();
        let processes = &self.processes;
        let contribution = |peer: &PeerId| {
            let theirs = processes.iter().rfind(|process| process.id == *peer);
            (*peer, theirs.and_then(|process| process.latest.get(&spec.tag)))
        };
        if let Some(own) = this.latest.get(&spec.tag) {
            self.parity.succeeded(at, instance, own, result, members.iter().map(contribution))?;
        }
        self.agreement.succeeded(at, instance, info, &survivors)?;
        let mut step = *step;
        if spec.tag == STEP_TAG
            && let Ok(number) = result.try_into()
        {
            step = u64::from_le_bytes(number);
            self.processes[process].app.set_step(step);
        }
        if self.scenario.calls_obey() {
            let name = (self.processes[process].group, step, *index);
            self.agreement.step_done(at, name, instance, &survivors)?;
        }
        Ok(())
    }

    /// Whether this outcome is one of those the call may have, and what it means for the others.
    fn judge(&mut self, process: ProcessId, call: &Call, outcome: &Outcome) -> Verdict {
        let leaving = self.processes[process].app.is_leaving();
        match (call, outcome) {
            (Call::Phase(phase), Ok(_)) => return self.phase_took(process, *phase),
            (_, Ok(_)) => return Ok(()),
            (_, Err(_)) if leaving => return Ok(()),
            (Call::Reduce { spec, .. }, Err(error)) => self.reduce_failed(process, spec.tag, error)?,
            // Nobody of the group has been in one before.
            (Call::Synchronize(_), Err(e)) if e.kind == ErrorKind::NoSharedStateAvailable => return Ok(()),
            (_, Err(_)) => {}
        }
        let Err(error) = outcome else { return Ok(()) };
        // Put out of the run while no call was outstanding: this call is how the program learns it.
        if error.kind == ErrorKind::InvalidUsage && self.processes[process].is_newcomer() {
            self.processes[process].app.put_out();
            return Ok(());
        }
        let name = || format!("{} of {}", call_name(call), self.processes[process]);
        let obedient = self.scenario.calls_obey();
        g4_progress::outcome_is_documented(&name(), error, obedient)?;
        let calm = self.scenario.kind == Kind::Calm && self.scenario.faults.is_empty();
        if (calm || self.scenario.kind == Kind::Newcomers)
            && self.stage < Stage::Leaving
            && !self.processes[process].ill_fated
        {
            g6_newcomers::undisturbed(&name(), error)?;
        }
        Ok(())
    }

    fn reduce_failed(&mut self, process: ProcessId, tag: Tag, error: &Error) -> Verdict {
        let Some(instance) = self.instance(process, tag) else { return Ok(()) };
        match error.kind {
            ErrorKind::Aborted => {
                self.report.aborted += 1;
                let survivors = self.survivors(process);
                self.agreement.aborted(self.processes[process].id, instance, &survivors)
            }
            _ => Ok(()),
        }
    }

    /// In runs where only newcomers misbehave, a phase ends soon after the last call of it.
    fn phase_took(&mut self, process: ProcessId, phase: PhaseCall) -> Verdict {
        // How long measurements take says nothing about newcomers, whom they do not admit.
        if self.scenario.kind != Kind::Newcomers || phase == PhaseCall::OptimizeTopology {
            return Ok(());
        }
        let Some(info) = self.processes[process].before.clone() else { return Ok(()) };
        let members = || info.groups.iter().flat_map(|group| &group.order);
        // A hostile one that was admitted, in a group of its own, is a member: a phase waits for it until it is put out.
        if members().any(|peer| self.processes.iter().all(|process| process.id != *peer)) {
            return Ok(());
        }
        let began = members()
            .filter_map(|peer| self.process_with(*peer))
            .map(|at| self.processes[at].phase_began_at)
            .filter(|began| *began <= self.now)
            .max();
        // Those who do not answer cost one time-out, those who stop answering then another one.
        let prepares = u64::from(self.scenario.prepare_timeout_ms) * 2_000;
        let bound = prepares + 8 * self.scenario.delay_us.1 + 10_000;
        g6_newcomers::pause(self.now - began.unwrap_or(self.now), bound)
    }

    /// What was in flight across a change of the group's epoch and did not abort was carried over.
    fn epoch_may_have_changed(&mut self, process: ProcessId) -> Verdict {
        let this = &self.processes[process];
        let since = |info: &Arc<EpochInfo>| info.group(this.group).map(|group| group.since);
        let Some(node) = &this.node else { return Ok(()) };
        let before = this.before.as_ref().and_then(since);
        let now = node.epoch().cloned();
        let after = now.as_ref().and_then(since);
        if before == after {
            return Ok(());
        }
        trace!(self, "{this} is now in {now:?}");
        if before.is_some() {
            let survivors = self.survivors(process);
            let tags: Vec<Tag> = this
                .calls
                .iter()
                .filter(|call| call.expect.is_none())
                .filter_map(|call| match call.call {
                    Call::Reduce { spec, .. } => Some(spec.tag),
                    _ => None,
                })
                .collect();
            for tag in tags {
                if let Some(instance) = self.instance(process, tag) {
                    self.agreement.carried(self.processes[process].id, instance, &survivors)?;
                }
            }
        }
        self.processes[process].before = now;
        Ok(())
    }

    /// The process has ended by itself.
    fn exit(&mut self, process: ProcessId, reason: &str) -> Verdict {
        trace!(self, "{} exits: {reason}", self.processes[process]);
        let again = reason != "left" || self.scenario.slots[self.processes[process].slot].comes_again;
        self.end_process(process, again && self.stage < Stage::Leaving);
        self.look_for_progress()
    }

    /// The node is gone, and with it its connections; `again` if another process comes to the slot.
    pub fn end_process(&mut self, process: ProcessId, again: bool) {
        self.processes[process].node = None;
        self.forget_dials(process);
        self.hang_up(process);
        let this = &mut self.processes[process];
        this.calls.clear();
        this.put_off.clear();
        this.frozen = false;
        let slot = this.slot;
        self.slots[slot].process = None;
        self.take_news();
        if again {
            let at = self.now + self.rng.between(1_000, 150_000);
            self.queue.push(at, Event::Spawn { slot });
        }
    }

    pub fn resume(&mut self, process: ProcessId) -> Verdict {
        let this = &mut self.processes[process];
        if !std::mem::take(&mut this.frozen) {
            return Ok(());
        }
        this.resumed_at = self.now;
        let waiting = std::mem::take(&mut this.put_off);
        trace!(self, "{} goes on, {} events waited", self.processes[process], waiting.len());
        for event in waiting {
            self.queue.push(self.now, event);
        }
        Ok(())
    }
}

fn call_name(call: &Call) -> String {
    match call {
        Call::Connect => "connect".into(),
        Call::Leave => "leave".into(),
        Call::Phase(phase) => phase.to_string(),
        Call::Synchronize(brings) => format!("synchronization {brings:?}"),
        Call::Reduce { step, index, spec, .. } => {
            format!("operation {index} of step {step} on {}", spec.tag)
        }
    }
}
