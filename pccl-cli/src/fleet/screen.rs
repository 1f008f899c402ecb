//! What a person sees while a run goes on: a live table at a terminal, lines elsewhere. All on standard error.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::arguments::rate_text;

use super::judge::{Judge, bus_bandwidth};
use super::run::{Fate, Member};
use super::statistics::{Times, median};

/// Between two pictures of the table, and between two lines.
const REDRAW: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Screen {
    table: Option<ProgressBar>,
    drawn: Instant,
    ended: bool,
    total: Option<Duration>,
}

/// What a table shows of one moment.
struct Moment<'a> {
    members: &'a BTreeMap<u32, Member>,
    judge: &'a Judge,
    recoveries_us: &'a [u64],
    size_bytes: u64,
    elapsed: Duration,
    total: Option<Duration>,
}

impl Screen {
    /// `total`: how long the run is meant to take, if that is known.
    pub fn new(total: Option<Duration>) -> Screen {
        let table = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar
        });
        Screen { table, drawn: Instant::now(), ended: false, total }
    }

    /// One thing that happened, for good.
    pub fn note(&self, elapsed: Duration, text: &str) {
        let line = format!("{:6.1} s  {text}", elapsed.as_secs_f64());
        match &self.table {
            Some(table) => table.println(line),
            None => eprintln!("{line}"),
        }
    }

    pub fn draw(
        &mut self,
        members: &BTreeMap<u32, Member>,
        judge: &Judge,
        recoveries_us: &[u64],
        size_bytes: u64,
        elapsed: Duration,
    ) {
        let every = if self.table.is_some() { REDRAW } else { LINE_EVERY };
        if self.ended || self.drawn.elapsed() < every {
            return;
        }
        self.drawn = Instant::now();
        let moment = Moment { members, judge, recoveries_us, size_bytes, elapsed, total: self.total };
        match &self.table {
            Some(table) => table.set_message(moment.table()),
            None => self.note(elapsed, &moment.line()),
        }
    }

    /// Nothing more is drawn.
    pub fn clear(&mut self) {
        self.ended = true;
        if let Some(table) = self.table.take() {
            table.finish_and_clear();
        }
    }
}

impl Moment<'_> {
    fn line(&self) -> String {
        let running = self.members.values().filter(|m| m.fate == Fate::Alive).count();
        let tally = &self.judge.tally;
        let speed = self.speed().map_or(String::new(), |s| format!(", {}", rate_text(s)));
        let recoveries = Times::of_us(self.recoveries_us)
            .map_or(String::new(), |t| format!(", {} recoveries, median {:.0} ms", t.count, t.median_ms));
        format!(
            "{running} peers, {} operations{speed}, {} aborted calls{recoveries}, {} problems",
            tally.operations, tally.aborted_calls, tally.problem_count
        )
    }

    /// Bus bandwidth of the last few operations.
    fn speed(&self) -> Option<f64> {
        let recent = self.judge.durations.iter().rev().take(10);
        let speeds = recent.map(|&(world, us)| bus_bandwidth(world, self.size_bytes, us)).collect();
        median(speeds)
    }

    fn table(&self) -> String {
        let mut out = String::from("\n");
        let of = self.total.map_or(String::new(), |t| format!(" of {:.0}", t.as_secs_f64()));
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:6.1}{of} s   {}", self.elapsed.as_secs_f64(), self.line());
        let _ = writeln!(
            out,
            "\n   {:>4} {:>8}  {:<8} {:>6} {:>6} {:>8} {:>8} {:>11}",
            "peer", "pid", "state", "epoch", "world", "steps", "aborts", "bus"
        );
        for (number, member) in self.members.iter().filter(|(_, m)| m.fate != Fate::Gone) {
            let _ = writeln!(out, "   {}", self.row(*number, member));
        }
        out
    }

    fn row(&self, number: u32, member: &Member) -> String {
        let state = match member.fate {
            Fate::Alive if member.last.is_none() => "joining".into(),
            fate => fate.to_string(),
        };
        let (epoch, world, speed) = match &member.last {
            Some(step) => {
                let speed = bus_bandwidth(step.instance.world, self.size_bytes, step.took_us());
                (step.epoch.to_string(), step.instance.world.to_string(), rate_text(speed))
            }
            None => ("-".into(), "-".into(), "-".into()),
        };
        format!(
            "{number:>4} {:>8}  {state:<8} {epoch:>6} {world:>6} {:>8} {:>8} {speed:>11}",
            member.pid, member.steps, member.aborted
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(recoveries_us: &[u64]) -> String {
        let (members, judge) = (BTreeMap::new(), Judge::default());
        let elapsed = Duration::ZERO;
        Moment { members: &members, judge: &judge, recoveries_us, size_bytes: 1, elapsed, total: None }.line()
    }

    #[test]
    fn the_line_has_the_recoveries_once_there_are_any() {
        assert!(!line(&[]).contains("recoveries"));
        assert!(line(&[20_000, 36_000]).contains("2 recoveries, median 28 ms"));
    }
}
