//! `cargo xtask bench`: the figures there are. Wall time on a shared machine is weather; compare within one run.

use std::time::Duration;

use crate::place::cargo;
use crate::step::Steps;

const LIMIT: Duration = Duration::from_secs(20 * 60);

pub fn run() -> bool {
    let mut steps = Steps::default();
    let demo = ["run", "--release", "-p", "pccl-cli", "--", "demo"];
    for peers in ["2", "4"] {
        let mut demo = cargo(&demo);
        demo.args(["--peers", peers, "--size", "64MiB", "--seconds", "10", "--no-churn", "--json"]);
        steps.run(&format!("all-reduce, {peers} peers, 64 MiB, loopback"), LIMIT, demo);
    }
    steps.close()
}
