//! What the system says about this process and its sockets.

/// User and system time of all threads so far, in seconds.
#[cfg(unix)]
pub fn cpu_s() -> Option<f64> {
    use nix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).ok()?;
    Some(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

#[cfg(not(unix))]
pub fn cpu_s() -> Option<f64> {
    None
}

/// From here on `peak_memory_bytes` tells of what follows.
pub fn forget_peak_memory() {
    // Where it cannot be, the peak of the whole process counts: a figure too high, never too low.
    #[cfg(target_os = "linux")]
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Peak resident memory (VmHWM).
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn work_takes_cpu_time_and_memory() {
        let before = cpu_s().unwrap();
        forget_peak_memory();
        let low = peak_memory_bytes().unwrap();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(peak_memory_bytes().unwrap() >= low + (48 << 20));
        assert!(block.iter().map(|&b| u64::from(b)).sum::<u64>() > 0);
        assert!(cpu_s().unwrap() > before);
    }
}
