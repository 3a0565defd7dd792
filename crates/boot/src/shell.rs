//! Assignments of a shell file, without running a shell.
//!
//! Grammar: POSIX shell command language. Only `NAME=word` is understood; everything else is kept as
//! [`Statement::Opaque`], so that whoever evaluates the file knows where its knowledge ends.

use std::ops::Range;

use crate::BootError;

/// Bytes of a shell file that are read at most.
pub(crate) const MAX_BYTES: usize = 256 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statement {
    /// `NAME=word`.
    Assignment {
        name: String,
        /// Where the word stands, quotes included.
        value: Range<usize>,
        line: usize,
        /// Inside `if`, a loop, a function, or behind `&&`.
        is_conditional: bool,
    },
    /// Anything else.
    Opaque { range: Range<usize>, line: usize },
}

/// One part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// A byte and the bytes of the file that stand for it, an ignored line continuation in front included.
    Byte(u8, Range<usize>),
    /// `$NAME` or `${NAME}`.
    Variable(String, Range<usize>),
}

/// How a whole word is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Double,
    Single,
    /// No quotes, or several pieces.
    Mixed,
}

/// All statements of a file.
pub(crate) fn statements(text: &[u8]) -> Result<Vec<Statement>, BootError> {
    if text.len() > MAX_BYTES {
        return Err(BootError::TooLarge {
            file: "shell file",
            what: "bytes",
            found: text.len(),
            limit: MAX_BYTES,
        });
    }
    let mut found = Vec::new();
    let mut at = 0;
    let mut line = 1;
    let mut line_at = 0;
    let mut depth = 0usize;
    let mut follows_operator = false;
    while at < text.len() {
        match text[at] {
            b' ' | b'\t' | b'\r' => at += 1,
            b'\n' | b';' => {
                follows_operator = false;
                at += 1;
            }
            b'&' | b'|' => {
                follows_operator = true;
                at += 1;
            }
            b'#' => at = line_end(text, at),
            _ => {
                line += text[line_at..at].iter().filter(|byte| **byte == b'\n').count();
                line_at = at;
                let (words, end) = simple_command(text, at, line)?;
                let whole = at..end;
                at = end.max(at + 1);
                interpret(text, &words, whole, line, follows_operator, &mut depth, &mut found);
            }
        }
    }
    Ok(found)
}

/// Turns the words of one command into statements.
fn interpret(
    text: &[u8],
    words: &[Range<usize>],
    whole: Range<usize>,
    line: usize,
    follows_operator: bool,
    depth: &mut usize,
    found: &mut Vec<Statement>,
) {
    let mut rest = words;
    while let Some((first, after)) = rest.split_first() {
        match &text[first.clone()] {
            b"if" | b"case" | b"while" | b"until" | b"for" | b"{" => *depth += 1,
            b"fi" | b"esac" | b"done" | b"}" => *depth = depth.saturating_sub(1),
            b"then" | b"else" | b"elif" | b"do" | b"export" => {}
            _ => break,
        }
        rest = after;
    }
    if rest.is_empty() {
        return;
    }
    let assignments: Option<Vec<(String, Range<usize>)>> =
        rest.iter().map(|word| split_assignment(text, word)).collect();
    match assignments {
        Some(assignments) => found.extend(assignments.into_iter().map(|(name, value)| {
            Statement::Assignment { name, value, line, is_conditional: *depth > 0 || follows_operator }
        })),
        None => found.push(Statement::Opaque { range: whole, line }),
    }
}

fn split_assignment(text: &[u8], word: &Range<usize>) -> Option<(String, Range<usize>)> {
    let bytes = &text[word.clone()];
    let equals = bytes.iter().position(|byte| *byte == b'=')?;
    let name = std::str::from_utf8(&bytes[..equals]).ok()?;
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_name = starts_well && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then(|| (name.to_owned(), word.start + equals + 1..word.end))
}

/// Words of the command at `start`, and where it ends.
fn simple_command(text: &[u8], start: usize, line: usize) -> Result<(Vec<Range<usize>>, usize), BootError> {
    let mut words = Vec::new();
    let mut at = start;
    while let Some(byte) = text.get(at) {
        match byte {
            b' ' | b'\t' | b'\r' => at += 1,
            b'\\' if text.get(at + 1) == Some(&b'\n') => at += 2,
            b'\n' | b';' | b'&' | b'|' => break,
            b'#' => {
                at = line_end(text, at);
                break;
            }
            b'<' if text.get(at + 1) == Some(&b'<') => {
                return Err(BootError::Unsupported {
                    file: "shell file",
                    feature: format!("a here-document, line {line},"),
                });
            }
            _ => {
                let end = word_end(text, at).ok_or_else(|| BootError::Syntax {
                    file: "shell file",
                    line,
                    detail: "a quote or an expansion is not closed".into(),
                })?;
                words.push(at..end);
                at = end;
            }
        }
    }
    Ok((words, at))
}

fn line_end(text: &[u8], at: usize) -> usize {
    text[at..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |len| at + len)
}

/// End of the word at `start`; `None` when a quote or an expansion in it is not closed.
fn word_end(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    // What is open, the innermost last: `"`, `)`, `}`, `` ` ``.
    let mut open: Vec<u8> = Vec::new();
    while let Some(byte) = text.get(at) {
        match (byte, open.last()) {
            (b' ' | b'\t' | b'\r' | b'\n' | b';' | b'&' | b'|', None) => break,
            (b'<', None) if at > start => break,
            (b'\\', _) => at += 1,
            (byte, Some(closing)) if byte == closing => drop(open.pop()),
            (b'\'', closing) if closing != Some(&b'"') => {
                at += 1 + text.get(at + 1..)?.iter().position(|byte| *byte == b'\'')?;
            }
            (b'"', _) => open.push(b'"'),
            (b'`', _) => open.push(b'`'),
            (b'$', _) => match text.get(at + 1) {
                Some(b'(') => {
                    open.push(b')');
                    at += 1;
                }
                Some(b'{') => {
                    open.push(b'}');
                    at += 1;
                }
                _ => {}
            },
            (b'(', Some(b')')) => open.push(b')'),
            _ => {}
        }
        at += 1;
        if open.len() > 64 {
            return None;
        }
    }
    open.is_empty().then_some(at.min(text.len()))
}

/// The parts of a word, or `None` when only a shell can tell what it means.
pub(crate) fn parts(text: &[u8], word: &Range<usize>) -> Option<Vec<Part>> {
    let mut found = Vec::new();
    let mut at = word.start;
    let mut from = at;
    let mut in_double = false;
    while at < word.end {
        let byte = text[at];
        match byte {
            b'"' => {
                in_double = !in_double;
                at += 1;
            }
            b'\'' if !in_double => {
                at += 1;
                while at < word.end && text[at] != b'\'' {
                    found.push(Part::Byte(text[at], from.max(at)..at + 1));
                    at += 1;
                    from = at;
                }
                at += 1;
            }
            b'\\' => {
                let escaped = *text.get(at + 1).filter(|_| at + 1 < word.end)?;
                let is_escape = !in_double || matches!(escaped, b'$' | b'`' | b'"' | b'\\' | b'\n');
                match (is_escape, escaped) {
                    (true, b'\n') => {}
                    (true, other) => {
                        found.push(Part::Byte(other, from..at + 2));
                        from = at + 2;
                    }
                    (false, other) => {
                        found.push(Part::Byte(b'\\', from..at + 1));
                        found.push(Part::Byte(other, at + 1..at + 2));
                        from = at + 2;
                    }
                }
                at += 2;
            }
            b'`' => return None,
            b'$' => {
                let rest = &text[at + 1..word.end];
                let (inside, braces) = match rest.strip_prefix(b"{") {
                    Some(inside) => (inside, 1),
                    None => (rest, 0),
                };
                let len = inside.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
                let name = std::str::from_utf8(&inside[..len]).ok()?;
                let is_closed = braces == 0 || inside.get(len) == Some(&b'}');
                if !is_closed || name.starts_with(|c: char| c.is_ascii_digit()) {
                    return None;
                }
                if name.is_empty() {
                    if braces == 1
                        || matches!(rest.first(), Some(b'(' | b'$' | b'?' | b'#' | b'*' | b'@' | b'!' | b'-'))
                    {
                        return None;
                    }
                    found.push(Part::Byte(b'$', from..at + 1));
                    at += 1;
                } else {
                    let end = at + 1 + len + 2 * braces;
                    found.push(Part::Variable(name.to_owned(), from..end));
                    at = end;
                }
                from = at;
            }
            // Pathnames and home directories are expanded outside of quotes.
            b'*' | b'?' | b'[' | b'~' | b'(' | b')' | b'<' | b'>' if !in_double => return None,
            other => {
                found.push(Part::Byte(other, from..at + 1));
                at += 1;
                from = at;
            }
        }
        if matches!(byte, b'"' | b'\'') {
            from = at;
        }
    }
    Some(found)
}

/// How the word is quoted, and the range inside its quotes.
pub(crate) fn style(text: &[u8], word: &Range<usize>) -> (Style, Range<usize>) {
    let bytes = &text[word.clone()];
    let inside = word.start + 1..word.end.saturating_sub(1).max(word.start + 1);
    let is_whole = |quote: u8| {
        bytes.len() >= 2
            && bytes.first() == Some(&quote)
            && word_quote_end(bytes, quote) == Some(bytes.len() - 1)
    };
    match (is_whole(b'"'), is_whole(b'\'')) {
        (true, _) => (Style::Double, inside),
        (_, true) => (Style::Single, inside),
        _ => (Style::Mixed, word.clone()),
    }
}

/// Position of the quote that closes the one at the start.
fn word_quote_end(bytes: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'\\' if quote == b'"' => at += 2,
            byte if *byte == quote => return Some(at),
            _ => at += 1,
        }
    }
}

/// Gives every assignment to `name` in a shell file this value, which needs no quotes. `None` when all have it
/// already, or there is none. An assignment that depends on a condition is changed, too: whatever the shell
/// chooses, it chooses this value.
pub fn set_shell_variable(text: &[u8], name: &str, value: &str) -> Result<Option<Vec<u8>>, BootError> {
    let mut changed = Vec::with_capacity(text.len());
    let mut at = 0;
    for statement in statements(text)? {
        let Statement::Assignment { name: found, value: place, .. } = statement else { continue };
        if found != name || evaluates_to(text, &place, value) {
            continue;
        }
        changed.extend_from_slice(&text[at..place.start]);
        changed.extend_from_slice(value.as_bytes());
        at = place.end;
    }
    if at == 0 {
        return Ok(None);
    }
    changed.extend_from_slice(&text[at..]);
    Ok(Some(changed))
}

fn evaluates_to(text: &[u8], place: &Range<usize>, value: &str) -> bool {
    let Some(parts) = parts(text, place) else { return false };
    let bytes: Option<Vec<u8>> = parts
        .into_iter()
        .map(|part| match part {
            Part::Byte(byte, _) => Some(byte),
            Part::Variable(..) => None,
        })
        .collect();
    bytes.is_some_and(|bytes| bytes == value.as_bytes())
}
