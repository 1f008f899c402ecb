//! The Python package, tested by programs of its own language.

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use crate::place::{answers, cargo, command, root, target};
use crate::step::Steps;

const LIMIT: Duration = Duration::from_secs(10 * 60);
const PROGRAM_LIMIT: Duration = Duration::from_secs(120);
/// None of these programs is about silence: whom a busy machine keeps waiting must not count as dead.
pub const PATIENT: (&str, &str) = ("PCCL_SILENCE_MS", "30000");

/// Puts the extension module beside the Python sources in a scratch package, and runs the tests.
pub fn run(steps: &mut Steps) {
    if !answers("python3", &["--version"]) {
        return steps.skip("Python tests", "python3 is not installed");
    }
    if !steps.run("Python module", LIMIT, cargo(&["build", "-p", "pccl-py"])) {
        return;
    }
    let scratch = target().join("python");
    if let Err(e) = assemble(&root().join("pccl-py/python/pccl"), &scratch.join("pccl")) {
        steps.note("Python package", Err(format!("{}: {e}", scratch.display())));
        return;
    }
    // With nothing but the standard library.
    let script =
        "import sys, pccl; assert not {'numpy', 'torch'} & set(sys.modules); print(pccl.__version__)";
    let mut bare = command("python3", &["-B", "-I", "-c", &format!("{PATH_FIRST}; {script}")]);
    bare.env("PCCL_SCRATCH", &scratch);
    steps.run("Python import", PROGRAM_LIMIT, bare);
    let Some(python) = python_with_pytest() else {
        let how = "pytest is not installed: .ci/run makes an environment with it, target/python-env";
        return steps.skip("Python tests", how);
    };
    let mut pytest =
        command(&python, &["-B", "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "pccl-py/tests"]);
    pytest.env("PYTHONPATH", &scratch).env(PATIENT.0, PATIENT.1);
    steps.run("Python tests", LIMIT, pytest);
}

/// `-I` ignores PYTHONPATH.
const PATH_FIRST: &str = "import os, sys; sys.path.insert(0, os.environ['PCCL_SCRATCH'])";

fn python_with_pytest() -> Option<String> {
    let own = target().join("python-env/bin/python").to_string_lossy().into_owned();
    [own, "python3".to_owned()].into_iter().find(|python| answers(python, &["-m", "pytest", "--version"]))
}

/// The package as a wheel would have it, without what an earlier run left.
fn assemble(sources: &Path, package: &Path) -> io::Result<()> {
    if package.exists() {
        fs::remove_dir_all(package)?;
    }
    copy_tree(sources, package)?;
    fs::copy(target().join("debug/lib_pccl.so"), package.join("_pccl.abi3.so"))?;
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            true if entry.file_name() == "__pycache__" => {}
            true => copy_tree(&path, &copy)?,
            false => drop(fs::copy(&path, &copy)?),
        }
    }
    Ok(())
}
