//! The command `pccl`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pccl_cli::fleet::child::{self, ChildCommand};
use pccl_cli::{bench, demo, logging, master};

#[derive(Debug, Parser)]
#[command(name = "pccl", version, about = "Fault-tolerant collective communication over the internet")]
#[command(after_help = "\
Start here:
  pccl demo                          see it work on this machine: peers are killed, the rest goes on
  pccl bench                         how fast it is on this machine
  pccl master --listen 0.0.0.0:48148 the master of a run of your own; peers connect to it

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
    #[command(hide = true)]
    ChildBench(bench::RankArgs),
    #[command(flatten)]
    Child(ChildCommand),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start();
    let outcome = match &cli.command {
        Command::Master(args) => master::run(args).map(|()| ExitCode::SUCCESS),
        Command::Demo(args) => demo::run(args),
        Command::Bench(args) => bench::run(args),
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
