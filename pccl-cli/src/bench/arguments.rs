//! The options of `pccl bench`, and the matrix they span.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::case::{Case, Job, dtype_named, op_named, quantization_named};
use super::numbers::MAX_WORLD;
use crate::arguments::duration;
use crate::master::Schedule;

const DEFAULT_MIN_BYTES: u64 = 4 << 10;
const DEFAULT_MAX_BYTES: u64 = 64 << 20;
/// More would not fit the memory of any machine twice.
const MAX_BYTES: u64 = 64 << 30;
const MAX_TAGS: i64 = 1024;
const MAX_ITERATIONS: i64 = 1_000_000;

#[derive(Debug, Args)]
#[command(after_help = "\
The columns, as in nccl-tests: algbw = size / median time; busbw = 2(N-1)/N x algbw, one direction of what each
peer moves; time = call to return, mean over the processes. CPU: user and system time of all processes by the
2(N-1) x size bytes that they send together. memory: peak of the largest process besides its buffers. wrong:
elements that are not what they must be; any makes the exit code 1. Every list spans the matrix.

Examples:
  pccl bench                                         4 KiB to 64 MiB, world 2, on this machine
  pccl bench -b 1MiB -e 256MiB -N 2,4 --schedule ring,mesh --plot bench.svg
  pccl bench -b 256MiB --tags 1,64                   the same bytes as 1 and as 64 operations
  pccl bench -b 4KiB --behind 1GiB                   small operations while a large one is under way
  pccl bench -b 64MiB --baseline sockets             beside what plain sockets do, in turns
  pccl bench -b 64MiB -N 4 --optimize                by the plan made of measured links, beside its prediction
  pccl bench -b 4MiB -d f32,bf16 -o sum,avg --place out,in --json bench.json

Real hosts: a master somewhere, then the same command on every host but for --rank; rank 0 prints:
  pccl master --listen 0.0.0.0:48148
  pccl bench --master 10.0.0.1:48148 --world 2 --rank 0
  pccl bench --master 10.0.0.1:48148 --world 2 --rank 1")]
pub struct BenchArgs {
    /// The smallest size, of all concurrent operations together: 4KiB, 1MB, 4096; default: 4 KiB
    #[arg(short = 'b', long, value_parser = bytes, value_name = "SIZE")]
    min_bytes: Option<u64>,
    /// The largest size; default: the smallest if that is given, else 64 MiB
    #[arg(short = 'e', long, value_parser = bytes, value_name = "SIZE")]
    max_bytes: Option<u64>,
    /// From one size to the next
    #[arg(short = 'f', long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(2..=1 << 20))]
    factor: u64,
    /// Processes
    #[arg(short = 'N', long, value_delimiter = ',', default_value = "2",
          value_parser = clap::value_parser!(u32).range(2..=i64::from(MAX_WORLD)))]
    world: Vec<u32>,
    /// The master's setting; the master of the run is started anew for each
    #[arg(long, value_enum, value_delimiter = ',', default_value = "auto", env = "PCCL_SCHEDULE")]
    schedule: Vec<Schedule>,
    /// Data connections of a pair; 0: the library's default
    #[arg(long, value_delimiter = ',', default_value = "0", env = "PCCL_POOL",
          value_parser = clap::value_parser!(u16).range(0..=64))]
    pool: Vec<u16>,
    /// Concurrent operations; the size is divided among them
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..=MAX_TAGS))]
    tags: Vec<u32>,
    /// Element types: f32, bf16, u8 ...
    #[arg(short, long, value_delimiter = ',', default_value = "f32", value_parser = |s: &str| dtype_named(s).map(|_| s.to_string()))]
    dtype: Vec<String>,
    /// sum, avg, prod, max, min
    #[arg(short, long, value_delimiter = ',', default_value = "sum", value_parser = |s: &str| op_named(s).map(|_| s.to_string()))]
    op: Vec<String>,
    /// What travels instead of the elements: none, u8, i8, u16, i16, zps-u8 ..., 4bit, fp8_e4m3, fp8_e5m2, f16, bf16
    #[arg(short, long, value_delimiter = ',', default_value = "none", value_parser = |s: &str| quantization_named(s).map(|_| s.to_string()))]
    quantize: Vec<String>,
    /// Where results go: memory of their own, or in place of the input
    #[arg(long, value_enum, value_delimiter = ',', default_value = "out")]
    place: Vec<Place>,
    /// Measured iterations, 5 at least; default: what fits into --seconds
    #[arg(short = 'n', long, value_parser = clap::value_parser!(u32).range(5..=MAX_ITERATIONS))]
    iters: Option<u32>,
    /// How long to measure a line
    #[arg(long, default_value = "1", value_parser = duration, value_name = "TIME")]
    seconds: Duration,
    /// Iterations before the clock runs
    #[arg(short, long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=MAX_ITERATIONS))]
    warmup: u32,
    /// Whether every element of the results is looked at: 0 or 1
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    check: u8,
    /// Measure, in turns with ours, what moving the same bytes costs otherwise
    #[arg(long, value_enum)]
    baseline: Option<Baseline>,
    /// Measure while an operation of this size is under way all the time: how long is what begins behind it held up?
    #[arg(long, value_parser = bytes, value_name = "SIZE", conflicts_with = "baseline")]
    behind: Option<u64>,
    /// Call optimize_topology first: the links are measured, the plan chooses, and a column has what it predicted
    #[arg(long)]
    optimize: bool,
    /// A setting of our master (see `pccl master --help`)
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "master")]
    pub set: Vec<String>,
    /// The master of a run over real hosts; without it, everything runs here
    #[arg(long, value_name = "HOST:PORT", requires = "rank")]
    master: Option<String>,
    /// Which of the hosts this is, from 0; rank 0 prints
    #[arg(long, requires = "master")]
    rank: Option<u32>,
    /// Loopback: nothing new for so long ends the run
    #[arg(long, default_value = "120s", value_parser = duration, value_name = "TIME")]
    pub stuck_after: Duration,
    /// Write everything there as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw busbw over size there (SVG)
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Place {
    Out,
    In,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Baseline {
    /// Plain blocking sockets between neighbours, as many connections as our pairs have, a thread each way
    Sockets,
}

impl BenchArgs {
    pub fn loopback(&self) -> bool {
        self.master.is_none()
    }

    /// Whether this process shows what came out.
    pub fn prints(&self) -> bool {
        self.rank.unwrap_or(0) == 0
    }

    /// One job for each run: a run has one world, one schedule, one pool.
    pub fn jobs(&self) -> Result<Vec<(Option<Schedule>, Job)>, String> {
        let cases = self.cases()?;
        if !self.loopback() {
            return self.jobs_of_hosts(cases);
        }
        let mut jobs = Vec::new();
        for &world in &self.world {
            for &schedule in &self.schedule {
                for &pool in &self.pool {
                    jobs.push((Some(schedule), self.job(world, schedule.name(), pool, &cases)));
                }
            }
        }
        Ok(jobs)
    }

    fn jobs_of_hosts(&self, cases: Vec<Case>) -> Result<Vec<(Option<Schedule>, Job)>, String> {
        let &[world] = &self.world[..] else {
            return Err("over real hosts there is one --world: as many as there are hosts".into());
        };
        if self.rank.is_some_and(|rank| rank >= world) {
            return Err(format!("--rank must be below {world}, the world"));
        }
        let jobs = self.pool.iter().map(|&pool| (None, self.job(world, "master's", pool, &cases)));
        Ok(jobs.collect())
    }

    fn job(&self, world: u32, schedule: &str, pool: u16, cases: &[Case]) -> Job {
        Job {
            master: self.master.clone().unwrap_or_default(),
            loopback: self.loopback(),
            rank: self.rank.unwrap_or(0),
            world,
            schedule: schedule.into(),
            pool,
            warmup: self.warmup,
            iterations: self.iters,
            seconds: self.seconds.as_secs_f64(),
            check: self.check == 1,
            sockets: self.baseline.is_some(),
            behind_bytes: self.behind,
            optimize: self.optimize,
            cases: cases.to_vec(),
        }
    }

    fn cases(&self) -> Result<Vec<Case>, String> {
        let mut cases = Vec::new();
        for dtype in &self.dtype {
            for op in &self.op {
                for place in &self.place {
                    for &tags in &self.tags {
                        for size_bytes in self.sizes()? {
                            let in_place = *place == Place::In;
                            cases.extend(self.quantize.iter().map(|quantize| Case {
                                size_bytes,
                                dtype: dtype.clone(),
                                op: op.clone(),
                                in_place,
                                tags,
                                quantize: quantize.clone(),
                            }));
                        }
                    }
                }
            }
        }
        Ok(cases)
    }

    fn sizes(&self) -> Result<Vec<u64>, String> {
        let least = self.min_bytes.unwrap_or(DEFAULT_MIN_BYTES);
        let most = self.max_bytes.or(self.min_bytes).unwrap_or(DEFAULT_MAX_BYTES);
        if most < least {
            return Err("--max-bytes must not be below --min-bytes".into());
        }
        let next = |size: &u64| size.checked_mul(self.factor).filter(|next| *next <= most);
        Ok(std::iter::successors(Some(least), next).collect())
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    let size: bytesize::ByteSize = text.parse().map_err(|_| "write it as 64MiB, 1GB or 4096".to_string())?;
    match size.as_u64() {
        0 => Err("must be at least a byte".into()),
        size if size > MAX_BYTES => Err("must be 64 GiB at most".into()),
        size => Ok(size),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn parsed(arguments: &str) -> BenchArgs {
        Alone::parse_from(std::iter::once("bench").chain(arguments.split_whitespace())).bench
    }

    #[test]
    fn sizes_grow_by_the_factor_up_to_the_largest() {
        assert_eq!(parsed("-b 1KiB -e 20KiB -f 4").sizes().unwrap(), [1 << 10, 4 << 10, 16 << 10]);
        assert_eq!(parsed("-b 4KiB").sizes().unwrap(), [4 << 10]);
        assert_eq!(parsed("").sizes().unwrap().len(), 8);
        assert!(parsed("-b 8KiB -e 4KiB").sizes().is_err());
    }

    #[test]
    fn every_list_spans_the_matrix() {
        let args = parsed("-b 1KiB -e 4KiB -d f32,u8 -o sum,max --place out,in --tags 1,2");
        assert_eq!(args.cases().unwrap().len(), 2 * 2 * 2 * 2 * 2);
        let jobs = parsed("-N 2,4 --schedule ring,mesh,auto --pool 1,8").jobs().unwrap();
        assert_eq!(jobs.len(), 2 * 3 * 2);
        assert_eq!((jobs[11].1.world, jobs[11].1.pool, jobs[11].1.schedule.as_str()), (4, 8, "auto"));
    }

    #[test]
    fn real_hosts_have_one_world_and_ranks_below_it() {
        assert!(parsed("--master h:1 --rank 0 -N 2,3").jobs().is_err());
        assert!(parsed("--master h:1 --rank 2 -N 2").jobs().unwrap_err().contains("below 2"));
        assert_eq!(parsed("--master h:1 --rank 1 -N 2").jobs().unwrap()[0].1.schedule, "master's");
    }
}
