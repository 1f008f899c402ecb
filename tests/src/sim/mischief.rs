//! Carries out the faults of a scenario, and ends them.

use pccl_core::shell::node::Node;
use pccl_core::wire::message::MasterMessage;

use super::control_link::Owner;
use super::event::{Event, ProcessId};
use super::fault::{Fault, Moment};
use super::hostile::Hostile;
use super::invariants::Verdict;
use super::queue::Us;
use super::scenario::Slot;
use super::world::{World, trace};

impl World {
    pub fn fault(&mut self, index: usize) -> Verdict {
        let fault = self.scenario.faults[index].1;
        trace!(self, "--- {fault:?}");
        match fault {
            Fault::Crash(slot) => {
                if let Some(process) = self.process_of(slot) {
                    self.crash(process);
                }
            }
            Fault::Freeze(slot, lasts) => {
                if let Some(process) = self.process_of(slot) {
                    self.freeze(process, lasts);
                }
            }
            Fault::Leave(slot) => {
                if let Some(process) = self.process_of(slot) {
                    self.processes[process].app.ask_to_leave();
                }
            }
            Fault::LeaveAtOnce(slot) => {
                if let Some(process) = self.process_of(slot).filter(|at| !self.processes[*at].frozen) {
                    self.processes[process].app.leave_at_once(self.now);
                    return self.settle(process);
                }
            }
            Fault::CutPair(a, b, lasts) => self.cut_pair(a, b, lasts),
            Fault::SlowPair(a, b, us_per_byte, lasts) => self.slow_pair(a, b, us_per_byte, lasts),
            Fault::ResetLink(random) => {
                if let Some(conn) = self.living_joint(random) {
                    return self.reset_joint(conn, "reset");
                }
            }
            Fault::HoldLink(random, lasts) => {
                if let Some(conn) = self.living_joint(random) {
                    trace!(self, "nothing gets through connection {conn}");
                    self.hold_joint(conn);
                    self.queue.push(self.until(lasts), Event::HealLink { conn });
                }
            }
            Fault::Damage(random) => self.damage(random),
            Fault::CutControl(slot, lasts) => self.cut_control(slot, lasts),
            Fault::ResetControl(slot) => {
                if let Some(link) = self.process_of(slot).and_then(|at| self.processes[at].control) {
                    self.reset_control(link);
                }
            }
            Fault::Isolate(slot, lasts) => {
                self.cut_control(slot, lasts);
                for other in (0..self.slots.len()).filter(|other| *other != slot) {
                    self.cut_pair(slot, other, lasts);
                }
            }
            Fault::Partition(bits, lasts) => {
                let there = |slot: usize| bits >> (slot % 64) & 1 == 1;
                for slot in (0..self.slots.len()).filter(|slot| there(*slot)) {
                    self.cut_control(slot, lasts);
                    for other in (0..self.slots.len()).filter(|other| !there(*other)) {
                        self.cut_pair(slot, other, lasts);
                    }
                }
            }
            Fault::MasterSlow(us_per_message, _) => self.master.us_per_message = us_per_message,
            Fault::MasterFreeze(lasts) => {
                self.master.frozen = true;
                self.queue.push(self.until(lasts), Event::MasterThaws);
            }
            Fault::MasterRestart(down) => {
                self.master_dies();
                self.queue.push(self.until(down), Event::MasterStarts);
            }
            Fault::Hostile(seed) => {
                let hostile = self.hostiles.len();
                let delay = self.scenario.delay_us.1;
                let link = self.open_control(Owner::Hostile(hostile), delay, false);
                self.hostiles.push(Hostile::new(link, seed));
                self.queue.push(self.now + 2 * delay, Event::HostileStep { hostile });
            }
        }
        Ok(())
    }

    fn until(&self, lasts: Us) -> Us {
        (self.now + lasts).min(self.scenario.calm_at)
    }

    fn crash(&mut self, process: ProcessId) {
        trace!(self, "{} crashes", self.processes[process]);
        let slot = self.processes[process].slot;
        self.end_process(process, self.scenario.slots[slot].comes_again);
    }

    fn freeze(&mut self, process: ProcessId, lasts: Us) {
        trace!(self, "{} freezes", self.processes[process]);
        self.processes[process].frozen = true;
        self.queue.push(self.until(lasts), Event::Resume { process });
    }

    fn cut_pair(&mut self, a: Slot, b: Slot, lasts: Us) {
        self.pair(a, b).cut = true;
        for conn in self.joints_between(a, b) {
            self.hold_joint(conn);
        }
        self.queue.push(self.until(lasts), Event::HealPair { a, b });
    }

    fn slow_pair(&mut self, a: Slot, b: Slot, us_per_byte: Us, lasts: Us) {
        self.pair(a, b).us_per_byte = us_per_byte;
        for conn in self.joints_between(a, b) {
            self.joints[conn as usize].conn.us_per_byte.set(us_per_byte);
        }
        self.queue.push(self.until(lasts), Event::HealPair { a, b });
    }

    pub fn heal_pair(&mut self, a: Slot, b: Slot) -> Verdict {
        let pair = self.pair(a, b);
        pair.cut = false;
        pair.us_per_byte = 0;
        for conn in self.joints_between(a, b) {
            self.joints[conn as usize].conn.us_per_byte.set(0);
            self.release_joint(conn);
        }
        Ok(())
    }

    pub fn heal_link(&mut self, conn: u32) -> Verdict {
        let [a, b] = self.joints[conn as usize].owners.map(|owner| self.processes[owner].slot);
        if !self.pair(a, b).cut {
            self.release_joint(conn);
        }
        Ok(())
    }

    fn joints_between(&self, a: Slot, b: Slot) -> Vec<u32> {
        let slots = |owners: [ProcessId; 2]| owners.map(|owner| self.processes[owner].slot);
        let between = |owners| slots(owners) == [a, b] || slots(owners) == [b, a];
        self.joints.iter().filter(|joint| between(joint.owners)).map(|joint| joint.conn.index).collect()
    }

    fn living_joint(&self, random: u64) -> Option<u32> {
        let living: Vec<u32> = self
            .joints
            .iter()
            .map(|joint| &joint.conn)
            .filter(|conn| !conn.is_shut(0) && !conn.is_shut(1))
            .map(|conn| conn.index)
            .collect();
        living.get((random % living.len().max(1) as u64) as usize).copied()
    }

    /// Flips a bit on one of the connections that carry something just now.
    fn damage(&mut self, random: u64) {
        let count = self.joints.len() as u64;
        for step in 0..count * 2 {
            let at = (random % (count * 2) + step) % (count * 2);
            let conn = self.joints[(at / 2) as usize].conn.clone();
            if conn.damage((at % 2) as usize, &mut self.rng) {
                trace!(self, "connection {} carries a flipped bit from side {}", conn.index, at % 2);
                return;
            }
        }
    }

    fn cut_control(&mut self, slot: Slot, lasts: Us) {
        self.slots[slot].control_cut = true;
        if let Some(link) = self.process_of(slot).and_then(|at| self.processes[at].control) {
            self.hold_control(link);
        }
        self.queue.push(self.until(lasts), Event::HealControl { slot });
    }

    pub fn heal_control(&mut self, slot: Slot) -> Verdict {
        self.slots[slot].control_cut = false;
        for link in 0..self.controls.len() {
            if let Owner::Process(process) = self.controls[link].owner
                && self.processes[process].slot == slot
            {
                self.release_control(link);
            }
        }
        Ok(())
    }

    /// Faults are over.
    pub fn heal_everything(&mut self) -> Verdict {
        self.master.us_per_message = 0;
        self.master_starts()?;
        self.master_thaws()?;
        let count = self.slots.len();
        for a in 0..count {
            self.heal_control(a)?;
            for b in a + 1..count {
                self.heal_pair(a, b)?;
            }
        }
        for process in 0..self.processes.len() {
            self.resume(process)?;
        }
        Ok(())
    }

    /// Whether the plan of a newcomer's slot lets it end or stop at this message.
    pub fn newcomer_fault_strikes(&mut self, process: ProcessId, message: &MasterMessage) -> bool {
        let this = &self.processes[process];
        let Some(fault) = self.scenario.slots[this.slot].newcomer_fault else { return false };
        let accepted = this.node.as_ref().and_then(Node::epoch).is_some();
        let due = match message {
            MasterMessage::Welcome { .. } => fault.moment == Moment::Welcome,
            MasterMessage::Pending => fault.moment == Moment::Pending,
            MasterMessage::LinkTo { .. } => fault.moment == Moment::LinkTo,
            MasterMessage::Prepare { .. } => fault.moment == Moment::Prepare,
            _ => false,
        };
        if !due || accepted || this.newcomer_fault_over || self.now >= self.scenario.calm_at {
            return false;
        }
        self.processes[process].newcomer_fault_over = true;
        if fault.crashes {
            self.crash(process);
        } else {
            self.freeze(process, self.scenario.calm_at);
        }
        true
    }
}
