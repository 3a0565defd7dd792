//! Throughput over threads, as bars of text and as SVG.

use std::fmt::Write;

/// One line of the plot: a flow, with megabytes of data a second at each number of threads.
pub struct Line {
    pub name: &'static str,
    pub points: Vec<(usize, f64)>,
}

const BAR: usize = 40;
/// Colours that differ for most kinds of colour blindness (Okabe and Ito), and grey.
const COLOURS: [&str; 9] =
    ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#000000", "#b8a800", "#777777"];

fn greatest(lines: &[Line]) -> f64 {
    lines.iter().flat_map(|line| &line.points).map(|point| point.1).fold(1.0, f64::max)
}

/// Bars, longest for the fastest.
pub fn text(lines: &[Line]) -> String {
    let greatest = greatest(lines);
    let mut out = String::new();
    for line in lines {
        for (threads, rate) in &line.points {
            let bar = "#".repeat(((rate / greatest * BAR as f64).round() as usize).max(1));
            // Writing to a string does not fail.
            let _ = writeln!(out, "  {:<10} {threads:>3}  {bar:<BAR$}  {rate:>8.0} MB/s", line.name);
        }
    }
    out
}

/// A picture that stands alone.
pub fn svg(lines: &[Line]) -> String {
    let (width, height, left, bottom) = (760.0, 420.0, 70.0, 50.0);
    let (plot_width, plot_height) = (width - left - 150.0, height - bottom - 30.0);
    let greatest = greatest(lines);
    let most = lines.iter().flat_map(|line| &line.points).map(|point| point.0).max().unwrap_or(1);
    let x = |threads: usize| {
        let span = (most as f64).log2().max(1.0);
        left + (threads as f64).log2() / span * plot_width
    };
    let y = |rate: f64| height - bottom - rate / greatest * plot_height;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for step in 0..=4 {
        let rate = greatest * f64::from(step) / 4.0;
        let _ = writeln!(
            out,
            "<path d=\"M{left} {0:.1}H{1}\" stroke=\"#ddd\"/><text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{rate:.0}</text>",
            y(rate),
            left + plot_width,
            left - 6.0,
            y(rate) + 4.0
        );
    }
    let mut threads: Vec<usize> = lines.iter().flat_map(|line| &line.points).map(|point| point.0).collect();
    threads.sort_unstable();
    threads.dedup();
    for threads in threads {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{threads}</text>",
            x(threads),
            height - bottom + 18.0
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">threads</text><text x=\"10\" y=\"18\">MB of data a second</text>",
        left + plot_width / 2.0,
        height - 12.0
    );
    for (number, (line, colour)) in lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let points: Vec<String> =
            line.points.iter().map(|(threads, rate)| format!("{:.1},{:.1}", x(*threads), y(*rate))).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.join(" ")
        );
        for (threads, rate) in &line.points {
            let _ = writeln!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{}, {threads} threads: {rate:.0} MB/s</title></circle>",
                x(*threads),
                y(*rate),
                line.name
            );
        }
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" fill=\"{colour}\">{}</text>",
            left + plot_width + 14.0,
            40 + number * 18,
            line.name
        );
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_a_mark_for_every_point() {
        let lines = [
            Line { name: "raw-zlib", points: vec![(1, 100.0), (2, 190.0)] },
            Line { name: "zlib-raw", points: vec![(1, 400.0), (2, 650.0)] },
        ];
        let svg = svg(&lines);
        assert_eq!(svg.matches("<circle").count(), 4);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        let text = text(&lines);
        assert_eq!(text.lines().count(), 4);
        assert!(text.contains(&"#".repeat(BAR)));
    }
}
