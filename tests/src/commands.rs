//! Commands that help texts and documents tell people to type, so that each program's tests can try its own.

use std::path::{Path, PathBuf};

/// What follows the program's name.
pub type Arguments = Vec<String>;

/// Of a help text: lines that begin with the program, up to their explanation.
pub fn in_help(text: &str, program: &str) -> Vec<Arguments> {
    text.lines().filter_map(|line| arguments(line, program)).collect()
}

/// Of the README and all documents, with the file they are in.
pub fn in_documents(program: &str) -> Vec<(PathBuf, Arguments)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a package of a workspace");
    let mut files: Vec<PathBuf> = ["README.md", "CHANGELOG.md"].map(|name| root.join(name)).into();
    for folder in ["docs", "docs/adr"] {
        let entries = std::fs::read_dir(root.join(folder)).unwrap();
        files.extend(
            entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension() == Some("md".as_ref())),
        );
    }
    files.sort();
    let commands = |file: &PathBuf| in_markdown(&std::fs::read_to_string(file).unwrap(), program);
    files.iter().flat_map(|file| commands(file).into_iter().map(|found| (file.clone(), found))).collect()
}

/// Lines of blocks, and code within a text, which may be wrapped.
fn in_markdown(text: &str, program: &str) -> Vec<Arguments> {
    let mut found = Vec::new();
    for (i, part) in text.split("```").enumerate() {
        if i % 2 == 1 {
            let lines: Vec<&str> = part.split("\\\n").map(str::trim).collect();
            found.extend(in_help(&lines.join(" "), program));
        } else {
            let code = part.split('`').skip(1).step_by(2);
            found.extend(code.filter_map(|code| arguments(&code.replace('\n', " "), program)));
        }
    }
    found
}

/// The arguments if this is a command of the program, and more than its name.
fn arguments(line: &str, program: &str) -> Option<Arguments> {
    // An explanation stands apart.
    let command = line.trim().split("  ").next()?;
    let is_variable = |word: &&str| word.split_once('=').is_some_and(|(name, _)| !name.starts_with('-'));
    let words: Vec<&str> = command.split_whitespace().skip_while(is_variable).collect();
    let rest = match words.as_slice() {
        ["cargo", "run", options @ ..] => {
            let end = options.iter().position(|word| *word == "--")?;
            let package = options[..end].iter().skip_while(|word| **word != "-p").nth(1)?;
            let runs = if *package == "pccl-cli" { "pccl" } else { package };
            (runs == program).then_some(&options[end + 1..])?
        }
        words => words.strip_prefix(program.split(' ').collect::<Vec<_>>().as_slice())?,
    };
    // `--rank R` stands for any number.
    let stands_for_a_number = |word: &str| word.len() == 1 && word.as_bytes()[0].is_ascii_uppercase();
    let word = |word: &&str| if stands_for_a_number(word) { "1".into() } else { String::from(*word) };
    (!rest.is_empty()).then(|| rest.iter().map(word).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_wherever_they_stand() {
        let text = "Run `pccl bench -b\n1MiB`, not `pccl` or pccl itself, nor `pccl-stress join`:\n```\n\
                    cargo run --release -p pccl-cli -- demo\nPCCL_POOL=2 pccl bench --rank R   for each R\nA=1 \\\n  pccl master\n```\n";
        let expected = [&["bench", "-b", "1MiB"][..], &["demo"], &["bench", "--rank", "1"], &["master"]];
        assert_eq!(in_markdown(text, "pccl"), expected);
        assert_eq!(in_markdown(text, "pccl-stress"), [["join"]]);
        assert_eq!(
            in_help("  cargo xtask sim --seed N  one run\n  cargo test", "cargo xtask"),
            [["sim", "--seed", "1"]]
        );
    }
}
