//! Steps: a name, a command, its output passed on as it comes, and what became of it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use std::{io, thread};

use crate::tally::{Reader, Tally};

/// What became of one step.
#[derive(Debug)]
pub struct Outcome {
    pub name: String,
    pub result: Result<Tally, String>,
    pub took: Duration,
}

/// Steps run one after the other; all of them, whatever fails.
#[derive(Debug, Default)]
pub struct Steps {
    outcomes: Vec<Outcome>,
    skipped: Vec<(String, String)>,
}

impl Steps {
    /// Runs one command to its end, or for `limit` at most. A runner's own counts are taken where it prints
    /// them; otherwise the step counts as one.
    pub fn run(&mut self, name: &str, limit: Duration, mut command: Command) -> bool {
        println!("\n── {name}: {}", spelled(&command));
        let started = Instant::now();
        let result = watched(&mut command, limit);
        let passed = result.is_ok();
        self.outcomes.push(Outcome { name: name.to_string(), result, took: started.elapsed() });
        passed
    }

    /// Runs all of them, two at a time: programs that keep one core busy each. Their output comes mixed, their outcomes in order.
    pub fn run_in_pairs(&mut self, commands: Vec<(String, Command)>, limit: Duration) {
        let todo = Mutex::new(commands.into_iter().enumerate());
        let done = Mutex::new(Vec::new());
        let next = || todo.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some((at, (name, mut command))) = next() {
                println!("\n── {name}: {}", spelled(&command));
                let started = Instant::now();
                let result = watched(&mut command, limit);
                let outcome = Outcome { name, result, took: started.elapsed() };
                done.lock().unwrap_or_else(PoisonError::into_inner).push((at, outcome));
            }
        };
        thread::scope(|threads| {
            threads.spawn(work);
            threads.spawn(work);
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(at, _)| *at);
        self.outcomes.extend(done.into_iter().map(|(_, outcome)| outcome));
    }

    /// Notes a step that was decided without running a command of its own.
    pub fn note(&mut self, name: &str, result: Result<(), String>) -> bool {
        let passed = result.is_ok();
        let result = result.map(|()| Tally { passed: 1, ..Tally::default() });
        self.outcomes.push(Outcome { name: name.to_string(), result, took: Duration::ZERO });
        passed
    }

    /// A step that cannot run here is counted, and said so at the end.
    pub fn skip(&mut self, name: &str, reason: &str) {
        println!("\n── {name}: SKIPPED, {reason}");
        self.skipped.push((name.to_string(), reason.to_string()));
    }

    /// Prints a line for each step, then the closing line. True if nothing failed and something passed.
    pub fn close(&self) -> bool {
        println!("\n── steps");
        let mut sum = Tally::default();
        for outcome in &self.outcomes {
            let (mark, text) = match &outcome.result {
                Ok(tally) => ("ok    ", format!("{} passed, {} skipped", tally.passed, tally.skipped)),
                Err(reason) => ("FAILED", reason.clone()),
            };
            println!("{mark} {} ({:.1} s): {text}", outcome.name, outcome.took.as_secs_f64());
            sum += tally_of(&outcome.result);
        }
        for (name, reason) in &self.skipped {
            println!("SKIPPED {name}: {reason}");
            sum.skipped += 1;
        }
        println!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
        sum.failed == 0 && sum.passed > 0
    }
}

fn tally_of(result: &Result<Tally, String>) -> Tally {
    match result {
        Ok(tally) => *tally,
        Err(_) => Tally { failed: 1, ..Tally::default() },
    }
}

/// What a command writes and how it ends, within `limit`.
pub fn output(command: &mut Command, limit: Duration) -> Result<Output, String> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|e| format!("cannot be started: {e}"))?;
    let (to, from) = mpsc::channel();
    read_all(child.stdout.take(), true, to.clone());
    read_all(child.stderr.take(), false, to);
    let deadline = Instant::now() + limit;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        match from.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok((true, bytes)) => stdout = bytes,
            Ok((false, bytes)) => stderr = bytes,
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("was still running after {} s, killed", limit.as_secs()));
            }
        }
    }
    let status = child.wait().map_err(|e| format!("cannot be waited for: {e}"))?;
    Ok(Output { status, stdout, stderr })
}

fn read_all(stream: Option<impl Read + Send + 'static>, out: bool, to: mpsc::Sender<(bool, Vec<u8>)>) {
    let Some(mut stream) = stream else { return };
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read counts, whatever ended it; nobody may listen any more.
        let _ = stream.read_to_end(&mut bytes);
        let _ = to.send((out, bytes));
    });
}

fn spelled(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or(&program).to_string();
    let words = command.get_args().map(|a| a.to_string_lossy().into_owned());
    std::iter::once(name).chain(words).collect::<Vec<_>>().join(" ")
}

fn watched(command: &mut Command, limit: Duration) -> Result<Tally, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot be started: {e}"))?;
    let (lines, from) = mpsc::channel();
    pass_on(child.stdout.take(), lines.clone());
    pass_on(child.stderr.take(), lines);
    let deadline = Instant::now() + limit;
    let mut reader = Reader::default();
    loop {
        match from.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                println!("{line}");
                reader.read(&line);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("still running after {} s, killed", limit.as_secs()));
            }
        }
    }
    let status = child.wait().map_err(|e| format!("cannot be waited for: {e}"))?;
    let tally = reader.tally();
    match tally {
        _ if !status.success() => Err(match tally {
            Some(t) => format!("{status}: {} passed, {} failed, {} skipped", t.passed, t.failed, t.skipped),
            None => status.to_string(),
        }),
        Some(tally) if tally.failed > 0 => Err(format!("{} failed", tally.failed)),
        Some(tally) => Ok(tally),
        None => Ok(Tally { passed: 1, ..Tally::default() }),
    }
}

fn pass_on(stream: Option<impl Read + Send + 'static>, to: mpsc::Sender<String>) {
    let Some(stream) = stream else { return };
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(read_line(&mut stream, &mut line), Ok(true)) {
            if to.send(String::from_utf8_lossy(&line).trim_end().to_string()).is_err() {
                return;
            }
        }
    });
}

fn read_line(stream: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    Ok(stream.read_until(b'\n', line)? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::command;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_failing_step_fails_the_whole() {
        let mut steps = Steps::default();
        assert!(steps.run("good", LONG, command("sh", &["-c", "echo fine"])));
        assert!(steps.close());
        assert!(!steps.run("bad", LONG, command("sh", &["-c", "exit 3"])));
        assert!(!steps.close());
    }

    #[test]
    fn of_those_that_run_in_pairs_all_run_and_all_count() {
        let mut steps = Steps::default();
        let exits =
            |status: i32| (format!("exits with {status}"), command("sh", &["-c", &format!("exit {status}")]));
        steps.run_in_pairs(vec![exits(0), exits(3), exits(0)], LONG);
        assert_eq!(steps.outcomes.iter().filter(|outcome| outcome.result.is_ok()).count(), 2);
        assert_eq!(steps.outcomes.len(), 3);
        assert!(!steps.close());
    }

    #[test]
    fn failures_in_a_closing_line_count_whatever_the_exit_status() {
        let line = "echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored;'";
        assert!(!Steps::default().run("bad", LONG, command("sh", &["-c", line])));
    }

    #[test]
    fn a_step_that_hangs_is_ended() {
        assert!(!Steps::default().run("hangs", Duration::from_millis(50), command("sleep", &["60"])));
    }

    #[test]
    fn what_a_command_writes_is_had_within_a_limit() {
        let out = output(&mut command("sh", &["-c", "echo out; echo err >&2; exit 3"]), LONG).unwrap();
        assert_eq!(
            (&out.stdout[..], &out.stderr[..], out.status.code()),
            (&b"out\n"[..], &b"err\n"[..], Some(3))
        );
        let late = output(&mut command("sleep", &["60"]), Duration::from_millis(50)).unwrap_err();
        assert!(late.contains("still running"), "{late}");
    }

    #[test]
    fn nothing_run_is_no_success() {
        let mut steps = Steps::default();
        steps.skip("all", "nothing here");
        assert!(!steps.close());
    }
}
