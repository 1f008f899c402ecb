//! `cargo xtask test`: everything that can fail, in the order in which a failure tells most.

use std::time::Duration;

use crate::place::{answers, cargo};
use crate::step::Steps;
use crate::{c, python, sim};

const LIMIT: Duration = Duration::from_secs(20 * 60);
/// Seeds of the simulator in one test run: always the same ones, so that a failure is not luck.
const SEEDS: &str = "4000";

const SEEDED_BUGS: [&str; 7] =
    ["commit-early", "partial-sum", "old-epoch", "state-block", "state-lie", "state-mixture", "dead-link"];

pub const KINDS: [&str; 7] = ["rust", "doc", "sim", "seeded-bugs", "stress", "c", "python"];

pub fn run(only: Option<&str>) -> bool {
    let mut steps = Steps::default();
    let wanted = |name: &str| only.is_none_or(|only| name == only);
    if wanted("rust") {
        rust(&mut steps);
    }
    if wanted("doc") {
        let doc = ["test", "--doc", "--workspace", "--no-fail-fast"];
        steps.run("doc tests", LIMIT, cargo(&doc));
    }
    if wanted("sim") {
        simulator(&mut steps);
    }
    if wanted("seeded-bugs") {
        seeded_bugs(&mut steps);
    }
    if wanted("stress") {
        stress(&mut steps);
    }
    if wanted("c") {
        c::run(&mut steps);
    }
    if wanted("python") {
        python::run(&mut steps);
    }
    steps.close()
}

fn rust(steps: &mut Steps) {
    let nextest = answers("cargo", &["nextest", "--version"]);
    let arguments: &[&str] = if nextest {
        &[
            "nextest",
            "run",
            "--workspace",
            "--no-fail-fast",
            "--status-level",
            "fail",
            "--final-status-level",
            "slow",
        ]
    } else {
        &["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast", "--quiet"]
    };
    steps.run("rust tests", LIMIT, cargo(arguments));
    // Only here are the loops vectors: development builds do not vectorise.
    let kernels = ["test", "--release", "-p", "pccl-core", "--lib", "--quiet", "kernel::"];
    steps.run("kernels as they ship", LIMIT, cargo(&kernels));
    // And a long search would take minutes.
    let rings = ["test", "--release", "-p", "pccl-core", "--lib", "--quiet", "ring_of_64"];
    steps.run("a long search for rings", LIMIT, cargo(&rings));
}

fn simulator(steps: &mut Steps) {
    let seeds = ["--start", "0", "--count", SEEDS, "--jobs", "2", "--every-mischief"];
    steps.run("simulator seeds", LIMIT, sim::command(false, &seeds));
    steps.run("simulator crowd", LIMIT, sim::command(false, &["--peers", "200"]));
}

/// At full size, as it ships; every peer checks what it holds afterwards.
fn stress(steps: &mut Steps) {
    let kill = ["sync", "--holders", "3", "--size", "1GiB", "--rounds", "1", "--kill"];
    let arguments = [&["run", "--release", "-p", "pccl-stress", "--quiet", "--"], &kill[..]].concat();
    steps.run("a holder killed in 1 GiB of shared state", LIMIT, cargo(&arguments));
}

/// Proof that the simulator can fail: these runs succeed only if they end in a violation. They are the seeds of
/// `simulator`, which have none without the bug: only both together prove anything.
fn seeded_bugs(steps: &mut Steps) {
    // What the planted bugs of the engine break, seen from beside the code.
    let unit =
        ["test", "-p", "pccl-core", "--features", "pccl-core/seeded-bugs", "--lib", "--quiet", "exec::"];
    steps.run("seeded bugs, unit tests", LIMIT, cargo(&unit));
    for bug in SEEDED_BUGS {
        let name = format!("seeded bug {bug}");
        let seeds = ["--bug", bug, "--start", "0", "--count", SEEDS, "--jobs", "2"];
        steps.run(&name, LIMIT, sim::command(true, &seeds));
    }
}
