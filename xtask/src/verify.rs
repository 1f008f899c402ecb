//! `cargo xtask verify`: looks, and never writes to the tree.

use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs};

use crate::place::{answers, cargo};
use crate::step::Steps;

const LIMIT: Duration = Duration::from_secs(20 * 60);

pub fn run() -> bool {
    let mut steps = Steps::default();
    steps.run("format", LIMIT, cargo(&["fmt", "--all", "--check"]));
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--features",
        "pccl-tests/seeded-bugs",
        "--",
        "-D",
        "warnings",
    ];
    steps.run("lints", LIMIT, cargo(&clippy));
    dependencies(&mut steps);
    let drift = ["test", "--quiet", "-p", "pccl-tests", "--test", "it", "generated::"];
    steps.run("generated documents", LIMIT, cargo(&drift));
    steps.close()
}

/// Licences, duplicates and sources need no network. Advisories need a database that somebody fetched.
fn dependencies(steps: &mut Steps) {
    if !answers("cargo", &["deny", "--version"]) {
        let hint = "cargo-deny is missing: cargo install cargo-deny --locked --version 0.20.2";
        steps.note("dependencies", Err(hint.to_string()));
        return;
    }
    let deny = ["deny", "--locked", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"];
    steps.run("dependencies", LIMIT, cargo(&deny));
    if has_advisory_database() {
        steps.run("advisories", LIMIT, cargo(&["deny", "--offline", "--locked", "check", "advisories"]));
    } else {
        let reason = "NOT CHECKED: no advisory database here; where there is a network, `cargo deny fetch db` gets one";
        steps.skip("advisories", reason);
    }
}

/// A database is a folder of its own; what lies beside it are locks.
fn has_advisory_database() -> bool {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let entries = home.and_then(|home| fs::read_dir(home.join("advisory-dbs")).ok());
    entries.is_some_and(|entries| entries.flatten().any(|entry| entry.path().is_dir()))
}
