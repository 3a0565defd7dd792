//! The table of images.

use std::fmt::Write;

use super::disk;
use super::html::{bytes, duration, escape};
use crate::{Line, Outcome};

/// Buckets of all maps of a page together; with more images each map is coarser.
const BUCKETS_ALL: usize = 400_000;
/// Rules named in a row at most.
const RULES_MAX: usize = 40;
/// Characters of one text at most.
const TEXT_MAX: usize = 1000;

const HEAD: &str = "<section aria-labelledby=\"all\">\n<h2 id=\"all\">Images</h2>\n\
    <form id=\"controls\" hidden><label class=\"wide\">Filter: words that must be there, -word must not \
    <input id=\"filter\" type=\"search\" autocomplete=\"off\" spellcheck=\"false\"></label>\
    <label>Result <select id=\"result\"><option value=\"\">all</option><option value=\"failed\">failed</option>\
    <option value=\"unmet\">rules unmet</option><option value=\"done\">done</option></select></label></form>\n";

const LEGEND: &str = "<ul class=\"legend\"><li><span class=\"d-data\"></span>stored</li>\
    <li><span class=\"d-unused\"></span>stored, but free in the guest</li>\
    <li><span class=\"d-changed\"></span>changed</li><li><span class=\"d-free\"></span>not stored</li>\
    <li><span class=\"d-volume\"></span>volume: used</li><li><span class=\"d-room\"></span>volume: free</li></ul>\n";

/// As it is written in classes and data.
pub(super) fn word(result: Outcome) -> &'static str {
    match result {
        Outcome::Done => "done",
        Outcome::Unmet => "unmet",
        Outcome::Failed => "failed",
    }
}

pub(super) fn section(page: &mut String, lines: &[&Line]) {
    page.push_str(HEAD);
    let _ = writeln!(page, "<p id=\"shown\" aria-live=\"polite\">{} images</p>", lines.len());
    if lines.iter().any(|line| line.disk.is_some()) {
        page.push_str(LEGEND);
    }
    page.push_str(
        "<div class=\"scroll\"><table id=\"images\"><caption>One row for each image, the worst results first</caption>\n\
         <thead><tr><th scope=\"col\" data-sort=\"result\" data-kind=\"number\">Result</th>\
         <th scope=\"col\" data-sort=\"image\">Image</th><th scope=\"col\" data-sort=\"code\">What</th>\
         <th scope=\"col\" data-sort=\"boot\">Boots on</th>\
         <th scope=\"col\" data-sort=\"seconds\" data-kind=\"number\" class=\"number\">Time</th>\
         <th scope=\"col\" data-sort=\"size\" data-kind=\"number\" class=\"number\">On the host</th>\
         <th scope=\"col\" data-sort=\"written\" data-kind=\"number\" class=\"number\">Written</th>\
         <th scope=\"col\">Disk</th></tr></thead>\n<tbody>\n",
    );
    let buckets = (BUCKETS_ALL / lines.len().max(1)).clamp(24, 128);
    for line in lines {
        row(page, line, buckets);
    }
    page.push_str("</tbody></table></div></section>\n");
}

fn cut(text: &str) -> String {
    let mut short: String = text.chars().take(TEXT_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    escape(&short)
}

fn row(page: &mut String, line: &Line, buckets: usize) {
    let result = word(line.result);
    let shard =
        line.shard.as_ref().map(|shard| format!("shard {}/{}", shard.index, shard.count)).unwrap_or_default();
    let words = format!("{result} {} {shard} {}", line.class.as_deref().unwrap_or_default(), line.coldfit);
    let rank = match line.result {
        Outcome::Failed => 0,
        Outcome::Unmet => 1,
        Outcome::Done => 2,
    };
    let shown = if line.result == Outcome::Unmet { "rules unmet" } else { result };
    let (folder, name) = line.image.rsplit_once('/').unwrap_or(("", &line.image));
    let _ = write!(
        page,
        "<tr data-result=\"{result}\" data-words=\"{}\"><td data-label=\"Result\" data-value=\"{rank}\">\
         <span class=\"badge {result}\">{shown}</span></td>\
         <td class=\"image\" data-label=\"Image\" data-value=\"{}\"><b>{}</b><small class=\"soft\">{}/</small></td>",
        cut(&words),
        cut(&line.image),
        cut(name),
        cut(folder),
    );
    what(page, line);
    let boots: Vec<&str> = line
        .boot
        .iter()
        .filter(|(_, verdict)| *verdict == "boots")
        .map(|(bus, _)| bus.as_str())
        .take(16)
        .collect();
    let boots = match (boots.is_empty(), line.boot.is_empty()) {
        (true, true) => "–".to_owned(),
        (true, false) => "none".to_owned(),
        _ => cut(&boots.join(", ")),
    };
    let size = line.source.as_ref().map(|source| source.allocated);
    let written = line.bytes.get("written").copied().filter(|written| *written > 0);
    let or_dash = |value: Option<u64>| value.map_or("–".to_owned(), bytes);
    let _ = write!(
        page,
        "<td data-label=\"Boots on\" data-value=\"{boots}\">{boots}</td>\
         <td class=\"number\" data-label=\"Time\" data-value=\"{:.6}\">{}</td>\
         <td class=\"number\" data-label=\"On the host\" data-value=\"{}\">{}</td>\
         <td class=\"number\" data-label=\"Written\" data-value=\"{}\">{}</td><td class=\"map\" data-label=\"Disk\">",
        if line.seconds.is_finite() { line.seconds } else { 0.0 },
        duration(line.seconds),
        size.unwrap_or(0),
        or_dash(size),
        written.unwrap_or(0),
        or_dash(written),
    );
    match &line.disk {
        Some(map) => page.push_str(&disk::svg(map, buckets)),
        None => page.push('–'),
    }
    page.push_str("</td></tr>\n");
}

/// What was done, and what came of it.
fn what(page: &mut String, line: &Line) {
    let profile = line.profile.as_deref().map(|profile| format!(" · {}", cut(profile))).unwrap_or_default();
    let _ = write!(
        page,
        "<td class=\"what\" data-label=\"What\" data-value=\"{}\"><code>{}</code> \
         <small class=\"soft\">{}{profile}</small>",
        cut(&line.code),
        cut(&line.code),
        line.action.name(),
    );
    if let Some(message) = &line.message {
        let _ = write!(page, "<br>{}", cut(message));
    }
    if let Some(hint) = &line.hint {
        let _ = write!(page, "<small class=\"soft note\">{}</small>", cut(hint));
    }
    if !line.unmet.is_empty() {
        let count = line.unmet.len();
        let rules = if count == 1 { "rule does" } else { "rules do" };
        let _ = write!(page, "<details><summary>{count} required {rules} not hold</summary><ul>");
        for rule in line.unmet.iter().take(RULES_MAX) {
            let state = line.rules.get(rule).map(String::as_str).unwrap_or_default();
            let _ = write!(page, "<li>{} <span class=\"soft\">{}</span></li>", cut(rule), cut(state));
        }
        page.push_str("</ul></details>");
    }
    let fixed = line.rules.values().filter(|state| *state == "fixed").count();
    if fixed > 0 {
        let _ = write!(page, "<small class=\"soft note\">{fixed} fixed</small>");
    }
    if let Some(target) = &line.target {
        let name = target.path.to_string_lossy();
        let name = name.rsplit('/').next().unwrap_or_default();
        let _ = write!(
            page,
            "<small class=\"soft note\">→ {} ({})</small>",
            cut(name),
            bytes(target.identity.bytes)
        );
    }
    page.push_str("</td>");
}
