//! `cargo xtask install`: the C library as a package of its own: libraries under their names, headers, and what pkg-config
//! and CMake ask for. All of it may be moved as a whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::place::{cargo, root, target};
use crate::step::Steps;

const LIMIT: Duration = Duration::from_secs(20 * 60);
const VERSION: &str = env!("CARGO_PKG_VERSION");
const MAJOR: &str = env!("CARGO_PKG_VERSION_MAJOR");
const HEADERS: [&str; 3] = ["pccl.h", "ccoip.h", "ccoip_inet.h"];
/// The licence, and what the header refers to.
const PAGES: [&str; 5] =
    ["LICENSE", "docs/SETTINGS.md", "docs/guide-c.md", "docs/QUANTIZATION.md", "docs/SHARED-STATE.md"];

#[derive(Debug, Args)]
pub struct InstallArgs {
    /// Where to: gets bin (Windows), include, lib and share
    #[arg(long)]
    prefix: PathBuf,
    /// The development build, with its assertions
    #[arg(long)]
    debug: bool,
}

pub fn run(args: &InstallArgs) -> bool {
    let mut steps = Steps::default();
    install(&mut steps, &args.prefix, args.debug);
    steps.close()
}

/// Builds the library and puts it there; false if something failed.
pub fn install(steps: &mut Steps, prefix: &Path, debug: bool) -> bool {
    let (folder, profile) = if debug { ("debug", "dev") } else { ("release", "release") };
    if !steps.run("C library", LIMIT, cargo(&["build", "-p", "pccl-ffi", "--profile", profile])) {
        return false;
    }
    // The library's environment is this program's: both are built for the same system.
    let environment = if cfg!(target_env = "msvc") { Environment::Msvc } else { Environment::Gnu };
    let installed = Form::of(std::env::consts::OS, environment)
        .install(&target().join(folder), prefix)
        .map_err(|e| format!("{}: {e}", prefix.display()));
    steps.note("C library, installed", installed)
}

/// Whose linker a library is for. Of importance on Windows only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Environment {
    Gnu,
    Msvc,
}

/// What one system calls its libraries, and what else a static one needs there.
#[derive(Debug)]
struct Form {
    /// As cargo built it, and where it goes.
    files: Vec<(String, String)>,
    /// Beside its target, in the same folder: name, target.
    links: Vec<(String, String)>,
    /// Of the shared library, for CMake.
    properties: Vec<(&'static str, String)>,
    static_file: String,
    /// What `rustc --print native-static-libs` says of this library.
    static_libraries: &'static [&'static str],
}

impl Form {
    fn of(system: &str, environment: Environment) -> Form {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let unix = |whole: &str, major: &str, plain: &str, name: String, libraries| Form {
            files: vec![pair(plain, &format!("lib/{whole}")), pair("libpccl.a", "lib/libpccl.a")],
            links: vec![
                pair(&format!("lib/{major}"), whole),
                // What a program's builder says by -lpccl.
                pair(&format!("lib/{plain}"), major),
            ],
            properties: vec![("IMPORTED_LOCATION", format!("lib/{whole}")), ("IMPORTED_SONAME", name)],
            static_file: "lib/libpccl.a".to_owned(),
            static_libraries: libraries,
        };
        match system {
            "windows" => {
                // As the compiler calls them, and as -lpccl and -lpccl_static, or CMake, look for them.
                let (import, archive, places) = match environment {
                    Environment::Msvc => {
                        ("pccl.dll.lib", "pccl.lib", ["lib/pccl.lib", "lib/pccl_static.lib"])
                    }
                    Environment::Gnu => {
                        ("libpccl.dll.a", "libpccl.a", ["lib/libpccl.dll.a", "lib/libpccl_static.a"])
                    }
                };
                Form {
                    files: vec![
                        pair("pccl.dll", "bin/pccl.dll"),
                        pair(import, places[0]),
                        pair(archive, places[1]),
                    ],
                    links: Vec::new(),
                    properties: vec![
                        ("IMPORTED_LOCATION", "bin/pccl.dll".to_owned()),
                        ("IMPORTED_IMPLIB", places[0].to_owned()),
                    ],
                    static_file: places[1].to_owned(),
                    static_libraries: &["kernel32", "ntdll", "userenv", "ws2_32", "dbghelp"],
                }
            }
            "macos" => {
                let (whole, major) = (format!("libpccl.{VERSION}.dylib"), format!("libpccl.{MAJOR}.dylib"));
                let name = format!("@rpath/{major}");
                unix(&whole, &major, "libpccl.dylib", name, &["iconv", "System", "c", "m"])
            }
            _ => {
                let (whole, major) = (format!("libpccl.so.{VERSION}"), format!("libpccl.so.{MAJOR}"));
                let libraries = &["gcc_s", "util", "rt", "pthread", "m", "dl", "c"];
                unix(&whole, &major, "libpccl.so", major.clone(), libraries)
            }
        }
    }

    fn install(&self, built: &Path, prefix: &Path) -> io::Result<()> {
        for (from, to) in &self.files {
            placed(&prefix.join(to), |place| fs::copy(built.join(from), place).map(drop))?;
        }
        for (name, to) in &self.links {
            placed(&prefix.join(name), |place| link(to, place))?;
        }
        for header in HEADERS {
            let from = root().join("include").join(header);
            placed(&prefix.join("include").join(header), |place| fs::copy(&from, place).map(drop))?;
        }
        for page in PAGES {
            let (from, name) = (root().join(page), page.trim_start_matches("docs/"));
            placed(&prefix.join("share/doc/pccl").join(name), |place| fs::copy(&from, place).map(drop))?;
        }
        for (template, to) in [
            ("pccl.pc.in", "lib/pkgconfig/pccl.pc"),
            ("pccl-config.cmake.in", "lib/cmake/pccl/pccl-config.cmake"),
            ("pccl-config-version.cmake.in", "lib/cmake/pccl/pccl-config-version.cmake"),
        ] {
            let cmake = to.ends_with(".cmake");
            let text = fs::read_to_string(root().join("pccl-ffi/package").join(template))?;
            placed(&prefix.join(to), |place| fs::write(place, self.filled(&text, cmake)))?;
        }
        Ok(())
    }

    fn filled(&self, template: &str, cmake: bool) -> String {
        let in_prefix = |(name, value): &(&str, String)| match *name {
            "IMPORTED_SONAME" => format!("{name} \"{value}\""),
            _ => format!("{name} \"${{_pccl_prefix}}/{value}\""),
        };
        let properties: Vec<String> = self.properties.iter().map(in_prefix).collect();
        let libraries = match cmake {
            true => self.static_libraries.join(";"),
            false => self.static_libraries.iter().map(|name| format!("-l{name} ")).collect(),
        };
        template
            .replace("@VERSION@", VERSION)
            .replace("@MAJOR@", MAJOR)
            .replace("@POINTER_BYTES@", &size_of::<usize>().to_string())
            .replace("@SHARED_PROPERTIES@", &properties.join("\n    "))
            .replace("@STATIC_FILE@", &self.static_file)
            .replace("@STATIC_LIBRARIES@", libraries.trim_end())
    }
}

/// Made beside its place and then moved there: programs that run with the old one keep it.
fn placed(place: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = place.with_file_name(format!(".{name}.new"));
    fs::create_dir_all(place.parent().unwrap_or(Path::new("")))?;
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    make(&beside).map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
    fs::rename(&beside, place)
}

#[cfg(unix)]
fn link(to: &str, place: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, place)
}

/// Libraries have no such links there.
#[cfg(not(unix))]
fn link(to: &str, place: &Path) -> io::Result<()> {
    fs::copy(place.with_file_name(to), place).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEMS: [(&str, Environment); 4] = [
        ("linux", Environment::Gnu),
        ("macos", Environment::Gnu),
        ("windows", Environment::Gnu),
        ("windows", Environment::Msvc),
    ];

    #[test]
    fn what_cmake_looks_for_is_installed() {
        for (system, environment) in SYSTEMS {
            let form = Form::of(system, environment);
            let there: Vec<&String> = form.files.iter().map(|(_, to)| to).collect();
            let looked_for = form.properties.iter().filter(|(name, _)| *name != "IMPORTED_SONAME");
            for place in looked_for.map(|(_, place)| place).chain([&form.static_file]) {
                assert!(there.contains(&place), "{system}, {environment:?}: {place}");
            }
        }
    }

    #[test]
    fn every_template_is_filled_on_every_system() {
        for (system, environment) in SYSTEMS {
            for (name, cmake) in [
                ("pccl.pc.in", false),
                ("pccl-config.cmake.in", true),
                ("pccl-config-version.cmake.in", true),
            ] {
                let template = fs::read_to_string(root().join("pccl-ffi/package").join(name)).unwrap();
                let text = Form::of(system, environment).filled(&template, cmake);
                assert!(!text.replace("@rpath", "").contains('@'), "{name} on {system}: {text}");
            }
        }
    }

    #[test]
    fn links_lead_to_what_is_installed() {
        for system in ["linux", "macos"] {
            let form = Form::of(system, Environment::Gnu);
            let mut there: Vec<String> = form.files.into_iter().map(|(_, to)| to).collect();
            for (name, to) in form.links {
                assert!(there.contains(&format!("lib/{to}")), "{name} leads to {to}");
                there.push(name);
            }
        }
    }

    #[test]
    fn what_is_there_is_replaced() {
        let folder = target().join(format!("install-{}", std::process::id()));
        let place = folder.join("a/b");
        for text in ["old", "new"] {
            placed(&place, |beside| fs::write(beside, text)).unwrap();
            assert_eq!(fs::read_to_string(&place).unwrap(), text);
        }
        assert_eq!(fs::read_dir(folder.join("a")).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }
}
