//! What each compiler makes of the headers, against the list that programs of the reference were compiled with.

use std::fs;
use std::path::Path;

use super::{LANGUAGES, LIMIT, STRICT};
use crate::place::{answers, command, root};
use crate::step::{Steps, output};

const LIST: &str = "include/pccl.layout";

pub fn run(steps: &mut Steps, prefix: &Path, out: &Path) {
    for (compiler, language, standard) in LANGUAGES {
        let name = format!("layout, {compiler} {}", &standard[5..]);
        if !answers(compiler, &["--version"]) {
            steps.skip(&name, &format!("{compiler} is not installed"));
            continue;
        }
        let binary = out.join("layout-of-a-compiler");
        let mut compile = command(compiler, &[standard, "-x", language]);
        compile.args(STRICT).arg(format!("-I{}", prefix.join("include").display()));
        compile.arg("tests/c/layout.c").arg("-o").arg(&binary);
        if steps.run(&format!("{name}, compiled"), LIMIT, compile) {
            steps.note(&name, compared(&binary));
        }
    }
}

fn compared(binary: &Path) -> Result<(), String> {
    let list = fs::read_to_string(root().join(LIST)).map_err(|error| format!("{LIST}: {error}"))?;
    let printed = output(&mut command(&binary.to_string_lossy(), &[]), LIMIT)?;
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    let differs = |of: &str, other: &str, what: &str| -> Vec<String> {
        of.lines()
            .filter(|line| !other.lines().any(|o| o == *line))
            .map(|line| format!("{what} {line}"))
            .collect()
    };
    let differences =
        [differs(&list, &printed, "programs expect"), differs(&printed, &list, "it is")].concat();
    match printed == list {
        true => Ok(()),
        false => Err(format!("not as {LIST} has it, or in another order: {}", differences.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_named() {
        assert!(answers("true", &[]));
        let error = compared(Path::new("true")).unwrap_err();
        assert!(error.contains("programs expect pcclTimeout 100"), "{error}");
    }
}
