//! `cargo xtask bench`: the figures of docs/PERFORMANCE.md that this machine can give. Wall time on a shared machine
//! is weather; what counts are ratios of what ran in turns. All of it takes about a quarter of an hour.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::place::{self, cargo};
use crate::step::{Steps, output};

const LIMIT: Duration = Duration::from_secs(20 * 60);
/// `bench/gloo.py` ends with it where torch is missing.
const SKIPPED: i32 = 77;

/// What `pccl bench` measures by itself.
const MATRICES: [(&str, &str); 4] = [
    ("beside plain sockets (P1, P8)", "-b 64MiB -e 256MiB -N 2,4 --baseline sockets --seconds 2"),
    ("small (P2)", "-b 4KiB -N 2 --seconds 2"),
    ("one operation or many (P7)", "-b 64MiB --tags 1,64 --seconds 2"),
    ("memory (P18)", "-b 1GiB --place out,in -n 5 -w 1"),
];

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// A Python that has torch, for the comparison with Gloo
    #[arg(long, default_value = "python3", env = "PCCL_BENCH_PYTHON")]
    python: String,
    /// How many times ours and Gloo take turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only the comparison with Gloo
    #[arg(long)]
    only_gloo: bool,
}

/// One figure of one size: ours and Gloo's, a pair for each round.
#[derive(Debug, Default)]
struct Pairs(Vec<(f64, f64)>);

pub fn run(args: &BenchArgs) -> bool {
    let mut steps = Steps::default();
    if !steps.run("build", LIMIT, cargo(&["build", "--release", "-p", "pccl-cli"])) {
        return steps.close();
    }
    let pccl = place::target().join("release/pccl");
    if !args.only_gloo {
        for (name, options) in MATRICES {
            let mut bench = Command::new(&pccl);
            bench.arg("bench").args(options.split_whitespace());
            steps.run(name, LIMIT, bench);
        }
    }
    for (world, sizes) in [(2, &[4 << 10, 64 << 20, 256 << 20][..]), (4, &[64 << 20, 256 << 20])] {
        let name = format!("in turns with Gloo, world {world}");
        match in_turns(args, &pccl, world, sizes) {
            Ok(Some(text)) => {
                println!("\n── {name}\n{text}");
                steps.note(&name, Ok(()));
            }
            Ok(None) => steps.skip(&name, "torch is missing: pip install torch, then --python"),
            Err(reason) => {
                steps.note(&name, Err(reason));
            }
        }
    }
    steps.close()
}

/// The ratios as lines; `None` where there is no torch.
fn in_turns(args: &BenchArgs, pccl: &Path, world: u32, sizes: &[u64]) -> Result<Option<String>, String> {
    let mut times: Vec<Pairs> = sizes.iter().map(|_| Pairs::default()).collect();
    let mut cpu: Vec<Pairs> = sizes.iter().map(|_| Pairs::default()).collect();
    let mut congestion = String::new();
    for round in 1..=args.rounds {
        println!("round {round} of {} of {world} processes", args.rounds);
        let Some(theirs) = gloo(&args.python, world, sizes)? else { return Ok(None) };
        congestion = text_of(&theirs, "congestion_control");
        for (i, &size) in sizes.iter().enumerate() {
            let ours = ours(pccl, world, size)?;
            let ours = &ours["rows"][0];
            let theirs = &theirs["rows"][i];
            times[i].0.push((number(&ours["time_us"]["median"])?, number(&theirs["time_us"]["median"])?));
            cpu[i].0.push((number(&ours["cpu_s_per_gb"])?, number(&theirs["cpu_s_per_gb"])?));
        }
    }
    let mut out = format!("medians of {} rounds, congestion control {congestion}\n", args.rounds);
    for (i, &size) in sizes.iter().enumerate() {
        let factor = 2.0 * (f64::from(world) - 1.0) / f64::from(world);
        let busbw = |us: f64| factor * size as f64 / 1e3 / us;
        let (ours, theirs) = (times[i].ours(), times[i].theirs());
        out += &format!(
            "{size:>10} B: ours {ours:>9.1} us {:.3} GB/s, Gloo {theirs:>9.1} us {:.3} GB/s, {:.2} times as fast; \
             CPU {:.2} of Gloo's\n",
            busbw(ours),
            busbw(theirs),
            times[i].median_ratio().recip(),
            cpu[i].median_ratio(),
        );
    }
    Ok(Some(out))
}

fn ours(pccl: &Path, world: u32, size: u64) -> Result<Value, String> {
    let json: PathBuf = place::target().join("bench-ours.json");
    let mut command = Command::new(pccl);
    command
        .args(["bench", "-c", "0", "-N", &world.to_string(), "-b", &size.to_string(), "--json"])
        .arg(&json);
    let out = output(&mut command, LIMIT).map_err(|e| format!("pccl bench {e}"))?;
    if !out.status.success() {
        return Err(format!("pccl bench: {}", String::from_utf8_lossy(&out.stderr)));
    }
    let text = std::fs::read_to_string(&json).map_err(|e| format!("{}: {e}", json.display()))?;
    serde_json::from_str(&text).map_err(|e| e.to_string())
}

fn gloo(python: &str, world: u32, sizes: &[u64]) -> Result<Option<Value>, String> {
    let sizes: Vec<String> = sizes.iter().map(u64::to_string).collect();
    let script = ["bench/gloo.py", "--world", &world.to_string(), "--sizes", &sizes.join(",")];
    // It ends its ranks itself, and before us: killed from here it could not.
    let limit_s = (LIMIT / 2).as_secs().to_string();
    let mut command = place::command(python, &script);
    let out = output(command.args(["--limit", &limit_s]), LIMIT)
        .map_err(|e| format!("{python} {e}; name another one with --python"))?;
    match out.status.code() {
        Some(SKIPPED) => Ok(None),
        Some(0) => serde_json::from_slice(&out.stdout).map(Some).map_err(|e| e.to_string()),
        _ => Err(format!("bench/gloo.py: {}", String::from_utf8_lossy(&out.stderr))),
    }
}

fn number(value: &Value) -> Result<f64, String> {
    value.as_f64().ok_or(format!("{value} where a number should be"))
}

fn text_of(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or("unknown").to_string()
}

impl Pairs {
    fn ours(&self) -> f64 {
        median(self.0.iter().map(|pair| pair.0).collect())
    }

    fn theirs(&self) -> f64 {
        median(self.0.iter().map(|pair| pair.1).collect())
    }

    /// Ours by theirs, round by round: what the weather did to both of a round cancels.
    fn median_ratio(&self) -> f64 {
        median(self.0.iter().map(|(ours, theirs)| ours / theirs).collect())
    }
}

/// NaN of nothing.
fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    let middle = samples.len() / 2;
    match samples.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => samples[middle],
        _ => (samples[middle - 1] + samples[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_round_by_round() {
        let pairs = Pairs(vec![(1.0, 2.0), (10.0, 20.0), (100.0, 50.0)]);
        assert_eq!(pairs.median_ratio(), 0.5);
        assert_eq!((pairs.ours(), pairs.theirs()), (10.0, 20.0));
        assert_eq!(median(vec![1.0, 4.0]), 2.5);
    }

    #[test]
    fn a_python_that_is_not_there_says_how_to_name_another() {
        assert!(gloo("no-such-python", 2, &[4]).unwrap_err().contains("--python"));
    }
}
