//! Log lines of the library, on standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

/// `PCCL_LOG_LEVEL` says how much: error, warn (default), info, debug, trace, or tracing's filter syntax.
pub fn start() {
    let level = std::env::var("PCCL_LOG_LEVEL").unwrap_or_default().to_lowercase();
    let level = match level.as_str() {
        // Names of PCCL 1.0.
        "err" | "fatal" => "error",
        "none" => "off",
        other => other,
    };
    let filter = EnvFilter::builder().parse(level).ok().filter(|_| !level.is_empty());
    let begun = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new("warn")))
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        .try_init();
    // A process whose log goes somewhere already, as a Python program's, keeps that.
    let _ = begun;
}
