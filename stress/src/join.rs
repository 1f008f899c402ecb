//! Newcomers, one at a time, into a run that is at work: how long until a process just started has its first good
//! result, and how long the members are held up for it.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use pccl_cli::fleet::child::Check;
use pccl_cli::fleet::{Run, Stop};

use crate::{Common, outcome, start_peers};

pub fn run(common: &Common, count: u32) -> Result<ExitCode, String> {
    let (mut run, mut random) = common.start(Check::Window, None)?;
    let script = script(&mut run, &mut random, common.peers, count);
    let joins = BTreeMap::from([("join", run.joins_us.len() as u64)]);
    outcome::finish(run, common, "join", script, joins, None)
}

fn script(run: &mut Run, random: &mut fastrand::Rng, peers: u32, count: u32) -> Result<(), Stop> {
    start_peers(run, peers - 1)?;
    run.wait_for("everybody takes part", Run::settled)?;
    // What the first ones took to come together is another matter.
    run.joins_us.clear();
    run.pauses_us.clear();
    for _ in 0..count {
        run.follow(Duration::from_millis(random.u64(50..200)))?;
        let newcomer = run.start_peer()?;
        run.wait_for("the newcomer takes part", Run::settled)?;
        if let Some(us) = run.joins_us.last() {
            run.note(&format!("peer {newcomer} has its first result after {:.1} ms", *us as f64 / 1e3));
        }
        run.follow(Duration::from_millis(random.u64(50..200)))?;
        let Some(oldest) = run.alive().first().copied() else { return Ok(()) };
        run.ask_to_leave(oldest);
        run.wait_for("the others go on", |run| run.is_gone(oldest) && run.recovered() && run.settled())?;
    }
    Ok(())
}
