//! A real master, as a process of its own, and what the system says it uses.

use std::io::{BufRead, BufReader, Error, Result};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Ends with its standard input, or when dropped.
pub struct MasterProcess {
    child: Child,
    _stdin: Option<ChildStdin>,
    pub address: SocketAddr,
}

impl MasterProcess {
    pub fn start(settings: &[String]) -> Result<MasterProcess> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["child-master", "--listen=127.0.0.1:0"]);
        command.args(settings.iter().map(|setting| format!("--set={setting}")));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or_else(|| Error::other("no output"))?).read_line(&mut line)?;
        let report: serde_json::Value = serde_json::from_str(&line)?;
        let address = report["address"].as_str().and_then(|text| text.parse().ok());
        let address = address.ok_or_else(|| Error::other(format!("the master did not start: {line}")))?;
        Ok(MasterProcess { child, _stdin: stdin, address })
    }

    /// All threads together.
    pub fn cpu_us(&self) -> Result<u64> {
        let mut ns = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let figures = std::fs::read_to_string(task?.path().join("schedstat"))?;
            ns += figures.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(ns / 1_000)
    }

    pub fn resident_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.ok_or_else(|| Error::other("the system does not say how much memory the master has"))
    }
}

impl Drop for MasterProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
