//! Shared state in the simulator: what programs bring, and what they find when the call has returned.

use pccl_core::error::ErrorKind;
use pccl_core::proto::peer::Done;
use pccl_core::shell::{SyncReport, SyncRequest};
use pccl_core::state::{Condition, Tensors};
use pccl_core::types::{DType, GroupId, SyncStrategy, TensorKey, WorkId};
use pccl_core::wire::message::MasterMessage;

use super::app::{App, Outcome, Stage};
use super::event::ProcessId;
use super::invariants::{Verdict, g2_state, g4_progress};
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
}

/// How a program stands to the state of its group.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    revision: u64,
    /// Whether it was in a synchronization that succeeded.
    synced: bool,
    /// Whether a broken transfer has changed its tensors.
    broken: bool,
}

/// The memory of a call.
pub struct StateMemory {
    tensors: Vec<CallMemory>,
    before: Vec<Vec<u8>>,
    revision: u64,
    report: SyncReport,
}

impl Scenario {
    /// Sizes of a group's tensors, and whether they may differ.
    pub fn tensors(&self, group: GroupId) -> Vec<(usize, bool)> {
        let mut rng = Rng::new(mix_all(&[self.seed, 8, u64::from(group.0)]));
        let count = rng.below(6);
        (0..count).map(|_| (rng.pick(&[0, 1, 7, 8, 60, 300, 700]) as usize, rng.percent(20))).collect()
    }

    fn synchronizes(&self, group: GroupId, step: u64) -> bool {
        Rng::new(mix_all(&[self.seed, 10, u64::from(group.0), step])).percent(self.sync_percent)
    }

    /// Whether those who have the state send it in this step, and the others receive.
    fn by_roles(&self, group: GroupId, step: u64) -> bool {
        Rng::new(mix_all(&[self.seed, 11, u64::from(group.0), step])).percent(25)
    }

    /// What a process has before it has anything.
    pub fn first_model(&self, group: GroupId, process: u64) -> Vec<Vec<u8>> {
        let mut rng = Rng::new(mix_all(&[self.seed, 12, process]));
        let bytes = |(size, _): (usize, bool)| (0..size).map(|_| rng.below(256) as u8).collect();
        self.tensors(group).into_iter().map(bytes).collect()
    }
}

impl App {
    /// The step's number is known to all: synchronize, if this is a step for it.
    pub(super) fn begin_sync(&mut self) {
        if !self.scenario.synchronizes(self.group, self.step) {
            return self.begin_ops();
        }
        let calm = self.now >= self.scenario.calm_at;
        if !calm && self.rng.percent(self.scenario.unruly_percent) {
            return self.begin_ops(); // breaks the documented order
        }
        let by_roles = self.scenario.by_roles(self.group, self.step);
        let harmed = self.scenario.kind.may_harm_programs() && self.standing.synced;
        let corrupt = harmed && !by_roles && !calm && self.rng.percent(5);
        self.synchronize(Some(self.step), corrupt);
    }

    fn synchronize(&mut self, worked_at: Option<u64>, corrupt: bool) {
        let Standing { revision, synced, broken } = self.standing;
        let strategy = match self.scenario.by_roles(self.group, self.step) {
            false => SyncStrategy::EnforcePopular,
            true if synced && !broken => SyncStrategy::SendOnly,
            true => SyncStrategy::ReceiveOnly,
        };
        let brings = Brings { revision, strategy, worked_at, corrupt };
        let work = self.call(super::app::Call::Synchronize(brings));
        self.stage = Stage::Syncing(work);
        self.wait(work);
    }

    /// What a broken transfer has done to the tensors, before the outcome.
    pub fn tensors_changed(&mut self, changed: bool) {
        self.standing.broken |= changed;
    }

    pub(super) fn synced(&mut self, outcome: Outcome) {
        match outcome {
            Ok(Done::Synchronized(info)) => {
                self.standing = Standing { revision: info.revision + 1, synced: true, broken: false };
                self.begin_ops();
            }
            Ok(_) => self.begin_ops(),
            Err(error) => match error.kind {
                ErrorKind::Aborted => self.synchronize(None, false),
                ErrorKind::TooFewPeers => self.alone_in_sync(),
                ErrorKind::NoSharedStateAvailable => self.begin_ops(),
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
        let before = model.clone();
        self.states.offered(group, &before, &kinds);
        let tensors: Vec<CallMemory> = before.iter().map(|bytes| CallMemory::new(bytes, true)).collect();
        let key = |(at, (size, may_differ)): (usize, &(usize, bool))| TensorKey {
            name: format!("t{at}"),
            dtype: DType::U8,
            count: *size as u64,
            may_differ: *may_differ,
        };
        let keys = kinds.iter().enumerate().map(key);
        let given = keys.zip(&tensors).map(|(key, memory)| (key, memory.lend())).collect();
        let lent = Tensors::new(given).expect("names differ, and sizes are those of the memory");
        let survey = lent.survey(self.scenario.block_bytes, 1);
        let report = SyncReport::default();
        let Brings { revision, strategy, .. } = brings;
        let memory = StateMemory { tensors, before, revision, report: report.clone() };
        (SyncRequest { revision, strategy, tensors: lent, survey, report }, memory)
    }

    /// The tensors are the program's again: are they as they must be?
    pub fn state_back(
        &mut self,
        process: ProcessId,
        work: WorkId,
        memory: StateMemory,
        outcome: &Outcome,
    ) -> Verdict {
        let StateMemory { tensors, before, revision, report } = memory;
        let group = self.processes[process].group;
        let kinds = self.scenario.tensors(group);
        let after: Vec<Vec<u8>> = tensors.iter().map(|memory| memory.result().to_vec()).collect();
        let mut conditions = report.conditions();
        if conditions.is_empty() {
            conditions = vec![Condition::Kept; tensors.len()];
        }
        let survivors = self.survivors(process);
        let this = &self.processes[process];
        let at = g2_state::At { peer: this.id, run: this.run, group, survivors: &survivors };
        self.states.conditions(&at, &before, &after, &conditions)?;
        if let Ok(Done::Synchronized(info)) = outcome {
            let Some((number, _)) = this.sync_ended else {
                return g4_progress::everybody(vec![this.to_string()], 0, "hear how a synchronization ended");
            };
            self.report.synchronized += 1;
            if revision == info.revision {
                g2_state::keeps_what_may_differ(&at, &kinds, &conditions)?;
            }
            self.states.synchronized(&at, number, *info, &after, &kinds, &conditions)?;
        }
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

    /// The master has ended a synchronization: the same at everybody.
    pub fn overhear_sync(&mut self, process: ProcessId, message: &MasterMessage) -> Verdict {
        let MasterMessage::SyncEnded { number, outcome } = message else { return Ok(()) };
        let this = &mut self.processes[process];
        if this.is_newcomer() {
            return Ok(()); // it only hears the number
        }
        this.sync_ended = Some((*number, outcome.clone()));
        let (peer, run, group) = (this.id, this.run, this.group);
        let survivors = self.survivors(process);
        let at = g2_state::At { peer, run, group, survivors: &survivors };
        self.states.ended(&at, *number, outcome)
    }
}
