//! Unified diffs of text files.

use anstyle::{AnsiColor, Style};
use similar::{ChangeTag, TextDiff};

/// A unified diff between two versions of `path`, with colours that the output filters as needed.
/// Files that are no text are named only.
pub fn unified(path: &str, old: Option<&[u8]>, new: &[u8]) -> String {
    let old_bytes = old.unwrap_or_default();
    let (Ok(old_text), Ok(new_text)) = (std::str::from_utf8(old_bytes), std::str::from_utf8(new)) else {
        return format!("Binary file {path} changes: {} to {} bytes\n", old_bytes.len(), new.len());
    };
    let red = Style::new().fg_color(Some(AnsiColor::Red.into()));
    let green = Style::new().fg_color(Some(AnsiColor::Green.into()));
    let from = if old.is_some() { format!("a{path}") } else { "/dev/null".into() };
    let mut text = format!("--- {from}\n+++ b{path}\n");
    let diff = TextDiff::from_lines(old_text, new_text);
    for hunk in diff.unified_diff().context_radius(2).iter_hunks() {
        text.push_str(&format!("{}\n", hunk.header()));
        for change in hunk.iter_changes() {
            let (sign, style) = match change.tag() {
                ChangeTag::Delete => ('-', red),
                ChangeTag::Insert => ('+', green),
                ChangeTag::Equal => (' ', Style::new()),
            };
            let line = change.value();
            let line = super::output::single_line(line.strip_suffix('\n').unwrap_or(line));
            text.push_str(&format!("{style}{sign}{line}{style:#}\n"));
            if change.missing_newline() {
                text.push_str("\\ No newline at end of file\n");
            }
        }
    }
    text
}
