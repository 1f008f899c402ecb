//! Programs outside the tree, which know the installed library only: built by hand, by pkg-config and by CMake.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use super::{LIMIT, STRICT, plain};
use crate::place::{answers, command, root};
use crate::python::PATIENT;
use crate::step::{Steps, output};

/// Compiler, how it takes a file that is called `.c`, and the standard.
const COMPILERS: [(&str, &str, &str); 4] = [
    ("gcc", "c", "-std=c99"),
    ("clang", "c", "-std=c99"),
    ("g++", "c++", "-std=c++17"),
    ("clang++", "c++", "-std=c++17"),
];

/// A copy of tests/c/outside, and the library it is built against.
struct Outside<'a> {
    folder: PathBuf,
    prefix: &'a Path,
    /// Which build of the library, in the names of the steps.
    which: &'a str,
}

pub fn run(steps: &mut Steps, prefix: &Path, out: &Path, which: &str) {
    let folder = out.join("outside");
    if let Err(error) = copied(&folder) {
        steps.note("outside programs", Err(format!("{}: {error}", folder.display())));
        return;
    }
    let outside = Outside { folder, prefix, which };
    for (compiler, language, standard) in COMPILERS {
        let name = format!("outside program{which}, {compiler}");
        if !answers(compiler, &["--version"]) {
            steps.skip(&name, &format!("{compiler} is not installed"));
            continue;
        }
        let compile = |binary: &Path, options: &[String]| {
            let mut compile = command(compiler, &[standard, "-x", language]);
            compile.args(STRICT).arg(outside.folder.join("program.c")).args(["-x", "none"]);
            compile.args(options).arg("-o").arg(binary);
            compile
        };
        outside.built(steps, &name, &compile, Ok(plain(prefix).to_vec()));
        let name = format!("outside program{which}, {compiler}, pkg-config");
        if !answers("pkg-config", &["--version"]) {
            steps.skip(&name, "pkg-config is not installed");
            continue;
        }
        let mut shared = outside.pkg_config(&["--cflags", "--libs"]);
        if let Ok(options) = &mut shared {
            options.push(format!("-Wl,-rpath,{}", prefix.join("lib").display()));
        }
        outside.built(steps, &name, &compile, shared);
        // The linker prefers the shared library where -lpccl finds both.
        let alone = |options: Vec<String>| -> Vec<String> {
            let library = prefix.join("lib/libpccl.a").to_string_lossy().into_owned();
            options
                .into_iter()
                .map(|option| if option == "-lpccl" { library.clone() } else { option })
                .collect()
        };
        let options = outside.pkg_config(&["--static", "--cflags", "--libs"]).map(alone);
        outside.built(steps, &format!("{name}, static"), &compile, options);
    }
    outside.cmake(steps);
}

fn copied(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    for name in ["program.c", "CMakeLists.txt"] {
        fs::copy(root().join("tests/c/outside").join(name), folder.join(name))?;
    }
    Ok(())
}

impl Outside<'_> {
    /// Compiles and runs it.
    fn built(
        &self,
        steps: &mut Steps,
        name: &str,
        compile: &dyn Fn(&Path, &[String]) -> Command,
        options: Result<Vec<String>, String>,
    ) {
        let binary = self.folder.join("program");
        match options {
            Err(error) => drop(steps.note(name, Err(error))),
            Ok(options) => {
                if steps.run(&format!("{name}, compiled"), LIMIT, compile(&binary, &options)) {
                    self.runs(steps, name, &binary);
                }
            }
        }
    }

    fn runs(&self, steps: &mut Steps, name: &str, binary: &Path) {
        let mut program = command(&binary.to_string_lossy(), &[]);
        program.env(PATIENT.0, PATIENT.1);
        steps.run(name, LIMIT, program);
    }

    fn pkg_config(&self, options: &[&str]) -> Result<Vec<String>, String> {
        let mut pkg_config = command("pkg-config", options);
        pkg_config.arg("pccl").env("PKG_CONFIG_PATH", self.prefix.join("lib/pkgconfig"));
        let out = output(&mut pkg_config, LIMIT).map_err(|error| format!("pkg-config {error}"))?;
        match out.status.success() {
            true => Ok(String::from_utf8_lossy(&out.stdout).split_whitespace().map(str::to_owned).collect()),
            false => Err(format!("pkg-config: {}", String::from_utf8_lossy(&out.stderr))),
        }
    }

    fn cmake(&self, steps: &mut Steps) {
        let name = format!("outside program{}, CMake", self.which);
        if !answers("cmake", &["--version"]) {
            return steps.skip(&name, "cmake is not installed");
        }
        let build = self.folder.join("build");
        let folder = |folder: &Path| folder.to_string_lossy().into_owned();
        let prefix = format!("-DCMAKE_PREFIX_PATH={}", self.prefix.display());
        let configure = ["-S", &folder(&self.folder), "-B", &folder(&build), &prefix];
        let passed = steps.run(&format!("{name}, configured"), LIMIT, command("cmake", &configure))
            && steps.run(
                &format!("{name}, compiled"),
                LIMIT,
                command("cmake", &["--build", &folder(&build), "--verbose"]),
            );
        if passed {
            for program in ["program", "program_static"] {
                self.runs(steps, &format!("{name}, {program}"), &build.join(program));
            }
        }
    }
}
