//! How rules fared, and where images ended.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::html::escape;
use crate::Line;

/// Rules and codes shown at most, the ones with the most images that need something first.
const ROWS_MAX: usize = 100;
/// States from the worst to what needs nobody, as they stand in bars.
const STATES: [(&str, &str); 7] = [
    ("not-fixable", "cannot fix"),
    ("needs-action", "needs action"),
    ("fixable", "fixable"),
    ("fixed", "fixed"),
    ("holds", "holds"),
    ("waived", "waived"),
    ("not-applicable", "not applicable"),
];

pub(super) fn section(page: &mut String, lines: &[&Line]) {
    codes(page, lines);
    let mut rules: BTreeMap<&str, [u64; STATES.len()]> = BTreeMap::new();
    for (rule, state) in lines.iter().flat_map(|line| &line.rules) {
        if let Some(index) = STATES.iter().position(|(name, _)| name == state) {
            rules.entry(rule).or_default()[index] += 1;
        }
    }
    if rules.is_empty() {
        return;
    }
    let mut rows: Vec<(&str, [u64; STATES.len()])> = rules.into_iter().collect();
    // By what is left to do; then by what was.
    rows.sort_by_key(|(name, counts)| {
        let open: u64 = counts.iter().take(3).sum();
        (std::cmp::Reverse((open, counts[3])), *name)
    });
    page.push_str("<section aria-labelledby=\"rules\">\n<h2 id=\"rules\">Rules</h2>\n<ul class=\"legend\">");
    for (state, words) in STATES {
        let _ = write!(page, "<li><span class=\"s-{state}\"></span>{words}</li>");
    }
    page.push_str("</ul>\n<table class=\"bars\">\n");
    for (name, counts) in rows.iter().take(ROWS_MAX) {
        let parts: Vec<(String, u64)> =
            STATES.iter().zip(counts).map(|((state, _), count)| (format!("s-{state}"), *count)).collect();
        let words: Vec<String> = STATES
            .iter()
            .zip(counts)
            .filter(|(_, count)| **count > 0)
            .map(|((_, words), count)| format!("{count} {words}"))
            .collect();
        row(page, name, &parts, counts.iter().sum(), &words.join(", "));
    }
    page.push_str("</table>\n");
    rest(page, rows.len(), "rules");
    page.push_str("</section>\n");
}

/// How many images ended with which code.
fn codes(page: &mut String, lines: &[&Line]) {
    let mut codes: BTreeMap<(std::cmp::Reverse<crate::Outcome>, &str), u64> = BTreeMap::new();
    for line in lines {
        *codes.entry((std::cmp::Reverse(line.result), &line.code)).or_default() += 1;
    }
    page.push_str(
        "<section aria-labelledby=\"results\">\n<h2 id=\"results\">Results</h2>\n<table class=\"bars\">\n",
    );
    for ((result, code), count) in codes.iter().take(ROWS_MAX) {
        let part = (format!("f-{}", super::table::word(result.0)), *count);
        row(page, code, &[part], lines.len() as u64, &count.to_string());
    }
    page.push_str("</table>\n");
    rest(page, codes.len(), "codes");
    page.push_str("</section>\n");
}

fn rest(page: &mut String, count: usize, what: &str) {
    if count > ROWS_MAX {
        let _ = writeln!(page, "<p class=\"soft\">{} more {what} are not shown.</p>", count - ROWS_MAX);
    }
}

/// A row with a bar of parts (class and count) of `all`.
fn row(page: &mut String, name: &str, parts: &[(String, u64)], all: u64, words: &str) {
    let name: String = name.chars().take(120).collect();
    let (name, words) = (escape(&name), escape(words));
    let _ = write!(
        page,
        "<tr><th scope=\"row\"><code>{name}</code></th><td><svg viewBox=\"0 0 1000 14\" \
         preserveAspectRatio=\"none\" role=\"img\"><title>{name}: {words}</title>"
    );
    let mut at = 0.0;
    for (class, count) in parts {
        let width = *count as f64 / all.max(1) as f64 * 1000.0;
        if *count > 0 {
            let _ =
                write!(page, "<rect class=\"{class}\" x=\"{at:.1}\" width=\"{width:.1}\" height=\"14\"/>");
        }
        at += width;
    }
    let _ = writeln!(page, "</svg></td><td class=\"counts\">{words}</td></tr>");
}
