//! How a stress run ends: the common summary, and what is particular to the mode.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;

use pccl_cli::fleet::{Run, Stop};
use pccl_cli::summary::Summary;
use serde::Serialize;

use crate::Common;

#[derive(Debug, Serialize)]
pub struct Outcome {
    pub mode: &'static str,
    /// How often each kind of fault was made.
    pub faults: BTreeMap<&'static str, u64>,
    /// Peers that found themselves out of the run and joined anew.
    pub rejoins: u64,
    /// An operation of the survivors alone, with no fault near; median.
    pub undisturbed_ms: Option<f64>,
    /// What a recovery takes beyond that.
    pub excess_median_ms: Option<f64>,
    pub excess_worst_ms: Option<f64>,
    #[serde(flatten)]
    pub summary: Summary,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.faults.iter().map(|(name, n)| format!("{n} {name}")).collect();
        writeln!(f, "{}: {}; {} joined anew", self.mode, faults.join(", "), self.rejoins)?;
        if let Some(undisturbed) = self.undisturbed_ms {
            writeln!(
                f,
                "  an undisturbed operation of the survivors takes {undisturbed:.1} ms (median); \
                 recoveries took {:.1} ms more (median), {:.1} ms more (worst)",
                self.excess_median_ms.unwrap_or(0.0),
                self.excess_worst_ms.unwrap_or(0.0)
            )?;
        }
        write!(f, "{}", self.summary)
    }
}

/// Ends the run, prints what it was like; the exit code.
pub fn finish(
    mut run: Run,
    common: &Common,
    mode: &'static str,
    script: Result<(), Stop>,
    faults: BTreeMap<&'static str, u64>,
    undisturbed_ms: Option<f64>,
) -> Result<ExitCode, String> {
    let seconds = run.started.elapsed().as_secs_f64();
    let ended = script.and_then(|()| run.finish());
    run.screen.clear();
    if ended == Err(Stop::Interrupted) {
        eprintln!("interrupted: all processes are ended");
        return Ok(ExitCode::from(130));
    }
    let kills = faults.get("kill").copied().unwrap_or(0);
    let summary = Summary::of(&run, common.peers, kills, seconds);
    let beyond = |ms: Option<f64>| Some(ms? - undisturbed_ms?);
    let outcome = Outcome {
        mode,
        faults,
        rejoins: run.rejoins,
        undisturbed_ms,
        excess_median_ms: beyond(summary.recoveries.map(|r| r.median_ms)),
        excess_worst_ms: beyond(summary.recoveries.map(|r| r.worst_ms)),
        summary,
    };
    if !outcome.summary.ok {
        run.last_log().iter().for_each(|line| eprintln!("{line}"));
    }
    if common.json {
        println!("{}", serde_json::to_string_pretty(&outcome).map_err(|e| e.to_string())?);
    } else {
        println!("{outcome}");
    }
    Ok(if outcome.summary.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
