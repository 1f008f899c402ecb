//! What the log hears of a long transfer: how much, how fast, from whom.

use super::fetch::Fetch;
use crate::limits::STATE_PROGRESS_MS;
use crate::types::{SyncNumber, Time};

#[derive(Debug)]
pub(super) struct Progress {
    number: SyncNumber,
    begun: Time,
    told: Time,
    told_bytes: u64,
    lines: usize,
}

impl Progress {
    pub fn new(number: SyncNumber, now: Time) -> Progress {
        Progress { number, begun: now, told: now, told_bytes: 0, lines: 0 }
    }

    /// A line, if it is time for one.
    pub fn report(&mut self, fetch: &Fetch, now: Time) -> Option<String> {
        let span_us = now.since_us(self.told);
        if span_us < STATE_PROGRESS_MS * 1000 {
            return None;
        }
        let rate = per_second(fetch.got_bytes - self.told_bytes, span_us);
        (self.told, self.told_bytes) = (now, fetch.got_bytes);
        self.lines += 1;
        let percent = (fetch.got_bytes * 100).checked_div(fetch.needed_bytes).unwrap_or(0);
        let (needed, from) = (mib(fetch.needed_bytes), shares(fetch));
        Some(format!("{}: {percent} % of {needed} received, {}/s{from}", self.number, mib(rate)))
    }

    /// The last line, if there were others.
    pub fn last_words(&self, fetch: &Fetch, now: Time) -> Option<String> {
        let span_us = now.since_us(self.begun);
        let rate = mib(per_second(fetch.got_bytes, span_us));
        let (got, from) = (mib(fetch.got_bytes), shares(fetch));
        let seconds = span_us as f64 / 1e6;
        (self.lines > 0).then(|| format!("{}: received {got} in {seconds:.1} s, {rate}/s{from}", self.number))
    }
}

fn per_second(bytes: u64, span_us: u64) -> u64 {
    (u128::from(bytes) * 1_000_000 / u128::from(span_us.max(1))) as u64
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A few sources and what came from each.
fn shares(fetch: &Fetch) -> String {
    const SHOWN: usize = 4;
    let mut sources: Vec<_> = fetch.sources().iter().filter(|s| s.got_bytes > 0).collect();
    sources.sort_by_key(|s| std::cmp::Reverse(s.got_bytes));
    let total = fetch.got_bytes.max(1);
    let share = |s: &&super::source::Source| format!("peer {} {} %", s.peer, s.got_bytes * 100 / total);
    let mut text: Vec<String> = sources.iter().take(SHOWN).map(share).collect();
    if sources.len() > SHOWN {
        text.push(format!("{} more", sources.len() - SHOWN));
    }
    if text.is_empty() { String::new() } else { format!("; from {}", text.join(", ")) }
}
