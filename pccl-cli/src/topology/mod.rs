//! `pccl topology`: what a master knows of its run's links, as a table and as a picture.

mod network;
mod picture;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use pccl_core::api::inspect;

use self::network::Network;
use crate::arguments::{duration, size_bytes};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Joins nothing and measures nothing: it shows what the peers' last optimize_topology() found. Figures are payload from a row's
peer to a column's, as a round of measurements saw it; up and down are the peer's own link, where that is the limit.

Examples:
  pccl topology --master 127.0.0.1:48148
  pccl topology --master 127.0.0.1:48148 --svg topology.svg
  pccl topology --master 127.0.0.1:48148 --size 16MiB,1GiB
  pccl topology --master 127.0.0.1:48148 --json")]
pub struct TopologyArgs {
    /// Where the master listens, host:port
    #[arg(long)]
    master: String,
    /// Sizes to predict the time of an all-reduce for
    #[arg(long, value_delimiter = ',', value_parser = size_bytes, default_value = "1MiB,64MiB,1GiB")]
    size: Vec<u64>,
    /// Draw it, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
    /// How long to wait for the master
    #[arg(long, default_value = "10s", value_parser = duration)]
    timeout: Duration,
}

pub fn run(args: &TopologyArgs) -> Result<(), String> {
    let timeout_ms = u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX);
    let (report, rows) = inspect(&args.master, timeout_ms).map_err(|error| error.to_string())?;
    let network = Network::new(&args.master, &report, &rows, &args.size);
    if args.json {
        let text = serde_json::to_string_pretty(&network);
        println!("{}", text.map_err(|error| format!("cannot write JSON: {error}"))?);
    } else {
        print!("{}", table::text(&network, &args.size));
    }
    if let Some(path) = &args.svg {
        let svg = picture::svg(&network, &args.size);
        std::fs::write(path, svg).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}
