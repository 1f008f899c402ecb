//! `pccl demo`: a run of real processes on this machine, with churn, in which everything is checked.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::arguments::{duration, size_bytes, size_text};
use crate::fleet::child::Check;
use crate::fleet::screen::Screen;
use crate::fleet::{Config, MAX_PEERS, Run, Stop};
use crate::summary::Summary;

#[derive(Debug, Args)]
#[command(after_help = "\
A master and the peers run as processes on loopback. They all-reduce in a loop; every few seconds one is killed
(SIGKILL, in the middle of whatever it does) and another one started. Every result is compared with the sum it
must be, and with the other peers' bits. The exit code is 0 only if nothing was wrong.

Examples:
  pccl demo                                    4 peers, 64 MiB, 20 s
  pccl demo --peers 6 --seconds 60
  pccl demo --size 4KiB --churn-every 500ms    small operations, a kill twice a second
  pccl demo --no-churn --json                  the bandwidth of this machine, for a script
  PCCL_LOG_LEVEL=debug pccl demo --log demo.log")]
pub struct DemoArgs {
    /// Peers at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=i64::from(MAX_PEERS)))]
    peers: u32,
    /// Size of the vector that is all-reduced: 64MiB, 1GB, 4096 (every peer needs it twice)
    #[arg(long, default_value = "64MiB", value_parser = size_bytes, value_name = "SIZE")]
    size: u64,
    /// How long
    #[arg(long, default_value = "20", value_parser = duration, value_name = "TIME")]
    seconds: Duration,
    /// Kill nobody
    #[arg(long)]
    no_churn: bool,
    /// Between two kills
    #[arg(long, default_value = "3s", value_parser = duration, value_name = "TIME", conflicts_with = "no_churn")]
    churn_every: Duration,
    /// Who is killed, and which numbers are added; default: another one each time, printed at the end
    #[arg(long)]
    seed: Option<u64>,
    /// When a peer that says nothing for so long counts as stuck
    #[arg(long, default_value = "20s", value_parser = duration, value_name = "TIME")]
    stuck_after: Duration,
    /// A setting of the master (see `pccl master --help`)
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Write the processes' log there (what it holds: PCCL_LOG_LEVEL)
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &DemoArgs) -> Result<ExitCode, String> {
    let config = Config {
        size_bytes: args.size,
        seed: args.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000)),
        check: Check::Full,
        stuck_after: args.stuck_after,
        master_settings: args.set.clone(),
        log: args.log.clone(),
    };
    let mut demo = Demo {
        random: fastrand::Rng::with_seed(config.seed),
        run: Run::start(config, Screen::new(Some(args.seconds)))?,
        args,
        kills: 0,
    };
    let begun = Instant::now();
    let outcome = demo.script();
    let seconds = begun.elapsed().as_secs_f64();
    let outcome = outcome.and_then(|()| demo.run.finish());
    demo.run.screen.clear();
    if outcome == Err(Stop::Interrupted) {
        eprintln!("interrupted: all processes are ended");
        return Ok(ExitCode::from(130));
    }
    let summary = Summary::of(&demo.run, args.peers, demo.kills, seconds);
    if !summary.ok {
        demo.run.last_log().iter().for_each(|line| eprintln!("{line}"));
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&summary).map_err(|e| e.to_string())?);
    } else {
        println!("{summary}");
    }
    Ok(if summary.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Demo<'a> {
    args: &'a DemoArgs,
    run: Run,
    random: fastrand::Rng,
    kills: u64,
}

impl Demo<'_> {
    fn script(&mut self) -> Result<(), Stop> {
        let end = Instant::now() + self.args.seconds;
        let size = size_text(self.args.size);
        let (address, peers) = (self.run.address(), self.args.peers);
        self.run.note(&format!("a master at {address} and {peers} peers, all-reducing {size} of f32"));
        for _ in 0..self.args.peers {
            self.run.start_peer()?;
        }
        self.run.wait_for("everybody takes part", Run::settled)?;
        self.run.note("all have joined");
        if self.args.no_churn {
            return self.run.follow(end.saturating_duration_since(Instant::now()));
        }
        let mut next = Instant::now();
        loop {
            next = (next + self.args.churn_every).max(Instant::now());
            if next + self.args.churn_every / 2 >= end {
                return self.run.follow(end.saturating_duration_since(Instant::now()));
            }
            self.run.follow(next.saturating_duration_since(Instant::now()))?;
            self.kill_one()?;
            self.run.follow(self.args.churn_every / 3)?;
            self.replace()?;
        }
    }

    fn kill_one(&mut self) -> Result<(), Stop> {
        let Some(victim) = self.random.choice(self.run.alive()) else { return Ok(()) };
        self.run.note(&format!("peer {victim} is killed"));
        let before = self.run.recoveries_us.len();
        self.kills += 1;
        self.run.kill(victim);
        self.run.wait_for("the others go on", Run::recovered)?;
        if let Some(us) = self.run.recoveries_us.get(before) {
            self.run.note(&format!("the others go on: {:.1} ms after the kill", *us as f64 / 1e3));
        }
        Ok(())
    }

    fn replace(&mut self) -> Result<(), Stop> {
        let number = self.run.start_peer()?;
        let before = self.run.joins_us.len();
        self.run.wait_for("everybody takes part", Run::settled)?;
        if let Some(us) = self.run.joins_us.get(before) {
            let ms = *us as f64 / 1e3;
            self.run.note(&format!("peer {number} has joined: {ms:.1} ms from start to first result"));
        }
        Ok(())
    }
}
