//! One fault at a time, each measured beside the survivors' undisturbed operations in the same run.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use pccl_cli::fleet::child::Check;
use pccl_cli::fleet::statistics::median;
use pccl_cli::fleet::{Run, Stop};

use crate::{Common, outcome, start_peers};

/// Operations of the survivors that are timed after each recovery. The one after it may still feel it.
const UNDISTURBED: usize = 5;
const DISTURBED: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill,
    Freeze,
}

pub fn run(common: &Common, count: u32, fault: Fault) -> Result<ExitCode, String> {
    let (mut run, mut random) = common.start(Check::Window, None)?;
    let mut undisturbed_ms = Vec::new();
    let script = script(&mut run, &mut random, common.peers, count, fault, &mut undisturbed_ms);
    let (mode, name) = match fault {
        Fault::Kill => ("recovery", "kill"),
        Fault::Freeze => ("freeze", "freeze"),
    };
    let faults = BTreeMap::from([(name, run.recoveries_us.len() as u64)]);
    outcome::finish(run, common, mode, script, faults, median(undisturbed_ms))
}

fn script(
    run: &mut Run,
    random: &mut fastrand::Rng,
    peers: u32,
    count: u32,
    fault: Fault,
    undisturbed_ms: &mut Vec<f64>,
) -> Result<(), Stop> {
    for _ in 0..count {
        start_peers(run, peers)?;
        run.wait_for("everybody takes part", Run::settled)?;
        run.follow(Duration::from_millis(random.u64(50..300)))?;
        let Some(victim) = random.choice(run.alive()) else { return Ok(()) };
        match fault {
            Fault::Kill => run.kill(victim),
            Fault::Freeze => run.freeze(victim),
        }
        run.wait_for("the others go on", Run::recovered)?;
        if let Some(us) = run.recoveries_us.last() {
            run.note(&format!("peer {victim}: the others go on after {:.1} ms", *us as f64 / 1e3));
        }
        let from = run.judge.durations.len() + DISTURBED;
        run.wait_for("the survivors go on", |run| run.judge.durations.len() >= from + UNDISTURBED)?;
        let timed = run.judge.durations.iter().skip(from);
        undisturbed_ms.extend(timed.map(|(_, us)| *us as f64 / 1e3));
        // A frozen one is out by now, and must not lie about until the end.
        run.clean_up(victim);
    }
    Ok(())
}
