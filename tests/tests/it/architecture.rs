//! The walls of the house, enforced: which room may use which, what the pure rooms may not touch, where
//! `unsafe` may stand, how long a file may be. `docs/ARCHITECTURE.md` says why.

pub mod rules;
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rules::{Finding, check_core_file, check_file_shape, doors_used, without_test_files};

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Every file below `dir` with one of these extensions, sorted, as a path relative to `root`.
pub fn files(root: &Path, dir: &str, extensions: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root.join(dir)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|x| extensions.iter().any(|e| x == *e)) {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_string());
            }
        }
    }
    found.sort();
    found
}

fn report(findings: &[Finding]) {
    let text: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), text.join("\n"));
}

/// Every file of the core that is compiled with the product, with its text.
fn core_files(root: &Path) -> Vec<(String, String)> {
    let files = files(root, "pccl-core/src", &["rs"]);
    assert!(files.len() > 10, "the core was not found below {}", root.display());
    let read = |file: String| {
        let text = fs::read_to_string(root.join(&file)).unwrap();
        (file, text)
    };
    let all: Vec<(String, String)> = files.into_iter().map(read).collect();
    let views: Vec<(&str, &str)> = all.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    let kept = without_test_files(&views);
    kept.into_iter().map(|(file, text)| (file.to_string(), text.to_string())).collect()
}

#[test]
fn every_room_of_the_core_keeps_to_its_doors() {
    let files = core_files(&root());
    let findings: Vec<Finding> = files.iter().flat_map(|(file, text)| check_core_file(file, text)).collect();
    report(&findings);
}

#[test]
fn every_door_is_used() {
    let files = core_files(&root());
    let used: BTreeSet<_> = files.iter().flat_map(|(file, text)| doors_used(file, text)).collect();
    let doors = rules::ROOMS.iter().flat_map(|room| room.doors.iter().map(|door| (room.name, *door)));
    let unused: Vec<_> = doors.filter(|door| !used.contains(door)).collect();
    assert!(unused.is_empty(), "doors nobody goes through, wall them up in rules.rs: {unused:?}");
}

#[test]
fn files_are_small_and_named_by_role() {
    let root = root();
    let mut findings = Vec::new();
    for dir in ["pccl-core", "pccl-ffi", "pccl-py", "pccl-cli", "tests", "stress", "xtask", "include"]
        .iter()
        .filter(|dir| root.join(dir).is_dir())
    {
        // The header is made from sources that are looked at here one by one; programs want it in one piece.
        for file in
            files(&root, dir, &["rs", "py", "c", "h"]).into_iter().filter(|file| file != "include/pccl.h")
        {
            let text = fs::read_to_string(root.join(&file)).unwrap();
            findings.extend(check_file_shape(&file, &text));
        }
    }
    report(&findings);
}

#[test]
fn the_product_has_every_room_of_the_floor_plan() {
    let src = root().join("pccl-core/src");
    for room in rules::ROOMS {
        let there = src.join(room.name).is_dir() || src.join(format!("{}.rs", room.name)).is_file();
        assert!(there, "room {} of the floor plan is not there", room.name);
    }
    for entry in fs::read_dir(&src).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let name = name.trim_end_matches(".rs");
        assert!(
            name == "lib" || rules::ROOMS.iter().any(|room| room.name == name),
            "{name} is no room of the floor plan: give it doors in rules.rs"
        );
    }
}
