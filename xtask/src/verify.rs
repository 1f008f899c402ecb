//! `cargo xtask verify`: looks, and never writes to the tree.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use crate::place::{answers, cargo, command};
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
    other_systems(&mut steps);
    dependencies(&mut steps);
    let drift = ["test", "--quiet", "-p", "pccl-tests", "--test", "it", "generated::"];
    steps.run("generated documents", LIMIT, cargo(&drift));
    steps.close()
}

/// The library compiles where no machine of ours runs it.
fn other_systems(steps: &mut Steps) {
    for system in
        ["x86_64-pc-windows-msvc", "x86_64-pc-windows-gnu", "x86_64-apple-darwin", "aarch64-apple-darwin"]
    {
        let name = format!("library for {system}");
        if !is_installed(system) {
            steps.skip(&name, &format!("its standard library is missing: rustup target add {system}"));
            continue;
        }
        let check = ["check", "--locked", "-p", "pccl-core", "-p", "pccl-ffi", "--target", system];
        let mut check = cargo(&check);
        // What is unused or wrong only there is wrong, too.
        check.env("RUSTFLAGS", "-D warnings");
        steps.run(&name, LIMIT, check);
    }
}

fn is_installed(system: &str) -> bool {
    let rustc = command("rustc", &["--print", "target-libdir", "--target", system]).output();
    rustc.is_ok_and(|out| {
        let folder = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        out.status.success() && Path::new(&folder).is_dir()
    })
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
