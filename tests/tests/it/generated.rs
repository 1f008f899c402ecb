//! Parts of the documents that are made from the code. `cargo xtask fix` writes them, this test finds drift.

use std::fs;

use pccl_core::config::{MasterSettings, PeerSettings, Settings};
use pccl_core::proto::table::diagram;
use pccl_core::proto::{master, peer};

use crate::architecture;

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
        settings::<PeerSettings>("communicator"),
        settings::<MasterSettings>("master"),
        states("peer", diagram(peer::TABLE, peer::State::Idle)),
        states("operation", diagram(peer::OP_TABLE, peer::OpState::Moving)),
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

#[test]
fn a_drifted_block_is_found() {
    let document = "a\n<!-- generated: x -->\n\nold\n\n<!-- end -->\nb\n";
    let wanted = "a\n<!-- generated: x -->\n\nnew\n\n<!-- end -->\nb\n";
    assert_eq!(filled(document, "x", "new").as_deref(), Some(wanted));
    assert_eq!(filled(wanted, "x", "new").as_deref(), Some(wanted));
    assert_eq!(filled(document, "y", "new"), None);
}
