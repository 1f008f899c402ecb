//! Faults of all kinds, several at once, at random: after each round the run must come to rest, complete.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pccl_cli::fleet::child::Check;
use pccl_cli::fleet::{Run, Stop, now_us};

use crate::{Common, outcome, start_peers};

/// Between the faults of one round.
const GAP_MS: u64 = 150;
/// A freeze that the silence time does not notice.
const BRIEF_MS: u64 = 400;

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Leave,
    Join,
    BriefFreeze,
    Freeze,
    MasterRestart,
}

/// Kills and joins are what happens most.
const FAULTS: [Fault; 9] = [
    Fault::Kill,
    Fault::Kill,
    Fault::Kill,
    Fault::Join,
    Fault::Join,
    Fault::Leave,
    Fault::BriefFreeze,
    Fault::Freeze,
    Fault::MasterRestart,
];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Leave => "leave",
            Fault::Join => "join",
            Fault::BriefFreeze => "brief freeze",
            Fault::Freeze => "freeze",
            Fault::MasterRestart => "master restart",
        }
    }
}

pub fn run(common: &Common, seconds: Duration) -> Result<ExitCode, String> {
    let (run, random) = common.start(Check::Full, Some(seconds))?;
    let mut churn = Churn { run, random, peers: common.peers, frozen: Vec::new(), faults: BTreeMap::new() };
    let script = churn.script(Instant::now() + seconds);
    outcome::finish(churn.run, common, "churn", script, churn.faults, None)
}

struct Churn {
    run: Run,
    random: fastrand::Rng,
    peers: u32,
    /// Frozen for so long that the others went on.
    frozen: Vec<u32>,
    faults: BTreeMap<&'static str, u64>,
}

impl Churn {
    fn script(&mut self, end: Instant) -> Result<(), Stop> {
        start_peers(&mut self.run, self.peers)?;
        self.run.wait_for("everybody takes part", Run::settled)?;
        while Instant::now() < end {
            self.run.follow(Duration::from_millis(self.random.u64(50..500)))?;
            for _ in 0..self.random.u32(1..=3) {
                self.fault()?;
                self.run.follow(Duration::from_millis(self.random.u64(0..GAP_MS)))?;
            }
            self.come_to_rest()?;
        }
        Ok(())
    }

    fn fault(&mut self) -> Result<(), Stop> {
        let Some(fault) = self.random.choice(FAULTS) else { return Ok(()) };
        let alive = self.run.alive();
        // Two must stay, or nothing can be compared; and a world that grows for ever fits no machine.
        let needs_victim = matches!(fault, Fault::Kill | Fault::Leave | Fault::BriefFreeze | Fault::Freeze);
        let too_many = matches!(fault, Fault::Join) && alive.len() as u32 >= self.peers + 2;
        let Some(victim) = self.random.choice(&alive).copied() else { return Ok(()) };
        if too_many || (needs_victim && alive.len() <= 2) {
            return Ok(());
        }
        *self.faults.entry(fault.name()).or_default() += 1;
        let whom = if needs_victim { format!(": peer {victim}") } else { String::new() };
        self.run.note(&format!("{}{whom}", fault.name()));
        match fault {
            Fault::Kill => self.run.kill(victim),
            Fault::Leave => self.run.ask_to_leave(victim),
            Fault::Join => start_peers(&mut self.run, alive.len() as u32 + 1)?,
            Fault::BriefFreeze => {
                self.run.freeze_briefly(victim);
                let time = self.random.u64(1..BRIEF_MS);
                self.run.follow(Duration::from_millis(time))?;
                self.run.thaw(victim);
            }
            Fault::Freeze => {
                self.run.freeze(victim);
                self.frozen.push(victim);
            }
            Fault::MasterRestart => self.run.restart_master()?,
        }
        Ok(())
    }

    /// All who live, and the newcomers that replace the dead, take part in one operation. Then those frozen for
    /// long come back to life, find that they are out, and join anew.
    fn come_to_rest(&mut self) -> Result<(), Stop> {
        start_peers(&mut self.run, self.peers)?;
        self.all_go_on()?;
        for number in std::mem::take(&mut self.frozen) {
            self.run.bring_back(number);
        }
        self.all_go_on()
    }

    fn all_go_on(&mut self) -> Result<(), Stop> {
        let since_us = now_us();
        self.run.wait_for("all take part after the faults", |run| {
            run.settled() && run.recovered() && run.progressed_since(since_us)
        })
    }
}
