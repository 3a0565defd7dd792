//! One regular expression of `file_contexts`, from PCRE's dialect to that of the `regex` crate.

use regex::bytes::{Regex, RegexBuilder};

/// Compiled size of one expression at most; real ones need some hundred bytes to a few KiB.
const PROGRAM_MAX: usize = 256 << 10;
/// Signs after which a path is no longer literal, as libselinux has them.
pub(crate) const META: &[u8] = b".^$?*+|[({";

/// The stem of an expression: its first component, when that is literal and not the last one.
pub(crate) fn stem_of_pattern(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().skip(1).position(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let stem = &pattern[..end];
    if stem.iter().any(|byte| META.contains(byte)) { &[] } else { stem }
}

/// The stem of a path: its first component, when it is not the last one.
pub(crate) fn stem_of_path(path: &[u8]) -> &[u8] {
    let end = path.iter().skip(1).position(|byte| *byte == b'/').map_or(0, |at| at + 1);
    &path[..end]
}

/// True when an expression stands for more than one path.
pub(crate) fn has_meta(pattern: &[u8]) -> bool {
    let mut signs = pattern.iter();
    while let Some(sign) = signs.next() {
        match sign {
            b'\\' => drop(signs.next()),
            sign if META.contains(sign) => return true,
            _ => {}
        }
    }
    false
}

/// Bytes with which every match starts: up to the first sign that is not literal, less the one that a
/// quantifier may take back; none when alternatives stand at the top level.
pub(crate) fn literal_prefix(pattern: &[u8]) -> Vec<u8> {
    if has_top_level_bar(pattern) {
        return Vec::new();
    }
    let mut literal = Vec::new();
    let mut at = 0;
    while let Some(&sign) = pattern.get(at) {
        let (byte, len) = match (sign, pattern.get(at + 1)) {
            (b'\\', Some(escaped)) if !escaped.is_ascii_alphanumeric() => (*escaped, 2),
            (b'\\', _) => break,
            (sign, _) if META.contains(&sign) => break,
            (sign, _) => (sign, 1),
        };
        if matches!(pattern.get(at + len), Some(b'?' | b'*' | b'{')) {
            break;
        }
        literal.push(byte);
        at += len;
    }
    literal
}

fn has_top_level_bar(pattern: &[u8]) -> bool {
    let mut depth = 0_u32;
    let mut at = 0;
    while let Some(sign) = pattern.get(at) {
        match sign {
            b'\\' => at += 1,
            b'[' => at = end_of_class(pattern, at),
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b'|' if depth == 0 => return true,
            _ => {}
        }
        at += 1;
    }
    false
}

/// Index of the `]` that ends the class that starts at `at`, or the last index when none does.
fn end_of_class(pattern: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    if pattern.get(end) == Some(&b'^') {
        end += 1;
    }
    // A `]` at the start is a member.
    if pattern.get(end) == Some(&b']') {
        end += 1;
    }
    while let Some(sign) = pattern.get(end) {
        match sign {
            b']' => return end,
            b'\\' => end += 2,
            b'[' if pattern.get(end + 1) == Some(&b':') => {
                let inside = &pattern[end..];
                end += inside.windows(2).position(|pair| pair == b":]").map_or(1, |at| at + 2);
            }
            _ => end += 1,
        }
    }
    pattern.len().saturating_sub(1)
}

/// Compiles an expression as libselinux has PCRE do it: `^`, the expression, `$`, `.` for every byte. The
/// detail says why one cannot be had.
pub(crate) fn compile(pattern: &[u8]) -> Result<Regex, String> {
    let pattern = std::str::from_utf8(pattern).map_err(|_| "not UTF-8".to_owned())?;
    // PCRE's `$` also matches before a line feed at the very end; alternatives at the top level are not in
    // brackets, so that the anchors bind to the outermost ones only.
    let whole = format!("^{}(?:\n?\\z)", translated(pattern)?);
    RegexBuilder::new(&whole)
        .unicode(false)
        .dot_matches_new_line(true)
        .size_limit(PROGRAM_MAX)
        .build()
        .map_err(|error| error.to_string())
}

/// What the two dialects write differently: a `{` that begins no count and a `[` inside a class are literal in
/// PCRE; `&&`, `--` and `~~` inside a class have no meaning there.
fn translated(pattern: &str) -> Result<String, String> {
    let bytes = pattern.as_bytes();
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern.char_indices();
    while let Some((at, sign)) = rest.next() {
        match sign {
            '\\' => {
                let (_, escaped) = rest.next().ok_or("it ends with a backslash")?;
                // `\<` is PCRE's plain sign and a word border here; other letters keep their meaning.
                if matches!(escaped, '<' | '>') {
                    out.push(escaped);
                } else {
                    out.push('\\');
                    out.push(escaped);
                }
            }
            '{' if !is_count(&pattern[at..]) => out.push_str("\\{"),
            '[' => {
                let end = end_of_class(bytes, at);
                let class = pattern.get(at..=end).ok_or("a class has no end")?;
                out.push_str(&translated_class(class)?);
                while rest.clone().next().is_some_and(|(next, _)| next <= end) {
                    rest.next();
                }
            }
            sign => out.push(sign),
        }
    }
    Ok(out)
}

/// True for `{2}`, `{2,}`, `{2,3}` at the start of `text`.
fn is_count(text: &str) -> bool {
    let Some((inside, _)) = text[1..].split_once('}') else { return false };
    let (low, high) = inside.split_once(',').unwrap_or((inside, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !low.is_empty() && is_number(low) && is_number(high)
}

fn translated_class(class: &str) -> Result<String, String> {
    let inside =
        class.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or("a class has no end")?;
    let (negation, mut inside) = match inside.strip_prefix('^') {
        Some(rest) => ("^", rest),
        None => ("", inside),
    };
    let mut out = format!("[{negation}");
    if let Some(rest) = inside.strip_prefix(']') {
        out.push_str("\\]");
        inside = rest;
    }
    let mut signs = inside.chars().peekable();
    while let Some(member) = class_member(&mut signs) {
        out.push_str(&member);
        // A hyphen between two members is a range, one at the end is a member.
        let mut ahead = signs.clone();
        if ahead.next() == Some('-') && ahead.peek().is_some() {
            signs = ahead;
            out.push('-');
            out.push_str(&class_member(&mut signs).unwrap_or_default());
        }
    }
    out.push(']');
    Ok(out)
}

/// The next member of a class: a sign that stands for itself, an escape, or a named class like `[:digit:]`.
fn class_member(signs: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let sign = signs.next()?;
    let mut member = String::new();
    match sign {
        '\\' => {
            member.push('\\');
            member.extend(signs.next());
        }
        '[' if signs.peek() == Some(&':') => {
            member.push('[');
            for sign in signs.by_ref() {
                member.push(sign);
                if sign == ']' {
                    break;
                }
            }
        }
        sign => {
            if sign.is_ascii_punctuation() && !matches!(sign, '<' | '>') {
                member.push('\\');
            }
            member.push(sign);
        }
    }
    Some(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_and_prefixes() {
        assert_eq!(stem_of_pattern(b"/etc/x(/.*)?"), b"/etc");
        assert_eq!(stem_of_pattern(b"/e.c/x"), b"");
        assert_eq!(stem_of_pattern(b"/etc"), b"");
        assert_eq!(stem_of_path(b"/etc/x"), b"/etc");
        assert_eq!(stem_of_path(b"/etc"), b"");
        assert!(has_meta(b"/etc/.*") && !has_meta(b"/etc/x\\.conf"));
        let prefix = |pattern: &str| String::from_utf8(literal_prefix(pattern.as_bytes())).unwrap();
        assert_eq!(prefix("/etc/ssh/x\\.d(/.*)?"), "/etc/ssh/x.d");
        assert_eq!(prefix("/usr/s?bin/x"), "/usr/");
        assert_eq!(prefix("/a/b\\.?c"), "/a/b");
        assert_eq!(prefix("/a/b|/c/d"), "");
        assert_eq!(prefix("/a/(b|c)"), "/a/");
        assert_eq!(prefix("/a/[b|]c"), "/a/");
        assert_eq!(prefix("/a/b+c"), "/a/b");
        assert_eq!(prefix("/a/\\d"), "/a/");
    }

    #[test]
    fn the_dialect_of_pcre() {
        let matches =
            |pattern: &str, path: &str| compile(pattern.as_bytes()).unwrap().is_match(path.as_bytes());
        assert!(matches("/a/%{USERID}/x", "/a/%{USERID}/x"));
        assert!(matches("/a/[0-9]{2}", "/a/42") && !matches("/a/[0-9]{2}", "/a/421"));
        assert!(matches("/a/[[]x", "/a/[x") && matches("/a/[]x]", "/a/]") && matches("/a/[^]x]", "/a/b"));
        assert!(matches("/a/[a-z&&b]", "/a/&") && matches("/a/[+--]", "/a/,"));
        assert!(matches("/a/[[:digit:]_]+", "/a/4_2"));
        assert!(matches("/a/.*", "/a/\u{e9}\n/b"));
        assert!(matches("/a", "/a\n") && !matches("/a", "/a\n\n"));
        assert!(matches("/a\\<b\\>", "/a<b>"));
        // The anchors bind to the outermost alternatives, in libselinux as well.
        assert!(matches("/a|/b", "/axyz") && matches("/a|/b", "xyz/b"));
        assert!(compile(b"/a(?!b)").is_err() && compile(b"/a\\").is_err() && compile(b"/a[").is_err());
        assert!(compile(b"/((a{99}){99}){99}").is_err());
        assert!(compile(b"/\xff").is_err());
    }
}
