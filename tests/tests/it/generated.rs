//! What is made from the code: parts of the documents, and the header of the C library. `cargo xtask fix` writes them,
//! these tests find drift.

use std::fs;

use pccl_core::config::{MasterSettings, PeerSettings, Settings};
use pccl_core::proto::table::diagram;
use pccl_core::proto::{master, peer};

use crate::{architecture, c_calls};

/// A block of a document between `<!-- generated: NAME -->` and `<!-- end -->`.
struct Block {
    file: &'static str,
    name: &'static str,
    text: String,
}

fn blocks() -> Vec<Block> {
    let states = |name, diagram: String| Block {
        file: "docs/STATES.md",
        name,
        text: format!("```mermaid\n{diagram}```"),
    };
    vec![
        Block { file: "docs/ARCHITECTURE.md", name: "doors", text: architecture::rules::doors_table() },
        Block { file: "docs/TESTING.md", name: "c-functions", text: c_calls::table(&made_header()) },
        settings::<PeerSettings>("communicator"),
        settings::<MasterSettings>("master"),
        states("peer", diagram(peer::TABLE, peer::State::Idle)),
        states("operation", diagram(peer::OP_TABLE, peer::OpState::Moving)),
        states("synchronization", diagram(peer::SYNC_TABLE, peer::SyncState::Offered)),
        states("master", diagram(master::TABLE, master::PeerState::Pending)),
    ]
}

fn settings<S: Settings + Default>(name: &'static str) -> Block {
    let defaults = S::default();
    let mut text = String::from("| key | environment | default | meaning |\n| --- | --- | --- | --- |\n");
    for key in S::KEYS {
        let (variable, default) = (key.variable(), (key.get)(&defaults));
        text += &format!("| `{}` | `{variable}` | `{default}` | {} |\n", key.name, key.help);
    }
    Block { file: "docs/SETTINGS.md", name, text }
}

/// The document with the block's place filled; `None` if it has no such place.
fn filled(document: &str, name: &str, text: &str) -> Option<String> {
    let begin = format!("<!-- generated: {name} -->\n");
    let from = document.find(&begin)? + begin.len();
    let to = from + document[from..].find("<!-- end -->")?;
    Some(
        format!("{}\n{}\n\n{}", &document[..from], text.trim_end(), &document[to..])
            .replace("\n\n\n", "\n\n"),
    )
}

#[test]
fn generated_parts_of_the_documents_are_current() {
    let regenerate = std::env::var_os("PCCL_REGENERATE").is_some();
    for block in blocks() {
        let path = architecture::root().join(block.file);
        let document = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", block.file));
        let wanted = filled(&document, block.name, &block.text)
            .unwrap_or_else(|| panic!("{} has no place for {:?}", block.file, block.name));
        if regenerate && wanted != document {
            fs::write(&path, &wanted).unwrap();
        } else {
            assert!(
                wanted == document,
                "{}: {:?} has drifted: run `cargo xtask fix`",
                block.file,
                block.name
            );
        }
    }
}

/// The sources in the order in which the header has their functions.
const SOURCES: [&str; 9] =
    ["enums", "layout", "info", "words", "config", "master", "communicator", "reduce", "state"];

fn made_header() -> String {
    let ffi = architecture::root().join("pccl-ffi");
    let config = cbindgen::Config::from_file(ffi.join("cbindgen.toml")).unwrap();
    let builder = SOURCES.iter().fold(cbindgen::Builder::new().with_config(config), |builder, name| {
        builder.with_src(ffi.join(format!("src/{name}.rs")))
    });
    let mut bytes = Vec::new();
    builder.generate().unwrap().write(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_header_of_the_c_library_is_made_from_its_sources() {
    let wanted = made_header();
    let path = architecture::root().join("include/pccl.h");
    if std::env::var_os("PCCL_REGENERATE").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let header = fs::read_to_string(&path).unwrap();
    assert!(wanted == header, "include/pccl.h has drifted from pccl-ffi/src: run `cargo xtask fix`");
}

/// Every document of the repository, as a path from its root.
fn documents() -> Vec<String> {
    let root = architecture::root();
    let mut found = Vec::new();
    for entry in fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_ours = path.is_dir() && !name.starts_with('.') && !["target", "shared"].contains(&name);
        if is_ours {
            found.extend(architecture::files(&root, name, &["md"]));
        } else if name.ends_with(".md") {
            found.push(name.to_string());
        }
    }
    found
}

/// The targets of a document's links, and what it calls `docs/….md`: each with the folder it is relative to.
fn references<'a>(file: &'a str, text: &'a str) -> Vec<(&'a str, &'a str)> {
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let outside = |link: &&str| link.is_empty() || link.contains("://") || link.starts_with("mailto:");
    let links = links.filter(|link| !outside(link)).map(|link| (folder, link));
    let is_part = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let words = text.split(|c| !is_part(c)).map(|word| word.trim_end_matches('.'));
    let mentions = words.filter(|word| word.starts_with("docs/") && word.ends_with(".md"));
    links.chain(mentions.map(|mention| ("", mention))).collect()
}

#[test]
fn what_the_documents_and_the_code_refer_to_is_there() {
    let root = architecture::root();
    let documents = documents();
    assert!(documents.len() > 10, "{documents:?}");
    let mut missing = Vec::new();
    for file in &documents {
        let text = fs::read_to_string(root.join(file)).unwrap();
        let broken =
            references(file, &text).into_iter().filter(|(folder, to)| !root.join(folder).join(to).exists());
        missing.extend(broken.map(|(_, to)| format!("{file}: {to}")));
    }
    for dir in ["pccl-core", "pccl-ffi", "pccl-py", "pccl-cli", "tests/src", "stress", "xtask", "include"] {
        for file in architecture::files(&root, dir, &["rs", "py", "c", "h"]) {
            let text = fs::read_to_string(root.join(&file)).unwrap();
            let mentions = references("", &text).into_iter().filter(|(_, to)| to.starts_with("docs/"));
            missing.extend(
                mentions.filter(|(_, to)| !root.join(to).exists()).map(|(_, to)| format!("{file}: {to}")),
            );
        }
    }
    assert!(missing.is_empty(), "not there:\n{}", missing.join("\n"));
}

#[test]
fn links_and_mentions_are_found() {
    let text = "[a](B.md#c), [d](https://e/f.md), `docs/G.md`, see docs/adr/h.md.";
    assert_eq!(references("docs/X.md", text), [("docs", "B.md"), ("", "docs/G.md"), ("", "docs/adr/h.md")]);
}

#[test]
fn a_drifted_block_is_found() {
    let document = "a\n<!-- generated: x -->\n\nold\n\n<!-- end -->\nb\n";
    let wanted = "a\n<!-- generated: x -->\n\nnew\n\n<!-- end -->\nb\n";
    assert_eq!(filled(document, "x", "new").as_deref(), Some(wanted));
    assert_eq!(filled(wanted, "x", "new").as_deref(), Some(wanted));
    assert_eq!(filled(document, "y", "new"), None);
}
