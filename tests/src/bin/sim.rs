//! The simulator's command line. `cargo xtask sim` runs it.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pccl_tests::sim::{Bug, Mischief, Options, Report, Violation, crowd, run_seed};

const USAGE: &str = "\
usage: sim [--start S] [--count N] [--jobs J] [--keep-going] [--every-mischief]
           [--bug commit-early|partial-sum|old-epoch|state-block|state-lie|state-mixture|dead-link]
       sim --seed S [--trace] [--bug …]
       sim --peers N          a world of N peers with churn, and the cost of its master

Runs the seeds S to S + N − 1, one run each (default: --start 0 --count 2000 --jobs 1). With --bug (a build with
the feature `seeded-bugs`) it succeeds only if a violation is found; with --every-mischief only if hostile sources
have done each kind of mischief at least once.";

struct Arguments {
    start: u64,
    count: u64,
    jobs: u64,
    peers: Option<usize>,
    keep_going: bool,
    every_mischief: bool,
    options: Options,
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let options = Options::default();
    let mut parsed = Arguments {
        start: 0,
        count: 2000,
        jobs: 1,
        peers: None,
        keep_going: false,
        every_mischief: false,
        options,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
        match argument.as_str() {
            "--start" => parsed.start = number(value()?)?,
            "--count" => parsed.count = number(value()?)?,
            "--jobs" => parsed.jobs = number(value()?)?.clamp(1, 256),
            "--peers" => parsed.peers = Some(number(value()?)? as usize),
            "--keep-going" => parsed.keep_going = true,
            "--every-mischief" => parsed.every_mischief = true,
            "--trace" => parsed.options.trace = true,
            "--seed" => (parsed.start, parsed.count) = (number(value()?)?, 1),
            "--bug" => parsed.options.bug = Some(bug(&value()?)?),
            "--help" | "-h" => return Err(USAGE.into()),
            other => return Err(format!("unknown argument {other}\n{USAGE}")),
        }
    }
    Ok(parsed)
}

fn bug(name: &str) -> Result<Bug, String> {
    if !cfg!(feature = "seeded-bugs") {
        return Err("--bug needs a build with --features seeded-bugs".into());
    }
    use Bug::*;
    let bugs = [CommitEarly, PartialSum, OldEpoch, StateBlock, StateLie, StateMixture, DeadLink];
    let known = bugs.into_iter().find(|bug| bug_name(*bug) == name);
    known.ok_or_else(|| format!("no bug is called {name}\n{USAGE}"))
}

fn bug_name(bug: Bug) -> &'static str {
    match bug {
        Bug::CommitEarly => "commit-early",
        Bug::PartialSum => "partial-sum",
        Bug::OldEpoch => "old-epoch",
        Bug::StateBlock => "state-block",
        Bug::StateLie => "state-lie",
        Bug::StateMixture => "state-mixture",
        Bug::DeadLink => "dead-link",
    }
}

/// What all runs came to, together.
#[derive(Default)]
struct Total {
    runs: u64,
    violations: Vec<(u64, Violation)>,
    report: Report,
}

impl Total {
    fn add(&mut self, seed: u64, report: Report) {
        self.runs += 1;
        self.report.events += report.events;
        self.report.virtual_us += report.virtual_us;
        self.report.steps += report.steps;
        self.report.succeeded += report.succeeded;
        self.report.aborted += report.aborted;
        self.report.synchronized += report.synchronized;
        self.report.epochs += report.epochs;
        self.report.plans += report.plans;
        self.report.forged.iter_mut().zip(report.forged).for_each(|(all, one)| *all += one);
        if let Some(violation) = report.violation {
            self.violations.push((seed, violation));
            self.violations.sort_by_key(|(seed, _)| *seed);
        }
    }
}

/// Runs the seeds, lowest first, until all are done or one has a violation.
fn run_all(arguments: &Arguments) -> Total {
    let next = AtomicU64::new(arguments.start);
    let end = AtomicU64::new(arguments.start + arguments.count);
    let total = Mutex::new(Total::default());
    let began = Instant::now();
    let last_word = Mutex::new(Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.min(arguments.count.max(1)) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end.load(Ordering::Relaxed) {
                        return;
                    }
                    let report = run_seed(seed, arguments.options);
                    if report.violation.is_some() && !arguments.keep_going {
                        end.fetch_min(seed, Ordering::Relaxed);
                    }
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    total.add(seed, report);
                    progress(&total, arguments.count, began, &last_word);
                }
            });
        }
    });
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn progress(total: &Total, count: u64, began: Instant, last_word: &Mutex<Instant>) {
    let mut last_word = last_word.lock().unwrap_or_else(PoisonError::into_inner);
    if last_word.elapsed() < Duration::from_secs(1) {
        return;
    }
    *last_word = Instant::now();
    let rate = total.runs as f64 / began.elapsed().as_secs_f64();
    eprint!("\r{} of {count} seeds, {rate:.0} a second", total.runs);
    let _ = std::io::stderr().flush();
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    // A panic is reported as the violation that it is, with its seed; its own words only when tracing.
    if !arguments.options.trace {
        std::panic::set_hook(Box::new(|_| {}));
    }
    if let Some(peers) = arguments.peers {
        return crowd::main(peers);
    }
    let began = Instant::now();
    let total = run_all(&arguments);
    let seconds = began.elapsed().as_secs_f64();
    let Report { events, virtual_us, steps, succeeded, aborted, synchronized, epochs, plans, forged, .. } =
        total.report;
    let hours = virtual_us as f64 / 3.6e9;
    eprintln!(
        "\r{:.0} seeds a second: {hours:.1} h of virtual time, {events} events, {epochs} epochs, {steps} steps, \
         {succeeded} all-reduces at peers, {aborted} aborted, {synchronized} synchronizations, \
         {plans} plans",
        total.runs as f64 / seconds
    );
    let kinds = || Mischief::ALL.iter().zip(forged);
    let counted: Vec<String> = kinds().map(|(kind, frames)| format!("{kind} {frames}")).collect();
    eprintln!("frames of hostile sources: {}", counted.join(", "));
    let found = total.violations.first();
    for (seed, violation) in total.violations.iter().skip(1) {
        eprintln!("seed {seed}: {violation}");
    }
    if let Some((seed, violation)) = found {
        let bug = arguments.options.bug.map_or(String::new(), |bug| format!(" --bug {}", bug_name(bug)));
        println!("violation: {violation}\nreproduce with: cargo xtask sim --seed {seed}{bug} --trace");
    } else {
        println!("seeds {} violations 0", total.runs);
    }
    let missing: Vec<String> = kinds().filter(|(_, n)| *n == 0).map(|(kind, _)| kind.to_string()).collect();
    let is_missed = arguments.every_mischief && !missing.is_empty();
    if is_missed {
        println!("no hostile source ever did this: {}", missing.join(", "));
    }
    let wanted = arguments.options.bug.is_some();
    if found.is_some() == wanted && !is_missed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_documents_can_be_typed() {
        let all = pccl_tests::commands::in_documents("cargo xtask sim");
        assert!(all.len() >= 5, "{all:?}");
        for (file, command) in all {
            let parsed = parse(command.iter().cloned());
            assert!(parsed.is_ok(), "{}: {command:?}: {}", file.display(), parsed.err().unwrap_or_default());
        }
    }
}
