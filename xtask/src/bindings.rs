//! The bindings, tested by programs of their own languages.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use crate::place::{answers, cargo, command, root, target};
use crate::step::Steps;

const LIMIT: Duration = Duration::from_secs(10 * 60);
const PROGRAM_LIMIT: Duration = Duration::from_secs(120);
/// None of these programs is about silence: whom a busy machine keeps waiting must not count as dead.
const PATIENT: (&str, &str) = ("PCCL_SILENCE_MS", "30000");
const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// Compiles every program of tests/c as strict C99 against the header, and runs it.
pub fn c(steps: &mut Steps) {
    let programs = files_with(&root().join("tests/c"), "c");
    if !answers("gcc", &["--version"]) {
        return steps.skip("C programs", "gcc is not installed");
    }
    if !steps.run("C library", LIMIT, cargo(&["build", "-p", "pccl-ffi"])) {
        return;
    }
    let built = target().join("debug");
    let out = target().join("c");
    if let Err(e) = fs::create_dir_all(&out) {
        steps.note("C programs", Err(format!("{}: {e}", out.display())));
        return;
    }
    headers(steps);
    steps.note("exported symbols", symbols(&built.join("libpccl.so")));
    for program in programs {
        let name = program.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let binary = out.join(&name);
        let mut gcc = command("gcc", &["-std=c99"]);
        gcc.args(STRICT).arg("-Iinclude").arg(&program).arg("-o").arg(&binary);
        gcc.arg("-L")
            .arg(&built)
            .arg("-lpccl")
            .arg(format!("-Wl,-rpath,{}", built.display()))
            .arg("-lpthread");
        if steps.run(&format!("C program {name}, compiled"), PROGRAM_LIMIT, gcc) {
            let mut program = command(&binary.to_string_lossy(), &[]);
            program.env(PATIENT.0, PATIENT.1);
            steps.run(&format!("C program {name}"), PROGRAM_LIMIT, program);
        }
    }
}

/// What the library exports, what the header declares, and the committed list are the same.
fn symbols(library: &Path) -> Result<(), String> {
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let listed = read(&root().join("include/pccl.symbols"))?;
    let listed: BTreeSet<&str> = listed.lines().collect();
    let header = read(&root().join("include/pccl.h"))?;
    // Declarations begin with PCCL_EXPORT; the name stands before the first parenthesis.
    let declared = header.split("PCCL_EXPORT ").skip(1).filter_map(|rest| rest.split('(').next());
    let declared: BTreeSet<&str> = declared
        .filter_map(|head| head.split([' ', '*']).next_back())
        .filter(|name| name.starts_with("pccl"))
        .collect();
    same("include/pccl.h declares", &declared, &listed)?;
    let nm = command("nm", &["-D", "--defined-only", &library.to_string_lossy()]).output();
    let nm = nm.map_err(|error| format!("nm: {error}"))?;
    let text = String::from_utf8_lossy(&nm.stdout);
    let exported: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').next_back()).collect();
    same("the library exports", &exported, &listed)
}

fn same(what: &str, found: &BTreeSet<&str>, listed: &BTreeSet<&str>) -> Result<(), String> {
    let more: Vec<&&str> = found.difference(listed).collect();
    let less: Vec<&&str> = listed.difference(found).collect();
    match more.is_empty() && less.is_empty() {
        true => Ok(()),
        false => Err(format!("{what} {more:?} beside include/pccl.symbols, and lacks {less:?}")),
    }
}

/// The header on its own, in the languages it is promised for.
fn headers(steps: &mut Steps) {
    for (compiler, language, standard) in [
        ("gcc", "c", "-std=c99"),
        ("gcc", "c", "-std=c11"),
        ("g++", "c++", "-std=c++11"),
        ("g++", "c++", "-std=c++17"),
        ("clang", "c", "-std=c99"),
        ("clang", "c", "-std=c11"),
        ("clang++", "c++", "-std=c++17"),
    ] {
        let name = format!("header as {}, {compiler}", &standard[5..]);
        if !answers(compiler, &["--version"]) {
            steps.skip(&name, &format!("{compiler} is not installed"));
            continue;
        }
        let mut check = command(compiler, &[standard, "-x", language, "-fsyntax-only"]);
        check.args(STRICT).args(["-Wno-pragma-once-outside-header", "include/pccl.h"]);
        steps.run(&name, PROGRAM_LIMIT, check);
    }
}

/// Puts the extension module beside the Python sources in a scratch package, and runs the tests.
pub fn python(steps: &mut Steps) {
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

fn files_with(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> = paths.filter(|p| p.extension().is_some_and(|x| x == extension)).collect();
    files.sort();
    files
}
