//! The floor plan as a table, and the checks that hold the core to it.

use std::collections::BTreeSet;
use std::fmt;

use super::source::{Path, Place, Token, local_names, paths, test_modules, tokens};

/// A room of pccl-core, and the doors it may use.
#[derive(Debug)]
pub struct Room {
    pub name: &'static str,
    /// Decides without I/O: no socket, thread, clock, runtime, log or hash order.
    pub pure: bool,
    /// May hold `unsafe`.
    pub may_be_unsafe: bool,
    /// Other rooms, or parts of them (`wire::frame`), that it may name.
    pub doors: &'static [&'static str],
    pub what: &'static str,
}

const fn room(name: &'static str, what: &'static str, doors: &'static [&'static str]) -> Room {
    Room { name, pure: false, may_be_unsafe: false, doors, what }
}

const fn pure(room: Room) -> Room {
    Room { pure: true, ..room }
}

const fn may_be_unsafe(room: Room) -> Room {
    Room { may_be_unsafe: true, ..room }
}

/// From the user's thread down to the bytes.
pub const ROOMS: &[Room] = &[
    room(
        "api",
        "what a program calls: Communicator, Master, Work",
        &["shell", "state", "mem", "proto::peer", "types", "limits", "error", "config", "obs"],
    ),
    room(
        "shell",
        "loops: clock, mailboxes, timers, connections",
        &[
            "proto", "exec", "net", "state", "mem", "wire", "plan", "types", "limits", "error", "config",
            "obs",
        ],
    ),
    room(
        "net",
        "sockets: listening, dialling, hellos, pools",
        &["exec::Answers", "exec::Link", "exec::LinkIo", "wire", "types", "limits"],
    ),
    pure(room(
        "proto",
        "the machines of master and peer: who is in, what became of each call",
        &["wire::message", "topo", "types", "limits", "error"],
    )),
    room(
        "exec",
        "moves bytes: plan × link × region",
        &["plan", "kernel", "state", "mem", "wire::frame", "wire::state_ask", "types", "limits", "obs"],
    ),
    room(
        "state",
        "a shared state as one peer holds it: tensors, and the tree of hashes over them",
        &["kernel", "mem", "types", "limits"],
    ),
    pure(room("wire", "bytes ⇄ messages and frames", &["types", "limits"])),
    pure(room("plan", "forests: who adds what, in which order", &["types", "limits"])),
    pure(room("topo", "figures → order, forest and predicted times", &["types", "limits"])),
    may_be_unsafe(room("kernel", "arithmetic on spans: reduce, average", &["types"])),
    may_be_unsafe(room("mem", "user memory and scratch", &["types", "limits"])),
    room("obs", "counters and events", &[]),
    room("config", "settings, defaults, environment", &["types", "limits", "error"]),
    pure(room("types", "the values every room speaks of", &[])),
    pure(room("error", "what a user meets, and its code", &[])),
    pure(room("limits", "every maximum", &[])),
];

/// What a pure room may not name at all.
const IMPURE_WORDS: &[&str] = &[
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "ToSocketAddrs",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "RandomState",
    "Mutex",
    "RwLock",
    "Condvar",
    "thread_local",
    "println",
    "eprintln",
    "print",
    "eprint",
];
/// Crates that a pure room may use.
const PURE_CRATES: &[&str] = &["std", "core", "alloc", "thiserror", "crc32fast", "half"];
const STANDARD: &[&str] = &["std", "core", "alloc"];
/// Parts of `std` (or `core`, `alloc`) that a pure room may not reach into.
const IMPURE_PATHS: &[&str] = &[
    "std::thread",
    "std::time",
    "std::fs",
    "std::env",
    "std::process",
    "std::io",
    "std::os",
    "std::sync::mpsc",
    "std::collections::hash_map",
    "std::collections::hash_set",
];
/// Small first words of paths that are no crates: types of the language, and tools in attributes.
const BUILT_IN: &[&str] = &[
    "crate", "bool", "char", "str", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64",
    "i128", "isize", "f32", "f64", "clippy", "rustfmt",
];

pub const MAX_FILE_LINES: usize = 800;
const VAGUE_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc", "shared", "stuff"];

/// Where a rule is broken, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub file: String,
    pub line: usize,
    pub rule: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

/// Where a file of the core stands, as a path of modules.
fn module_of(file: &str) -> Vec<&str> {
    let inside = file.strip_prefix("pccl-core/src/").unwrap_or(file).trim_end_matches(".rs");
    let mut module: Vec<&str> = inside.split('/').collect();
    if ["mod", "lib"].contains(module.last().unwrap_or(&"")) {
        module.pop();
    }
    module
}

/// The files that are compiled with the product: those that no `#[cfg(test)] mod` leads to, whatever they are called.
pub fn without_test_files<'a>(files: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let tests: Vec<Vec<String>> =
        files.iter().flat_map(|(file, text)| test_modules(text, &module_of(file))).collect();
    let is_test = |file: &str| {
        let module = module_of(file);
        tests.iter().any(|test| module.len() >= test.len() && test.iter().zip(&module).all(|(t, m)| t == m))
    };
    files.iter().filter(|(file, _)| !is_test(file)).copied().collect()
}

/// Checks one file of the core; `file` is its path from the root of the repository.
pub fn check_core_file(file: &str, text: &str) -> Vec<Finding> {
    let finding = |line: usize, rule: String| Finding { file: file.to_string(), line, rule };
    let module = module_of(file);
    if module.is_empty() {
        return Vec::new();
    }
    let Some(room) = room_of(&module) else {
        return vec![finding(1, format!("{} is no room of the floor plan", module[0]))];
    };
    let tokens = match tokens(text) {
        Ok(tokens) => tokens,
        Err(e) => return vec![finding(1, format!("cannot be read as Rust: {e}"))],
    };
    let mut rules = Vec::new();
    check_paths(room, &module, &tokens, &mut rules);
    check_words(room, &tokens, &mut rules);
    rules.sort();
    rules.dedup();
    rules.into_iter().map(|(line, rule)| finding(line, rule)).collect()
}

fn room_of(module: &[&str]) -> Option<&'static Room> {
    ROOMS.iter().find(|room| room.name == module[0])
}

fn check_paths(room: &Room, module: &[&str], tokens: &[Token], rules: &mut Vec<(usize, String)>) {
    let paths = paths(tokens, module);
    let local = local_names(tokens, &paths);
    for path in &paths {
        let broken = [
            disguise(path),
            if path.segments[0] == "crate" { no_door(room, path) } else { impurity(room, path, &local) },
            reexport(room, module, path, &local),
        ];
        rules.extend(broken.into_iter().flatten().map(|rule| (path.line, rule)));
    }
}

fn spelled(path: &Path) -> String {
    path.segments.join("::")
}

/// What would let a later path begin with a name that this test cannot follow.
fn disguise(path: &Path) -> Option<String> {
    if path.place == Place::Code {
        return None;
    }
    let is_standard = STANDARD.contains(&path.segments[0].as_str());
    let is_glob = path.segments.last().is_some_and(|last| last == "*");
    let is_root = path.segments.len() - usize::from(is_glob) == 1 && path.segments[0] == "crate";
    if path.renamed.is_some() && (path.is_bare || is_standard && path.segments.len() == 1) {
        return Some(format!("{} is renamed: its paths could not be followed", spelled(path)));
    }
    if is_root || is_glob && is_standard {
        return Some(format!("{} is imported whole: name what is used", spelled(path)));
    }
    None
}

fn no_door(room: &Room, path: &Path) -> Option<String> {
    let inner = &path.segments[1..];
    let allowed = path.segments.len() == 1
        || inner.first().is_some_and(|first| first == room.name)
        || room.doors.iter().any(|door| begins_with(inner, door));
    (!allowed).then(|| format!("{} has no door to {}", room.name, spelled(path)))
}

/// Whether the path begins with another crate. Crates are written small; what is not is a type.
fn names_a_crate(path: &Path, local: &BTreeSet<String>) -> bool {
    let root = path.segments[0].as_str();
    root.starts_with(char::is_lowercase)
        && (path.is_absolute || !local.contains(root) && !BUILT_IN.contains(&root))
}

/// A path that leaves a pure room for a crate, or a part of `std`, that is not pure.
fn impurity(room: &Room, path: &Path, local: &BTreeSet<String>) -> Option<String> {
    let root = path.segments[0].as_str();
    if !room.pure || !names_a_crate(path, local) {
        return None;
    }
    let mut segments = path.segments.clone();
    if STANDARD.contains(&root) {
        segments[0] = "std".into();
    }
    let allowed = PURE_CRATES.contains(&root) && !IMPURE_PATHS.iter().any(|bad| begins_with(&segments, bad));
    (!allowed).then(|| format!("{} is pure: it may not touch {}", room.name, spelled(path)))
}

/// A name shown to others under a place that they may use, from a place that they may not.
fn reexport(room: &Room, module: &[&str], path: &Path, local: &BTreeSet<String>) -> Option<String> {
    if path.place != Place::PubUse {
        return None;
    }
    let inner = &path.segments[1..];
    let foreign = path.segments[0] == "crate" && inner.first().is_some_and(|first| first != room.name)
        || names_a_crate(path, local);
    if foreign && room.name != "api" {
        return Some(format!("{} shows {} to others: only api may", room.name, spelled(path)));
    }
    // `wire::frame` is a door of its own: nothing else of `wire` may be had through it.
    let door = ROOMS.iter().flat_map(|room| room.doors).find(|door| {
        let place: Vec<&str> = door.split("::").collect();
        place.len() > 1 && place.len() <= module.len() && place.iter().zip(module).all(|(p, m)| p == m)
    })?;
    (path.segments[0] == "crate" && !begins_with(inner, door))
        .then(|| format!("{} is another way in than {door}", spelled(path)))
}

/// The doors that this file of the core goes through.
pub fn doors_used(file: &str, text: &str) -> BTreeSet<(&'static str, &'static str)> {
    let module = module_of(file);
    let (Some(_), Ok(tokens)) = (module.first(), tokens(text)) else { return BTreeSet::new() };
    let Some(room) = room_of(&module) else { return BTreeSet::new() };
    let paths = paths(&tokens, &module);
    let used =
        |door: &&str| paths.iter().any(|p| p.segments[0] == "crate" && begins_with(&p.segments[1..], door));
    room.doors.iter().copied().filter(used).map(|door| (room.name, door)).collect()
}

fn begins_with(segments: &[String], door: &str) -> bool {
    let door: Vec<&str> = door.split("::").collect();
    segments.len() >= door.len() && door.iter().zip(segments).all(|(d, s)| d == s)
}

fn check_words(room: &Room, tokens: &[Token], rules: &mut Vec<(usize, String)>) {
    for pair in tokens.windows(2).filter(|pair| pair[0].text == "extern" && pair[1].text == "crate") {
        rules.push((
            pair[0].line,
            "extern crate gives a crate another name: name the crate itself".to_string(),
        ));
    }
    for token in tokens {
        if room.pure && IMPURE_WORDS.contains(&token.text.as_str()) {
            rules.push((token.line, format!("{} is pure: it may not name {}", room.name, token.text)));
        }
        if !room.may_be_unsafe && token.text == "unsafe" {
            rules.push((token.line, format!("unsafe in {}: it belongs into mem or kernel", room.name)));
        }
    }
}

/// Checks what holds for every source file of the workspace.
pub fn check_file_shape(file: &str, text: &str) -> Vec<Finding> {
    let finding = |line: usize, rule: String| Finding { file: file.to_string(), line, rule };
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_FILE_LINES {
        findings.push(finding(lines, format!("{lines} lines, more than {MAX_FILE_LINES}: cut it by role")));
    }
    for part in file.split('/') {
        let name = part.split('.').next().unwrap_or(part);
        if VAGUE_NAMES.contains(&name) {
            findings.push(finding(1, format!("{name:?} names no role")));
        }
    }
    findings
}

/// The table of doors, as `docs/ARCHITECTURE.md` shows it.
pub fn doors_table() -> String {
    let mut text = String::from(
        "| room | what belongs here | may use | pure | `unsafe` |\n| --- | --- | --- | --- | --- |\n",
    );
    for room in ROOMS {
        let doors: Vec<String> = room.doors.iter().map(|door| format!("`{door}`")).collect();
        text.push_str(&format!(
            "| `{}` | {} | {} | {} | {} |\n",
            room.name,
            room.what,
            if doors.is_empty() { "nothing".to_string() } else { doors.join(", ") },
            if room.pure { "yes" } else { "" },
            if room.may_be_unsafe { "yes" } else { "" },
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_of(file: &str, text: &str) -> Vec<(usize, String)> {
        check_core_file(file, text).into_iter().map(|f| (f.line, f.rule)).collect()
    }

    #[test]
    fn a_pure_room_that_touches_the_world_is_found() {
        let text = "use std::net::{IpAddr, TcpStream};\nuse std::{sync::Arc, time::Duration};\n\
                    fn f() { tokio::spawn(g()); }\nfn g() { let _ = std::collections::HashMap::<u8, u8>::new(); }\n";
        let found = rules_of("pccl-core/src/proto/master/mod.rs", text);
        let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 3, 4], "{found:?}");
        assert!(found[0].1.contains("TcpStream"), "{found:?}");
        assert!(found[1].1.contains("std::time::Duration"), "{found:?}");
        assert!(found[2].1.contains("tokio::spawn"), "{found:?}");
        assert!(found[3].1.contains("HashMap"), "{found:?}");
    }

    #[test]
    fn the_same_text_is_fine_where_the_world_begins() {
        let text = "use std::net::TcpStream;\nuse std::time::Instant;\nfn f() { tokio::spawn(g()); }\n";
        assert_eq!(rules_of("pccl-core/src/net/dial.rs", text), []);
    }

    #[test]
    fn values_of_addresses_and_words_in_comments_are_fine_in_a_pure_room() {
        let text = "//! Never a TcpStream.\nuse std::net::{IpAddr, SocketAddr};\n/// Not an Instant.\n\
                    const A: &str = \"std::time::Instant\";\n#[cfg(test)]\nmod tests { use std::time::Instant; }\n";
        assert_eq!(rules_of("pccl-core/src/wire/hello.rs", text), []);
    }

    #[test]
    fn a_door_that_is_not_on_the_plan_is_found() {
        let found = rules_of(
            "pccl-core/src/exec/engine.rs",
            "use crate::wire::frame::Header;\nuse crate::wire::message::Join;\n",
        );
        assert_eq!(found, [(2, "exec has no door to crate::wire::message::Join".to_string())]);
        let found = rules_of("pccl-core/src/plan/ring.rs", "fn f() { super::super::exec::run() }");
        assert_eq!(found, [(1, "plan has no door to crate::exec::run".to_string())]);
        let found = rules_of("pccl-core/src/net/tcp.rs", "use crate::{exec::{Link, Engine}, wire};");
        assert_eq!(found, [(1, "net has no door to crate::exec::Engine".to_string())]);
    }

    /// Each of these went through the walls once.
    #[test]
    fn a_way_around_the_walls_is_found() {
        let ways = [
            ("proto/master/mod.rs", "use ::std::thread;"),
            ("proto/master/mod.rs", "fn f() { return ::tokio::spawn(1) }"),
            ("proto/master/mod.rs", "fn f() -> ::tokio::net::TcpSocket { g() }"),
            ("proto/master/mod.rs", "fn f() { g() as ::libc::c_int; }"),
            ("proto/peer/mod.rs", "use self::super::super::exec::E;"),
            ("proto/peer/mod.rs", "use super::super as up; fn f() { up::exec::run() }"),
            ("proto/peer/mod.rs", "use crate as c; fn f() { c::exec::run() }"),
            ("proto/peer/mod.rs", "use crate::{self as c}; fn f() { c::exec::run() }"),
            ("proto/peer/mod.rs", "use super::super::*; fn f() { exec::run() }"),
            ("proto/peer/mod.rs", "use std as s; fn f() { s::thread::yield_now() }"),
            ("proto/peer/mod.rs", "use std::{self as s}; fn f() { s::thread::yield_now() }"),
            ("proto/peer/mod.rs", "extern crate tokio as t; fn f() { t::spawn(1) }"),
            ("proto/peer/mod.rs", "use std::*; fn f() { thread::spawn(g) }"),
            ("proto/peer/mod.rs", "use std::net::*;"),
            ("proto/peer/mod.rs", "use core::time::Duration;"),
            ("proto/peer/mod.rs", "use tokio;"),
            ("proto/peer/mod.rs", "use tokio as t;"),
            ("proto/peer/mod.rs", "use chrono::Utc;"),
            ("proto/peer/mod.rs", "fn f() { chrono::Utc::now() }"),
            ("wire/strategies.rs", "use proptest::prelude::*;"),
            ("types.rs", "pub use std::time::Instant as Now;"),
            ("limits.rs", "pub use std::thread;"),
            ("error.rs", "pub use std::io::Error;"),
            ("net/mod.rs", "pub use tokio::net::TcpStream;"),
            ("wire/frame.rs", "pub use super::message::Join;"),
            ("wire/frame.rs", "pub(crate) use crate::wire::message::Join;"),
            ("proto/peer/mod.rs", "pub use super::master::Master;"),
            ("shell/mod.rs", "pub use crate::exec::Engine;"),
        ];
        for (file, text) in ways {
            assert_ne!(rules_of(&format!("pccl-core/src/{file}"), text), [], "{file}: {text}");
        }
    }

    #[test]
    fn plain_ways_within_the_walls_are_fine() {
        let ways = [
            (
                "proto/peer/mod.rs",
                "mod io; pub use io::{Call, Done}; pub use self::io::Input; use super::table;",
            ),
            (
                "proto/peer/mod.rs",
                "use super::table; fn f() { table::step(); u8::try_from(1); Vec::<u8>::new() }",
            ),
            (
                "proto/peer/mod.rs",
                "use std::{fmt, mem}; fn f(a: fmt::Result) { mem::take(&mut x) as usize; }",
            ),
            (
                "proto/peer/mod.rs",
                "#[derive(thiserror::Error)] struct E; macro_rules! m { ($t:ident) => { $t::new() } }",
            ),
            (
                "proto/peer/mod.rs",
                "use State::*; fn f() { x.iter().sum::<u64>(); std::array::from_fn::<u8, 4, _>(g) }",
            ),
            ("wire/mod.rs", "pub mod frame; mod control; pub use control::decode;"),
            ("api/mod.rs", "pub use crate::mem::Buffers;"),
        ];
        for (file, text) in ways {
            assert_eq!(rules_of(&format!("pccl-core/src/{file}"), text), [], "{file}: {text}");
        }
    }

    #[test]
    fn a_file_is_for_tests_only_if_its_mod_says_so() {
        let parent = |text| ("pccl-core/src/proto/mod.rs", text);
        let named = ("pccl-core/src/proto/foo_tests.rs", "use std::thread;");
        let below = ("pccl-core/src/proto/foo_tests/more.rs", "use std::thread;");
        let kept = without_test_files(&[parent("mod foo_tests;"), named, below]);
        assert_eq!(kept.len(), 3);
        assert_ne!(rules_of(named.0, named.1), []);
        assert_eq!(without_test_files(&[parent("#[cfg(test)]\nmod foo_tests;"), named, below]).len(), 1);
    }

    #[test]
    fn the_doors_a_file_goes_through_are_known() {
        let used =
            doors_used("pccl-core/src/plan/ring.rs", "use super::super::types::Rank; use crate::plan::View;");
        assert_eq!(used, BTreeSet::from([("plan", "types")]));
    }

    #[test]
    fn unsafe_outside_its_rooms_is_found() {
        let text = "fn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(rules_of("pccl-core/src/shell/run.rs", text).len(), 1);
        assert_eq!(rules_of("pccl-core/src/mem/region.rs", text), []);
    }

    #[test]
    fn a_room_that_nobody_planned_is_found() {
        assert_eq!(rules_of("pccl-core/src/attic.rs", "").len(), 1);
    }

    #[test]
    fn long_files_and_vague_names_are_found() {
        assert_eq!(check_file_shape("xtask/src/verify.rs", &"\n".repeat(MAX_FILE_LINES)), []);
        assert_eq!(check_file_shape("xtask/src/verify.rs", &"\n".repeat(MAX_FILE_LINES + 1)).len(), 1);
        assert_eq!(check_file_shape("pccl-core/src/exec/utils.rs", "").len(), 1);
        assert_eq!(check_file_shape("pccl-core/src/common/mod.rs", "").len(), 1);
    }
}
