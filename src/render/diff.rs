//! Unified diffs of text files.

use std::borrow::Cow;

use anstyle::{AnsiColor, Style};
use similar::{ChangeTag, TextDiff};

/// A unified diff between two versions of `path`, with colours that the output filters as needed.
/// Files that are no text are named only; password hashes are not shown.
pub fn unified(path: &str, old: Option<&[u8]>, new: &[u8]) -> String {
    let old_bytes = old.unwrap_or_default();
    let (Ok(old_text), Ok(new_text)) = (std::str::from_utf8(old_bytes), std::str::from_utf8(new)) else {
        return format!("Binary file {path} changes: {} to {} bytes\n", old_bytes.len(), new.len());
    };
    let (old_text, new_text) = (&without_hashes(path, old_text), &without_hashes(path, new_text));
    let red = Style::new().fg_color(Some(AnsiColor::Red.into()));
    let green = Style::new().fg_color(Some(AnsiColor::Green.into()));
    let from = if old.is_some() { format!("a{path}") } else { "/dev/null".into() };
    let mut text = format!("--- {from}\n+++ b{path}\n");
    let diff = TextDiff::from_lines(old_text.as_ref(), new_text.as_ref());
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

/// Text of a shadow file (shadow(5), gshadow(5)) with its hashes taken out; other text as it is.
fn without_hashes<'t>(path: &str, text: &'t str) -> Cow<'t, str> {
    let name = path.rsplit('/').next().unwrap_or_default().trim_end_matches('-');
    if !matches!(name, "shadow" | "gshadow") {
        return Cow::Borrowed(text);
    }
    let masked = text.split_inclusive('\n').map(|line| match line.split(':').nth(1) {
        Some(hash) if hash.contains('$') || hash.len() > 12 => line.replacen(hash, "(hash)", 1),
        _ => line.to_owned(),
    });
    Cow::Owned(masked.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_not_shown() {
        let diff = unified("/etc/shadow", Some(b"root:$y$j9T$abc:1:\nx:*:1:\n"), b"root:*:1:\nx:*:1:\n");
        assert!(
            diff.contains("-root:(hash):1:") && diff.contains("+root:*:1:") && !diff.contains("j9T"),
            "{diff}"
        );
    }
}
