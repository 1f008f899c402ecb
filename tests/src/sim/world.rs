//! The world of one run: clock, events, processes, master, and the judgement.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use pccl_core::types::{PeerId, SyncNumber};

use super::control::MasterHost;
use super::control_link::ControlLink;
use super::event::{Event, ProcessId};
use super::forger::Forged;
use super::hostile::Hostile;
use super::invariants::g1_agreement::Agreement;
use super::invariants::g2_parity::Parity;
use super::invariants::g2_state::{Choice, States};
use super::invariants::{Verdict, Violation, g4_progress, g5_crosstalk, g7_memory};
use super::links::{Dial, Joint};
use super::pipe::{Fabric, News};
use super::process::Process;
use super::queue::{Queue, Us};
use super::rng::{Rng, mix_all};
use super::scenario::{Scenario, Slot};

/// A bug planted by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The master commits before all are done.
    CommitEarly,
    /// An abort leaves a partial sum behind.
    PartialSum,
    /// A frame of an old epoch is accepted.
    OldEpoch,
    /// A block of a shared state counts as received and is not.
    StateBlock,
    /// Whatever a source sends as a block of a shared state is believed.
    StateLie,
    /// What a broken transfer has left of a shared state has a vote.
    StateMixture,
    /// A connection that makes no progress is kept for ever.
    DeadLink,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub trace: bool,
    pub bug: Option<Bug>,
    /// Take the time that the master's machine needs.
    pub measure: bool,
}

/// What one run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub violation: Option<Violation>,
    pub events: u64,
    pub virtual_us: u64,
    pub steps: u64,
    pub succeeded: u64,
    pub aborted: u64,
    /// Synchronizations that succeeded, counted at each peer.
    pub synchronized: u64,
    pub epochs: u64,
    /// Networks measured and planned for.
    pub plans: u64,
    /// What hostile sources have done.
    pub forged: Forged,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Faults,
    /// Nothing goes wrong any more; everybody has to make progress.
    Liveness,
    Leaving,
    /// Everybody has left; what is still open has to close.
    Cleaning,
    Over,
}

/// What the network does to a pair of slots.
#[derive(Clone, Copy, Debug, Default)]
pub struct PairState {
    pub cut: bool,
    pub us_per_byte: Us,
    pub delay_us: Us,
}

pub struct SlotState {
    pub process: Option<ProcessId>,
    pub control_cut: bool,
    pub control_delay_us: Us,
    pub processes_so_far: u32,
}

pub struct World {
    pub scenario: Rc<Scenario>,
    pub options: Options,
    pub now: Us,
    pub queue: Queue<Event>,
    pub rng: Rng,
    pub fabric: Rc<Fabric>,
    pub news: Vec<News>,
    pub processes: Vec<Process>,
    pub slots: Vec<SlotState>,
    pairs: Vec<PairState>,
    pub joints: Vec<Joint>,
    pub dials: Vec<Dial>,
    pub controls: Vec<ControlLink>,
    pub master: MasterHost,
    pub hostiles: Vec<Hostile>,
    pub stage: Stage,
    pub agreement: Agreement,
    pub parity: Parity,
    pub states: States,
    /// What the masters have elected, by number of the master and of the synchronization.
    pub choices: HashMap<(u32, SyncNumber), Rc<Choice>>,
    pub wire: Vec<u8>,
    pub report: Report,
}

/// Says what happens, when somebody listens.
macro_rules! trace {
    ($world:expr, $($arg:tt)*) => {
        if $world.options.trace {
            println!("{:>11.3} ms  {}", $world.now as f64 / 1000.0, format_args!($($arg)*));
        }
    };
}
pub(super) use trace;

/// One run. A panic of the product is a violation, too.
pub fn run_seed(seed: u64, options: Options) -> Report {
    let scenario = Scenario::of_seed(seed);
    run_scenario(scenario, options)
}

pub fn run_scenario(scenario: Scenario, options: Options) -> Report {
    let run = AssertUnwindSafe(|| {
        let mut world = World::new(scenario, options);
        let verdict = world.run();
        world.report.violation = verdict.err();
        for forged in world.processes.iter().map(|process| process.mood.forged()) {
            world.report.forged.iter_mut().zip(forged).for_each(|(all, one)| *all += one);
        }
        world.report.clone()
    });
    catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()))
            .unwrap_or_default();
        let violation = Violation { guarantee: "no panic", text };
        Report { violation: Some(violation), ..Report::default() }
    })
}

impl World {
    pub fn new(scenario: Scenario, options: Options) -> World {
        let scenario = Rc::new(scenario);
        let mut rng = Rng::new(mix_all(&[scenario.seed, 5]));
        let count = scenario.slots.len();
        let (low, high) = scenario.delay_us;
        let mut slots = Vec::with_capacity(count);
        for _ in 0..count {
            let control_delay_us = rng.between(low, high);
            slots.push(SlotState {
                process: None,
                control_cut: false,
                control_delay_us,
                processes_so_far: 0,
            });
        }
        let pairs = (0..count * count)
            .map(|_| PairState { delay_us: rng.between(low, high), ..PairState::default() })
            .collect();
        let fabric = Fabric::new(mix_all(&[scenario.seed, 6]), scenario.bite_bytes);
        let master = MasterHost::new(&scenario, options);
        World {
            scenario,
            options,
            now: 0,
            queue: Queue::new(),
            rng,
            fabric,
            news: Vec::new(),
            processes: Vec::new(),
            slots,
            pairs,
            joints: Vec::new(),
            dials: Vec::new(),
            controls: Vec::new(),
            master,
            hostiles: Vec::new(),
            stage: Stage::Faults,
            agreement: Agreement::default(),
            parity: Parity::default(),
            states: States::default(),
            choices: HashMap::new(),
            wire: Vec::new(),
            report: Report::default(),
        }
    }

    pub fn run(&mut self) -> Verdict {
        if self.options.trace {
            println!("{:#?}", self.scenario);
        }
        self.begin();
        self.queue.push(self.scenario.calm_at, Event::Calm);
        self.advance(Us::MAX)?;
        self.report.virtual_us = self.now;
        self.report.steps = self.processes.iter().map(|process| process.app.steps_made).sum();
        let kept = self.processes.iter().flat_map(|process| process.kept.iter());
        g5_crosstalk::nothing_after(kept.map(|(what, memory)| (what, memory)))
    }

    /// Plans the beginnings and the faults.
    pub fn begin(&mut self) {
        for (slot, plan) in self.scenario.slots.iter().enumerate() {
            self.queue.push(plan.starts_at, Event::Spawn { slot });
        }
        for (index, (at, _)) in self.scenario.faults.iter().enumerate() {
            self.queue.push(*at, Event::Fault { index });
        }
    }

    /// Lets happen what happens until then, or until the run is over.
    pub fn advance(&mut self, until: Us) -> Verdict {
        while self.stage != Stage::Over && self.queue.next_at().is_some_and(|at| at <= until) {
            let Some((at, event)) = self.queue.pop() else { break };
            self.now = at;
            self.fabric.now.set(at);
            self.report.events += 1;
            g4_progress::events(self.report.events, self.scenario.most_events)?;
            self.happen(event)?;
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Verdict {
        if let Some(process) = event.process()
            && self.put_off(process, event)
        {
            return Ok(());
        }
        match event {
            Event::NodeTimer { process } => self.node_timer(process),
            Event::AppWake { process } => self.app_wake(process),
            Event::StillWaiting { process, work } => self.still_waiting(process, work),
            Event::Resume { process } => self.resume(process),
            Event::Spawn { slot } => self.spawn(slot),
            Event::Arrival { conn, side } => self.arrival(conn, side),
            Event::Ready { conn, side } => self.ready(conn, side),
            Event::LetGo { conn, side } => self.let_go(conn, side),
            Event::Ended { conn, side, clean } => self.ended(conn, side, clean),
            Event::GiveUp { conn, hold } => self.give_up(conn, hold),
            Event::DialArrives { dial } => self.dial_arrives(dial),
            Event::DialAnswered { dial } => self.dial_answered(dial),
            Event::DialExpires { dial } => self.dial_expires(dial),
            Event::Control { link, lane } => self.control_arrives(link, lane),
            Event::ControlDialArrives { link } => self.control_dial_arrives(link),
            Event::ControlGiveUp { link, hold } => self.control_give_up(link, hold),
            Event::MasterTimer => self.master_timer(),
            Event::MasterTurn => self.master_turn(),
            Event::MasterHasPlan { master } => self.master_has_plan(master),
            Event::MasterThaws => self.master_thaws(),
            Event::MasterStarts => self.master_starts(),
            Event::HostileStep { hostile } => self.hostile_step(hostile),
            Event::Fault { index } => self.fault(index),
            Event::HealPair { a, b } => self.heal_pair(a, b),
            Event::HealLink { conn } => self.heal_link(conn),
            Event::HealControl { slot } => self.heal_control(slot),
            Event::Calm => self.calm(),
            Event::ProgressDue => self.progress_due(),
            Event::LeavingDue => self.leaving_due(),
            Event::CleanDue => self.clean_due(),
        }
    }

    pub fn pair(&mut self, a: Slot, b: Slot) -> &mut PairState {
        let (low, high) = (a.min(b), a.max(b));
        let count = self.slots.len();
        &mut self.pairs[low * count + high]
    }

    /// The process of a slot, if one is running.
    pub fn process_of(&self, slot: Slot) -> Option<ProcessId> {
        self.slots[slot].process.filter(|process| self.processes[*process].node.is_some())
    }

    pub fn process_with(&self, peer: PeerId) -> Option<ProcessId> {
        self.processes.iter().rposition(|process| process.id == peer)
    }

    /// From here on nothing goes wrong; everybody has a bounded time for some steps.
    fn calm(&mut self) -> Verdict {
        trace!(self, "--- calm: nothing goes wrong from here on");
        self.stage = Stage::Liveness;
        self.heal_everything()?;
        for process in &mut self.processes {
            process.steps_at_calm = process.app.steps_made;
        }
        self.queue.push(self.now + self.scenario.progress_within_us, Event::ProgressDue);
        self.look_for_progress()
    }

    /// Whether all have made their steps; then it is time to leave.
    pub fn look_for_progress(&mut self) -> Verdict {
        match self.stage {
            Stage::Liveness if self.who_is_stuck().is_empty() => {
                trace!(self, "--- all have made progress: leaving");
                self.stage = Stage::Leaving;
                self.queue.push(self.now + self.scenario.progress_within_us, Event::LeavingDue);
                for slot in 0..self.slots.len() {
                    if let Some(process) = self.process_of(slot) {
                        self.processes[process].app.ask_to_leave();
                    }
                }
                self.look_for_the_end()
            }
            Stage::Leaving => self.look_for_the_end(),
            _ => Ok(()),
        }
    }

    fn who_is_stuck(&self) -> Vec<String> {
        let mut stuck = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            let plan = &self.scenario.slots[index];
            match slot.process {
                None if plan.comes_again || slot.processes_so_far == 0 => {
                    stuck.push(format!("nobody has come to slot {index}"));
                }
                None => {}
                Some(process) => {
                    let process = &self.processes[process];
                    let made = process.app.steps_made - process.steps_at_calm;
                    if made < self.scenario.steps_to_make {
                        stuck.push(format!("{process} made {made} steps ({})", process.app.describe()));
                    }
                }
            }
        }
        stuck
    }

    fn progress_due(&mut self) -> Verdict {
        let stuck = if self.stage == Stage::Liveness { self.who_is_stuck() } else { Vec::new() };
        g4_progress::everybody(stuck, self.scenario.progress_within_us, "make their steps")
    }

    fn look_for_the_end(&mut self) -> Verdict {
        if (0..self.slots.len()).all(|slot| self.process_of(slot).is_none()) {
            trace!(self, "--- all have left: whatever is open has to close");
            self.stage = Stage::Cleaning;
            let patience = u64::from(self.scenario.silence_ms + self.scenario.connect_timeout_ms) * 2_000;
            self.queue.push(self.now + patience, Event::CleanDue);
        }
        Ok(())
    }

    fn leaving_due(&mut self) -> Verdict {
        if self.stage != Stage::Leaving {
            return Ok(());
        }
        let still = |slot| self.process_of(slot).map(|at| &self.processes[at]);
        let stuck = (0..self.slots.len())
            .filter_map(still)
            .map(|process| format!("{process}: {}", process.app.describe()))
            .collect();
        g4_progress::everybody(stuck, self.scenario.progress_within_us, "leave")
    }

    fn clean_due(&mut self) -> Verdict {
        self.stage = Stage::Over;
        let mut left = self.open_joints();
        left.extend(self.open_controls());
        left.extend(self.master.left_behind());
        g7_memory::nothing_left(left)
    }
}
