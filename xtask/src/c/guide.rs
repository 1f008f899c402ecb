//! The trainer of docs/guide-c.md: taken out of the page, compiled, and run as three processes beside a master, one of which is
//! killed while a fourth joins; a fifth comes to the end of its steps, and the others go on.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use super::{LIMIT, STRICT, plain};
use crate::place::{command, root};
use crate::python::PATIENT;
use crate::step::Steps;

const AT_LEAST: &str = "3";
/// More than they make: they train until they are ended, so that whoever comes finds them at it.
const FOR_EVER: &str = "1000000000";
/// Of one that ends by itself as soon as it is in: the training is further by then.
const ONE_STEP: &str = "1";
/// When one is killed.
const RUNNING: &str = "step 100 ";
const ALL_THREE: &str = "with 3 peers";

pub fn run(steps: &mut Steps, prefix: &Path, out: &Path) {
    let (source, trainer, master) = (out.join("trainer.c"), out.join("trainer"), out.join("master"));
    let page = fs::read_to_string(root().join("docs/guide-c.md")).unwrap_or_default();
    let block = page.split("```c\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
    if let Err(error) = fs::write(&source, block) {
        steps.note("guide", Err(format!("{}: {error}", source.display())));
        return;
    }
    let compile = |source: &Path, binary: &Path| {
        let mut gcc = command("gcc", &["-std=c99"]);
        gcc.args(STRICT).arg(source).arg("-o").arg(binary).args(plain(prefix));
        gcc
    };
    let compiled = steps.run("guide's trainer, compiled", LIMIT, compile(&source, &trainer))
        && steps.run(
            "guide's master, compiled",
            LIMIT,
            compile(&root().join("tests/c/outside/master.c"), &master),
        );
    if compiled {
        steps.note("guide's trainers", trained(&trainer, &master));
    }
}

/// A process and the lines it says. It ends with this, whatever happens.
struct Speaker {
    child: Child,
    lines: Receiver<String>,
    last: String,
}

impl Speaker {
    fn start(mut command: Command) -> Result<Speaker, String> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.env(PATIENT.0, PATIENT.1).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child =
            child.stderr(Stdio::piped()).spawn().map_err(|error| format!("{program}: {error}"))?;
        let (to, lines) = channel();
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || {
                // Nobody may listen any more.
                BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| to.send(line))
            });
        }
        Ok(Speaker { child, lines, last: String::new() })
    }

    /// The next line; `None` at its end.
    fn line(&mut self, until: Instant) -> Result<Option<&str>, String> {
        use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
        match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => self.last = line,
            Err(Disconnected) => return Ok(None),
            Err(Timeout) => return Err(format!("said {:?} and then nothing for too long", self.last)),
        }
        Ok(Some(&self.last))
    }

    /// The next line that is as wanted.
    fn line_that(&mut self, wanted: impl Fn(&str) -> bool, until: Instant) -> Result<String, String> {
        while let Some(line) = self.line(until)? {
            if wanted(line) {
                return Ok(line.to_owned());
            }
        }
        let errors = self.errors();
        Err(format!("ended, and said {:?} {errors}", self.last))
    }

    fn errors(&mut self) -> String {
        let mut errors = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // What was read tells enough.
            let _ = stderr.read_to_string(&mut errors);
        }
        errors
    }

    /// Its last line, if it ended well.
    fn end(mut self, until: Instant) -> Result<String, String> {
        while self.line(until)?.is_some() {}
        let status = self.child.wait().map_err(|error| format!("cannot be waited for: {error}"))?;
        let errors = self.errors();
        match status.success() {
            true => Ok(self.last.clone()),
            false => Err(format!("ended with {status} and said {:?} {errors}", self.last)),
        }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn trained(trainer: &Path, master: &Path) -> Result<(), String> {
    let until = Instant::now() + LIMIT;
    let mut master = Speaker::start(command(&master.to_string_lossy(), &[]))?;
    let port = master.line(until)?.ok_or("the master says no port")?.to_owned();
    let start = |steps: &str| Speaker::start(command(&trainer.to_string_lossy(), &[&port, AT_LEAST, steps]));
    let said = |error| format!("a trainer {error}");
    let (mut first, second, mut third) = (start(FOR_EVER)?, start(FOR_EVER)?, start(FOR_EVER)?);
    first.line_that(|line| line.starts_with(RUNNING), until).map_err(said)?;
    // It goes in the middle of whatever it does.
    third.child.kill().map_err(|error| format!("the third trainer: {error}"))?;
    let mut fourth = start(FOR_EVER)?;
    let joined = fourth.line_that(|line| line.starts_with("step "), until).map_err(said)?;
    if !joined.ends_with(ALL_THREE) {
        return Err(format!("the trainer that joined said {joined:?}"));
    }
    let last = start(ONE_STEP)?.end(until).map_err(said)?;
    let ended = step(&last).filter(|_| last.ends_with(", weights[7] = 7"));
    let ended = ended.ok_or_else(|| format!("the trainer that ended said {last:?}"))?;
    let goes_on = |line: &str| step(line) > Some(ended) && line.ends_with(ALL_THREE);
    let mut those_who_stay = [first, second, fourth].into_iter();
    those_who_stay.try_for_each(|mut trainer| trainer.line_that(goes_on, until).map(drop)).map_err(said)
}

/// The number of a line's step.
fn step(line: &str) -> Option<u64> {
    line.strip_prefix("step ")?.split([' ', ',']).next()?.parse().ok()
}
