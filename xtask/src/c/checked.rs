//! The C programs once more, by tools that watch every access: valgrind, which sees into the library too, and the address
//! and undefined-behaviour sanitizers of gcc, which see the C side, and every allocation of both.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{LIMIT, Program};
use crate::place::{answers, command, root};
use crate::python::PATIENT;
use crate::step::Steps;

const VALGRIND_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Its peers are programs that it starts, for valgrind to follow; others start what is not theirs (`true`).
const STARTS_PEERS: &str = "churn";
/// Forks beside busy threads, of which one may hold a lock of the sanitizers' allocator: the child would wait for it, whatever the
/// library does.
const FORKS: &str = "forks";
const SANITIZERS: [&str; 3] = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

pub fn run(steps: &mut Steps, prefix: &Path, out: &Path) {
    valgrind(steps, out);
    let out = out.join("sanitized");
    match fs::create_dir_all(&out) {
        Ok(()) => sanitized(steps, prefix, &out),
        Err(error) => drop(steps.note("sanitizers", Err(format!("{}: {error}", out.display())))),
    }
}

/// No invalid access, and no memory that nobody can free.
fn valgrind(steps: &mut Steps, out: &Path) {
    if !answers("valgrind", &["--version"]) {
        return steps.skip("C programs, valgrind", "valgrind is not installed");
    }
    let mut commands = Vec::new();
    for program in Program::all(out) {
        let mut valgrind =
            command("valgrind", &["--quiet", "--vgdb=no", "--error-exitcode=9", "--num-callers=40"]);
        valgrind.args(["--leak-check=full", "--errors-for-leak-kinds=definite,indirect,possible"]);
        // Threads run one at a time there, and one that polls might never let another go first.
        valgrind.arg("--fair-sched=try");
        // What was unloaded keeps its names.
        valgrind.arg("--keep-debuginfo=yes");
        if program.name == STARTS_PEERS {
            valgrind.arg("--trace-children=yes");
        }
        valgrind.arg(format!("--suppressions={}", root().join("tests/c/valgrind.supp").display()));
        valgrind.arg(&program.binary).env(PATIENT.0, PATIENT.1).env("TEST_SLOWNESS", "8");
        commands.push((format!("C program {}, valgrind", program.name), valgrind));
    }
    // It lets one thread of a program run at a time.
    steps.run_in_pairs(commands, VALGRIND_LIMIT);
}

fn sanitized(steps: &mut Steps, prefix: &Path, out: &Path) {
    let nothing = out.join("nothing").to_string_lossy().into_owned();
    if !answers("gcc", &[&SANITIZERS[..], &["-shared", "-x", "c", "/dev/null", "-o", &nothing]].concat()) {
        return steps.skip("C programs, sanitizers", "gcc has no libraries for its sanitizers");
    }
    for program in Program::all(out) {
        if program.name == FORKS {
            steps.skip(
                "C program forks, sanitizers",
                "their allocator, before that of gcc 14, does not know forks",
            );
            continue;
        }
        if program.compiled(steps, " with sanitizers", &SANITIZERS, prefix) {
            let mut run = command(&program.binary.to_string_lossy(), &[]);
            run.env(PATIENT.0, PATIENT.1).env("TEST_SLOWNESS", "2");
            // Their `dlopen` does not look where the program says.
            run.env("LD_LIBRARY_PATH", prefix.join("lib"));
            steps.run(&format!("C program {}, sanitizers", program.name), 2 * LIMIT, run);
        }
    }
}
