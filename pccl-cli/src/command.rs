//! The command line of `pccl`: its subcommands, and what each of them runs.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::fleet::child::{self, ChildCommand};
use crate::{bench, demo, logging, master, topology};

#[derive(Debug, Parser)]
#[command(name = "pccl", version, about = "Fault-tolerant collective communication over the internet")]
#[command(after_help = "\
Start here:
  pccl demo                           see it work on this machine: peers are killed, the rest goes on
  pccl bench                          how fast it is on this machine
  pccl master --listen 0.0.0.0:48148  the master of a run of your own; peers connect to it
  pccl topology --master HOST:48148   the links of that run, as its peers have measured them

PCCL_LOG_LEVEL=info (or debug, trace) shows more of what happens.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a master until Ctrl-C
    Master(master::MasterArgs),
    /// Watch peers all-reduce while others are killed and started, every result checked
    Demo(demo::DemoArgs),
    /// Measure all-reduces: sizes, schedules, pools, concurrent operations; here or over real hosts
    Bench(bench::BenchArgs),
    /// Show the measured links of a run, its order and what schedules are predicted to take
    Topology(topology::TopologyArgs),
    #[command(hide = true)]
    ChildBench(bench::RankArgs),
    #[command(flatten)]
    Child(ChildCommand),
}

/// Runs the command with these arguments, the program's name first, and says how it is to exit.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(said) => {
            // To nobody, if the terminal is gone.
            let _ = said.print();
            return if said.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    logging::start();
    let outcome = match &cli.command {
        Command::Master(args) => master::run(args).map(|()| ExitCode::SUCCESS),
        Command::Demo(args) => demo::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Topology(args) => topology::run(args).map(|()| ExitCode::SUCCESS),
        Command::ChildBench(args) => {
            child::die_with_parent();
            bench::run_rank(args).map(|()| ExitCode::SUCCESS)
        }
        Command::Child(command) => Ok(ExitCode::from(child::run(command))),
    };
    outcome.unwrap_or_else(|reason| {
        eprintln!("pccl: {reason}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;
    use pccl_tests::commands;

    use super::*;

    /// Whether it would do something other than complain.
    fn try_it(arguments: &[String]) -> Result<(), String> {
        match Cli::try_parse_from(std::iter::once("pccl").chain(arguments.iter().map(String::as_str))) {
            Err(error) if error.kind() == ErrorKind::DisplayHelp => Ok(()),
            Err(error) => Err(error.to_string()),
            Ok(Cli { command: Command::Master(args) }) => args.build().map(drop),
            Ok(Cli { command: Command::Bench(args) }) => args.jobs().map(drop),
            Ok(_) => Ok(()),
        }
    }

    #[test]
    fn examples_in_help_texts_can_be_typed() {
        let mut pccl = Cli::command();
        let mut texts = vec![pccl.render_long_help().to_string()];
        texts.extend(pccl.get_subcommands_mut().map(|command| command.render_long_help().to_string()));
        for (i, least) in [4, 4, 4, 8, 4].into_iter().enumerate() {
            let examples = commands::in_help(&texts[i], "pccl");
            assert!(examples.len() >= least, "{examples:?} of {}", texts[i]);
            for example in examples {
                try_it(&example).unwrap_or_else(|error| panic!("{example:?}: {error}"));
            }
        }
    }

    #[test]
    fn commands_in_documents_can_be_typed() {
        let all = commands::in_documents("pccl");
        assert!(all.len() > 10, "{all:?}");
        for (file, command) in all {
            try_it(&command).unwrap_or_else(|error| panic!("{}: {command:?}: {error}", file.display()));
        }
    }
}
