//! Short runs of each mode: that they measure, and that nothing is wrong.

#![allow(clippy::unwrap_used)]

use std::process::Command;

fn stress(arguments: &[&str]) -> serde_json::Value {
    let out = Command::new(env!("CARGO_BIN_EXE_pccl-stress")).args(arguments).arg("--json").output().unwrap();
    let shown = String::from_utf8_lossy(&out.stderr);
    let outcome: serde_json::Value =
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}\n{shown}"));
    assert!(out.status.success(), "{outcome:#}\n{shown}");
    assert_eq!(outcome["ok"], true);
    outcome
}

/// Nobody falls silent: whom a busy machine keeps waiting must not count as dead.
const PATIENT: [&str; 2] = ["--set", "silence_ms=30000"];

#[test]
fn recovery_is_measured_beside_undisturbed_operations() {
    let outcome = stress(&[&["recovery", "--kills", "3", "--size", "64KiB"], &PATIENT[..]].concat());
    assert_eq!((&outcome["faults"]["kill"], &outcome["recoveries"]["count"]), (&3.into(), &3.into()));
    assert!(outcome["undisturbed_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_others_go_on_when_a_peer_freezes_for_longer_than_the_silence_time() {
    let outcome = stress(&["freeze", "--count", "1", "--size", "64KiB", "--set", "silence_ms=1000"]);
    let worst_ms = outcome["recoveries"]["worst_ms"].as_f64().unwrap();
    assert!(worst_ms > 400.0, "not even the silence time: {worst_ms}");
}

#[test]
fn churn_of_all_kinds_breaks_nothing() {
    let outcome = stress(&["churn", "--seconds", "3", "--size", "64KiB"]);
    assert!(outcome["faults"].as_object().is_some_and(|faults| !faults.is_empty()));
}

#[test]
#[cfg(target_os = "linux")]
fn a_crowd_is_measured_on_a_real_master() {
    let outcome = stress(&["crowd", "--peers", "20", "--operations", "3", "--churn", "2"]);
    for figure in ["operation_cpu_us", "death_cpu_us", "join_cpu_us", "resident_per_peer_kib"] {
        assert!(outcome[figure].as_f64().is_some_and(|figure| figure > 0.0), "{figure}: {outcome:#}");
    }
}

#[test]
fn joins_are_measured_and_so_are_the_pauses_of_members() {
    let outcome = stress(&[&["join", "--joins", "3", "--size", "64KiB"], &PATIENT[..]].concat());
    assert_eq!(outcome["joins"]["count"], 3);
    assert!(outcome["join_pauses"]["count"].as_u64().unwrap() >= 6, "two members, three times: {outcome:#}");
}
