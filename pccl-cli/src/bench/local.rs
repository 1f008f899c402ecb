//! A run on this machine: the master in this process, a process for each rank. Rank 0 tells what all measured.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use clap::Args;

use super::case::{Job, Row};
use super::worker;
use crate::master::{Schedule, build};
use crate::myself;

/// What would lead a rank to another master, or elsewhere than the row says.
const NOT_FOR_RANKS: [&str; 4] = ["PCCL_MASTER", "PCCL_LISTEN", "PCCL_ANNOUNCE", "PCCL_POOL"];
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// For the last ranks to leave, once the last row is there.
const END_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct RankArgs {
    #[arg(long)]
    job: String,
}

/// One rank, as a process of its own. Rank 0 prints its rows as JSON, a line each.
pub fn run_rank(args: &RankArgs) -> Result<(), String> {
    let job: Job = serde_json::from_str(&args.job).map_err(|e| e.to_string())?;
    let printed = worker::run(&job, |row| {
        if job.rank == 0 {
            // A row is nothing but numbers and names.
            println!("{}", serde_json::to_string(&row).unwrap_or_default());
        }
    });
    printed.map_err(|reason| format!("rank {}: {reason}", job.rank))
}

/// Runs the job with a master of its own.
pub fn run(
    schedule: Option<Schedule>,
    settings: &[String],
    job: &Job,
    stuck_after: Duration,
    mut emit: impl FnMut(Row),
) -> Result<(), String> {
    let master = build("127.0.0.1:0", schedule, settings)?;
    master.run().map_err(|e| e.to_string())?;
    let address = master.address().map(|a| a.to_string()).unwrap_or_default();
    let mut ranks = Ranks(Vec::new());
    for rank in 0..job.world {
        let job = Job { rank, master: address.clone(), ..job.clone() };
        ranks.0.push(spawn(&job)?);
    }
    let rows = rows_of(&mut ranks.0[0]);
    let mut said = Instant::now();
    loop {
        match rows.recv_timeout(LOOK_EVERY) {
            Ok(row) => {
                emit(row?);
                said = Instant::now();
            }
            // Nothing more will come; how it ended is seen below.
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => ranks.none_failed()?,
        }
        if said.elapsed() > stuck_after {
            return Err(format!("nothing new for {} s: stuck", stuck_after.as_secs()));
        }
    }
    ranks.wait()
}

fn spawn(job: &Job) -> Result<Child, String> {
    let text = serde_json::to_string(job).map_err(|e| e.to_string())?;
    let mut command = myself::command().map_err(|e| e.to_string())?;
    command.arg("child-bench").arg("--job").arg(text);
    NOT_FOR_RANKS.iter().for_each(|name| {
        command.env_remove(name);
    });
    command.stdin(Stdio::piped()).stdout(if job.rank == 0 { Stdio::piped() } else { Stdio::null() });
    command.spawn().map_err(|e| format!("cannot start a process: {e}"))
}

fn rows_of(rank: &mut Child) -> mpsc::Receiver<Result<Row, String>> {
    let (sender, rows) = mpsc::channel();
    let stdout = rank.stdout.take();
    std::thread::spawn(move || {
        let lines = stdout.into_iter().flat_map(|out| BufReader::new(out).lines());
        for line in lines.map_while(Result::ok) {
            let row = serde_json::from_str(&line).map_err(|e| format!("rank 0 said {line:?}: {e}"));
            if sender.send(row).is_err() {
                break;
            }
        }
    });
    rows
}

/// None of them outlives us.
struct Ranks(Vec<Child>);

impl Ranks {
    /// Whether all still run or ended well. A rank that failed has said why on standard error.
    fn none_failed(&mut self) -> Result<(), String> {
        for (rank, child) in self.0.iter_mut().enumerate() {
            if let Some(status) = child.try_wait().map_err(|e| e.to_string())?
                && !status.success()
            {
                return Err(format!("rank {rank} ended with {status}"));
            }
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), String> {
        let until = Instant::now() + END_WITHIN;
        loop {
            self.none_failed()?;
            let ended = self.0.iter_mut().all(|child| matches!(child.try_wait(), Ok(Some(_))));
            if ended {
                return Ok(());
            }
            if Instant::now() > until {
                return Err("a rank does not end".into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Fails only if it has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
