//! What all pictures share: their frame, their colours, and labels that no name can break.

use std::fmt::Write;

/// Told apart also by those who do not see all colours (Okabe and Ito).
pub const COLOURS: [&str; 7] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"];
pub const SMALL_PX: f64 = 10.0;
const FONT_PX: f64 = 13.0;

/// An empty white picture; [`end`] closes it.
pub fn begin(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"{FONT_PX}\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    )
}

pub fn end(picture: String) -> String {
    picture + "</svg>\n"
}

/// `anchor`: start, middle or end, where the text has the point.
pub fn text(out: &mut String, at: (f64, f64), anchor: &str, text: &str) {
    sized_text(out, at, anchor, FONT_PX, text);
}

pub fn sized_text(out: &mut String, (x, y): (f64, f64), anchor: &str, px: f64, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{px}\" fill=\"#222\">{text}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_text_whatever_it_is() {
        let mut out = begin(10.0, 20.0);
        text(&mut out, (1.0, 2.0), "start", "a<b & c");
        let svg = end(out);
        assert!(svg.contains(">a&lt;b &amp; c<") && svg.ends_with("</svg>\n"), "{svg}");
    }
}
