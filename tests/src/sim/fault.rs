//! What may go wrong in a run, and when.

use super::queue::Us;
use super::rng::Rng;
use super::scenario::{Kind, PhaseHabit, Scenario, Slot, SlotPlan};
use pccl_core::types::GroupId;

/// At which message of the master something becomes of a newcomer: all of them before it has answered a
/// prepare, that is, before it can have become a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Welcome,
    Pending,
    LinkTo,
    Prepare,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewcomerFault {
    pub moment: Moment,
    /// Crashes, or else freezes until the faults are over.
    pub crashes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Crash(Slot),
    Freeze(Slot, Us),
    /// Leaves at the next step.
    Leave(Slot),
    /// Leaves whatever it is doing.
    LeaveAtOnce(Slot),
    /// No byte gets through between the two.
    CutPair(Slot, Slot, Us),
    /// So many microseconds for each byte.
    SlowPair(Slot, Slot, Us, Us),
    /// No byte gets through one of the data connections, whatever others of its pair do.
    HoldLink(u64, Us),
    /// One of the data connections ends.
    ResetLink(u64),
    /// A bit on one of the data connections flips.
    Damage(u64),
    CutControl(Slot, Us),
    ResetControl(Slot),
    /// Cut from everybody.
    Isolate(Slot, Us),
    /// The slots of these bits on one side, the others and the master on the other.
    Partition(u64, Us),
    /// The master needs so long for each message.
    MasterSlow(Us, Us),
    MasterFreeze(Us),
    /// Down for so long, then another one with nothing in its memory.
    MasterRestart(Us),
    /// Somebody who speaks the protocol and means no good.
    Hostile(u64),
}

/// Plans the faults of `scenario`.
pub fn plan(scenario: &mut Scenario, rng: &mut Rng) {
    let pace = (scenario.delay_us.1 * 40).clamp(100_000, 900_000);
    match scenario.kind {
        Kind::Calm => scenario.calm_at = pace / 2,
        Kind::Chaos | Kind::MasterTrouble => {
            let faults = rng.between(1, 7);
            scenario.calm_at = pace + faults * pace / 5;
            for _ in 0..faults {
                let fault = chaos(scenario, rng);
                at_some_time(scenario, rng, fault);
            }
            for _ in 0..rng.pick(&[0, 0, 1, 2]) {
                newcomer(scenario, rng);
            }
            if scenario.kind == Kind::MasterTrouble {
                for _ in 0..rng.between(1, 2) {
                    let down = rng.between(100, 400_000);
                    at_some_time(scenario, rng, Fault::MasterRestart(down));
                }
            }
        }
        Kind::Newcomers => {
            scenario.calm_at = pace + pace / 2;
            for _ in 0..rng.between(1, 4) {
                newcomer(scenario, rng);
            }
            for _ in 0..rng.below(3) {
                let seed = rng.next();
                at_some_time(scenario, rng, Fault::Hostile(seed));
            }
        }
        Kind::Unruly => {
            scenario.calm_at = pace + pace / 2;
            scenario.unruly_percent = rng.pick(&[3, 10, 30]);
            for _ in 0..rng.pick(&[0, 0, 1, 2, 3]) {
                let fault = chaos(scenario, rng);
                at_some_time(scenario, rng, fault);
            }
        }
    }
    scenario.faults.sort_by_key(|(at, _)| *at);
    // Or those that outlast the product's patience would be rare.
    let held = |(at, fault): &(Us, Fault)| match fault {
        Fault::HoldLink(_, lasts) => at + lasts + pace / 5,
        _ => 0,
    };
    scenario.calm_at = scenario.faults.iter().map(held).fold(scenario.calm_at, Us::max);
}

fn at_some_time(scenario: &mut Scenario, rng: &mut Rng, fault: Fault) {
    let at = rng.between(10_000, scenario.calm_at - scenario.calm_at / 10);
    scenario.faults.push((at, fault));
}

fn chaos(scenario: &Scenario, rng: &mut Rng) -> Fault {
    let world = scenario.slots.len() as u64;
    let slot = rng.below(world) as Slot;
    let other = ((slot as u64 + rng.between(1, world - 1)) % world) as Slot;
    let silence_us = u64::from(scenario.silence_ms) * 1000;
    // Short of the silence time, about as long, or for good.
    let lasts = match rng.below(3) {
        0 => rng.between(1_000, silence_us / 2),
        1 => rng.between(silence_us / 2, silence_us * 2),
        _ => scenario.calm_at,
    };
    match rng.below(100) {
        0..22 => Fault::Crash(slot),
        22..34 => Fault::Freeze(slot, lasts),
        34..40 => Fault::Leave(slot),
        40..46 => Fault::LeaveAtOnce(slot),
        46..56 => Fault::CutPair(slot, other, lasts),
        56..62 => Fault::SlowPair(slot, other, rng.pick(&[5, 50, 500]), lasts),
        62..66 => Fault::ResetLink(rng.next()),
        // Short of the time that a connection has among others, or longer.
        66..70 => Fault::HoldLink(rng.next(), rng.between(silence_us / 2, silence_us * 6)),
        70..75 => Fault::Damage(rng.next()),
        75..80 => Fault::CutControl(slot, lasts),
        80..84 => Fault::ResetControl(slot),
        84..86 => Fault::Isolate(slot, lasts),
        86..88 => Fault::Partition(rng.next(), lasts),
        88..92 => Fault::MasterSlow(rng.between(100, 20_000), lasts),
        92..95 => Fault::MasterFreeze(rng.between(1_000, silence_us * 2)),
        _ => Fault::Hostile(rng.next()),
    }
}

/// A further slot whose process comes later.
fn newcomer(scenario: &mut Scenario, rng: &mut Rng) {
    let groups: Vec<GroupId> = scenario.slots.iter().map(|slot| slot.group).collect();
    let fault = NewcomerFault {
        moment: rng.pick(&[Moment::Welcome, Moment::Pending, Moment::LinkTo, Moment::Prepare]),
        crashes: rng.percent(40),
    };
    let others_dialable = scenario.slots.iter().all(|slot| slot.dialable);
    // In every group of the run some habits need another group to be there: only known groups.
    let alone = matches!(scenario.habit, PhaseHabit::AsReduceInfoSays | PhaseHabit::EveryThirdStep)
        || scenario.optimize_percent > 0;
    let group = if alone || rng.percent(80) { rng.pick(&groups) } else { GroupId(1000) };
    scenario.slots.push(SlotPlan {
        group,
        starts_at: rng.between(40_000, scenario.calm_at),
        dialable: !others_dialable || rng.percent(70),
        pool: rng.between(1, 3) as u16,
        newcomer_fault: rng.percent(70).then_some(fault),
        comes_again: rng.percent(50),
    });
}
