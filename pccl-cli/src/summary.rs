//! How a run of a fleet went, for a person and for machines.

use std::fmt;

use serde::Serialize;

use crate::arguments::{rate_text, size_text};
use crate::fleet::Run;
use crate::fleet::statistics::{Times, median};

#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub ok: bool,
    pub version: &'static str,
    pub seed: u64,
    pub peers: u32,
    pub size_bytes: u64,
    pub seconds: f64,
    pub operations: u64,
    pub aborted_calls: u64,
    pub kills: u64,
    /// Fault to the first good all-reduce of the slowest survivor.
    pub recoveries: Option<Times>,
    /// SIGKILL until the system had ended the process.
    pub deaths: Option<Times>,
    /// The part of them until the last survivor's call was aborted.
    pub aborts_after: Option<Times>,
    /// Start of the process to its first good all-reduce.
    pub joins: Option<Times>,
    /// How long admitting newcomers held a member up.
    pub join_pauses: Option<Times>,
    pub results_checked: u64,
    pub wrong_results: u64,
    pub parity_checks: u64,
    pub parity_failures: u64,
    /// Call to return, mean over the peers, median over the operations.
    pub operation_ms: Option<f64>,
    /// 2(N−1)/N × size / that time, median; 10⁹ bytes a second.
    pub bus_bandwidth_gb_s: Option<f64>,
    pub problem_count: u64,
    pub problems: Vec<String>,
}

impl Summary {
    pub fn of(run: &Run, peers: u32, kills: u64, seconds: f64) -> Summary {
        let tally = run.judge.tally.clone();
        let size_bytes = run.config.size_bytes;
        let took_ms = run.judge.durations.iter().map(|(_, us)| *us as f64 / 1e3).collect();
        Summary {
            ok: run.judge.all_good(),
            version: env!("CARGO_PKG_VERSION"),
            seed: run.config.seed,
            peers,
            size_bytes,
            seconds,
            operations: tally.operations,
            aborted_calls: tally.aborted_calls,
            kills,
            recoveries: Times::of_us(&run.recoveries_us),
            deaths: Times::of_us(&run.deaths_us),
            aborts_after: Times::of_us(&run.noticed_us),
            joins: Times::of_us(&run.joins_us),
            join_pauses: Times::of_us(&run.pauses_us),
            results_checked: tally.results_checked,
            wrong_results: tally.wrong_results,
            parity_checks: tally.parity_checks,
            parity_failures: tally.parity_failures,
            operation_ms: median(took_ms),
            bus_bandwidth_gb_s: median(run.judge.bus_bandwidths(size_bytes)).map(|b| b / 1e9),
            problem_count: tally.problem_count,
            problems: tally.problems,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = size_text(self.size_bytes);
        writeln!(f, "{} peers, {size} of f32, {:.1} s, seed {}", self.peers, self.seconds, self.seed)?;
        writeln!(f, "  operations     {} good, {} aborted calls", self.operations, self.aborted_calls)?;
        if let (Some(ms), Some(speed)) = (self.operation_ms, self.bus_bandwidth_gb_s) {
            let speed = rate_text(speed * 1e9);
            writeln!(f, "  bandwidth      {speed} bus, {ms:.1} ms an operation (medians)")?;
        }
        let times = |times: &Option<Times>| times.map_or("none".into(), |t| t.to_string());
        writeln!(
            f,
            "  recoveries     {} (fault to the slowest survivor's next result)",
            times(&self.recoveries)
        )?;
        writeln!(
            f,
            "    of which     {} (until the system had ended the killed process)",
            times(&self.deaths)
        )?;
        writeln!(f, "    of which     {} (until the last survivor's abort)", times(&self.aborts_after))?;
        writeln!(f, "  joins          {} (process start to first result)", times(&self.joins))?;
        writeln!(f, "  join pauses    {} (of a member)", times(&self.join_pauses))?;
        writeln!(f, "  kills          {}", self.kills)?;
        writeln!(f, "  sums           {} checked, {} wrong", self.results_checked, self.wrong_results)?;
        writeln!(f, "  bit parity     {} checked, {} different", self.parity_checks, self.parity_failures)?;
        write_verdict(f, self.problem_count, &self.problems)
    }
}

/// The last lines of every summary.
pub fn write_verdict(f: &mut fmt::Formatter<'_>, count: u64, problems: &[String]) -> fmt::Result {
    if count == 0 {
        return write!(f, "  nothing was wrong");
    }
    write!(f, "  PROBLEMS       {count}")?;
    for problem in problems {
        write!(f, "\n    {problem}")?;
    }
    Ok(())
}
