//! `pccl bench`: a matrix of all-reduces, over processes of this machine or over real hosts.

mod arguments;
mod case;
mod cell;
mod local;
mod numbers;
mod plot;
mod sockets;
mod table;
mod usage;
mod worker;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

pub use arguments::BenchArgs;
use case::{Job, Report, Row};
pub use local::{RankArgs, run_rank};

pub fn run(args: &BenchArgs) -> Result<ExitCode, String> {
    let jobs = args.jobs()?;
    let lines = jobs.iter().map(|(_, job)| job.cases.len() as u64).sum();
    let mut printer = Printer { report: Report::new(args.loopback()), bar: bar(lines), failed: None };
    let sockets = jobs.iter().any(|(_, job)| job.sockets);
    if args.prints() {
        let behind_bytes = jobs.first().and_then(|(_, job)| job.behind_bytes);
        printer.print(&table::head(&printer.report, sockets, behind_bytes));
    }
    for (schedule, job) in &jobs {
        printer.announce(job);
        let emit = |row| printer.row(row, args.prints());
        if args.loopback() {
            local::run(*schedule, &args.set, job, args.stuck_after, emit)?;
        } else {
            worker::run(job, emit)?;
        }
    }
    printer.bar.finish_and_clear();
    if args.prints() {
        printer.print(&table::foot(&printer.report));
        write_files(args, &printer.report)?;
    }
    match printer.failed {
        Some(reason) => Err(reason),
        None => Ok(if printer.report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
    }
}

/// Progress is for a terminal on standard error; the table goes to standard output.
fn bar(lines: u64) -> ProgressBar {
    // The template is a constant and is right.
    let style = ProgressStyle::with_template("{pos} of {len} lines, {elapsed}: {msg}");
    ProgressBar::new(lines).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

struct Printer {
    report: Report,
    bar: ProgressBar,
    /// The table could not be written.
    failed: Option<String>,
}

impl Printer {
    fn announce(&self, job: &Job) {
        let pool = if job.pool == 0 { "default".into() } else { job.pool.to_string() };
        self.bar.set_message(format!("world {}, {}, pool {pool}", job.world, job.schedule));
        self.bar.tick();
    }

    fn row(&mut self, row: Row, prints: bool) {
        if prints {
            self.print(&table::row(&row));
        }
        self.report.add(row);
        self.bar.inc(1);
    }

    fn print(&mut self, text: &str) {
        let written = self.bar.suspend(|| {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{text}").and_then(|()| out.flush())
        });
        if let Err(error) = written {
            self.failed.get_or_insert(format!("cannot write the table: {error}"));
        }
    }
}

fn write_files(args: &BenchArgs, report: &Report) -> Result<(), String> {
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
    };
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(report).map_err(|e| e.to_string())?;
        write(path, &(text + "\n"))?;
    }
    if let Some(path) = &args.plot {
        write(path, &plot::svg(report))?;
    }
    Ok(())
}
