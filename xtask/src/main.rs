//! `cargo xtask`: every chore of this repository. CI runs the same recipes a person runs.

mod bench;
mod c;
mod fix;
mod install;
mod place;
mod python;
mod sim;
mod step;
mod tally;
mod test;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Every chore of pccl",
    after_help = "A change is ready when these two pass:\n  \
                  cargo xtask verify   (what breaks it is mostly mended by: cargo xtask fix)\n  \
                  cargo xtask test\n\
                  A violation that the simulator finds is looked at with:\n  \
                  cargo xtask sim --seed N --trace"
)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Format, lints, the library on other systems, licences and duplicates of dependencies, drift of what is
    /// generated. Never writes to the tree.
    Verify,
    /// Formats, and writes the generated parts of the documents anew.
    Fix,
    /// Everything that can fail: Rust tests, simulator seeds, seeded bugs, C and Python programs. Ends with
    /// `N passed, N failed, N skipped`.
    Test {
        /// Run only one kind of test.
        #[arg(long, value_parser = test::KINDS)]
        only: Option<String>,
    },
    /// Runs the simulator: `cargo xtask sim --start 0 --count 2000`, or `--seed 7 --trace` for one run in
    /// words. What follows is passed on; `cargo xtask sim --help` lists it.
    #[command(disable_help_flag = true)]
    Sim {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Builds the C library and installs it with headers, pkg-config and CMake files:
    /// `cargo xtask install --prefix /usr/local`.
    Install(install::InstallArgs),
    /// Measures on loopback what docs/PERFORMANCE.md reports: beside plain sockets, and in turns with Gloo where
    /// torch is there.
    Bench(bench::BenchArgs),
}

fn main() -> ExitCode {
    let passed = match Cli::parse().chore {
        Chore::Verify => verify::run(),
        Chore::Fix => fix::run(),
        Chore::Test { only } => test::run(only.as_deref()),
        Chore::Sim { arguments } => sim::run(&arguments),
        Chore::Install(args) => install::run(&args),
        Chore::Bench(args) => bench::run(&args),
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;
    use pccl_tests::commands;

    use super::*;

    #[test]
    fn examples_in_the_help_text_and_commands_in_documents_can_be_typed() {
        let examples = commands::in_help(&Cli::command().render_long_help().to_string(), "cargo xtask");
        let documents = commands::in_documents("cargo xtask");
        assert!(examples.len() >= 3 && documents.len() >= 8, "{examples:?} {documents:?}");
        for command in examples.iter().chain(documents.iter().map(|(_, command)| command)) {
            match Cli::try_parse_from(std::iter::once("xtask").chain(command.iter().map(String::as_str))) {
                Err(error) if error.kind() != ErrorKind::DisplayHelp => panic!("{command:?}: {error}"),
                _ => {}
            }
        }
    }

    #[test]
    fn documents_name_options_that_gloo_py_has() {
        let script = std::fs::read_to_string(place::root().join("bench/gloo.py")).unwrap_or_default();
        let documents = commands::in_documents("bench/gloo.py");
        assert!(!documents.is_empty());
        for (file, command) in documents {
            for option in command.iter().filter(|word| word.starts_with("--")) {
                let known = script.contains(&format!("add_argument(\"{option}\""));
                assert!(known, "{}: {option} of {command:?}", file.display());
            }
        }
    }
}
