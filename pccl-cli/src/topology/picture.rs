//! The picture: each group's peers in a circle in the order of their ring, with every directed pair as a line as thick and dark
//! as it is fast, and what an all-reduce is predicted to take beside it.

use std::f64::consts::TAU;
use std::fmt::Write;

use super::network::{Group, Network};
use crate::arguments::size_text;
use crate::svg::{self, COLOURS, SMALL_PX, sized_text, text};

const WIDTH: f64 = 980.0;
const GROUP_HEIGHT: f64 = 560.0;
const TOP: f64 = 50.0;
const CENTRE_X: f64 = 280.0;
const RADIUS: f64 = 190.0;
const BARS_X: f64 = 600.0;
const BARS_WIDTH: f64 = 190.0;

pub fn svg(network: &Network, sizes: &[u64]) -> String {
    let height = TOP + GROUP_HEIGHT * network.groups.len() as f64;
    let mut out = svg::begin(WIDTH, height);
    let title = format!("{}: epoch {}, {} peers", network.master, network.epoch, network.peers());
    text(&mut out, (20.0, 28.0), "start", &title);
    for (n, group) in network.groups.iter().enumerate() {
        let top = TOP + GROUP_HEIGHT * n as f64;
        // Writing to a String cannot fail; so everywhere below.
        let _ = writeln!(out, "<g transform=\"translate(0 {top})\">");
        draw_links(&mut out, group);
        draw_peers(&mut out, group);
        draw_predictions(&mut out, group, sizes);
        out.push_str("</g>\n");
    }
    svg::end(out)
}

fn place(rank: usize, of: usize, radius: f64) -> (f64, f64) {
    let angle = TAU * (rank as f64 / of.max(1) as f64 - 0.25);
    (CENTRE_X + radius * angle.cos(), GROUP_HEIGHT / 2.0 + radius * angle.sin())
}

/// The two directions of a pair bend apart, so that both can be seen. The ring's lines are coloured.
fn draw_links(out: &mut String, group: &Group) {
    let (size, fastest) = (group.peers.len(), group.fastest_link() as f64);
    for (from, row) in group.bytes_per_second.iter().enumerate() {
        for (to, &rate) in row.iter().enumerate().filter(|(to, rate)| *to != from && **rate > 0) {
            let share = rate as f64 / fastest;
            let ((x, y), (to_x, to_y)) = (place(from, size, RADIUS), place(to, size, RADIUS));
            let (bend_x, bend_y) = ((to_y - y) * 0.12, (x - to_x) * 0.12);
            let (mid_x, mid_y) = ((x + to_x) / 2.0 + bend_x, (y + to_y) / 2.0 + bend_y);
            let colour = if to == (from + 1) % size { COLOURS[1] } else { "#444" };
            let (width, opacity) = (0.5 + 5.0 * share, 0.12 + 0.7 * share);
            let mbit = rate as f64 * 8.0 / 1e6;
            let _ = writeln!(
                out,
                "<path d=\"M{x:.1} {y:.1}Q{mid_x:.1} {mid_y:.1} {to_x:.1} {to_y:.1}\" fill=\"none\" \
                 stroke=\"{colour}\" stroke-width=\"{width:.2}\" stroke-opacity=\"{opacity:.2}\">\
                 <title>{from} to {to}: {mbit:.0} Mbit/s</title></path>"
            );
            // An arrow a little beyond the middle, where a curve of this kind goes in the direction of its ends.
            let at = |a: f64, b: f64, c: f64| 0.16 * a + 0.48 * b + 0.36 * c;
            let (arrow_x, arrow_y) = (at(x, mid_x, to_x), at(y, mid_y, to_y));
            let angle = (to_y - y).atan2(to_x - x).to_degrees();
            let _ = writeln!(
                out,
                "<path d=\"M7 0L-5 -5L-5 5Z\" transform=\"translate({arrow_x:.1} {arrow_y:.1}) rotate({angle:.0})\" \
                 fill=\"{colour}\"/>"
            );
        }
    }
}

fn draw_peers(out: &mut String, group: &Group) {
    let size = group.peers.len();
    text(out, (20.0, 20.0), "start", &format!("group {}, in the order of its ring (coloured)", group.group));
    for peer in &group.peers {
        let (x, y) = place(peer.rank, size, RADIUS);
        let _ = writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"15\" fill=\"white\" stroke=\"#222\" stroke-width=\"1.5\"/>"
        );
        text(out, (x, y + 5.0), "middle", &peer.rank.to_string());
        let (x, y) = place(peer.rank, size, RADIUS + 42.0);
        // Beside the circle, labels need more room than above and below it.
        let x = x + 28.0 * (x - CENTRE_X) / RADIUS;
        text(out, (x, y), "middle", &peer.address);
        sized_text(out, (x, y + 14.0), "middle", SMALL_PX, &peer.id);
    }
    let rate = group.fastest_link() as f64 * 8.0 / 1e6;
    let legend = match group.bytes_per_second.is_empty() {
        true => "nothing is measured: let all peers call optimize_topology()".to_owned(),
        false => format!("the thickest line is {rate:.0} Mbit/s; point at one to read its figure"),
    };
    text(out, (20.0, GROUP_HEIGHT - 14.0), "start", &legend);
}

fn draw_predictions(out: &mut String, group: &Group, sizes: &[u64]) {
    if group.schedules.is_empty() {
        return;
    }
    text(out, (BARS_X, 20.0), "start", "predicted time of an all-reduce");
    let mut y = 50.0;
    for &size in sizes {
        text(out, (BARS_X, y), "start", &size_text(size));
        let times = || group.schedules.iter().map(|s| s.cost.time_us(size));
        let longest = times().max().unwrap_or(0).max(1) as f64;
        for ((schedule, time_us), colour) in group.schedules.iter().zip(times()).zip(COLOURS) {
            y += 22.0;
            let width = (BARS_WIDTH * time_us as f64 / longest).max(1.0);
            let top = y - 12.0;
            let _ = writeln!(
                out,
                "<rect x=\"{BARS_X}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"16\" fill=\"{colour}\"/>"
            );
            let label = format!("{:.3} s {}", time_us as f64 / 1e6, schedule.name);
            text(out, (BARS_X + width + 8.0, y), "start", &label);
        }
        y += 34.0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::network::network_for_tests;
    use super::*;

    #[test]
    fn every_measured_direction_is_a_line_with_its_figure_and_an_arrow() {
        let svg = svg(&network_for_tests(), &[1 << 20]);
        assert_eq!(svg.matches("<title>").count(), 5, "one of six is not known");
        assert_eq!(svg.matches("rotate(").count(), 5);
        assert_eq!(svg.matches("<circle").count(), 3);
        assert_eq!(svg.matches("fill=\"#0072B2\"").count(), 1, "a bar for the ring");
        for label in ["0 to 1: 80 Mbit/s", "10.0.0.2", ">1.0 MiB<", "ring"] {
            assert!(svg.contains(label), "{label}: {svg}");
        }
    }
}
