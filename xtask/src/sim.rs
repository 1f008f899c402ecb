//! `cargo xtask sim`: the simulator, built with its own profile (optimised, with assertions).

use std::process::Command;

use crate::place::cargo;

/// The simulator as a command, with one of the planted bugs compiled in or none.
pub fn command(seeded_bugs: bool, arguments: &[&str]) -> Command {
    let mut command = cargo(&["run", "--quiet", "--profile", "sim", "-p", "pccl-tests", "--bin", "sim"]);
    if seeded_bugs {
        command.args(["--features", "seeded-bugs"]);
    }
    command.arg("--").args(arguments);
    command
}

pub fn run(arguments: &[String]) -> bool {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // Not a step: the simulator's progress belongs on the terminal as it is.
    command(plants_a_bug(&arguments), &arguments).status().is_ok_and(|status| status.success())
}

/// A planted bug is only there in a build with its feature.
fn plants_a_bug(arguments: &[&str]) -> bool {
    arguments.contains(&"--bug")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_with_a_planted_bug_is_built_with_the_feature() {
        assert!(plants_a_bug(&["--seed", "7", "--bug", "old-epoch"]));
        assert!(!plants_a_bug(&["--seed", "7", "--trace"]));
    }
}
