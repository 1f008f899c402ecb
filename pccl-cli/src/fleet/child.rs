//! The child processes themselves: hidden subcommands of whatever program uses the fleet.

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Subcommand, ValueEnum};

use super::report::Report;

#[derive(Debug, Subcommand)]
pub enum ChildCommand {
    #[command(hide = true)]
    ChildMaster(MasterArgs),
    #[command(hide = true)]
    ChildPeer(PeerArgs),
}

#[derive(Debug, Args)]
pub struct MasterArgs {
    #[arg(long)]
    pub listen: String,
    /// `key=value` of the master's settings.
    #[arg(long)]
    pub set: Vec<String>,
}

#[derive(Debug, Args)]
pub struct PeerArgs {
    #[arg(long)]
    pub master: String,
    /// Elements of the vector.
    #[arg(long)]
    pub count: usize,
    #[arg(long)]
    pub value: u32,
    #[arg(long)]
    pub seed: u64,
    #[arg(long, value_enum, default_value = "full")]
    pub check: Check,
}

/// How much of each result is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Check {
    /// Every element.
    Full,
    /// Every element after a change of membership, else a window that moves: for measuring times.
    Window,
}

/// Runs the child until it is asked to leave, or its parent is gone. The exit code.
pub fn run(command: &ChildCommand) -> u8 {
    die_with_parent();
    let leave = Arc::new(AtomicBool::new(false));
    listen_to_parent(leave.clone());
    let outcome = match command {
        ChildCommand::ChildMaster(args) => super::child_master::run(args, &leave),
        ChildCommand::ChildPeer(args) => super::child_peer::run(args, &leave),
    };
    match outcome {
        Ok(()) => {
            tell(&Report::Left);
            0
        }
        Err(reason) => {
            eprintln!("{reason}");
            tell(&Report::Failed { reason });
            1
        }
    }
}

/// One line to the parent. A parent that does not listen has ended, and so do we.
pub fn tell(report: &Report) {
    let mut out = io::stdout().lock();
    let line = serde_json::to_string(report).map_err(io::Error::other);
    if line.and_then(|line| writeln!(out, "{line}")).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// A line means "leave"; the end of input means that the parent is gone.
fn listen_to_parent(leave: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            if line.is_ok_and(|line| line == "leave") {
                leave.store(true, Ordering::Relaxed);
            }
        }
        std::process::exit(1);
    });
}

/// A stopped process cannot notice that its input closed: there the system helps.
pub fn die_with_parent() {
    #[cfg(target_os = "linux")]
    // Without it the end of input still ends us.
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
}
