//! `cargo xtask test`: everything that can fail, in the order in which a failure tells most.

use std::time::Duration;

use crate::place::{answers, cargo};
use crate::step::Steps;
use crate::{bindings, sim};

const LIMIT: Duration = Duration::from_secs(20 * 60);
/// Seeds of the simulator in one test run; a different start each day would find more, and reproduce less.
const SEEDS: &str = "2000";

pub const KINDS: [&str; 6] = ["rust", "doc", "sim", "seeded-bugs", "c", "python"];

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
    if wanted("c") {
        bindings::c(&mut steps);
    }
    if wanted("python") {
        bindings::python(&mut steps);
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
}

fn simulator(steps: &mut Steps) {
    if sim::is_there() {
        steps.run("simulator seeds", LIMIT, sim::command(false, &["--start", "0", "--count", SEEDS]));
    } else {
        steps.skip("simulator seeds", "the simulator is not built yet");
    }
}

fn seeded_bugs(steps: &mut Steps) {
    if !sim::is_there() {
        steps.skip("seeded bugs", "the simulator is not built yet");
    }
}
