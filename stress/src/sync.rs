//! A shared state among real processes: how long until a newcomer has it, or until it is known that nothing, or one
//! element, differs.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use pccl_cli::arguments::{size_bytes, size_text};
use pccl_cli::fleet::statistics::median;
use pccl_core::api::{Communicator, Master, ReduceOp, SharedState, SyncStrategy, Tag};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// The last peer holds something else everywhere, and has an older revision
    Newcomer,
    /// All hold the same
    Same,
    /// One element of the last peer differs
    One,
}

#[derive(Clone, Debug, Args)]
pub struct SyncArgs {
    #[arg(long, value_enum, default_value = "newcomer")]
    case: Case,
    /// Peers that hold the state; one more is the last peer
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=31))]
    holders: u32,
    #[arg(long, value_parser = size_bytes, value_name = "SIZE", default_value = "1GiB")]
    size: u64,
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// In the last round the first holder dies in the middle of what it sends
    #[arg(long)]
    kill: bool,
}

/// One of the processes of `sync`; start them by hand where each runs on a host, or in a network, of its own.
#[derive(Clone, Debug, Args)]
pub struct SyncPeerArgs {
    /// Where the run's master is (`pccl master`)
    #[arg(long, value_name = "HOST:PORT")]
    master: String,
    /// The address to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    listen: IpAddr,
    /// This is the last peer: the one whose tensors differ
    #[arg(long)]
    last: bool,
    /// In the last round die once a tenth of the state was sent from here
    #[arg(long)]
    dies: bool,
    #[command(flatten)]
    run: SyncArgs,
}

/// What one process tells of one round.
#[derive(Debug, Serialize, Deserialize)]
struct Round {
    round: u32,
    ms: f64,
    tx_bytes: u64,
    rx_bytes: u64,
}

pub fn run(args: &SyncArgs) -> Result<ExitCode, String> {
    let master = Master::builder("127.0.0.1:0").build().and_then(|master| master.run().map(|()| master));
    let master = master.map_err(|error| error.to_string())?;
    let address = master.address().ok_or("the master has no address")?.to_string();
    println!(
        "{} of {}, {} holders, {} rounds",
        name(args.case),
        size_text(args.size),
        args.holders,
        args.rounds
    );
    let mut peers: Vec<Child> =
        (0..=args.holders).map(|peer| start(args, &address, peer)).collect::<Result<_, _>>()?;
    let outputs: Vec<_> = peers.iter_mut().filter_map(|peer| peer.stdout.take()).collect();
    let readers = outputs.into_iter().map(|out| std::thread::spawn(move || rounds(BufReader::new(out))));
    let readers: Vec<_> = readers.collect();
    let told = readers.into_iter().map(|reader| reader.join().map_err(|_| "a reader panicked".to_owned())?);
    let told: Vec<Vec<Round>> = told.collect::<Result<_, String>>()?;
    for (index, mut peer) in peers.into_iter().enumerate() {
        let status = peer.wait().map_err(|error| error.to_string())?;
        if status.success() == (args.kill && index == 0) {
            return Err(format!("peer {index} ended with {status}"));
        }
    }
    summarize(args, &told)?;
    Ok(ExitCode::SUCCESS)
}

fn start(args: &SyncArgs, master: &str, peer: u32) -> Result<Child, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["sync-peer", "--master", master, "--listen", "127.0.0.1", "--case", name(args.case)]);
    command.args(["--holders", &args.holders.to_string(), "--size", &format!("{}B", args.size)]);
    command.args(["--rounds", &args.rounds.to_string()]).args((peer == args.holders).then_some("--last"));
    command.args((args.kill && peer == 0).then_some("--dies"));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().map_err(|error| format!("a peer could not be started: {error}"))
}

fn name(case: Case) -> &'static str {
    match case {
        Case::Newcomer => "newcomer",
        Case::Same => "same",
        Case::One => "one",
    }
}

fn rounds(out: impl BufRead) -> Result<Vec<Round>, String> {
    out.lines()
        .map(|line| line.map_err(|error| error.to_string()))
        .map(|line| {
            line.and_then(|line| serde_json::from_str(&line).map_err(|error| format!("{line:?}: {error}")))
        })
        .collect()
}

/// The slowest peer of each round, and the bytes that travelled. The last of `told` is the last peer.
fn summarize(args: &SyncArgs, told: &[Vec<Round>]) -> Result<(), String> {
    let mut times = Vec::new();
    for round in 0..args.rounds as usize {
        let of_round: Vec<&Round> = told.iter().filter_map(|peer| peer.get(round)).collect();
        let dead = usize::from(args.kill && round + 1 == args.rounds as usize);
        if of_round.len() + dead != told.len() {
            return Err(format!("round {} is not complete", round + 1));
        }
        let ms = of_round.iter().map(|r| r.ms).fold(0.0, f64::max);
        let rx_bytes: u64 = of_round.iter().map(|r| r.rx_bytes).sum();
        let shares: Vec<String> =
            of_round.iter().filter(|r| r.tx_bytes > 0).map(|r| size_text(r.tx_bytes)).collect();
        let rate = rx_bytes as f64 / ms / 1e6;
        println!(
            "round {}: {ms:.1} ms, received {rx_bytes} bytes ({rate:.2} GB/s), sent {}",
            round + 1,
            shares.join(" + ")
        );
        times.push(ms);
    }
    if let Some(ms) = median(times) {
        println!("median {ms:.1} ms");
    }
    Ok(())
}

/// Takes part, and tells of each round in a line of JSON.
pub fn peer(args: &SyncPeerArgs) -> Result<ExitCode, String> {
    let text = |error: pccl_core::api::Error| error.to_string();
    let SyncArgs { case, holders, size, rounds, .. } = args.run;
    let builder = Communicator::builder(&args.master).listen(SocketAddr::new(args.listen, 0));
    let communicator = builder.build().map_err(text)?;
    communicator.connect().map_err(text)?;
    while communicator.world_size() < holders + 1 {
        communicator.update_topology().map_err(text)?;
    }
    let content = |round: u32| move |at: usize| (at as u32).wrapping_mul(2_654_435_761).wrapping_add(round);
    let mut data: Vec<u32> = (0..size as usize / 4).map(content(0)).collect();
    for round in 1..=rounds {
        if args.last {
            match case {
                Case::Newcomer => data.iter_mut().for_each(|word| *word = !*word),
                Case::One => data[size as usize / 8] ^= 1,
                Case::Same => {}
            }
        }
        // Everybody is ready.
        let mut ready = [0u8; 4];
        communicator.all_reduce_in_place(&mut ready, ReduceOp::Sum, Tag(0)).map_err(text)?;
        let begun = Instant::now();
        // As a newcomer, the last peer has an older revision; with one that differs in an element there are holders enough.
        let revision = if args.last && case == Case::Newcomer { 0 } else { u64::from(round) };
        let mut state = SharedState::new(revision).tensor("state", &mut data);
        let doomed = args.dies && round == rounds;
        let over = AtomicBool::new(false);
        let info = std::thread::scope(|threads| {
            if doomed {
                threads.spawn(|| die_in_the_middle(&communicator, size / 10, &over));
            }
            let info = communicator.synchronize_shared_state(&mut state, SyncStrategy::EnforcePopular);
            over.store(true, Relaxed);
            info
        });
        let info = info.map_err(text)?;
        if doomed {
            return Err(format!("round {round}: it was over before a tenth of the state was sent from here"));
        }
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        if data.iter().copied().ne((0..data.len()).map(content(0))) {
            return Err(format!("round {round}: the content is not the elected one"));
        }
        let told = Round { round, ms, tx_bytes: info.tx_bytes, rx_bytes: info.rx_bytes };
        println!("{}", serde_json::to_string(&told).map_err(|error| error.to_string())?);
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends this process when so many bytes of state have been sent from here in the present round.
fn die_in_the_middle(communicator: &Communicator, bytes: u64, over: &AtomicBool) {
    let sent = || communicator.stats().counters.state_bytes_sent;
    let before = sent();
    while !over.load(Relaxed) {
        if sent() - before >= bytes {
            std::process::abort();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
