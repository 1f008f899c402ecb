//! Shared state in the simulator: what programs bring, and what they find when the call has returned.

use std::rc::Rc;

use pccl_core::error::ErrorKind;
use pccl_core::proto::peer::Done;
use pccl_core::shell::{SyncReport, SyncRequest};
use pccl_core::state::{Condition, Tensors};
use pccl_core::types::{DType, GroupId, SyncStrategy, TensorKey, WorkId};
use pccl_core::wire::message::MasterMessage;

use super::app::{App, Call, Outcome, Stage};
use super::event::ProcessId;
use super::forger::Mischief;
use super::invariants::g2_state::{self, Choice};
use super::invariants::{Verdict, g4_progress};
use super::leavings::Leavings;
use super::memory::CallMemory;
use super::rng::{Rng, mix_all};
use super::scenario::Scenario;
use super::world::World;

/// What a program brings to a synchronization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brings {
    pub revision: u64,
    pub strategy: SyncStrategy,
    /// The first attempt in this step: the program has worked on its tensors since the one before.
    pub worked_at: Option<u64>,
    /// Something went wrong in the program: its tensors are no longer what they should be.
    pub corrupt: bool,
    /// It has worked on its own tensors since the attempt before: a generator of random numbers, say.
    pub moved_on: bool,
    /// Another of its threads writes into the tensors while they are lent: what it sends is not what it offered.
    pub scribbles: bool,
    /// What it does to its answers, where others ask it for what it holds.
    pub mischief: Option<Mischief>,
    pub oddity: Option<Oddity>,
    /// Its tensors are what a broken transfer has left there: it has no vote.
    pub held_back: bool,
}

/// How an unruly program's call differs from those of the others, so that somebody has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// It is ahead of the run.
    Ahead,
    OtherTensors,
    OtherStrategy,
}

/// One of a group's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorKind {
    pub size_bytes: usize,
    pub dtype: DType,
    pub may_differ: bool,
}

/// How a program stands to the state of its group.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    revision: u64,
    /// Whether it was in a synchronization that succeeded.
    synced: bool,
    /// Whether a broken transfer has changed its tensors.
    broken: bool,
    /// What it does to its answers in the call under way.
    mischief: Option<Mischief>,
}

/// The memory of a call.
pub struct StateMemory {
    tensors: Vec<CallMemory>,
    before: Vec<Vec<u8>>,
    revision: u64,
    report: SyncReport,
    /// Whether it may be what a broken transfer has left.
    may_be_held_back: bool,
}

impl Scenario {
    /// A group's tensors, as its programs list them.
    pub fn tensors(&self, group: GroupId) -> Vec<TensorKind> {
        let mut rng = Rng::new(mix_all(&[self.seed, 8, u64::from(group.0)]));
        let count = rng.below(6);
        let mut tensor = || {
            let size_bytes: usize = rng.pick(&[0, 1, 7, 8, 60, 304, 704]);
            let fitting =
                DType::ALL.into_iter().filter(|dtype| size_bytes.is_multiple_of(dtype.size_bytes()));
            let dtype = rng.pick(&fitting.collect::<Vec<_>>());
            TensorKind { size_bytes, dtype, may_differ: rng.percent(20) }
        };
        (0..count).map(|_| tensor()).collect()
    }

    fn synchronizes(&self, group: GroupId, step: u64) -> bool {
        Rng::new(mix_all(&[self.seed, 10, u64::from(group.0), step])).percent(self.sync_percent)
    }

    /// Whether it does so after the operations of the step, not before them.
    pub(super) fn synchronizes_late(&self, group: GroupId, step: u64) -> bool {
        Rng::new(mix_all(&[self.seed, 15, u64::from(group.0), step])).percent(30)
    }

    /// Whether those who have the state send it in this step, and the others receive.
    fn by_roles(&self, group: GroupId, step: u64) -> bool {
        Rng::new(mix_all(&[self.seed, 11, u64::from(group.0), step])).percent(25)
    }

    /// Whether in this step some of the group have lost a byte, and most of those who have not mean no good.
    fn is_hard_on_the_state(&self, group: GroupId, step: u64) -> bool {
        Rng::new(mix_all(&[self.seed, 19, u64::from(group.0), step])).percent(25)
    }

    /// What a process has before it has anything.
    pub fn first_model(&self, group: GroupId, process: u64) -> Vec<Vec<u8>> {
        let mut rng = Rng::new(mix_all(&[self.seed, 12, process]));
        let bytes = |kind: TensorKind| (0..kind.size_bytes).map(|_| rng.below(256) as u8).collect();
        self.tensors(group).into_iter().map(bytes).collect()
    }
}

impl App {
    /// The step's number is known to all: synchronize, if this is a step for it.
    pub(super) fn begin_sync(&mut self) {
        if !self.scenario.synchronizes(self.group, self.step) || self.is_unruly() {
            return self.after_sync();
        }
        let by_roles = self.scenario.by_roles(self.group, self.step);
        let troubled = self.scenario.kind.may_harm_programs() && !self.is_calm();
        let harmed = troubled && self.standing.synced;
        let is_hard = self.scenario.is_hard_on_the_state(self.group, self.step);
        let (corrupt_percent, hostile_percent) = if is_hard { (40, 60) } else { (5, 15) };
        let corrupt = harmed && !by_roles && self.rng.percent(corrupt_percent);
        let scribbles = harmed && !corrupt && self.rng.percent(10);
        // From the first one on, where all receive but one.
        let hostile = troubled && !corrupt && self.rng.percent(hostile_percent);
        let mischief = hostile.then(|| self.rng.pick(&Mischief::ALL));
        let oddities = [Oddity::Ahead, Oddity::OtherTensors, Oddity::OtherStrategy];
        let oddity = self.is_unruly().then(|| self.rng.pick(&oddities));
        self.synchronize(Some(self.step), (corrupt, scribbles), mischief, oddity);
    }

    /// Where the others do something else.
    pub(super) fn synchronize_out_of_turn(&mut self) {
        self.synchronize(None, (false, false), None, None);
    }

    fn synchronize(
        &mut self,
        worked_at: Option<u64>,
        (corrupt, scribbles): (bool, bool),
        mischief: Option<Mischief>,
        oddity: Option<Oddity>,
    ) {
        self.standing.mischief = mischief;
        let Standing { mut revision, synced, broken, .. } = self.standing;
        let mut strategy = match self.scenario.by_roles(self.group, self.step) {
            false => SyncStrategy::EnforcePopular,
            true if synced && !broken => SyncStrategy::SendOnly,
            true => SyncStrategy::ReceiveOnly,
        };
        match oddity {
            Some(Oddity::Ahead) => revision += self.rng.between(1, 3),
            Some(Oddity::OtherStrategy) => {
                let others = SyncStrategy::ALL.into_iter().filter(|other| *other != strategy);
                strategy = self.rng.pick(&others.collect::<Vec<_>>());
            }
            Some(Oddity::OtherTensors) | None => {}
        }
        let moved_on = worked_at.is_none() && self.rng.percent(30);
        // What lies in its tensors the world knows.
        let held_back = false;
        let brings = Brings {
            revision,
            strategy,
            worked_at,
            corrupt,
            moved_on,
            scribbles,
            mischief,
            oddity,
            held_back,
        };
        let work = self.call(Call::Synchronize(brings));
        self.stage = Stage::Syncing(work);
        self.probe_in_sync(work);
        self.wait(work);
    }

    fn after_sync(&mut self) {
        if self.scenario.synchronizes_late(self.group, self.step) {
            self.begin_phases();
        } else {
            self.begin_ops();
        }
    }

    /// What a broken transfer has done to the tensors, before the outcome.
    pub fn tensors_changed(&mut self, changed: bool) {
        self.standing.broken |= changed;
    }

    pub(super) fn synced(&mut self, outcome: Outcome) {
        match outcome {
            Ok(Done::Synchronized(info)) => {
                let revision = info.revision + 1;
                self.standing = Standing { revision, synced: true, broken: false, mischief: None };
                self.after_sync();
            }
            Ok(_) => self.after_sync(),
            Err(error) => match error.kind {
                ErrorKind::Aborted => {
                    // Some mean no good however often.
                    let mischief = match self.standing.mischief {
                        Some(mischief) if !self.is_calm() && self.rng.percent(50) => Some(mischief),
                        _ => None,
                    };
                    self.synchronize(None, (false, false), mischief, None);
                }
                ErrorKind::TooFewPeers => self.alone_in_sync(),
                ErrorKind::NoSharedStateAvailable => self.after_sync(),
                ErrorKind::InvalidUsage => self.think(),
                _ => self.exit(format!("synchronize: {error}")),
            },
        }
    }
}

impl World {
    /// The request of a program with its tensors, and the memory they lie in.
    pub fn sync_request(&mut self, process: ProcessId, brings: Brings) -> (SyncRequest, StateMemory) {
        let (group, seed) = (self.processes[process].group, self.scenario.seed);
        let kinds = self.scenario.tensors(group);
        let model = &mut self.processes[process].model;
        if let Some(step) = brings.worked_at {
            let add = mix_all(&[seed, 13, step]) as u8;
            model.iter_mut().flatten().for_each(|byte| *byte = byte.wrapping_mul(5).wrapping_add(add));
        }
        if let (true, Some(byte)) = (brings.corrupt, model.iter_mut().flatten().next()) {
            *byte ^= 0x40;
        }
        let own = model.iter_mut().zip(&kinds).filter(|(_, kind)| brings.moved_on && kind.may_differ);
        own.filter_map(|(bytes, _)| bytes.last_mut()).for_each(|byte| *byte = byte.wrapping_add(1));
        let before = model.clone();
        self.processes[process].mood.set(brings.mischief);
        if brings.corrupt || brings.scribbles {
            self.states.harmed(group);
        }
        let own_revision = brings.revision;
        let renamed = brings.oddity == Some(Oddity::OtherTensors);
        let leavings = &mut self.processes[process].leavings;
        leavings.is_unsure |= renamed;
        let held =
            leavings.holds.as_ref().filter(|(model, _)| *model == before).map(|(_, revision)| *revision);
        let revision = held.map_or(brings.revision, |held| held.max(brings.revision));
        let (held_back, is_unsure) = (leavings.hold_back(&before), leavings.is_unsure);
        let brings = Brings { revision, held_back: held_back && !is_unsure, ..brings };
        self.processes[process].brings = Some(brings);
        self.processes[process].choice = None;
        let tensors: Vec<CallMemory> = before.iter().map(|bytes| CallMemory::new(bytes, true)).collect();
        let key = |(at, kind): (usize, &TensorKind)| TensorKey {
            // Not in the order of names.
            name: format!("t{}{}", (at * 7 + 3) % 10, if renamed && at == 0 { "?" } else { "" }),
            dtype: kind.dtype,
            count: (kind.size_bytes / kind.dtype.size_bytes()) as u64,
            may_differ: kind.may_differ,
        };
        let keys = kinds.iter().enumerate().map(key);
        let given = keys.zip(&tensors).map(|(key, memory)| (key, memory.lend())).collect();
        let mut lent = Tensors::new(given).expect("names differ, and sizes are those of the memory");
        let survey = lent.survey(self.scenario.block_bytes, 1);
        let shared = (0..lent.len()).filter(|tensor| !lent.keys()[*tensor].may_differ);
        for tensor in shared.filter(|_| brings.scribbles).collect::<Vec<_>>() {
            let size_bytes = lent.size_bytes(tensor);
            lent.write(tensor, 0, size_bytes).iter_mut().for_each(|byte| *byte ^= 0x11);
        }
        let report = SyncReport::default();
        let Brings { revision, strategy, .. } = brings;
        let may_be_held_back = held_back || is_unsure;
        let memory = StateMemory { tensors, before, revision, report: report.clone(), may_be_held_back };
        // The node knows by itself what it holds.
        let request =
            SyncRequest { revision: own_revision, strategy, is_broken: false, tensors: lent, survey, report };
        (request, memory)
    }

    /// The tensors are the program's again: are they as they must be?
    pub fn state_back(
        &mut self,
        process: ProcessId,
        work: WorkId,
        memory: StateMemory,
        outcome: &Outcome,
    ) -> Verdict {
        let StateMemory { tensors, before, revision, report, may_be_held_back } = memory;
        let group = self.processes[process].group;
        self.processes[process].mood.set(None);
        let kinds = self.scenario.tensors(group);
        let after: Vec<Vec<u8>> = tensors.iter().map(|memory| memory.result().to_vec()).collect();
        let mut conditions = report.conditions();
        if conditions.is_empty() {
            conditions = vec![Condition::Kept; tensors.len()];
        }
        let survivors = self.survivors(process);
        let this = &self.processes[process];
        let at = g2_state::At { peer: this.id, run: this.run, group, survivors: &survivors };
        let choice = this.choice.clone();
        let heard = choice.clone();
        let found =
            g2_state::Found { kinds: &kinds, before: &before, after: &after, conditions: &conditions };
        // Who writes there meanwhile may find anything.
        let scribbled = this.brings.is_some_and(|brings| brings.scribbles);
        if !scribbled {
            found.conditions(&at, choice.as_deref())?;
        }
        if let Ok(Done::Synchronized(info)) = outcome {
            let (Some(number), Some(choice)) = (this.sync_ended.as_ref().map(|(number, _)| *number), choice)
            else {
                return g4_progress::everybody(vec![this.to_string()], 0, "hear how a synchronization ended");
            };
            self.report.synchronized += 1;
            if !scribbled {
                found.success(&at, number, *info, &choice, self.scenario.block_bytes)?;
                found.keeps_no_mixture(&at, &this.leavings.mixed, &choice)?;
                if revision == info.revision && !may_be_held_back {
                    found.keeps_what_may_differ(&at)?;
                }
            }
            if self.scenario.calls_obey() {
                self.states.step_synchronized(&at, this.app.step, number)?;
            }
        }
        let succeeded = outcome.is_ok();
        self.processes[process].leavings = match heard.filter(|_| !succeeded) {
            Some(choice) => {
                let mut leavings = std::mem::take(&mut self.processes[process].leavings);
                let outdated = may_be_held_back || revision < choice.election.revision;
                let here = |tensor: usize| {
                    after[tensor] == choice.model[tensor] || kinds[tensor].may_differ && !outdated
                };
                leavings.follow(&after, &conditions, &choice, (0..after.len()).all(here));
                if scribbled {
                    leavings.mixed.clear();
                    leavings.is_unsure = true;
                }
                leavings
            }
            None if succeeded => Leavings::default(),
            None => std::mem::take(&mut self.processes[process].leavings),
        };
        let what = format!("P{process}, {work:?}");
        for (tensor, mut memory) in tensors.into_iter().enumerate() {
            g2_state::nothing_beside(&memory, || format!("{what}, tensor {tensor}"))?;
            memory.poison();
            self.processes[process].kept.push((format!("{what}, tensor {tensor}"), memory));
        }
        let this = &mut self.processes[process];
        this.model = after;
        this.app.tensors_changed(conditions.iter().any(|condition| *condition != Condition::Kept));
        Ok(())
    }

    /// The master sends an election: what its winner holds is what all shall hold.
    pub fn note_election(&mut self, message: &MasterMessage) {
        let MasterMessage::SyncElected { election } = message else { return };
        let key = (self.master.number, election.number);
        let Some(winner) = self.processes.iter().rfind(|process| process.id == election.winner) else {
            return;
        };
        let Some(brings) = winner.brings else { return };
        let chosen =
            || Rc::new(Choice { election: (**election).clone(), brings, model: winner.model.clone() });
        self.choices.entry(key).or_insert_with(chosen);
    }

    /// What the master says of a synchronization: the same to everybody.
    pub fn overhear_sync(&mut self, process: ProcessId, message: &MasterMessage) -> Verdict {
        // The end may come before the epoch without those who are gone; they are no survivors.
        let mut survivors = self.survivors(process);
        let lives = |at: usize| self.processes[at].node.is_some();
        survivors.retain(|peer| self.process_with(*peer).is_some_and(lives));
        let this = &mut self.processes[process];
        let (peer, run, group) = (this.id, this.run, this.group);
        let at = g2_state::At { peer, run, group, survivors: &survivors };
        match message {
            MasterMessage::SyncElected { election } => {
                let master = this.control.map(|link| self.controls[link].master);
                let key = master.map(|master| (master, election.number));
                this.choice = key.and_then(|key| self.choices.get(&key).cloned());
                this.leavings.brought(&this.model);
                this.choice.as_ref().map_or(Ok(()), |choice| choice.may_win(&at))
            }
            // A newcomer only hears the number.
            MasterMessage::SyncEnded { number, outcome } if !this.is_newcomer() => {
                this.sync_ended = Some((*number, outcome.clone()));
                self.states.ended(&at, *number, outcome)
            }
            MasterMessage::Kicked { text } if self.scenario.calls_obey() => self.states.may_kick(&at, text),
            _ => Ok(()),
        }
    }
}
