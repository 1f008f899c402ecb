//! The floor plan as a table, and the checks that hold the core to it.

use std::fmt;

use super::source::{Token, paths, tokens};

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
        &["shell", "mem", "proto::peer", "types", "limits", "error", "config", "obs"],
    ),
    room(
        "shell",
        "loops: clock, mailboxes, timers, connections",
        &["proto", "exec", "net", "mem", "wire", "plan", "types", "limits", "error", "config", "obs"],
    ),
    room(
        "net",
        "sockets: listening, dialling, hellos, pools",
        &["exec::Link", "exec::LinkIo", "wire", "types", "limits", "error", "config", "obs"],
    ),
    pure(room(
        "proto",
        "the machines of master and peer: who is in, what became of each call",
        &["wire::message", "plan", "topo", "types", "limits", "error"],
    )),
    room(
        "exec",
        "moves bytes: plan × link × region",
        &["plan", "kernel", "mem", "wire::frame", "types", "limits", "error", "obs"],
    ),
    pure(room("wire", "bytes ⇄ messages and frames", &["types", "limits", "error"])),
    pure(room("plan", "forests: who adds what, in which order", &["types", "limits", "error"])),
    pure(room("topo", "figures → order", &["types", "limits", "error"])),
    may_be_unsafe(room("kernel", "arithmetic on spans: reduce, average", &["types", "limits", "error"])),
    may_be_unsafe(room("mem", "user memory and scratch", &["types", "limits", "error"])),
    room("obs", "counters and events", &["types", "limits", "error"]),
    room("config", "settings, defaults, environment", &["types", "limits", "error"]),
    room("types", "the values every room speaks of", &["limits", "error"]),
    room("error", "what a user meets, and its code", &[]),
    room("limits", "every maximum", &[]),
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
/// Crates and parts of `std` that a pure room may not reach into.
const IMPURE_PATHS: &[&str] = &[
    "std::thread",
    "std::time",
    "std::fs",
    "std::env",
    "std::process",
    "std::io",
    "std::os",
    "std::sync::mpsc",
    "tokio",
    "socket2",
    "libc",
    "rand",
    "getrandom",
    "tracing",
    "mio",
    "crossbeam",
    "parking_lot",
];
const CRATES: &[&str] = &[
    "crate",
    "std",
    "tokio",
    "socket2",
    "libc",
    "rand",
    "getrandom",
    "tracing",
    "mio",
    "crossbeam",
    "parking_lot",
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

/// Checks one file of the core; `file` is its path from the root of the repository.
pub fn check_core_file(file: &str, text: &str) -> Vec<Finding> {
    let finding = |line: usize, rule: String| Finding { file: file.to_string(), line, rule };
    let inside = file.strip_prefix("pccl-core/src/").unwrap_or(file).trim_end_matches(".rs");
    let mut module: Vec<&str> = inside.split('/').collect();
    if module.last() == Some(&"mod") {
        module.pop();
    }
    if module == ["lib"] || is_test_file(&module) {
        return Vec::new();
    }
    let Some(room) = ROOMS.iter().find(|room| room.name == module[0]) else {
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

/// `tests.rs`, `tests/…` and `…_tests.rs` are compiled for tests only.
fn is_test_file(module: &[&str]) -> bool {
    module.iter().any(|part| *part == "tests" || part.ends_with("_tests") || part.ends_with("_test"))
}

fn check_paths(room: &Room, module: &[&str], tokens: &[Token], rules: &mut Vec<(usize, String)>) {
    for path in paths(tokens, CRATES, module) {
        let spelled = path.segments.join("::");
        if path.segments[0] == "crate" {
            let inner = &path.segments[1..];
            let allowed = inner.first().is_some_and(|first| first == room.name)
                || room.doors.iter().any(|door| begins_with(inner, door));
            if !allowed {
                rules.push((path.line, format!("{} has no door to {spelled}", room.name)));
            }
        } else if room.pure && IMPURE_PATHS.iter().any(|bad| begins_with(&path.segments, bad)) {
            rules.push((path.line, format!("{} is pure: it may not touch {spelled}", room.name)));
        }
    }
}

fn begins_with(segments: &[String], door: &str) -> bool {
    let door: Vec<&str> = door.split("::").collect();
    segments.len() >= door.len() && door.iter().zip(segments).all(|(d, s)| d == s)
}

fn check_words(room: &Room, tokens: &[Token], rules: &mut Vec<(usize, String)>) {
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
