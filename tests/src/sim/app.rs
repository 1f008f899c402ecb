//! A program as its author would write it, without threads: told of outcomes, it says what it calls next.
//!
//! Each step: one all-reduce of the step's number (so that a newcomer learns it), the step's operations with
//! up to `in_flight` at once and aborted ones repeated, always the lowest first; then the phase calls.

use std::collections::VecDeque;
use std::rc::Rc;

use pccl_core::error::{Error, ErrorKind};
use pccl_core::proto::peer::{Done, ReduceInfo};
use pccl_core::types::{DType, GroupId, OpDescriptor, PhaseCall, ReduceOp, WorkId};

use super::queue::Us;
use super::rng::{Rng, mix_all};
use super::scenario::{OpSpec, PhaseHabit, Scenario};
use super::sync::{Brings, Standing};

pub type Outcome = Result<Done, Error>;

/// What the program calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Connect,
    Phase(PhaseCall),
    Reduce {
        step: u64,
        /// Place within the step; the step's number is reduced at `STEP_INDEX`.
        index: u64,
        spec: OpSpec,
        in_place: bool,
    },
    Synchronize(Brings),
    Leave,
}

pub const STEP_INDEX: u64 = 1000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Call {
        work: WorkId,
        call: Call,
        /// A wrong call that has to be turned down at once, with this kind of error.
        expect: Option<ErrorKind>,
        /// Only while this call has no outcome: otherwise it would not be wrong.
        only_during: Option<WorkId>,
    },
    /// Wake me then.
    Wake(Us),
    /// The program now waits for this call and can do nothing else.
    Wait(WorkId),
    /// The process ends.
    Exit(String),
}

#[derive(Clone, Debug)]
enum TaskState {
    Todo,
    Flying(WorkId),
    /// The outcome is here, the program has not looked at it yet.
    Landed(Outcome),
    Finished,
}

#[derive(Clone, Debug)]
struct Task {
    index: u64,
    spec: OpSpec,
    state: TaskState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Fresh,
    Connecting(WorkId),
    Thinking,
    /// The all-reduces of a step; first the one of its number.
    Reducing {
        of_step_number: bool,
    },
    Syncing(WorkId),
    Phase(WorkId, PhaseCall),
    Leaving(WorkId),
    Over,
}

/// The ways in which an unruly program breaks the documented order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whim {
    /// A phase call where the others reduce.
    PhaseInstead,
    /// Another count, type or operation than the others.
    OtherDescriptor,
    SkipAnOp,
    SkipThePhase,
    /// A synchronization where the others reduce.
    SyncInstead,
}

pub struct App {
    pub(super) scenario: Rc<Scenario>,
    pub group: GroupId,
    pub(super) rng: Rng,
    pub(super) stage: Stage,
    pub(super) standing: Standing,
    next_work: u64,
    pub step: u64,
    /// Steps made; those made alone count.
    pub steps_made: u64,
    tasks: Vec<Task>,
    phases: VecDeque<PhaseCall>,
    /// Nobody else is in the group: no all-reduce until somebody is let in.
    alone: bool,
    /// A call ended with an error that says that the programs are out of step: begin the step anew.
    restart: bool,
    last_info: Option<ReduceInfo>,
    leave_at_step: bool,
    actions: Vec<Action>,
    waiting: Option<WorkId>,
    pub(super) now: Us,
}

impl App {
    pub fn new(scenario: Rc<Scenario>, group: GroupId, process: u64) -> App {
        let rng = Rng::new(mix_all(&[scenario.seed, 4, process]));
        App {
            scenario,
            group,
            rng,
            stage: Stage::Fresh,
            standing: Standing::default(),
            next_work: 0,
            step: 0,
            steps_made: 0,
            tasks: Vec::new(),
            phases: VecDeque::new(),
            alone: false,
            restart: false,
            last_info: None,
            leave_at_step: false,
            actions: Vec::new(),
            waiting: None,
            now: 0,
        }
    }

    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    pub fn is_connected(&self) -> bool {
        !matches!(self.stage, Stage::Fresh | Stage::Connecting(_) | Stage::Over)
    }

    pub fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving(_) | Stage::Over)
    }

    /// The call the program can do nothing without.
    pub fn waiting(&self) -> Option<WorkId> {
        self.waiting
    }

    pub fn describe(&self) -> String {
        format!("step {}, {:?}, {:?}", self.step, self.stage, self.tasks)
    }

    /// Leave at the next step's beginning.
    pub fn ask_to_leave(&mut self) {
        self.leave_at_step = true;
    }

    /// The peer is out of the run, as the outcome of a call has told.
    pub fn put_out(&mut self) {
        self.exit("put out of the run".into());
    }

    pub fn leave_at_once(&mut self, now: Us) {
        self.now = now;
        if self.is_connected() && !matches!(self.stage, Stage::Leaving(_)) {
            self.leave();
        }
    }

    pub fn wake(&mut self, now: Us) {
        self.now = now;
        match self.stage {
            Stage::Fresh => {
                self.probe_before_connect();
                let work = self.call(Call::Connect);
                self.stage = Stage::Connecting(work);
                self.wait(work);
            }
            Stage::Thinking => self.begin_step(),
            _ => {}
        }
    }

    pub fn complete(&mut self, work: WorkId, outcome: Outcome, now: Us) {
        self.now = now;
        if self.waiting == Some(work) {
            self.waiting = None;
        }
        match self.stage {
            Stage::Connecting(own) if own == work => match outcome {
                Ok(_) => self.begin_step(),
                Err(error) => self.exit(format!("connect: {error}")),
            },
            Stage::Phase(own, call) if own == work => self.phase_ended(call, outcome),
            Stage::Syncing(own) if own == work => self.synced(outcome),
            Stage::Leaving(own) if own == work => self.exit("left".into()),
            Stage::Reducing { .. } => {
                let of_work = |task: &&mut Task| matches!(task.state, TaskState::Flying(own) if own == work);
                if let Some(task) = self.tasks.iter_mut().find(of_work) {
                    task.state = TaskState::Landed(outcome);
                    self.reduce();
                }
            }
            _ => {}
        }
    }

    fn begin_step(&mut self) {
        self.restart = false;
        self.alone = false;
        if self.leave_at_step {
            return self.leave();
        }
        self.tasks = vec![Task { index: STEP_INDEX, spec: Scenario::step_spec(), state: TaskState::Todo }];
        self.stage = Stage::Reducing { of_step_number: true };
        self.reduce();
    }

    pub(super) fn begin_ops(&mut self) {
        let specs = self.scenario.step(self.group, self.step);
        let mut index = 0;
        self.tasks = specs
            .into_iter()
            .map(|spec| {
                index += 1;
                Task { index: index - 1, spec, state: TaskState::Todo }
            })
            .collect();
        self.stage = Stage::Reducing { of_step_number: false };
        match self.whim() {
            Some(Whim::PhaseInstead) => return self.phase(PhaseCall::UpdateTopology),
            Some(Whim::SyncInstead) => return self.synchronize_out_of_turn(),
            Some(Whim::OtherDescriptor) => {
                let at = self.rng.below(self.tasks.len() as u64) as usize;
                let spec = &mut self.tasks[at].spec;
                spec.descriptor = other_descriptor(&mut self.rng, spec.descriptor);
            }
            Some(Whim::SkipAnOp) => {
                let at = self.rng.below(self.tasks.len() as u64) as usize;
                self.tasks[at].state = TaskState::Finished;
            }
            Some(Whim::SkipThePhase) | None => {}
        }
        self.reduce();
    }

    /// Starts what may be started, lowest first, and waits for the lowest that is under way.
    fn reduce(&mut self) {
        while self.stage != Stage::Over {
            self.launch();
            let lowest = self.tasks.iter_mut().find(|task| !matches!(task.state, TaskState::Finished));
            let Some(task) = lowest else { return self.reduced() };
            match std::mem::replace(&mut task.state, TaskState::Todo) {
                TaskState::Landed(outcome) => {
                    let state = self.judge(outcome);
                    if let Some(task) =
                        self.tasks.iter_mut().find(|t| !matches!(t.state, TaskState::Finished))
                    {
                        task.state = state;
                    }
                }
                TaskState::Flying(work) => {
                    task.state = TaskState::Flying(work);
                    return self.wait(work);
                }
                // Not to be started any more: the group has shrunk to one, or the step begins anew.
                TaskState::Todo | TaskState::Finished => task.state = TaskState::Finished,
            }
        }
    }

    fn launch(&mut self) {
        if self.alone || self.restart {
            return;
        }
        let under_way = |task: &&Task| matches!(task.state, TaskState::Flying(_) | TaskState::Landed(_));
        let mut free = self.scenario.in_flight.saturating_sub(self.tasks.iter().filter(under_way).count());
        for at in 0..self.tasks.len() {
            if free == 0 {
                return;
            }
            if matches!(self.tasks[at].state, TaskState::Todo) {
                free -= 1;
                let Task { index, spec, .. } = self.tasks[at];
                let in_place = self.rng.percent(50);
                let call = Call::Reduce { step: self.step, index, spec, in_place };
                let work = self.call(call.clone());
                self.tasks[at].state = TaskState::Flying(work);
                self.probe_in_flight(call, work);
            }
        }
    }

    fn judge(&mut self, outcome: Outcome) -> TaskState {
        match outcome {
            Ok(Done::Reduced(info)) => self.last_info = Some(info),
            Ok(_) => {}
            Err(error) => match error.kind {
                ErrorKind::Aborted => return TaskState::Todo,
                ErrorKind::TooFewPeers => self.alone = true,
                ErrorKind::InvalidArgument => {}
                ErrorKind::InvalidUsage => self.restart = true,
                _ => self.exit(format!("all-reduce: {error}")),
            },
        }
        TaskState::Finished
    }

    fn reduced(&mut self) {
        match self.stage {
            Stage::Reducing { .. } if self.restart => self.think(),
            Stage::Reducing { .. } if self.alone => self.begin_phases(),
            Stage::Reducing { of_step_number } => {
                match (of_step_number, self.scenario.synchronizes_late(self.group, self.step)) {
                    (true, false) | (false, true) => self.begin_sync(),
                    (true, true) => self.begin_ops(),
                    (false, false) => self.begin_phases(),
                }
            }
            _ => {}
        }
    }

    /// The world tells the number of the step, as the first all-reduce of it said.
    pub fn set_step(&mut self, step: u64) {
        self.step = step;
    }

    /// The others are gone: what is left of the step is to let somebody in.
    pub(super) fn alone_in_sync(&mut self) {
        self.alone = true;
        self.begin_phases();
    }

    pub(super) fn begin_phases(&mut self) {
        let pending = self.last_info.take().is_some_and(|info| info.peers_pending > 0);
        let wanted = match self.scenario.habit {
            PhaseHabit::EveryStep => Some(PhaseCall::UpdateTopology),
            PhaseHabit::AskFirst => Some(PhaseCall::ArePeersPending),
            PhaseHabit::AsReduceInfoSays => (pending || self.alone).then_some(PhaseCall::UpdateTopology),
            PhaseHabit::EveryThirdStep => {
                (self.step.is_multiple_of(3) || self.alone).then_some(PhaseCall::UpdateTopology)
            }
        };
        self.phases.clear();
        // Before newcomers are admitted, who begin with the next step.
        if self.scenario.optimizes(self.step) && !self.alone {
            self.phases.push_back(PhaseCall::OptimizeTopology);
        }
        self.phases.extend(wanted);
        if self.whim() == Some(Whim::SkipThePhase) {
            self.phases.clear();
        }
        self.next_phase();
    }

    fn next_phase(&mut self) {
        match self.phases.pop_front() {
            Some(call) => self.phase(call),
            None => {
                self.step += 1;
                self.steps_made += 1;
                self.think();
            }
        }
    }

    fn phase(&mut self, call: PhaseCall) {
        let work = self.call(Call::Phase(call));
        self.stage = Stage::Phase(work, call);
        self.wait(work);
    }

    fn phase_ended(&mut self, call: PhaseCall, outcome: Outcome) {
        match outcome {
            Ok(Done::PeersPending { peers_pending }) => {
                if peers_pending > 0 && call == PhaseCall::ArePeersPending {
                    self.phases.push_back(PhaseCall::UpdateTopology);
                }
                self.next_phase();
            }
            Ok(_) => self.next_phase(),
            Err(error) => match error.kind {
                // The others are gone, or no path could be measured: of no consequence.
                ErrorKind::InvalidUsage | ErrorKind::TopologyOptimizationFailed
                    if call == PhaseCall::OptimizeTopology =>
                {
                    self.next_phase();
                }
                ErrorKind::InvalidUsage => self.think(),
                ErrorKind::UpdateTopologyFailed => self.phase(call),
                _ => self.exit(format!("{call}: {error}")),
            },
        }
    }

    pub(super) fn think(&mut self) {
        self.stage = Stage::Thinking;
        let mut until = self.now + self.rng.between(1, self.scenario.think_us);
        if self.steps_made >= self.scenario.steps_under_fault && !self.leave_at_step {
            until = until.max(self.now + self.scenario.calm_at.saturating_sub(self.now) / 2);
        }
        self.actions.push(Action::Wake(until));
    }

    fn leave(&mut self) {
        let work = self.call(Call::Leave);
        self.stage = Stage::Leaving(work);
        self.wait(work);
    }

    pub(super) fn exit(&mut self, reason: String) {
        if self.stage != Stage::Over {
            self.stage = Stage::Over;
            self.waiting = None;
            self.actions.push(Action::Exit(reason));
        }
    }

    pub(super) fn call(&mut self, call: Call) -> WorkId {
        self.push_call(call, None, None)
    }

    fn push_call(&mut self, call: Call, expect: Option<ErrorKind>, only_during: Option<WorkId>) -> WorkId {
        self.next_work += 1;
        let work = WorkId(self.next_work);
        self.actions.push(Action::Call { work, call, expect, only_during });
        work
    }

    pub(super) fn wait(&mut self, work: WorkId) {
        if self.waiting != Some(work) {
            self.waiting = Some(work);
            self.actions.push(Action::Wait(work));
        }
    }

    pub(super) fn is_calm(&self) -> bool {
        self.now >= self.scenario.calm_at
    }

    /// Whether it breaks the documented order now.
    pub(super) fn is_unruly(&mut self) -> bool {
        !self.is_calm() && self.rng.percent(self.scenario.unruly_percent)
    }

    fn whim(&mut self) -> Option<Whim> {
        use Whim::*;
        self.is_unruly()
            .then(|| self.rng.pick(&[PhaseInstead, OtherDescriptor, SkipAnOp, SkipThePhase, SyncInstead]))
    }

    /// Wrong calls that are turned down at once and change nothing; every program makes one now and then.
    fn probe_before_connect(&mut self) {
        if self.rng.percent(10) {
            let spec = Scenario::step_spec();
            let reduce = Call::Reduce { step: 0, index: STEP_INDEX, spec, in_place: true };
            let call = self.rng.pick(&[0, 1]);
            let call = if call == 0 { reduce } else { Call::Phase(PhaseCall::UpdateTopology) };
            self.push_call(call, Some(ErrorKind::InvalidUsage), None);
        }
    }

    pub(super) fn probe_in_sync(&mut self, during: WorkId) {
        if !self.rng.percent(3) {
            return;
        }
        let spec = Scenario::step_spec();
        let reduce = Call::Reduce { step: self.step, index: STEP_INDEX, spec, in_place: true };
        let call = match self.rng.below(3) {
            0 => Call::Phase(PhaseCall::ArePeersPending),
            1 => Call::Connect,
            _ => reduce,
        };
        self.push_call(call, Some(ErrorKind::InvalidUsage), Some(during));
    }

    fn probe_in_flight(&mut self, same: Call, during: WorkId) {
        if !self.rng.percent(2) {
            return;
        }
        let (call, expect) = match (self.rng.below(4), same) {
            (0, same) => (same, ErrorKind::InvalidArgument),
            (1, _) => (Call::Phase(PhaseCall::UpdateTopology), ErrorKind::PendingAsyncOps),
            (2, _) => (Call::Connect, ErrorKind::InvalidUsage),
            (_, Call::Reduce { step, index, mut spec, in_place }) => {
                spec.tag.0 += 1_000_000;
                spec.descriptor.count = 0;
                (Call::Reduce { step, index, spec, in_place }, ErrorKind::InvalidArgument)
            }
            (_, other) => (other, ErrorKind::InvalidUsage),
        };
        self.push_call(call, Some(expect), Some(during));
    }
}

fn other_descriptor(rng: &mut Rng, descriptor: OpDescriptor) -> OpDescriptor {
    let mut other = descriptor;
    match rng.below(3) {
        0 => other.count += rng.between(1, 9),
        1 => other.dtype = rng.pick(&DType::ALL),
        _ => other.op = rng.pick(&ReduceOp::ALL),
    }
    other
}
