//! The bytes on the wire, pinned: a change of them is a new protocol version, never an accident.
//! `PCCL_BLESS=1 cargo test -p pccl-tests golden` writes them anew.

mod samples;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use pccl_core::wire::frame::FrameKind;
use pccl_core::wire::hello::HelloStatus;
use pccl_core::wire::{WireError, decode_master, decode_peer};

use crate::architecture::root;
use samples::{Sample, samples};

const FOLDER: &str = "tests/golden";

/// A line of words that says what it is, then the bytes, 16 a line.
fn hex_text(sample: &Sample) -> String {
    let mut text = format!("# {}\n", sample.about);
    for line in sample.bytes.chunks(16) {
        let words: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{}", words.join(" ")).unwrap();
    }
    text
}

fn bytes_of(text: &str) -> Vec<u8> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(str::split_whitespace).map(|word| u8::from_str_radix(word, 16).unwrap()).collect()
}

#[test]
fn what_is_written_and_read_is_what_the_golden_files_hold() {
    let folder = root().join(FOLDER);
    let wanted: BTreeMap<String, String> =
        samples().iter().map(|sample| (format!("{}.hex", sample.name), hex_text(sample))).collect();
    if std::env::var_os("PCCL_BLESS").is_some() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in &wanted {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        found.insert(name, fs::read_to_string(path).unwrap());
    }
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&wanted), "files of {FOLDER}");
    for (name, text) in &wanted {
        assert_eq!(&found[name], text, "{FOLDER}/{name}: the wire has changed; see docs/PROTOCOL.md");
    }
    for sample in samples() {
        let bytes = bytes_of(&found[&format!("{}.hex", sample.name)]);
        assert_eq!((sample.read)(&bytes), Ok((sample.about.clone(), bytes)), "{}", sample.name);
    }
}

/// The codes that a decoder knows, asked one by one.
fn known_codes(refused: impl Fn(u8) -> bool) -> Vec<u8> {
    (0..=u8::MAX).filter(|&code| !refused(code)).collect()
}

fn first_bytes(family: &str) -> Vec<u8> {
    let family = samples().into_iter().filter(|sample| sample.name.starts_with(family));
    let mut codes: Vec<u8> = family.map(|sample| sample.code).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

#[test]
fn every_message_frame_and_answer_has_its_golden_file() {
    let peer =
        |code| matches!(decode_peer(&[code]), Err(WireError::UnknownNumber { field: "peer message", .. }));
    let master = |code| {
        matches!(decode_master(&[code]), Err(WireError::UnknownNumber { field: "master message", .. }))
    };
    assert_eq!(first_bytes("peer-"), known_codes(peer));
    assert_eq!(first_bytes("master-"), known_codes(master));
    assert_eq!(first_bytes("frame-"), FrameKind::ALL.map(|kind| kind as u8));
    assert_eq!(first_bytes("answer-"), HelloStatus::ALL.map(|status| status as u8));
}

#[test]
fn the_protocol_document_lists_every_code_with_its_name() {
    let document = fs::read_to_string(root().join("docs/PROTOCOL.md")).unwrap();
    // Trailers and asks are told apart by their fields.
    let coded = |name: &str| !name.starts_with("trailer-") && !name.starts_with("ask-");
    let listed = samples().into_iter().filter(|sample| coded(&sample.name));
    for sample in listed {
        let row = format!("| {} | `{}` |", sample.code, sample.title);
        assert!(document.contains(&row), "docs/PROTOCOL.md has no row that begins with {row}");
    }
}
