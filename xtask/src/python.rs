//! The Python package: built as a wheel, installed, and tested by programs of its own language.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs, io};

use crate::place::{answers, command, target};
use crate::step::Steps;

const LIMIT: Duration = Duration::from_secs(10 * 60);
/// torch alone takes seconds to import, in each process of each test.
const TESTS_LIMIT: Duration = Duration::from_secs(20 * 60);
const PROGRAM_LIMIT: Duration = Duration::from_secs(120);
/// None of these programs is about silence: whom a busy machine keeps waiting must not count as dead.
pub const PATIENT: (&str, &str) = ("PCCL_SILENCE_MS", "30000");
/// With nothing but the standard library.
const BARE: &str =
    "import sys, pccl; assert not {'numpy', 'torch'} & set(sys.modules); print(pccl.__version__)";

pub fn run(steps: &mut Steps) {
    let python = match interpreter() {
        Ok(python) => python,
        Err(reason) => return steps.skip("Python tests", &reason),
    };
    let wheels = target().join("python-wheels");
    if let Err(e) = emptied(&wheels) {
        steps.note("Python wheel", Err(format!("{}: {e}", wheels.display())));
        return;
    }
    // As cargo builds for every other test: the optimised one takes longer to build than it saves here.
    let mut build = module(&python, "maturin", &["build", "--quiet", "--locked", "--profile", "dev"]);
    build.args(["--manifest-path", "pccl-py/Cargo.toml", "--out"]).arg(&wheels);
    if !steps.run("Python wheel", LIMIT, build) {
        return;
    }
    let Some(wheel) = fs::read_dir(&wheels).ok().and_then(|mut all| Some(all.next()?.ok()?.path())) else {
        steps.note("Python wheel", Err(format!("none in {}", wheels.display())));
        return;
    };
    alone(steps, &python, &wheel);
    if steps.run("Python wheel, for the tests", PROGRAM_LIMIT, installed(&python, &wheel)) {
        tests(steps, &python);
    }
}

/// In an empty environment the wheel is all there is.
fn alone(steps: &mut Steps, python: &str, wheel: &Path) {
    let empty = target().join("python-empty");
    let mut made = module(python, "venv", &["--clear"]);
    made.arg(&empty);
    let own = empty.join("bin/python").to_string_lossy().into_owned();
    let ready = steps.run("empty Python environment", PROGRAM_LIMIT, made)
        && steps.run("Python wheel, installed alone", PROGRAM_LIMIT, installed(&own, wheel));
    if !ready {
        return;
    }
    steps.run("Python import", PROGRAM_LIMIT, command(&own, &["-I", "-c", BARE]));
    let mut demo = command(
        &empty.join("bin/pccl").to_string_lossy(),
        &["demo", "--size", "1MiB", "--seconds", "4", "--churn-every", "1s"],
    );
    demo.env(PATIENT.0, PATIENT.1);
    steps.run("pccl demo, from the wheel", PROGRAM_LIMIT, demo);
}

fn tests(steps: &mut Steps, python: &str) {
    let stubs = module(python, "mypy.stubtest", &["--ignore-disjoint-bases", "pccl._pccl"]);
    steps.run("stubs of the Python module", PROGRAM_LIMIT, stubs);
    let types = module(
        python,
        "mypy",
        &["--no-incremental", "--config-file", "pccl-py/pyproject.toml", "-p", "pccl"],
    );
    steps.run("types of the Python package", PROGRAM_LIMIT, types);
    let mut pytest = module(python, "pytest", &["-q", "-rs", "-p", "no:cacheprovider", "pccl-py/tests"]);
    pytest.env(PATIENT.0, PATIENT.1);
    if !answers(python, &["-c", "import torch"]) {
        steps.skip("Python tests of pccl.torch", "no torch: pccl-py/tests/requirements-torch.txt names it");
    }
    steps.run("Python tests", TESTS_LIMIT, pytest);
}

/// The Python of an environment with what pccl-py/tests/requirements.txt names. The wheel goes there too.
fn interpreter() -> Result<String, String> {
    let own = target().join("python-env/bin/python");
    let python = env::var_os("PCCL_TEST_PYTHON").map_or(own, PathBuf::from).to_string_lossy().into_owned();
    for needed in ["maturin", "mypy", "pytest"] {
        if !answers(&python, &["-m", needed, "--version"]) {
            return Err(format!(
                "no {needed} in {python}: .ci/run makes this environment; PCCL_TEST_PYTHON names another"
            ));
        }
    }
    Ok(python)
}

fn module(python: &str, name: &str, arguments: &[&str]) -> Command {
    let mut command = command(python, &["-B", "-m", name]);
    command.args(arguments);
    command
}

/// Offline, and in place of one with the same version.
fn installed(python: &str, wheel: &Path) -> Command {
    let options = ["install", "--quiet", "--no-index", "--no-deps", "--force-reinstall"];
    let mut command = module(python, "pip", &options);
    command.arg("--disable-pip-version-check").arg(wheel);
    command
}

fn emptied(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)
}
