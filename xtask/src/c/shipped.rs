//! The library as `cargo xtask install` gives it to its users: optimized, without assertions and overflow checks. Most tests are
//! of the development build, which has them; here is what a build can break.

use std::fs;
use std::path::Path;

use super::{LIMIT, Program, outside, soname, symbols};
use crate::install::install;
use crate::place::command;
use crate::python::PATIENT;
use crate::step::Steps;

/// Calls of all kinds, their errors, handles that have ended, and a hundred loads.
const PROGRAMS: [&str; 4] = ["all_reduce", "errors", "handles", "load"];
const WHICH: &str = ", release";

pub fn run(steps: &mut Steps, out: &Path) {
    let out = out.join("shipped");
    let prefix = out.join("prefix");
    if let Err(error) = fs::create_dir_all(&out) {
        steps.note("shipped library", Err(format!("{}: {error}", out.display())));
        return;
    }
    if !install(steps, &prefix, false) {
        return;
    }
    let library = prefix.join("lib/libpccl.so");
    steps.note("exported symbols, release", symbols(&library));
    steps.note("soname, release", soname(&library));
    for program in Program::all(&out).iter().filter(|one| PROGRAMS.contains(&one.name.as_str())) {
        if program.compiled(steps, WHICH, &[], &prefix) {
            let mut run = command(&program.binary.to_string_lossy(), &[]);
            run.env(PATIENT.0, PATIENT.1);
            steps.run(&format!("C program {}{WHICH}", program.name), LIMIT, run);
        }
    }
    outside::run(steps, &prefix, &out, WHICH);
}
