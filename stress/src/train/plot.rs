//! Loss over steps as an SVG, the loss on a logarithmic axis.

use std::fmt::Write;

use super::Curve;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 60.0;
/// Told apart also by those who do not see all colours (Okabe and Ito), and by their dashes, as they lie close.
const STYLES: [(&str, &str); 4] =
    [("#000000", "none"), ("#0072B2", "8 4"), ("#D55E00", "none"), ("#009E73", "2 4")];

struct Axes {
    steps: f64,
    /// Logarithms to the base 10.
    low: f64,
    high: f64,
}

impl Axes {
    fn x(&self, step: f64) -> f64 {
        LEFT + step / self.steps * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, loss: f64) -> f64 {
        TOP + (self.high - loss.log10()) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)
    }
}

pub fn svg(title: &str, curves: &[Curve], every: u32) -> String {
    let losses = || curves.iter().flat_map(|curve| curve.losses.iter().copied());
    let steps = curves.iter().map(|curve| curve.losses.len()).max().unwrap_or(1).max(2) - 1;
    let axes = Axes {
        steps: steps as f64 * f64::from(every),
        low: losses().fold(f64::MAX, f64::min).log10() - 0.05,
        high: losses().fold(f64::MIN, f64::max).log10() + 0.05,
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    text(&mut out, LEFT, 24.0, "start", &format!("Training with quantized gradients: {title}"));
    frame(&mut out, &axes);
    for (index, (curve, style)) in curves.iter().zip(STYLES).enumerate() {
        draw(&mut out, &axes, curve, index, style, every);
    }
    out + "</svg>\n"
}

fn frame(out: &mut String, axes: &Axes) {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let values = (-6..=3).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
    for loss in values.filter(|loss| (axes.low..=axes.high).contains(&loss.log10())) {
        let y = axes.y(loss);
        // Writing to a String cannot fail; so everywhere below.
        let _ = writeln!(out, "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\" fill=\"none\"/>");
        text(out, LEFT - 8.0, y + 4.0, "end", &format!("{loss}"));
    }
    for part in 0..=4 {
        let step = axes.steps * f64::from(part) / 4.0;
        let x = axes.x(step);
        let _ = writeln!(out, "<path d=\"M{x:.1} {bottom}v5\" stroke=\"#444\" fill=\"none\"/>");
        text(out, x, bottom + 20.0, "middle", &format!("{step:.0}"));
    }
    let _ = writeln!(out, "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" stroke=\"#444\" fill=\"none\"/>");
    text(out, (LEFT + right) / 2.0, HEIGHT - 14.0, "middle", "step");
    text(out, LEFT, TOP - 10.0, "middle", "loss (logarithmic)");
}

fn draw(out: &mut String, axes: &Axes, curve: &Curve, index: usize, style: (&str, &str), every: u32) {
    let (colour, dashes) = style;
    let at =
        |(i, loss): (usize, &f64)| format!("{:.1},{:.1}", axes.x(i as f64 * f64::from(every)), axes.y(*loss));
    let points: Vec<String> = curve.losses.iter().enumerate().map(at).collect();
    let stroke =
        format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"");
    let _ = writeln!(out, "<polyline points=\"{}\" {stroke}/>", points.join(" "));
    // How far the seeds lie apart in the end.
    if let (Some(least), Some(most)) = (curve.last.first(), curve.last.last()) {
        let (x, from, to) = (WIDTH - RIGHT + 6.0 + 6.0 * index as f64, axes.y(*most), axes.y(*least));
        let _ = writeln!(out, "<path d=\"M{x} {from:.1}V{to:.1}\" stroke=\"{colour}\" stroke-width=\"3\"/>");
    }
    let (x, y) = (WIDTH - RIGHT + 40.0, TOP + 8.0 + 20.0 * index as f64);
    let _ = writeln!(out, "<path d=\"M{x} {y}h24\" {stroke}/>");
    text(out, x + 30.0, y + 4.0, "start", curve.name);
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ =
        writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#222\">{text}</text>");
}
