//! The table, line by line as it comes, in the manner of nccl-tests.

use super::case::{Report, Row};

pub fn head(report: &Report, sockets: bool, behind_bytes: Option<u64>) -> String {
    let (cores, place) = (report.cores, report.place);
    let mut out = format!("# pccl bench {}: all-reduce, {place}, {cores} cores here\n", report.version);
    if let Some(bytes) = behind_bytes {
        out += &format!("# while an all-reduce of {bytes} bytes is under way\n");
    }
    let names = [
        "size", "count", "type", "op", "place", "schedule", "pool", "world", "tags", "iters", "time", "min",
        "max", "algbw", "busbw", "CPU", "memory", "wrong", "cc", "quantize", "error", "predict",
    ];
    let units = [
        "(B)",
        "(elements)",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "(us)",
        "(us)",
        "(us)",
        "(GB/s)",
        "(GB/s)",
        "(s/GB)",
        "(MiB)",
        "",
        "",
        "",
        "(of range)",
        "(us)",
    ];
    let theirs = ["sockets", "ours/", "sockets", "add", "ours/"];
    let units_of_theirs = ["(GB/s)", "sockets", "(s/GB)", "(s/GB)", "both"];
    for (names, theirs) in [(names, theirs), (units, units_of_theirs)] {
        let theirs = if sockets { &theirs[..] } else { &[] };
        let cells = names.iter().chain(theirs).map(|name| name.to_string()).collect();
        out += &format!("#{}\n", line(cells));
    }
    out.pop();
    out
}

pub fn row(row: &Row) -> String {
    let optional = |x: Option<f64>, digits: usize| x.map_or("-".into(), |x| format!("{x:.digits$}"));
    let mut cells = vec![
        row.size_bytes.to_string(),
        row.count.to_string(),
        row.dtype.clone(),
        row.op.clone(),
        if row.in_place { "in" } else { "out" }.to_string(),
        row.schedule.clone(),
        row.pool.to_string(),
        row.world.to_string(),
        row.tags.to_string(),
        row.iterations.to_string(),
        format!("{:.1}", row.time_us.median),
        format!("{:.1}", row.time_us.min),
        format!("{:.1}", row.time_us.max),
        format!("{:.3}", row.algbw_gb_s),
        format!("{:.3}", row.busbw_gb_s),
        optional(row.cpu_s_per_gb, 3),
        optional(row.peak_memory_mib, 1),
        row.wrong.map_or("-".into(), |wrong| wrong.to_string()),
        row.congestion_control.clone(),
        row.quantize.clone(),
        row.error.map_or("-".into(), |error| format!("{error:.6}")),
        optional(row.predicted_us, 1),
    ];
    if let Some(sockets) = &row.sockets {
        cells.extend([
            format!("{:.3}", sockets.busbw_gb_s),
            format!("{:.2}", sockets.busbw_ratio),
            optional(sockets.cpu_s_per_gb, 3),
            optional(sockets.add_cpu_s_per_gb, 3),
            optional(sockets.cpu_ratio, 2),
        ]);
    }
    format!(" {}", line(cells))
}

pub fn foot(report: &Report) -> String {
    let verdict = if report.rows.iter().any(|row| row.wrong.is_none()) {
        "not looked at".into()
    } else {
        format!("{} {}", report.wrong(), if report.ok { "OK" } else { "FAILED" })
    };
    format!("# wrong elements: {verdict}")
}

fn line(cells: Vec<String>) -> String {
    const WIDTHS: [usize; 27] =
        [11, 10, 5, 5, 6, 9, 5, 6, 5, 6, 11, 11, 11, 8, 8, 7, 7, 6, 6, 8, 10, 11, 8, 8, 8, 7, 6];
    let cells = cells.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:>width$}"));
    cells.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::case::{SocketRow, Spread, row_for_tests};
    use super::*;

    #[test]
    fn head_and_rows_have_the_same_columns() {
        let sockets = SocketRow {
            time_us: Spread::default(),
            busbw_gb_s: 2.0,
            cpu_s_per_gb: Some(0.4),
            add_cpu_s_per_gb: Some(0.1),
            busbw_ratio: 0.5,
            cpu_ratio: Some(1.0),
        };
        for sockets in [None, Some(sockets)] {
            let head = head(&Report::new(true), sockets.is_some(), None);
            let row = row(&Row { sockets, ..row_for_tests(1 << 20, "ring", 1.0) });
            let columns = head.lines().nth(1).unwrap();
            assert_eq!(columns.len(), row.len(), "{head}\n{row}");
            assert_eq!(
                columns.trim_start_matches('#').split_whitespace().count(),
                row.split_whitespace().count()
            );
        }
    }

    #[test]
    fn the_last_line_tells_whether_anything_was_wrong() {
        let mut report = Report::new(true);
        report.add(row_for_tests(8, "ring", 1.0));
        assert_eq!(foot(&report), "# wrong elements: 0 OK");
        report.add(Row { wrong: Some(3), ..row_for_tests(8, "ring", 1.0) });
        assert_eq!(foot(&report), "# wrong elements: 3 FAILED");
        report.add(Row { wrong: None, ..row_for_tests(8, "ring", 1.0) });
        assert_eq!(foot(&report), "# wrong elements: not looked at");
    }
}
