//! The table: one for each group, in lines that other programs can cut.

use std::fmt::Write;

use super::network::{Group, Network};
use crate::arguments::size_text;

/// Megabits, as links are sold.
fn mbit(bytes_per_second: u64) -> String {
    match bytes_per_second as f64 * 8.0 / 1e6 {
        0.0 => "-".to_owned(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

fn ms(us: u32) -> String {
    match f64::from(us) / 1e3 {
        0.0 => "-".to_owned(),
        ms if ms < 10.0 => format!("{ms:.2}"),
        ms => format!("{ms:.0}"),
    }
}

fn seconds(us: u64) -> String {
    match us as f64 / 1e6 {
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

pub fn text(network: &Network, sizes: &[u64]) -> String {
    let Network { master, epoch, peers_pending, rows_left_out, groups } = network;
    let peers = network.peers();
    let mut out = format!(
        "# {master}: epoch {epoch}, {}, {}, {peers_pending} pending\n",
        counted(peers, "peer"),
        counted(groups.len(), "group")
    );
    if *rows_left_out > 0 {
        let _ = writeln!(
            out,
            "# figures of {} are left out: the master's answer has no room for them",
            counted(*rows_left_out as usize, "peer")
        );
    }
    for group in groups {
        out.push('\n');
        describe(&mut out, group, sizes);
    }
    out
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

// Writing to a String cannot fail; so everywhere below.
fn describe(out: &mut String, group: &Group, sizes: &[u64]) {
    let _ = writeln!(out, "# group {}, in the order of its ring", group.group);
    if group.bytes_per_second.is_empty() {
        let _ = writeln!(out, "# nothing is measured: let all peers call optimize_topology()");
    } else {
        let age_s = group.age_ms / 1000;
        let _ = writeln!(out, "# Mbit/s from a row's rank to a column's, measured {age_s} s ago at most");
    }
    matrix(out, group, |from, to| mbit(cell(&group.bytes_per_second, from, to)), true);
    if !group.rtt_us.is_empty() {
        let _ = writeln!(out, "\n# round trips in ms");
        matrix(out, group, |from, to| ms(cell(&group.rtt_us, from, to)), false);
    }
    for (a, b) in &group.unlinked {
        let _ = writeln!(out, "# ranks {a} and {b} have no link");
    }
    predictions(out, group, sizes);
}

fn cell<T: Copy + Default>(matrix: &[Vec<T>], from: usize, to: usize) -> T {
    matrix.get(from).and_then(|row| row.get(to)).copied().unwrap_or_default()
}

fn matrix(out: &mut String, group: &Group, value: impl Fn(usize, usize) -> String, own: bool) {
    let size = if group.bytes_per_second.is_empty() { 0 } else { group.peers.len() };
    let _ = write!(out, "{:>4} {:8} {:15}", "rank", "peer", "address");
    if own {
        let _ = write!(out, " {:>8} {:>8}", "up", "down");
    }
    for rank in 0..size {
        let _ = write!(out, " {rank:>7}");
    }
    out.push('\n');
    for peer in &group.peers {
        let _ = write!(out, "{:>4} {:8} {:15}", peer.rank, peer.id, peer.address);
        if own {
            let (up, down) = (mbit(peer.up_bytes_per_second), mbit(peer.down_bytes_per_second));
            let _ = write!(out, " {up:>8} {down:>8}");
        }
        for to in 0..size {
            let _ = write!(out, " {:>7}", value(peer.rank, to));
        }
        out.push('\n');
    }
}

fn predictions(out: &mut String, group: &Group, sizes: &[u64]) {
    if group.schedules.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n# predicted time of an all-reduce; * is the least");
    let _ = write!(out, "{:>10}", "size");
    for schedule in &group.schedules {
        let width = column(&schedule.name);
        let _ = write!(out, "  {:>width$}", schedule.name);
    }
    out.push('\n');
    for &size in sizes {
        let _ = write!(out, "{:>10}", size_text(size));
        let fastest = group.fastest(size).map(|schedule| &schedule.name);
        for schedule in &group.schedules {
            let time = seconds(schedule.cost.time_us(size));
            let mark = if Some(&schedule.name) == fastest { "*" } else { "" };
            let width = column(&schedule.name);
            let _ = write!(out, "  {:>width$}", format!("{time}{mark}"));
        }
        out.push('\n');
    }
}

/// The width of a schedule's column.
fn column(name: &str) -> usize {
    name.len().max(10)
}

#[cfg(test)]
mod tests {
    use super::super::network::network_for_tests;
    use super::*;

    #[test]
    fn the_table_has_figures_and_predictions_in_columns() {
        let text = text(&network_for_tests(), &[1 << 20, 1 << 30]);
        assert!(text.starts_with("# host:1: epoch 4, 3 peers, 1 group, 1 pending\n"), "{text}");
        assert!(text.contains("\n# figures of 2 peers are left out:"), "{text}");
        let row = text.lines().find(|line| line.trim_start().starts_with("2 02020202")).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells, ["2", "02020202", "10.0.0.2", "16", "-", "-", "4.0", "-"], "{text}");
        let lines: Vec<&str> = text.lines().collect();
        let at = lines.iter().position(|line| line.contains("predicted")).unwrap();
        let columns = |line: &str| line.split("  ").filter(|cell| !cell.trim().is_empty()).count();
        assert_eq!([columns(lines[at + 1]), columns(lines[at + 2])], [3, 3], "{text}");
        assert!(lines[at + 2].contains("0.6 ms*"), "{text}");
        assert_eq!(lines[at + 1].len() + 1, lines[at + 2].len() + 1, "{text}");
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        assert_eq!((mbit(0), mbit(125_000), mbit(125_000_000)), ("-".into(), "1.0".into(), "1000".into()));
        assert_eq!((ms(0), ms(420), ms(80_123)), ("-".into(), "0.42".into(), "80".into()));
        assert_eq!((seconds(1500), seconds(2_500_000)), ("1.5 ms".into(), "2.50 s".into()));
    }
}
