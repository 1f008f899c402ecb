//! Real processes, measured: `pccl-stress recovery | freeze | join | churn | crowd | sync | train`.

mod churn;
#[cfg(target_os = "linux")]
mod crowd;
mod join;
mod outcome;
mod recovery;
mod sync;
mod train;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use pccl_cli::arguments::{duration, size_bytes};
use pccl_cli::fleet::child::{self, Check, ChildCommand};
use pccl_cli::fleet::screen::Screen;
use pccl_cli::fleet::{Config, Run, Stop};
use pccl_cli::logging;

#[derive(Debug, Parser)]
#[command(name = "pccl-stress", version, about = "Faults on real processes, measured and verified")]
#[command(after_help = "\
Examples:
  pccl-stress recovery --kills 50            world 4, 16 MiB: kill to the survivors' next result
  pccl-stress freeze --count 5               SIGSTOP instead: the silence time decides
  pccl-stress join --joins 30                world 4, 1 MiB: process start to first result, and the members' pause
  pccl-stress churn --seconds 600 --seed 7   kills, freezes, leaves, joins, master restarts at random
  pccl-stress crowd --peers 256 --churn 20   the master's CPU time and memory for each peer
  pccl-stress sync --holders 3               a newcomer gets 1 GiB of shared state from three peers
  pccl-stress train --plot loss.svg          the loss of a training with each way of quantizing its gradients

The exit code is 0 only if every result was right and nothing was stuck.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kill peers one at a time: how long until the slowest survivor has its next result?
    Recovery {
        #[command(flatten)]
        common: Common,
        #[arg(long, default_value_t = 50)]
        kills: u32,
    },
    /// Freeze peers (SIGSTOP) one at a time: how long until the others go on?
    Freeze {
        #[command(flatten)]
        common: Common,
        #[arg(long, default_value_t = 5)]
        count: u32,
    },
    /// Start peers one at a time: how long until each has its first result, and how long are members held up?
    Join {
        #[command(flatten)]
        common: Common,
        #[arg(long, default_value_t = 30)]
        joins: u32,
    },
    /// Faults of all kinds at random, everything verified
    Churn {
        #[command(flatten)]
        common: Common,
        #[arg(long, default_value = "60", value_parser = duration, value_name = "TIME")]
        seconds: Duration,
    },
    /// Many peers that are control links only: the master's CPU time and memory
    #[cfg(target_os = "linux")]
    Crowd(crowd::CrowdArgs),
    /// A shared state: how long until all hold the same?
    Sync(sync::SyncArgs),
    /// One process of `sync`, where each runs on a host of its own
    SyncPeer(sync::SyncPeerArgs),
    /// What quantized gradients do to a training: handwritten digits, learned by several peers
    Train(train::TrainArgs),
    #[command(flatten)]
    Child(ChildCommand),
}

const DEFAULT_SIZE_BYTES: u64 = 16 << 20;
const JOIN_SIZE_BYTES: u64 = 1 << 20;

#[derive(Clone, Debug, Args)]
struct Common {
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(3..=32))]
    peers: u32,
    /// Default: 16MiB, or 1MiB for joins
    #[arg(long, value_parser = size_bytes, value_name = "SIZE")]
    size: Option<u64>,
    /// Repeats the choices of an earlier run (not their timing); default: another one each time
    #[arg(long)]
    seed: Option<u64>,
    /// When a peer that says nothing for so long counts as stuck
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "TIME")]
    stuck_after: Duration,
    /// A setting of the master (see `pccl master --help`)
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Write the processes' log there
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

impl Common {
    fn start(&self, check: Check, total: Option<Duration>) -> Result<(Run, fastrand::Rng), String> {
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
        let config = Config {
            size_bytes: self.size.unwrap_or(DEFAULT_SIZE_BYTES),
            seed,
            check,
            stuck_after: self.stuck_after,
            master_settings: self.set.clone(),
            log: self.log.clone(),
        };
        let run = Run::start(config, Screen::new(total))?;
        run.note(&format!("seed {seed}: {} peers", self.peers));
        Ok((run, fastrand::Rng::with_seed(seed)))
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start();
    let outcome = match &cli.command {
        Command::Recovery { common, kills } => recovery::run(common, *kills, recovery::Fault::Kill),
        Command::Freeze { common, count } => recovery::run(common, *count, recovery::Fault::Freeze),
        Command::Join { common, joins } => {
            let size = common.size.or(Some(JOIN_SIZE_BYTES));
            join::run(&Common { size, ..common.clone() }, *joins)
        }
        Command::Churn { common, seconds } => churn::run(common, *seconds),
        #[cfg(target_os = "linux")]
        Command::Crowd(args) => crowd::run(args),
        Command::Sync(args) => sync::run(args),
        Command::SyncPeer(args) => sync::peer(args),
        Command::Train(args) => train::run(args),
        Command::Child(command) => return ExitCode::from(child::run(command)),
    };
    outcome.unwrap_or_else(|reason| {
        eprintln!("pccl-stress: {reason}");
        ExitCode::FAILURE
    })
}

/// Fills the world up to so many peers.
fn start_peers(run: &mut Run, wanted: u32) -> Result<(), Stop> {
    while (run.alive().len() as u32) < wanted {
        run.start_peer()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use pccl_tests::commands;

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn examples_in_the_help_text_and_commands_in_documents_can_be_typed() {
        let examples = commands::in_help(&Cli::command().render_long_help().to_string(), "pccl-stress");
        let documents = commands::in_documents("pccl-stress");
        assert!(examples.len() >= 5 && documents.len() >= 4, "{examples:?} {documents:?}");
        for command in examples.iter().chain(documents.iter().map(|(_, command)| command)) {
            let words = std::iter::once("pccl-stress").chain(command.iter().map(String::as_str));
            Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        }
    }
}
