//! Bus bandwidth over size as an SVG: a line for each combination of everything else.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::case::{Report, Row};
use crate::arguments::size_text;
use crate::svg::{self, COLOURS, text};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;
const MAX_SIZE_LABELS: usize = 10;

struct Line {
    name: String,
    dashed: bool,
    /// Size in bytes, GB/s.
    points: Vec<(u64, f64)>,
}

struct Axes {
    sizes: Vec<u64>,
    top_gb_s: f64,
}

impl Axes {
    fn of(lines: &[Line]) -> Axes {
        let points = || lines.iter().flat_map(|line| &line.points);
        let mut sizes: Vec<u64> = points().map(|p| p.0).collect();
        sizes.sort_unstable();
        sizes.dedup();
        Axes { sizes, top_gb_s: round_up(points().map(|p| p.1).fold(0.0, f64::max)) }
    }

    /// Sizes on a logarithmic axis; a single one in the middle.
    fn x(&self, size: u64) -> f64 {
        let log = |size: u64| (size.max(1) as f64).log2();
        let least = self.sizes.first().copied().map_or(0.0, log);
        let span = self.sizes.last().copied().map_or(0.0, log) - least;
        let share = if span > 0.0 { (log(size) - least) / span } else { 0.5 };
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, gb_s: f64) -> f64 {
        HEIGHT - BOTTOM - gb_s / self.top_gb_s * (HEIGHT - TOP - BOTTOM)
    }
}

pub fn svg(report: &Report) -> String {
    let lines = lines(&report.rows);
    let axes = Axes::of(&lines);
    let mut out = svg::begin(WIDTH, HEIGHT);
    let cc = report.rows.first().map_or("", |row| row.congestion_control.as_str());
    let title = format!("pccl {} all-reduce, {}, congestion control {cc}", report.version, report.place);
    text(&mut out, (LEFT, 28.0), "start", &title);
    frame(&mut out, &axes);
    for (i, line) in lines.iter().enumerate() {
        draw(&mut out, &axes, line, i);
    }
    svg::end(out)
}

fn lines(rows: &[Row]) -> Vec<Line> {
    let mut lines: BTreeMap<(bool, String), Vec<(u64, f64)>> = BTreeMap::new();
    for row in rows {
        let name = name(row, rows);
        let mut add = |dashed, name, gb_s| {
            lines.entry((dashed, name)).or_default().push((row.size_bytes, gb_s));
        };
        if let Some(sockets) = &row.sockets {
            add(true, format!("sockets, {name}"), sockets.busbw_gb_s);
        }
        add(false, name, row.busbw_gb_s);
    }
    let line = |((dashed, name), mut points): ((bool, String), Vec<(u64, f64)>)| {
        points.sort_by_key(|p| p.0);
        Line { name, dashed, points }
    };
    lines.into_iter().map(line).collect()
}

/// The schedule, and whatever else differs between the rows.
fn name(row: &Row, rows: &[Row]) -> String {
    fn part<V: PartialEq>(row: &Row, rows: &[Row], of: impl Fn(&Row) -> V, text: String) -> Option<String> {
        rows.iter().any(|other| of(other) != of(row)).then_some(text)
    }
    let place = if row.in_place { "in place" } else { "out of place" };
    let parts = [
        Some(row.schedule.clone()),
        part(row, rows, |r| r.world, format!("world {}", row.world)),
        part(row, rows, |r| r.pool, format!("pool {}", row.pool)),
        part(row, rows, |r| r.tags, format!("{} tags", row.tags)),
        part(row, rows, |r| r.dtype.clone(), row.dtype.clone()),
        part(row, rows, |r| r.op.clone(), row.op.clone()),
        part(row, rows, |r| r.quantize.clone(), row.quantize.clone()),
        part(row, rows, |r| r.in_place, place.into()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn frame(out: &mut String, axes: &Axes) {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for step in 0..=5 {
        let gb_s = axes.top_gb_s * f64::from(step) / 5.0;
        let y = axes.y(gb_s);
        // Writing to a String cannot fail; so everywhere below.
        let _ = writeln!(out, "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\" fill=\"none\"/>");
        text(out, (LEFT - 8.0, y + 4.0), "end", &format!("{gb_s:.2}"));
    }
    let every = axes.sizes.len().div_ceil(MAX_SIZE_LABELS).max(1);
    for &size in axes.sizes.iter().step_by(every) {
        let x = axes.x(size);
        let _ = writeln!(out, "<path d=\"M{x:.1} {bottom}v5\" stroke=\"#444\" fill=\"none\"/>");
        text(out, (x, bottom + 20.0), "middle", &size_text(size).replace(".0 ", " "));
    }
    let _ = writeln!(out, "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" stroke=\"#444\" fill=\"none\"/>");
    text(out, ((LEFT + right) / 2.0, HEIGHT - 14.0), "middle", "size (logarithmic)");
    text(out, (LEFT, TOP - 6.0), "middle", "busbw, GB/s");
}

fn draw(out: &mut String, axes: &Axes, line: &Line, index: usize) {
    let colour = COLOURS[index % COLOURS.len()];
    let dash = if line.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
    let at = |&(size, gb_s): &(u64, f64)| format!("{:.1},{:.1}", axes.x(size), axes.y(gb_s));
    let points: Vec<String> = line.points.iter().map(at).collect();
    let stroke = format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}");
    let _ = writeln!(out, "<polyline points=\"{}\" {stroke}/>", points.join(" "));
    for &(size, gb_s) in &line.points {
        let (x, y) = (axes.x(size), axes.y(gb_s));
        let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
    }
    let (x, y) = (WIDTH - RIGHT + 16.0, TOP + 8.0 + 20.0 * index as f64);
    let _ = writeln!(out, "<path d=\"M{x} {y}h24\" {stroke}/>");
    text(out, (x + 30.0, y + 4.0), "start", &line.name);
}

/// The next 1, 2, 2.5 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0];
    steps.into_iter().map(|step| step * power).find(|top| *top >= value).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::super::case::row_for_tests;
    use super::*;

    #[test]
    fn each_schedule_has_a_line_with_its_name_and_all_its_points() {
        let mut report = Report::new(true);
        for schedule in ["ring", "mesh"] {
            for size in [4 << 10, 64 << 10, 1 << 20] {
                report.add(row_for_tests(size, schedule, size as f64 / 1e6));
            }
        }
        let svg = svg(&report);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 6);
        for label in [">ring<", ">mesh<", ">4 KiB<", ">64 KiB<", ">1 MiB<", "congestion control bbr"] {
            assert!(svg.contains(label), "{label}: {svg}");
        }
    }

    #[test]
    fn rows_that_differ_in_what_travels_are_lines_of_their_own() {
        let mut report = Report::new(true);
        for quantize in ["none", "u8"] {
            report.add(Row { quantize: quantize.into(), ..row_for_tests(1 << 20, "ring", 1.0) });
        }
        let svg = svg(&report);
        assert!(svg.contains(">ring, none<") && svg.contains(">ring, u8<"), "{svg}");
    }

    #[test]
    fn larger_is_higher_and_farther_right_and_steps_of_a_factor_are_equally_wide() {
        let axes = Axes { sizes: vec![1, 16, 256], top_gb_s: 2.0 };
        assert!(axes.y(2.0) < axes.y(1.0));
        assert!((axes.x(16) - axes.x(1) - (axes.x(256) - axes.x(16))).abs() < 1e-9);
        let one = Axes { sizes: vec![64], top_gb_s: 2.0 };
        assert!(one.x(64) > LEFT && one.x(64) < WIDTH - RIGHT);
    }

    #[test]
    fn the_axis_ends_at_a_round_number() {
        for (value, top) in [(0.0, 1.0), (0.7, 1.0), (1.3, 2.0), (2.1, 2.5), (34.0, 50.0), (51.0, 100.0)] {
            assert!((round_up(value) - top).abs() < 1e-9, "{value}");
        }
    }
}
