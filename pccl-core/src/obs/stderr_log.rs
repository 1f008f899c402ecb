//! The log of programs that have no logger to give it to: those in C and Python. Nothing is on the heap between two lines,
//! so a library that is unloaded leaves nothing of it behind.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::SystemTime;

use log::{LevelFilter, Log, Metadata, Record};

const VARIABLE: &str = "PCCL_LOG_LEVEL";
const DEFAULT: LevelFilter = LevelFilter::Warn;
/// What all of this library's modules begin with.
const OURS: &str = "pccl";

struct StderrLog;

static LOG: StderrLog = StderrLog;
/// `NOBODY`, the process that is about to start it, or `DONE`. Nobody waits for what a thread of another process would have to do: a
/// forked child has no such thread.
static STARTED: AtomicU32 = AtomicU32::new(NOBODY);
const NOBODY: u32 = 0;
const DONE: u32 = u32::MAX;
/// Whether `LOG` is the process's logger. Else it is not ours to set levels.
static INSTALLED: AtomicBool = AtomicBool::new(false);

impl Log for StderrLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(OURS)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            write(line(SystemTime::now(), record).as_bytes());
        }
    }

    fn flush(&self) {}
}

/// In one go, so that lines of several threads and processes do not mix (short ones, as far as the system keeps together what is written to
/// a pipe), and past the lock of `std`'s handle: in a forked child
/// that may be held by a thread that is not there. If it fails there is nobody to tell.
#[cfg(unix)]
fn write(mut line: &[u8]) {
    use nix::errno::Errno;
    while !line.is_empty() {
        match nix::unistd::write(std::io::stderr(), line) {
            Ok(0) => return,
            Ok(written) => line = line.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// There are no forks.
#[cfg(not(unix))]
fn write(line: &[u8]) {
    use std::io::Write;
    // If it fails there is nobody to tell.
    let _ = std::io::stderr().lock().write_all(line);
}

fn line(now: SystemTime, record: &Record<'_>) -> String {
    let now = humantime::format_rfc3339_millis(now);
    let mut line = format!("{now} {:>5} pccl[{}]: ", record.level(), std::process::id());
    for c in record.args().to_string().chars() {
        match c.is_control() {
            // Reasons come from other machines, too: they may neither break a line nor steer a terminal.
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line.push('\n');
    line
}

/// Sends the library's log to standard error from now on, as much of it as `PCCL_LOG_LEVEL` says. Only the first call does
/// something, and it does nothing where the process has a logger (of the crate `log`) or a subscriber (of `tracing`) already. It is done
/// when any call returns, but in a process that was forked in its middle.
pub fn log_to_stderr() {
    let me = std::process::id();
    match STARTED.compare_exchange(NOBODY, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            start();
            STARTED.store(DONE, Ordering::Release);
        }
        Err(_) => {
            while STARTED.load(Ordering::Acquire) == me {
                std::thread::yield_now();
            }
        }
    }
}

fn start() {
    // A subscriber of `tracing` gets everything, and this nothing.
    if log::set_logger(&LOG).is_err() {
        return;
    }
    INSTALLED.store(true, Ordering::Release);
    let wanted = wanted();
    log::set_max_level(*wanted.as_ref().unwrap_or(&DEFAULT));
    if let Err(reason) = wanted {
        tracing::warn!("environment variable {VARIABLE}: {reason}; warn it is");
    }
}

/// The level for all of the process, if the log goes to standard error; `PCCL_LOG_LEVEL` overrides it. The error says what
/// levels there are.
pub fn set_log_level(level: &str) -> Result<(), String> {
    let level = parsed(level)?;
    if INSTALLED.load(Ordering::Acquire) && !is_in_environment() {
        log::set_max_level(level);
    }
    Ok(())
}

/// Whether `set_log_level` would take it.
pub fn check_log_level(level: &str) -> Result<(), String> {
    parsed(level).map(drop)
}

fn is_in_environment() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|level| !level.is_empty())
}

fn wanted() -> Result<LevelFilter, String> {
    if !is_in_environment() {
        return Ok(DEFAULT);
    }
    parsed(&std::env::var_os(VARIABLE).unwrap_or_default().to_string_lossy())
}

/// Upper and lower case are one. ERR, FATAL and NONE are names of PCCL 1.0.
fn parsed(level: &str) -> Result<LevelFilter, String> {
    match level.trim().to_ascii_lowercase().as_str() {
        "off" | "none" => Ok(LevelFilter::Off),
        "error" | "err" | "fatal" => Ok(LevelFilter::Error),
        "warn" => Ok(LevelFilter::Warn),
        "info" => Ok(LevelFilter::Info),
        "debug" => Ok(LevelFilter::Debug),
        "trace" => Ok(LevelFilter::Trace),
        _ => Err(format!("{level:?} is no log level: there are off, error, warn, info, debug and trace")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_their_names_and_those_of_pccl_1_0() {
        for (name, level) in [
            ("off", LevelFilter::Off),
            ("NONE", LevelFilter::Off),
            ("ERR", LevelFilter::Error),
            ("Error", LevelFilter::Error),
            ("FATAL", LevelFilter::Error),
            (" warn ", LevelFilter::Warn),
            ("INFO", LevelFilter::Info),
            ("DEBUG", LevelFilter::Debug),
            ("trace", LevelFilter::Trace),
        ] {
            assert_eq!(parsed(name), Ok(level), "{name}");
        }
        for name in ["", "loud", "pccl=debug", "3"] {
            let error = parsed(name).unwrap_err();
            assert!(error.contains("there are off, error, warn"), "{error}");
        }
    }

    #[test]
    fn a_line_says_when_how_bad_and_what_and_stays_one_line() {
        let text = format_args!("peer 7 lost: \"a\nb\x1b[2J\"").to_string();
        let args = format_args!("{text}");
        let record = Record::builder().level(log::Level::Warn).target("pccl_core").args(args).build();
        let line = line(SystemTime::UNIX_EPOCH, &record);
        let (begin, rest) = line.split_once(" pccl[").unwrap();
        assert_eq!(begin, "1970-01-01T00:00:00.000Z  WARN");
        assert!(rest.ends_with("]: peer 7 lost: \"a\\nb\\u{1b}[2J\"\n"), "{rest}");
    }

    #[test]
    fn only_this_librarys_lines_are_ours() {
        let of = |target: &'static str| LOG.enabled(&Metadata::builder().target(target).build());
        assert!(of("pccl_core::net") && of("pccl") && !of("hyper::client"));
    }
}
