//! Many peers, one master: what an operation, a death and a join cost it, and how much memory a peer does.
//!
//! The master is the real one, in a process of its own, with a real control connection for each peer. The peers
//! are control links only: 256 of them would need 32,640 pairs of data links, which fit no single machine, and the
//! master never sees those.

mod actor;
mod master;

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use pccl_cli::fleet::statistics::median;
use serde::Serialize;

use self::actor::Actor;
use self::master::MasterProcess;

/// Nothing the master has to do takes so long.
const STUCK_AFTER: Duration = Duration::from_secs(60);
const HEARTBEAT_EVERY: Duration = Duration::from_millis(500);
/// While nothing has come.
const REST: Duration = Duration::from_micros(100);

#[derive(Debug, Args)]
pub struct CrowdArgs {
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(2..=1000))]
    peers: u32,
    /// Operations that are timed
    #[arg(long, default_value_t = 200)]
    operations: u32,
    /// Times one peer dies and another one joins
    #[arg(long, default_value_t = 0)]
    churn: u32,
    /// A setting of the master (see `pccl master --help`)
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[arg(long)]
    json: bool,
}

/// Medians, of the master's CPU time.
#[derive(Debug, Serialize)]
struct Outcome {
    ok: bool,
    peers: u32,
    operations: u32,
    operation_cpu_us: Option<f64>,
    /// Until all have joined, all together; each one's part grows with the peers there are, as it links with each.
    all_joins_cpu_us: u64,
    churn: u32,
    death_cpu_us: Option<f64>,
    join_cpu_us: Option<f64>,
    /// Without peers.
    resident_before_kib: u64,
    resident_kib: u64,
    resident_per_peer_kib: f64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: Option<f64>| us.map_or("–".into(), |us| format!("{:.2} ms", us / 1e3));
        writeln!(f, "a master with {} peers, {} operations:", self.peers, self.operations)?;
        writeln!(f, "  an operation   {} of its CPU (median)", ms(self.operation_cpu_us))?;
        writeln!(f, "  a death        {} (median of {})", ms(self.death_cpu_us), self.churn)?;
        writeln!(f, "  a join         {} (median of {})", ms(self.join_cpu_us), self.churn)?;
        writeln!(f, "  all joins      {}", ms(Some(self.all_joins_cpu_us as f64)))?;
        write!(
            f,
            "  memory         {:.1} KiB a peer ({} KiB; {} without peers)",
            self.resident_per_peer_kib, self.resident_kib, self.resident_before_kib
        )
    }
}

pub fn run(args: &CrowdArgs) -> Result<ExitCode, String> {
    let outcome = measure(args).map_err(|error| error.to_string())?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcome).map_err(|error| error.to_string())?);
    } else {
        println!("{outcome}");
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(args: &CrowdArgs) -> io::Result<Outcome> {
    let master = MasterProcess::start(&args.set)?;
    let resident_before_kib = master.resident_kib()?;
    let mut crowd = Crowd { master, actors: Vec::new(), next: 0, heartbeat: Instant::now() };
    let all_joins_cpu_us = crowd.cost(|crowd| crowd.fill(args.peers))?;
    let resident_kib = crowd.master.resident_kib()?;
    let mut operations = Vec::new();
    for _ in 0..args.operations {
        operations.push(crowd.cost(Crowd::operate)? as f64);
    }
    let (mut deaths, mut joins) = (Vec::new(), Vec::new());
    for _ in 0..args.churn {
        deaths.push(crowd.cost(Crowd::lose_one)? as f64);
        crowd.operate()?;
        joins.push(crowd.cost(|crowd| crowd.fill(args.peers))? as f64);
        crowd.operate()?;
    }
    let resident_kib = resident_kib.max(crowd.master.resident_kib()?);
    Ok(Outcome {
        ok: true,
        peers: args.peers,
        operations: args.operations,
        operation_cpu_us: median(operations),
        all_joins_cpu_us,
        churn: args.churn,
        death_cpu_us: median(deaths),
        join_cpu_us: median(joins),
        resident_before_kib,
        resident_kib,
        resident_per_peer_kib: resident_kib.saturating_sub(resident_before_kib) as f64
            / f64::from(args.peers),
    })
}

struct Crowd {
    master: MasterProcess,
    actors: Vec<Actor>,
    next: u32,
    heartbeat: Instant,
}

impl Crowd {
    fn cost(&mut self, act: impl FnOnce(&mut Crowd) -> io::Result<()>) -> io::Result<u64> {
        let before = self.master.cpu_us()?;
        act(self)?;
        Ok(self.master.cpu_us()? - before)
    }

    /// One all-reduce of everybody, committed.
    fn operate(&mut self) -> io::Result<()> {
        let target = self.actors.first().map_or(0, |actor| actor.commits) + 1;
        self.actors.iter_mut().try_for_each(Actor::announce)?;
        self.actors.iter_mut().try_for_each(Actor::done)?;
        self.until("a commit", |crowd| crowd.actors.iter().all(|actor| actor.commits == target))
    }

    /// The next epoch is there, without it.
    fn lose_one(&mut self) -> io::Result<()> {
        let victim = self.actors.len() / 2;
        drop(self.actors.swap_remove(victim));
        self.until("the epoch of the survivors", Crowd::is_complete)
    }

    fn fill(&mut self, peers: u32) -> io::Result<()> {
        while (self.actors.len() as u32) < peers {
            self.actors.push(Actor::join(self.master.address, self.next)?);
            self.next += 1;
            self.hear_all()?;
        }
        self.until("a first member", |crowd| crowd.actors.iter().any(Actor::is_member))?;
        while !self.is_complete() {
            // Whoever has been admitted must know it, or it would be missing in the next call.
            self.until("the same epoch for all its members", Crowd::agrees)?;
            self.actors.iter_mut().filter(|actor| actor.is_member()).try_for_each(Actor::update)?;
            self.until("the end of the update", |crowd| crowd.actors.iter().all(Actor::is_idle))?;
        }
        Ok(())
    }

    /// Those who are members are as many as each of them has heard of.
    fn agrees(&self) -> bool {
        let members = || self.actors.iter().filter(|actor| actor.is_member());
        members().all(|actor| actor.world_size == members().count())
    }

    /// Everybody is in one epoch with everybody.
    fn is_complete(&self) -> bool {
        self.actors.iter().all(|actor| actor.world_size == self.actors.len())
    }

    fn until(&mut self, what: &str, condition: impl Fn(&Crowd) -> bool) -> io::Result<()> {
        let begun = Instant::now();
        while !condition(self) {
            if !self.hear_all()? {
                std::thread::sleep(REST);
            }
            if begun.elapsed() > STUCK_AFTER {
                return Err(io::Error::other(format!("{what} did not come within {STUCK_AFTER:?}")));
            }
        }
        Ok(())
    }

    fn hear_all(&mut self) -> io::Result<bool> {
        if self.heartbeat.elapsed() > HEARTBEAT_EVERY {
            self.heartbeat = Instant::now();
            self.actors.iter_mut().try_for_each(Actor::heartbeat)?;
        }
        let mut heard = false;
        for actor in &mut self.actors {
            heard |= actor.hear()?;
        }
        Ok(heard)
    }
}
