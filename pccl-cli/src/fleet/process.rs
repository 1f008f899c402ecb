//! Child processes and what they say. Whatever happens to us, none of them outlives us: dropping kills them,
//! and a child ends when its standard input closes or (on Linux) when its parent dies.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use super::report::Report;
use crate::myself;

/// Log lines kept for the case that something goes wrong.
const KEPT_LOG_LINES: usize = 30;

#[derive(Debug)]
pub enum Event {
    Report {
        number: u32,
        report: Report,
    },
    /// A line on standard error.
    Log {
        number: u32,
        line: String,
    },
    /// Nothing more will come from this child.
    Closed {
        number: u32,
    },
    /// The system has ended a killed child: its memory is free, its connections are closed.
    Ended {
        number: u32,
        at_us: u64,
    },
    /// The person at the keyboard has had enough.
    Interrupted,
}

#[derive(Debug)]
pub struct Processes {
    children: BTreeMap<u32, Running>,
    sender: Sender<Event>,
    events: Receiver<Event>,
    log: Option<File>,
    last_log: VecDeque<String>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Processes {
    /// Children run this very program. Ctrl-C and SIGTERM become `Event::Interrupted`.
    pub fn new(log: Option<&Path>) -> io::Result<Processes> {
        let (sender, events) = mpsc::channel();
        let interrupts = sender.clone();
        ctrlc::set_handler(move || {
            // The receiver is gone only when we are ending anyway.
            let _ = interrupts.send(Event::Interrupted);
        })
        .map_err(io::Error::other)?;
        Ok(Processes {
            children: BTreeMap::new(),
            sender,
            events,
            log: log.map(File::create).transpose()?,
            last_log: VecDeque::new(),
        })
    }

    /// Starts a child under a number of its own; returns its process id.
    pub fn spawn(&mut self, number: u32, arguments: &[String]) -> io::Result<u32> {
        let mut command = myself::command()?;
        command.args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C at the terminal is ours to handle.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let pid = child.id();
        self.children.insert(number, Running { child, stdin });
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            for line in stdout.into_iter().flat_map(lines) {
                let event = match serde_json::from_str(&line) {
                    Ok(report) => Event::Report { number, report },
                    Err(_) => Event::Log { number, line },
                };
                let _ = sender.send(event);
            }
            let _ = sender.send(Event::Closed { number });
        });
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            for line in stderr.into_iter().flat_map(lines) {
                let _ = sender.send(Event::Log { number, line });
            }
        });
        Ok(pid)
    }

    /// The next event within `wait`. Log lines are kept on the way.
    pub fn next(&mut self, wait: Duration) -> Option<Event> {
        let event = match self.events.recv_timeout(wait) {
            Ok(event) => event,
            // We hold a sender ourselves, so there is only the other way to get nothing.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        };
        if let Event::Log { number, line } = &event {
            let line = format!("[{}] {line}", name(*number));
            if let Some(file) = &mut self.log {
                // A log that cannot be written must not end the run.
                let _ = writeln!(file, "{line}");
            }
            self.last_log.push_back(line);
            if self.last_log.len() > KEPT_LOG_LINES {
                self.last_log.pop_front();
            }
        }
        Some(event)
    }

    pub fn last_log(&self) -> impl Iterator<Item = &str> {
        self.last_log.iter().map(String::as_str)
    }

    /// Asks a child to finish its operation, leave and end.
    pub fn ask_to_leave(&mut self, number: u32) {
        if let Some(stdin) = self.children.get_mut(&number).and_then(|c| c.stdin.as_mut()) {
            // If it cannot be written to, the child has ended, and that is noticed elsewhere.
            let _ = writeln!(stdin, "leave");
        }
    }

    /// SIGKILL: no farewell.
    pub fn kill(&mut self, number: u32) {
        if let Some(running) = self.children.get_mut(&number) {
            // Fails only if it has ended.
            let _ = running.child.kill();
            #[cfg(target_os = "linux")]
            tell_end(number, running.child.id(), self.sender.clone());
        }
    }

    /// SIGSTOP: the process is there, and does nothing.
    #[cfg(unix)]
    pub fn freeze(&mut self, number: u32) {
        self.signal(number, nix::sys::signal::Signal::SIGSTOP);
    }

    #[cfg(unix)]
    pub fn thaw(&mut self, number: u32) {
        self.signal(number, nix::sys::signal::Signal::SIGCONT);
    }

    #[cfg(unix)]
    fn signal(&mut self, number: u32, signal: nix::sys::signal::Signal) {
        if let Some(running) = self.children.get(&number) {
            // The process id is ours until the child is waited for.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(running.child.id() as i32), signal);
        }
    }

    /// After `Closed`: how the child ended.
    pub fn reap(&mut self, number: u32) -> Option<ExitStatus> {
        let mut running = self.children.remove(&number)?;
        drop(running.stdin.take());
        running.child.wait().ok()
    }

    /// Children that have not been reaped.
    pub fn count(&self) -> usize {
        self.children.len()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for running in self.children.values_mut() {
            let _ = running.child.kill();
        }
        for running in self.children.values_mut() {
            let _ = running.child.wait();
        }
    }
}

/// Waits for a child's end without reaping it.
#[cfg(target_os = "linux")]
fn tell_end(number: u32, pid: u32, sender: Sender<Event>) {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    let pid = nix::unistd::Pid::from_raw(pid as i32);
    std::thread::spawn(move || {
        if waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).is_ok() {
            let _ = sender.send(Event::Ended { number, at_us: super::now_us() });
        }
    });
}

fn lines(from: impl io::Read) -> impl Iterator<Item = String> {
    BufReader::new(from).lines().map_while(Result::ok)
}

/// Masters have numbers from here on.
pub const FIRST_MASTER: u32 = 1_000_000;

pub fn name(number: u32) -> String {
    if number >= FIRST_MASTER { "master".into() } else { format!("peer {number}") }
}
