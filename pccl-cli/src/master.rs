//! `pccl master`: the one everybody connects to.

use std::sync::mpsc;

use clap::{Args, ValueEnum};
use pccl_core::api::{Master, ScheduleChoice};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pccl master                                  every interface, port 48148
  pccl master --listen 127.0.0.1:0             this machine only, any free port (printed)
  pccl master --schedule ring                  ring all-reduce whatever the size
  pccl master --set silence_ms=1000            a peer that is silent for a second is dead

Peers need nothing but the address: in Rust Communicator::builder(\"host:48148\"), in C and Python the same.
Without encryption, whoever reaches the port can join: use it on networks you trust.")]
pub struct MasterArgs {
    /// Host and port to listen on; port 0 means any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:48148")]
    listen: String,
    /// Which way all-reduces go; auto chooses by size and by the links there are
    #[arg(long, value_enum)]
    schedule: Option<Schedule>,
    /// Any setting by its key (see --help), may be repeated; PCCL_<KEY> in the environment wins
    #[arg(long, value_name = "KEY=VALUE")]
    #[arg(long_help = settings_help())]
    set: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Schedule {
    Auto,
    Ring,
    Mesh,
    /// The planner's forest where the network was measured, else as auto
    Packed,
}

impl MasterArgs {
    /// A master that does not run yet. An error says which setting cannot be.
    pub fn build(&self) -> Result<Master, String> {
        build(&self.listen, self.schedule, &self.set)
    }
}

impl Schedule {
    pub fn name(self) -> &'static str {
        match self {
            Schedule::Auto => "auto",
            Schedule::Ring => "ring",
            Schedule::Mesh => "mesh",
            Schedule::Packed => "packed",
        }
    }
}

fn settings_help() -> String {
    let defaults = Master::builder("0.0.0.0:48148");
    format!(
        "Any setting by its key, may be repeated; PCCL_<KEY> in the environment wins.\n\
         Key, default and meaning:\n{defaults}"
    )
}

/// A master that does not run yet. An error says which setting cannot be.
pub fn build(listen: &str, schedule: Option<Schedule>, settings: &[String]) -> Result<Master, String> {
    let mut builder = Master::builder(listen);
    if let Some(schedule) = schedule {
        builder = builder.schedule(match schedule {
            Schedule::Auto => ScheduleChoice::Auto,
            Schedule::Ring => ScheduleChoice::Ring,
            Schedule::Mesh => ScheduleChoice::Mesh,
            Schedule::Packed => ScheduleChoice::Packed,
        });
    }
    for setting in settings {
        let (key, value) =
            setting.split_once('=').ok_or_else(|| format!("--set {setting}: write key=value"))?;
        builder = builder.set(key, value).map_err(|e| e.to_string())?;
    }
    builder.build().map_err(|e| e.to_string())
}

/// Serves until Ctrl-C or SIGTERM, or until the master ends by itself, which it says.
pub fn run(args: &MasterArgs) -> Result<(), String> {
    let master = args.build()?;
    let (stop, stopped) = mpsc::channel();
    ctrlc::set_handler(move || {
        // The receiver is gone only when we are ending anyway.
        let _ = stop.send(());
    })
    .map_err(|e| format!("cannot handle Ctrl-C: {e}"))?;
    master.run().map_err(|e| e.to_string())?;
    if let Some(address) = master.address() {
        println!("listening on {address}");
    }
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| master.await_termination());
        loop {
            if stopped.recv_timeout(std::time::Duration::from_millis(200)).is_ok() {
                master.interrupt().map_err(|e| e.to_string())?;
                break;
            }
            if ended.is_finished() {
                break;
            }
        }
        match ended.join() {
            Ok(outcome) => outcome.map_err(|e| e.to_string()),
            Err(_) => Err("the thread that waits for the master panicked".into()),
        }
    })
}
