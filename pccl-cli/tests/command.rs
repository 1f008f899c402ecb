//! The command `pccl` as a person or a script meets it.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn pccl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pccl"));
    command.args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn demo(arguments: &[&str]) -> (Output, serde_json::Value) {
    demo_in(arguments, &[])
}

fn demo_in(arguments: &[&str], environment: &[(&str, &str)]) -> (Output, serde_json::Value) {
    // Nobody falls silent here: whom a busy machine keeps waiting must not count as dead.
    let mut command = pccl(&["demo", "--json", "--set", "silence_ms=30000"]);
    let out = command.args(arguments).envs(environment.iter().copied()).output().unwrap();
    let summary = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{e}\n{}\n{}", text(&out.stdout), text(&out.stderr)));
    (out, summary)
}

#[test]
fn a_demo_with_churn_recovers_admits_and_finds_nothing_wrong() {
    let (out, summary) =
        demo(&["--peers", "3", "--size", "1MiB", "--seconds", "4", "--churn-every", "1s", "--seed", "5"]);
    assert!(out.status.success(), "{summary:#}\n{}", text(&out.stderr));
    let number = |field: &str| summary[field].as_u64().unwrap_or_else(|| panic!("{field}: {summary:#}"));
    assert_eq!(summary["ok"], true);
    assert!(number("kills") >= 1);
    assert_eq!(summary["recoveries"]["count"], number("kills"));
    assert_eq!(summary["joins"]["count"], 3 + number("kills"));
    assert!(number("operations") >= 10);
    assert!(number("results_checked") > number("operations"));
    assert!(number("parity_checks") >= number("operations"));
    assert_eq!(number("wrong_results") + number("parity_failures") + number("problem_count"), 0);
    assert!(summary["bus_bandwidth_gb_s"].as_f64().unwrap() > 0.0);
    assert_eq!((number("peers"), number("size_bytes"), number("seed")), (3, 1 << 20, 5));
}

#[test]
fn a_demo_without_churn_aborts_nothing() {
    let (out, summary) = demo(&["--peers", "2", "--size", "4KiB", "--seconds", "1", "--no-churn"]);
    assert!(out.status.success(), "{summary:#}\n{}", text(&out.stderr));
    assert_eq!((&summary["kills"], &summary["aborted_calls"]), (&0.into(), &0.into()));
    assert_eq!(summary["recoveries"], serde_json::Value::Null);
}

#[test]
fn a_demo_whose_peers_find_no_master_fails_and_says_why() {
    let nobody = [("PCCL_MASTER", "127.0.0.1:1"), ("PCCL_CONNECT_TIMEOUT_MS", "200")];
    let (out, summary) = demo_in(&["--peers", "2", "--size", "4KiB", "--seconds", "1"], &nobody);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(summary["ok"], false);
    let problem = summary["problems"][0].as_str().unwrap();
    assert!(problem.contains("is out of the run: connect") && problem.contains("127.0.0.1:1"), "{problem}");
}

#[test]
fn bad_arguments_say_what_is_possible() {
    for (arguments, hint) in [
        (&["demo", "--size", "much"][..], "64MiB"),
        (&["demo", "--peers", "1"], "2..=64"),
        (&["demo", "--seconds", "soon"], "500ms"),
        (&["demo", "--set", "silence=1"], "silence_ms"),
        (&["master", "--set", "schedule=fast"], "ring"),
        (&["master", "--listen", "here"], "host:port"),
    ] {
        let out = pccl(arguments).output().unwrap();
        assert!(!out.status.success());
        assert!(text(&out.stderr).contains(hint), "{arguments:?}: {}", text(&out.stderr));
    }
}

#[test]
fn help_teaches_with_examples_and_hides_the_children() {
    for arguments in [&["--help"][..], &["demo", "--help"], &["master", "--help"]] {
        let help = text(&pccl(arguments).output().unwrap().stdout);
        assert!(help.contains("pccl demo") || help.contains("pccl master --"), "{help}");
        assert!(!help.contains("child-"), "{help}");
    }
    let version = text(&pccl(&["--version"]).output().unwrap().stdout);
    assert_eq!(version.trim(), concat!("pccl ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let out = pccl(&["master", "--listen", &address]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains(&address), "{}", text(&out.stderr));
}

#[cfg(unix)]
#[test]
fn a_master_says_where_it_listens_and_ends_well_when_told_to() {
    let mut master = pccl(&["master", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(master.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening on 127.0.0.1:"), "{line}");
    interrupt(&master);
    assert!(master.wait().unwrap().success());
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_demo_leaves_no_process_behind() {
    let mut demo = pccl(&["demo", "--peers", "3", "--size", "4KiB", "--seconds", "600"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stderr.take().unwrap());
    let mut shown = String::new();
    while !shown.contains("all have joined") {
        assert!(lines.read_line(&mut shown).unwrap() > 0, "the demo ended by itself: {shown}");
    }
    let address = shown.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).unwrap().to_string();
    assert!(TcpStream::connect(&address).is_ok());
    interrupt(&demo);
    assert_eq!(demo.wait().unwrap().code(), Some(130));
    lines.read_to_string(&mut shown).unwrap();
    assert!(shown.contains("all processes are ended"), "{shown}");
    assert!(TcpStream::connect(&address).is_err());
    assert_eq!(processes_that_name(&address), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_demo_that_is_killed_leaves_no_process_behind() {
    let mut demo = pccl(&["demo", "--peers", "3", "--size", "4KiB", "--seconds", "600"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stderr.take().unwrap());
    let mut shown = String::new();
    while !shown.contains("all have joined") {
        assert!(lines.read_line(&mut shown).unwrap() > 0, "the demo ended by itself: {shown}");
    }
    let address = shown.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).unwrap().to_string();
    assert!(processes_that_name(&address) > 0);
    demo.kill().unwrap();
    demo.wait().unwrap();
    let begun = Instant::now();
    while processes_that_name(&address) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "children of a killed demo live on");
        std::thread::yield_now();
    }
}

/// Living processes of this machine with this text on their command line.
#[cfg(target_os = "linux")]
fn processes_that_name(text: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(text))
        .count()
}

#[cfg(unix)]
fn interrupt(child: &std::process::Child) {
    use nix::sys::signal::{Signal, kill};
    kill(nix::unistd::Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
}
