//! A setting in the main file where it counts, and as the line that a text search finds.

use vfs::GuestPath;

use super::keywords::canonical;
use super::{Scope, SshdConfig, lex};
use crate::Lines;

/// Comment over lines that were put before the first `Include`.
pub const INCLUDE_COMMENT: &str = "# Before any Include: the first value counts (sshd_config(5)).";

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The new file.
    pub text: Vec<u8>,
    /// What was done, `LINE: what`.
    pub changes: Vec<String>,
}

/// Puts `setting` (`Keyword value`) into the main file so that it is the first value that the server reads:
/// where the keyword stands already, else under its commented default, else before the first `Match`; and
/// before the first `Include` in every case where one of its files could come first.
///
/// Other lines of the keyword outside `Match` become comments, unless `keep_others` says that they add up.
pub fn place_setting(
    main: &[u8],
    path: &GuestPath,
    config: &SshdConfig,
    setting: &str,
    keep_others: bool,
) -> Placed {
    let mut lines = Lines::parse(main);
    let mut changes = Vec::new();
    let keyword = keyword_of(setting);
    let own = |wanted: &str| {
        let wanted = wanted.to_owned();
        config.directives.iter().filter(move |line| line.file == *path && line.keyword == wanted)
    };
    let first_match = own("match").map(|line| line.line).next().unwrap_or(lines.len() + 1);
    let first_include = own("include").map(|line| line.line).filter(|line| *line < first_match).min();
    let global: Vec<usize> =
        own(&keyword).filter(|line| line.scope == Scope::Global).map(|line| line.line).collect();
    let before_include = |line: usize| first_include.is_none_or(|include| line < include);
    // An exact line is kept where it counts; else the first one that counts is changed.
    let exact =
        global.iter().copied().find(|line| lines.get(*line) == Some(setting) && before_include(*line));
    let is_first = |line: usize| keep_others || global.first() == Some(&line);
    let kept = match exact {
        Some(line) if is_first(line) => Some(line),
        _ if keep_others => None,
        _ => global.first().copied().filter(|line| before_include(*line)),
    };
    if let Some(line) = kept.filter(|line| lines.get(*line) != Some(setting)) {
        changes.push(format!("{line}: {} is {setting}", quoted(&lines, line)));
        lines.set(line, setting);
    }
    if !keep_others {
        for line in global.iter().copied().filter(|line| Some(*line) != kept) {
            changes.push(format!("{line}: {} is a comment now", quoted(&lines, line)));
            lines.comment_out(line);
        }
    }
    if kept.is_none() {
        insert(&mut lines, setting, &keyword, first_include, first_match);
        changes.push(format!("{setting} added"));
    }
    Placed { text: lines.to_bytes(), changes }
}

fn insert(lines: &mut Lines, setting: &str, keyword: &str, first_include: Option<usize>, first_match: usize) {
    if let Some(include) = first_include {
        let commented = lines.has(INCLUDE_COMMENT);
        lines.insert(include, setting);
        if !commented {
            lines.insert(include, INCLUDE_COMMENT);
        }
        return;
    }
    let is_default = |text: &str| {
        text.strip_prefix('#').is_some_and(|rest| {
            rest.starts_with(|sign: char| sign.is_ascii_alphabetic()) && keyword_of(rest) == keyword
        })
    };
    let default = lines.iter().find(|(number, text)| *number < first_match && is_default(text));
    let at = default.map_or(first_match, |(number, _)| number + 1);
    lines.insert(at, setting);
}

fn keyword_of(text: &str) -> String {
    lex::split_line(text).ok().flatten().map(|(keyword, _)| canonical(keyword)).unwrap_or_default()
}

fn quoted(lines: &Lines, line: usize) -> String {
    lines.get(line).unwrap_or_default().trim().to_owned()
}
