//! Throughput over the run, time of each image by its size, and where the time went.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::html::{bytes, duration, escape};
use super::timeline::Timeline;
use crate::Line;

/// Bars of the throughput plot at most.
const BARS: usize = 60;
/// Points of the time plot at most: the slowest, and an even sample of the others.
const POINTS_MAX: usize = 2000;
/// Stages shown at most.
const STAGES_MAX: usize = 12;
/// The area of a plot inside its margins.
const LEFT: f64 = 68.0;
const RIGHT: f64 = 390.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 186.0;

pub(super) fn section(page: &mut String, lines: &[&Line]) {
    let timed: Vec<&Line> =
        lines.iter().copied().filter(|line| line.seconds.is_finite() && line.seconds > 0.0).collect();
    if timed.is_empty() {
        return;
    }
    page.push_str("<section aria-labelledby=\"times\">\n<h2 id=\"times\">Throughput and time</h2>\n<div class=\"plots\">\n");
    throughput(page, &timed);
    times(page, &timed);
    page.push_str("</div>\n");
    stages(page, lines);
    page.push_str("</section>\n");
}

fn size(line: &Line) -> u64 {
    line.source.as_ref().map_or(0, |source| source.allocated)
}

fn begin(page: &mut String, heading: &str, alternative: &str) {
    let _ = write!(
        page,
        "<figure><h3>{heading}</h3><svg class=\"plot\" viewBox=\"0 0 400 220\" role=\"img\"><title>{}</title>\
         <path class=\"axis\" fill=\"none\" d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\"/>",
        escape(alternative)
    );
}

fn label(page: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = write!(page, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(text));
}

/// Bytes of images by run time. The bytes of an image are spread over the time that it took.
fn throughput(page: &mut String, lines: &[&Line]) {
    let timeline = Timeline::new(lines);
    let whole = timeline.seconds().max(1e-6);
    let step = whole / BARS as f64;
    let mut rates = [0.0; BARS];
    let mut images = [0u64; BARS];
    for line in lines {
        let (from, to) = (timeline.before(line.started_at), timeline.before(line.started_at + line.seconds));
        let span = (to - from).max(1e-9);
        let (first, last) = ((from / step) as usize, ((to / step) as usize).min(BARS - 1));
        images[last] += 1;
        for (index, rate) in rates.iter_mut().enumerate().take(last + 1).skip(first.min(BARS - 1)) {
            let overlap = (to.min((index + 1) as f64 * step) - from.max(index as f64 * step)).max(0.0);
            *rate += size(line) as f64 * overlap / span / step;
        }
    }
    let highest = rates.iter().copied().fold(1.0, f64::max);
    let mean: f64 = lines.iter().map(|line| size(line) as f64).sum::<f64>() / whole;
    let words = format!(
        "{} images in {}: {}/s and {:.1} images/s on average, {}/s at most",
        lines.len(),
        duration(whole),
        bytes(mean as u64),
        lines.len() as f64 / whole,
        bytes(highest as u64)
    );
    begin(page, "Throughput", &words);
    let width = (RIGHT - LEFT) / BARS as f64;
    for (index, (rate, ended)) in rates.iter().zip(images).enumerate() {
        let height = rate / highest * (BOTTOM - TOP);
        if height > 0.05 {
            let _ = write!(
                page,
                "<rect class=\"bar\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{}/s, {ended} images ended</title></rect>",
                LEFT + index as f64 * width,
                BOTTOM - height,
                width * 0.85,
                bytes(*rate as u64),
            );
        }
    }
    label(page, LEFT - 6.0, TOP + 8.0, "end", &format!("{}/s", bytes(highest as u64)));
    label(page, LEFT - 6.0, BOTTOM, "end", "0");
    label(page, LEFT, BOTTOM + 16.0, "start", "0");
    label(page, RIGHT, BOTTOM + 16.0, "end", &duration(whole));
    label(page, (LEFT + RIGHT) / 2.0, BOTTOM + 30.0, "middle", "run time");
    let _ = writeln!(page, "</svg><figcaption>{}</figcaption></figure>", escape(&words));
}

/// A logarithmic axis over whole powers of its base.
struct Axis {
    base: f64,
    low: f64,
    high: f64,
}

impl Axis {
    fn of(base: f64, values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            (low, high) = (low.min(value.log(base)), high.max(value.log(base)));
        }
        let low = if low.is_finite() { low.floor() } else { 0.0 };
        let high = if high.is_finite() { high.ceil() } else { 1.0 };
        Self { base, low, high: high.max(low + 1.0) }
    }

    fn share(&self, value: f64) -> f64 {
        ((value.log(self.base) - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        let every = ((self.high - self.low) / 5.0).ceil().max(1.0);
        let count = ((self.high - self.low) / every) as usize;
        (0..=count).map(move |index| self.base.powf(self.low + index as f64 * every))
    }
}

fn times(page: &mut String, lines: &[&Line]) {
    let mut points: Vec<&Line> = lines.to_vec();
    points.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
    let slow = points.len().min(POINTS_MAX / 2);
    let every = (points.len() - slow).div_ceil(POINTS_MAX / 2).max(1);
    let sample = points.iter().take(slow).chain(points.iter().skip(slow).step_by(every));
    let seconds = Axis::of(10.0, lines.iter().map(|line| line.seconds.max(0.001)));
    let sizes = Axis::of(16.0, lines.iter().map(|line| size(line).max(1024) as f64));
    let median = points.get(points.len() / 2).map_or(0.0, |line| line.seconds);
    let slowest = points.first().map_or(0.0, |line| line.seconds);
    let words =
        format!("half of the images took at most {}, the slowest {}", duration(median), duration(slowest));
    begin(page, "Time by size on the host", &words);
    for tick in seconds.ticks() {
        let y = BOTTOM - seconds.share(tick) * (BOTTOM - TOP);
        let _ = write!(page, "<path class=\"axis\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>");
        let text =
            if tick < 1.0 { format!("{:.0} ms", tick * 1000.0) } else { duration(tick).replace(".00", "") };
        label(page, LEFT - 6.0, y + 4.0, "end", &text);
    }
    for tick in sizes.ticks() {
        let x = LEFT + sizes.share(tick) * (RIGHT - LEFT);
        let anchor = if x > RIGHT - 10.0 { "end" } else { "middle" };
        label(page, x, BOTTOM + 16.0, anchor, &bytes(tick.round() as u64).replace(".0", ""));
    }
    for line in sample {
        let _ = write!(
            page,
            "<circle class=\"dot f-{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"/>",
            super::table::word(line.result),
            LEFT + sizes.share(size(line).max(1024) as f64) * (RIGHT - LEFT),
            BOTTOM - seconds.share(line.seconds.max(0.001)) * (BOTTOM - TOP),
        );
    }
    label(page, (LEFT + RIGHT) / 2.0, BOTTOM + 30.0, "middle", "size on the host");
    let _ = writeln!(
        page,
        "</svg><figcaption>{}. Each point is an image: <span class=\"badge done\">done</span> \
         <span class=\"badge unmet\">rules unmet</span> <span class=\"badge failed\">failed</span></figcaption></figure>",
        escape(&words)
    );
}

/// Seconds of all images by stage.
fn stages(page: &mut String, lines: &[&Line]) {
    let mut stages: BTreeMap<&str, f64> = BTreeMap::new();
    for (stage, seconds) in lines.iter().flat_map(|line| &line.timings) {
        // `sync` is a part of `commit`.
        if stage != "sync" && seconds.is_finite() && *seconds > 0.0 {
            *stages.entry(stage).or_default() += seconds;
        }
    }
    if stages.is_empty() {
        return;
    }
    let mut rows: Vec<(&str, f64)> = stages.into_iter().collect();
    rows.sort_by(|one, other| other.1.total_cmp(&one.1));
    let longest = rows.first().map_or(1.0, |row| row.1);
    page.push_str("<h3>Where the time went</h3>\n<table class=\"bars\">\n");
    for (stage, seconds) in rows.iter().take(STAGES_MAX) {
        let _ = writeln!(
            page,
            "<tr><th scope=\"row\">{}</th><td><svg viewBox=\"0 0 1000 14\" preserveAspectRatio=\"none\" \
             aria-hidden=\"true\"><rect class=\"d-data\" width=\"{:.1}\" height=\"14\"/></svg></td>\
             <td class=\"counts\">{}</td></tr>",
            escape(&stage.chars().take(60).collect::<String>()),
            seconds / longest * 1000.0,
            duration(*seconds)
        );
    }
    page.push_str("</table>\n");
}
