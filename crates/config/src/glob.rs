//! Shell patterns for names and paths (glob(7)), without braces and tildes.

use vfs::{GuestPath, VfsError};

use crate::Files;

/// Paths that one pattern gives at most.
const MATCHES_MAX: usize = 4096;
/// Longest pattern that is tried; longer ones match nothing.
const PATTERN_MAX: usize = 1024;

/// One step of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    One(u8),
    AnyOne,
    AnyNumber,
    Set { negated: bool, ranges: Vec<(u8, u8)> },
}

/// True when a pattern has a sign that stands for others.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// True when `name` fits `pattern`; both are one component, no sign means `/`.
pub fn name_matches(pattern: &str, name: &[u8]) -> bool {
    if pattern.len() > PATTERN_MAX || (name.first() == Some(&b'.') && !pattern.starts_with(['.', '\\'])) {
        // A leading point must be written (glob(7)).
        return false;
    }
    let steps = steps(pattern.as_bytes());
    // The last `*` seen and how much of the name it took: enough, since a later `*` can do all an earlier one can.
    let (mut at, mut in_name) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match steps.get(at) {
            Some(Step::AnyNumber) => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(step) if name.get(in_name).is_some_and(|byte| fits(step, *byte)) => {
                at += 1;
                in_name += 1;
            }
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    (at, in_name) = (star_at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    steps.iter().skip(at).all(|step| *step == Step::AnyNumber)
}

/// True when a path fits a pattern, component by component.
pub fn path_matches(pattern: &str, path: &str) -> bool {
    let mut names = path.split('/');
    let mut patterns = pattern.split('/');
    loop {
        match (patterns.next(), names.next()) {
            (None, None) => return true,
            (Some(pattern), Some(name)) if name_matches(pattern, name.as_bytes()) => {}
            _ => return false,
        }
    }
}

/// Existing paths that fit an absolute pattern, sorted bytewise.
pub fn glob(files: &dyn Files, pattern: &str) -> Result<Vec<GuestPath>, VfsError> {
    let mut found = vec![GuestPath::root()];
    for part in pattern.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let mut next = Vec::new();
        for directory in &found {
            if is_pattern(part) {
                for name in files.list(directory)? {
                    if name_matches(part, &name) && next.len() < MATCHES_MAX {
                        next.push(directory.join(&name));
                    }
                }
            } else {
                next.push(directory.join(unescaped(part)));
            }
        }
        found = next;
    }
    let mut existing = Vec::new();
    for path in found {
        if files.exists(&path)? {
            existing.push(path);
        }
    }
    existing.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(existing)
}

fn unescaped(part: &str) -> String {
    let mut out = String::new();
    let mut signs = part.chars();
    while let Some(sign) = signs.next() {
        out.push(if sign == '\\' { signs.next().unwrap_or('\\') } else { sign });
    }
    out
}

fn fits(step: &Step, byte: u8) -> bool {
    match step {
        Step::One(wanted) => *wanted == byte,
        Step::AnyOne => true,
        Step::AnyNumber => false,
        Step::Set { negated, ranges } => {
            ranges.iter().any(|(from, to)| (*from..=*to).contains(&byte)) != *negated
        }
    }
}

fn steps(pattern: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = 0;
    while let Some(byte) = pattern.get(at) {
        at += 1;
        steps.push(match byte {
            b'*' => Step::AnyNumber,
            b'?' => Step::AnyOne,
            b'\\' => {
                at += 1;
                Step::One(pattern.get(at - 1).copied().unwrap_or(b'\\'))
            }
            b'[' => match set(pattern, at) {
                Some((step, behind)) => {
                    at = behind;
                    step
                }
                None => Step::One(b'['),
            },
            other => Step::One(*other),
        });
    }
    steps
}

/// A bracket expression whose `[` stands before `at`, and where it ends; `None` without its end.
fn set(pattern: &[u8], mut at: usize) -> Option<(Step, usize)> {
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    at += usize::from(negated);
    let first = at;
    let mut ranges = Vec::new();
    loop {
        let from = *pattern.get(at)?;
        if from == b']' && at > first {
            return Some((Step::Set { negated, ranges }, at + 1));
        }
        match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(to)) if *to != b']' => {
                ranges.push((from, *to));
                at += 3;
            }
            _ => {
                ranges.push((from, from));
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryFiles;

    #[test]
    fn names_and_patterns() {
        for (pattern, yes, no) in [
            ("*.conf", "a.conf", ".a.conf"),
            ("a*b*c", "axbxbc", "axb"),
            ("[0-9][!a-c]", "4d", "4b"),
            ("[]x]", "]", "y"),
            ("[ab", "[ab", "a"),
            (r"\*", "*", "a"),
            (".*", ".a", "a"),
            ("?", "a", ""),
            ("**", "", ".a"),
        ] {
            assert!(name_matches(pattern, yes.as_bytes()), "{pattern} {yes}");
            assert!(!name_matches(pattern, no.as_bytes()), "{pattern} {no}");
        }
        assert!(path_matches("net/*/x", "net/ipv4/x") && !path_matches("net/*", "net/ipv4/x"));
        // What takes exponential time where each `*` is tried anew.
        assert!(!name_matches(&"a*".repeat(200), "a".repeat(150).as_bytes()));
    }

    #[test]
    fn globs_are_sorted_and_literal_parts_need_no_listing() {
        let files = MemoryFiles::new([("/e/b.conf", ""), ("/e/a.conf", ""), ("/e/c", ""), ("/f/a.conf", "")]);
        let found = |pattern| {
            glob(&files, pattern).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found("/e/*.conf"), "/e/a.conf /e/b.conf");
        assert_eq!(found("/?/a.conf"), "/e/a.conf /f/a.conf");
        assert_eq!(found("/e/none"), "");
    }
}
