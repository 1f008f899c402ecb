//! Which program of tests/c shows which code of which function: read from their checks, for docs/TESTING.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::architecture::{files, root};

/// From (function, code) to the programs that check it.
type Shown = BTreeMap<(String, String), BTreeSet<String>>;

/// Gives words, no code.
const NO_CODE: &str = "pcclGetErrorString";
/// It takes nothing that could be wrong.
const CANNOT_FAIL: &str = "pcclInit";
/// Codes that no program can bring about, and why.
const NOT_SHOWN: [(&str, &str); 3] = [
    ("pcclInternalError", "a bug of the library; a planted panic in `pccl-ffi/src/guard.rs` becomes it"),
    ("pcclUpdateTopologyFailed", "not returned by this version"),
    ("pcclTopologyOptimizationFailed", "no link could be measured; `proto/master/tests/topology.rs` has it"),
];

fn symbols() -> Vec<String> {
    let listed = fs::read_to_string(root().join("include/pccl.symbols")).unwrap();
    listed.lines().map(str::to_owned).collect()
}

fn shown() -> Shown {
    let mut shown = Shown::new();
    let symbols = symbols();
    for file in files(&root(), "tests/c", &["c", "h"]) {
        let text = fs::read_to_string(root().join(&file)).unwrap();
        let program = file.rsplit('/').next().unwrap_or(&file).to_owned();
        for function in &symbols {
            for code in codes(&text, function) {
                shown.entry((function.clone(), code)).or_default().insert(program.clone());
            }
        }
    }
    shown
}

/// What the text checks that this function returns: `OK(f(…))`, `FAILS(f(…), code, …)` and `f(…) == code`.
fn codes(text: &str, function: &str) -> Vec<String> {
    let call = format!("{function}(");
    let found = text.match_indices(&call).filter_map(|(at, _)| {
        let before = &text[..at];
        if before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            return None;
        }
        if before.ends_with("OK(") {
            return Some("pcclSuccess".to_owned());
        }
        let rest = &text[after_parentheses(text, at + call.len())?..];
        let rest = match before.ends_with("FAILS(") {
            true => rest.strip_prefix(',')?,
            false => rest.trim_start().strip_prefix("==")?,
        };
        let word = rest.trim_start().split(|c: char| !c.is_ascii_alphanumeric()).next()?;
        word.starts_with("pccl").then(|| word.to_owned())
    });
    found.collect()
}

/// The place behind the parenthesis that closes the one before `from`. No string of these programs has one.
fn after_parentheses(text: &str, from: usize) -> Option<usize> {
    let mut open = 1;
    for (at, c) in text[from..].char_indices() {
        match c {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(from + at + 1);
        }
    }
    None
}

/// For each function, its codes and where they are checked.
pub fn table() -> String {
    let shown = shown();
    let mut text = String::from("| function | success | errors |\n| --- | --- | --- |\n");
    let programs = |programs: &BTreeSet<String>| {
        programs.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    for function in symbols() {
        let of_it = shown.iter().filter(|((name, _), _)| *name == function);
        let (good, bad): (Vec<_>, Vec<_>) = of_it.partition(|((_, code), _)| code == "pcclSuccess");
        let good = good.first().map(|(_, by)| programs(by)).unwrap_or_default();
        let bad: Vec<String> =
            bad.iter().map(|((_, code), by)| format!("{code}: {}", programs(by))).collect();
        let (good, bad) = match function.as_str() {
            NO_CODE => ("gives words: `errors.c`".to_owned(), "none".to_owned()),
            CANNOT_FAIL => (good, "none".to_owned()),
            _ => (good, bad.join("; ")),
        };
        text += &format!("| `{function}` | {good} | {bad} |\n");
    }
    for (code, why) in NOT_SHOWN {
        text += &format!("| any | | {code}: {why} |\n");
    }
    text
}

#[test]
fn every_function_of_the_c_library_is_seen_to_succeed_and_to_fail() {
    let shown = shown();
    for function in symbols().iter().filter(|name| *name != NO_CODE) {
        let succeeds = shown.contains_key(&(function.clone(), "pcclSuccess".to_owned()));
        assert!(succeeds, "no program checks that {function} succeeds");
        let fails = shown.keys().any(|(name, code)| name == function && code != "pcclSuccess");
        assert!(fails || function == CANNOT_FAIL, "no program checks that {function} fails");
    }
}

#[test]
fn every_code_of_the_c_library_is_brought_about() {
    let header = fs::read_to_string(root().join("include/pccl.h")).unwrap();
    let results = header.split("typedef enum pcclResult_t {").nth(1).unwrap().split('}').next().unwrap();
    let codes: BTreeSet<&str> =
        results.lines().filter_map(|line| line.trim().split_once(" = ")).map(|(name, _)| name).collect();
    assert_eq!(codes.len(), 14, "{codes:?}");
    let shown = shown();
    for code in codes {
        let by_program = shown.keys().any(|(_, of)| of == code);
        let excused = NOT_SHOWN.iter().any(|(of, _)| *of == code);
        assert!(by_program != excused, "{code}: shown by a program {by_program}, said not to be {excused}");
    }
}

#[test]
fn checks_are_read() {
    let text = "OK(f(g(1), 2)); CHECK(f(g(1)) == pcclX && h()); FAILS(f(a,\n b), pcclY, \"w\"); xf(1) == pcclZ; f(2);";
    assert_eq!(codes(text, "f"), ["pcclSuccess", "pcclX", "pcclY"]);
}
