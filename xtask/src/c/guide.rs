//! The trainer of docs/guide-c.md: taken out of the page, compiled, and run as three processes beside a master.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{LIMIT, STRICT, plain};
use crate::place::{command, root};
use crate::python::PATIENT;
use crate::step::{Steps, output};

const TRAINERS: &str = "3";

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

/// Ends the master whatever happens.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn trained(trainer: &Path, master: &Path) -> Result<(), String> {
    let mut master = command(&master.to_string_lossy(), &[]);
    let master = master.env(PATIENT.0, PATIENT.1).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut master = Killed(master.map_err(|error| format!("master: {error}"))?);
    let mut port = String::new();
    let stdout = master.0.stdout.take().ok_or("the master has no output")?;
    BufReader::new(stdout).read_line(&mut port).map_err(|error| format!("master: {error}"))?;
    let one = || {
        let mut command: Command = command(&trainer.to_string_lossy(), &[port.trim(), TRAINERS]);
        output(command.env(PATIENT.0, PATIENT.1), LIMIT)
    };
    let ended = std::thread::scope(|scope| {
        let threads = [scope.spawn(one), scope.spawn(one), scope.spawn(one)];
        threads.map(|thread| thread.join().unwrap_or_else(|_| Err("panicked".to_owned())))
    });
    for trainer in ended {
        let trainer = trainer.map_err(|error| format!("a trainer {error}"))?;
        let (said, errors) =
            (String::from_utf8_lossy(&trainer.stdout), String::from_utf8_lossy(&trainer.stderr));
        if !trainer.status.success() || said.trim() != "step 50, weights[7] = 7" {
            return Err(format!("a trainer ended with {} and said {said} {errors}", trainer.status));
        }
    }
    Ok(())
}
