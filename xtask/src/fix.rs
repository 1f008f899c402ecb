//! `cargo xtask fix`: mends what `verify` finds, where a machine can.

use std::time::Duration;

use crate::place::cargo;
use crate::step::Steps;

const LIMIT: Duration = Duration::from_secs(20 * 60);

pub fn run() -> bool {
    let mut steps = Steps::default();
    steps.run("format", LIMIT, cargo(&["fmt", "--all"]));
    let mut generate = cargo(&["test", "--quiet", "-p", "pccl-tests", "--test", "it", "generated::"]);
    generate.env("PCCL_REGENERATE", "1");
    steps.run("generated documents", LIMIT, generate);
    steps.close()
}
