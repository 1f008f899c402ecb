//! Loss over steps as an SVG: the loss on a logarithmic axis, and below how far each way is from the unquantized one.

use std::fmt::Write;

use pccl_cli::svg::{self, COLOURS, text};

use super::Curve;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 640.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 210.0;
/// The curves lie close: they differ in their dashes too. The first, which all are held against, is black.
const STYLES: [(&str, &str); 4] =
    [(COLOURS[6], "none"), (COLOURS[0], "9 5"), (COLOURS[1], "none"), (COLOURS[2], "3 4")];

/// Values from `low` to `high`, upwards.
struct Panel {
    steps: f64,
    top: f64,
    bottom: f64,
    low: f64,
    high: f64,
}

impl Panel {
    fn over(values: impl Iterator<Item = f64> + Clone, steps: f64, top: f64, bottom: f64) -> Panel {
        let (low, high) = (values.clone().fold(f64::MAX, f64::min), values.fold(f64::MIN, f64::max));
        let margin = (high - low).max(1e-9) * 0.05;
        Panel { steps, top, bottom, low: low - margin, high: high + margin }
    }

    fn x(&self, step: f64) -> f64 {
        LEFT + step / self.steps * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + (self.high - value) / (self.high - self.low) * (self.bottom - self.top)
    }

    fn frame(&self, out: &mut String, name: &str, marks: impl Iterator<Item = (f64, String)>) {
        let right = WIDTH - RIGHT;
        for (value, label) in marks.filter(|(value, _)| (self.low..=self.high).contains(value)) {
            let y = self.y(value);
            // Writing to a String cannot fail; so everywhere below.
            let _ = writeln!(out, "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\" fill=\"none\"/>");
            text(out, (LEFT - 8.0, y + 4.0), "end", &label);
        }
        for part in 0..=4 {
            let step = self.steps * f64::from(part) / 4.0;
            let (x, bottom) = (self.x(step), self.bottom);
            let _ = writeln!(out, "<path d=\"M{x:.1} {bottom}v5\" stroke=\"#444\" fill=\"none\"/>");
            text(out, (x, bottom + 20.0), "middle", &format!("{step:.0}"));
        }
        let (top, bottom) = (self.top, self.bottom);
        let _ = writeln!(out, "<path d=\"M{LEFT} {top}V{bottom}H{right}\" stroke=\"#444\" fill=\"none\"/>");
        text(out, (LEFT - 40.0, top - 10.0), "start", name);
    }

    fn draw(&self, out: &mut String, values: impl Iterator<Item = f64>, index: usize, every: u32) {
        let at = |(i, value): (usize, f64)| {
            format!("{:.1},{:.1}", self.x(i as f64 * f64::from(every)), self.y(value))
        };
        let points: Vec<String> = values.enumerate().map(at).collect();
        let _ = writeln!(out, "<polyline points=\"{}\" {}/>", points.join(" "), stroke(index));
    }
}

pub fn svg(title: &str, curves: &[Curve], every: u32) -> String {
    let intervals = curves.iter().map(|curve| curve.losses.len()).max().unwrap_or(1).max(2) - 1;
    let steps = intervals as f64 * f64::from(every);
    let losses = curves.iter().flat_map(|curve| curve.losses.iter().map(|loss| loss.log10()));
    let apart = curves.iter().flat_map(|curve| curve.apart_percent.iter().copied());
    let above = Panel::over(losses, steps, 60.0, 360.0);
    let below = Panel::over(apart, steps, 430.0, 580.0);
    let mut out = svg::begin(WIDTH, HEIGHT);
    text(&mut out, (LEFT, 24.0), "start", &format!("Training with quantized gradients: {title}"));
    let decades = (-6..=3).flat_map(|power| [1.0, 2.0, 5.0].map(|digit: f64| digit * 10f64.powi(power)));
    above.frame(&mut out, "loss (logarithmic)", decades.map(|loss| (loss.log10(), short(loss))));
    let unit = unit_of_marks(below.high - below.low);
    let marks = (-20..=20).map(|i| f64::from(i) * unit).map(|percent| (percent, short(percent)));
    below.frame(&mut out, "loss beside the unquantized training of the same seed, %", marks);
    text(&mut out, ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 14.0), "middle", "step");
    for (index, curve) in curves.iter().enumerate() {
        above.draw(&mut out, curve.losses.iter().map(|loss| loss.log10()), index, every);
        below.draw(&mut out, curve.apart_percent.iter().copied(), index, every);
        let (x, y) = (WIDTH - RIGHT + 20.0, 68.0 + 20.0 * index as f64);
        let _ = writeln!(out, "<path d=\"M{x} {y}h30\" {}/>", stroke(index));
        text(&mut out, (x + 38.0, y + 4.0), "start", curve.name);
    }
    svg::end(out)
}

/// 1, 2 or 5 times a power of ten: a few of them make the range.
fn unit_of_marks(range: f64) -> f64 {
    let power = 10f64.powf((range / 4.0).log10().floor());
    [5.0, 2.0, 1.0].map(|digit| digit * power).into_iter().find(|unit| range / unit >= 3.0).unwrap_or(power)
}

/// Without the noise of binary fractions.
fn short(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

fn stroke(index: usize) -> String {
    let (colour, dashes) = STYLES[index % STYLES.len()];
    format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"")
}
