//! The C library, tested by programs in C against its installed form.

mod checked;
mod guide;
mod layout;
mod outside;
mod shipped;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::install::install;
use crate::place::{answers, command, root, target};
use crate::python::PATIENT;
use crate::step::Steps;

const LIMIT: Duration = Duration::from_secs(120);
const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// What programs are compiled with: compiler, language, standard.
const LANGUAGES: [(&str, &str, &str); 7] = [
    ("gcc", "c", "-std=c99"),
    ("gcc", "c", "-std=c11"),
    ("g++", "c++", "-std=c++11"),
    ("g++", "c++", "-std=c++17"),
    ("clang", "c", "-std=c99"),
    ("clang", "c", "-std=c11"),
    ("clang++", "c++", "-std=c++17"),
];

/// Compiles every program of tests/c as strict C99 against the installed header and library, and runs it.
pub fn run(steps: &mut Steps) {
    if !answers("gcc", &["--version"]) {
        return steps.skip("C programs", "gcc is not installed");
    }
    let out = target().join("c");
    let prefix = out.join("prefix");
    if let Err(e) = fs::create_dir_all(&out) {
        steps.note("C programs", Err(format!("{}: {e}", out.display())));
        return;
    }
    // What is installed may be moved, so it is.
    let made = out.join("made");
    if !install(steps, &made, true) || !steps.note("the prefix, moved", moved(&made, &prefix)) {
        return;
    }
    headers(steps);
    layout::run(steps, &prefix, &out);
    steps.note("exported symbols", symbols(&prefix.join("lib/libpccl.so")));
    steps.note("soname", soname(&prefix.join("lib/libpccl.so")));
    for program in Program::all(&out) {
        if program.compiled(steps, "", &[], &prefix) {
            let mut run = command(&program.binary.to_string_lossy(), &[]);
            run.env(PATIENT.0, PATIENT.1);
            steps.run(&format!("C program {}", program.name), LIMIT, run);
        }
    }
    checked::run(steps, &prefix, &out);
    outside::run(steps, &prefix, &out, "");
    guide::run(steps, &prefix, &out);
    shipped::run(steps, &out);
}

/// One of tests/c.
struct Program {
    name: String,
    source: PathBuf,
    binary: PathBuf,
}

impl Program {
    /// Their binaries go into `out`.
    fn all(out: &Path) -> Vec<Program> {
        let sources = files_with(&root().join("tests/c"), "c").into_iter();
        let named =
            sources.filter_map(|source| Some((source.file_stem()?.to_string_lossy().into_owned(), source)));
        named.map(|(name, source)| Program { binary: out.join(&name), name, source }).collect()
    }

    /// As strict C99.
    fn compiled(&self, steps: &mut Steps, how: &str, options: &[&str], prefix: &Path) -> bool {
        let mut gcc = command("gcc", &["-std=c99"]);
        gcc.args(STRICT).args(options).arg(&self.source).arg("-o").arg(&self.binary);
        // A program that loads the library by itself has no use for it before.
        gcc.arg("-Wl,--as-needed").args(plain(prefix)).args(["-lpthread", "-ldl"]);
        steps.run(&format!("C program {}, compiled{how}", self.name), LIMIT, gcc)
    }
}

/// What a compiler has to be told without help of pkg-config or CMake.
fn plain(prefix: &Path) -> [String; 4] {
    let (include, lib) = (prefix.join("include"), prefix.join("lib"));
    [
        format!("-I{}", include.display()),
        format!("-L{}", lib.display()),
        "-lpccl".to_owned(),
        format!("-Wl,-rpath,{}", lib.display()),
    ]
}

fn moved(from: &Path, to: &Path) -> Result<(), String> {
    let emptied = if to.exists() { fs::remove_dir_all(to) } else { Ok(()) };
    emptied.and_then(|()| fs::rename(from, to)).map_err(|error| format!("{}: {error}", to.display()))
}

/// Programs that were linked with one version look for that major number.
fn soname(library: &Path) -> Result<(), String> {
    let readelf = command("readelf", &["-d", &library.to_string_lossy()]).output();
    let readelf = readelf.map_err(|error| format!("readelf: {error}"))?;
    let text = String::from_utf8_lossy(&readelf.stdout);
    let wanted = concat!("soname: [libpccl.so.", env!("CARGO_PKG_VERSION_MAJOR"), "]");
    if text.contains(wanted) { Ok(()) } else { Err(format!("no {wanted} in {text}")) }
}

/// What the library exports, what the header declares, and the committed list are the same.
fn symbols(library: &Path) -> Result<(), String> {
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let listed = read(&root().join("include/pccl.symbols"))?;
    let listed: BTreeSet<&str> = listed.lines().collect();
    let header = read(&root().join("include/pccl.h"))?;
    // Declarations begin with PCCL_EXPORT; the name stands before the first parenthesis.
    let declared = header.split("PCCL_EXPORT").skip(1).filter_map(|rest| rest.split('(').next());
    let declared: BTreeSet<&str> = declared
        .filter_map(|head| head.split([' ', '*', '\n']).next_back())
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

/// Of these only the compiler is needed, not the system's own headers: the library's need none but those of the language. clang
/// looks for those of C++ all the same, and where there are none it warns, which would be an error.
const FOREIGN: [&str; 2] = ["--target=x86_64-pc-windows-msvc", "--target=arm64-apple-darwin"];

/// The header on its own, in the languages and for the systems it is promised for.
fn headers(steps: &mut Steps) {
    for (compiler, language, standard) in LANGUAGES {
        header(steps, compiler, language, standard, &[]);
    }
    for target in FOREIGN {
        header(steps, "clang", "c", "-std=c99", &[target, "-ffreestanding"]);
        header(steps, "clang++", "c++", "-std=c++17", &[target, "-ffreestanding", "-nostdinc++"]);
    }
}

fn header(steps: &mut Steps, compiler: &str, language: &str, standard: &str, options: &[&str]) {
    let system = options.first().map(|target| target.replace("--target=", ", ")).unwrap_or_default();
    let name = format!("header as {}, {compiler}{system}", &standard[5..]);
    if !answers(compiler, &["--version"]) {
        return steps.skip(&name, &format!("{compiler} is not installed"));
    }
    let mut check = command(compiler, &[standard, "-x", language, "-fsyntax-only"]);
    check.args(options).args(STRICT).args(["-Wno-pragma-once-outside-header", "include/pccl.h"]);
    steps.run(&name, LIMIT, check);
}

fn files_with(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> = paths.filter(|p| p.extension().is_some_and(|x| x == extension)).collect();
    files.sort();
    files
}
