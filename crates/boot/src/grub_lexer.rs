//! Tokens of a GRUB script, as GRUB's `grub-core/script/yylex.l` splits them.

use std::ops::Range;

use crate::BootError;

/// Bytes of a `grub.cfg` that are read at most; generated ones stay far below 1 MiB.
pub const MAX_CONFIG_BYTES: usize = 4 << 20;

/// One word: where it stands and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub range: Range<usize>,
    /// Quotes and escapes removed; variables as they are written.
    pub text: Vec<u8>,
    /// Some part of it is a variable.
    pub has_variable: bool,
    /// No quotes, escapes or variables: may be a keyword.
    pub is_bare: bool,
}

impl Word {
    /// The text, lossily printed.
    pub fn lossy(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    Word(Word),
    /// End of a command: newline, `;`, `&&`, `||`, `|`, `&`.
    Separator,
    Open,
    Close,
}

/// True for bytes that need no quotes in a word.
pub(crate) fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-./:=,+@%^~".contains(&byte) || byte >= 0x80
}

/// All tokens of a script.
pub(crate) fn tokens(script: &[u8]) -> Result<Vec<Token>, BootError> {
    if script.len() > MAX_CONFIG_BYTES {
        return Err(BootError::TooLarge {
            file: "grub.cfg",
            what: "bytes",
            found: script.len(),
            limit: MAX_CONFIG_BYTES,
        });
    }
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(byte) = script.get(at) {
        match byte {
            b' ' | b'\t' => at += 1,
            b'\\' if continuation(script, at).is_some() => at += continuation(script, at).unwrap_or(1),
            b'#' => at += script[at..].iter().position(|byte| *byte == b'\n').unwrap_or(script.len() - at),
            b'\n' | b'\r' | b';' | b'&' | b'|' | b'<' | b'>' => {
                found.push(Token::Separator);
                at += 1;
            }
            b'{' => {
                found.push(Token::Open);
                at += 1;
            }
            b'}' => {
                found.push(Token::Close);
                at += 1;
            }
            _ => {
                let word = word(script, at)?;
                at = word.range.end;
                found.push(Token::Word(word));
            }
        }
    }
    Ok(found)
}

/// Length of a backslash and the line end behind it.
fn continuation(script: &[u8], at: usize) -> Option<usize> {
    match script.get(at + 1..) {
        Some([b'\n', ..]) => Some(2),
        Some([b'\r', b'\n', ..]) => Some(3),
        _ => None,
    }
}

/// The word that starts at `start`, which is no blank and no special character.
fn word(script: &[u8], start: usize) -> Result<Word, BootError> {
    let mut word = Word { range: start..start, text: Vec::new(), has_variable: false, is_bare: true };
    let mut at = start;
    let unterminated = |at: usize, quote: &str| BootError::Syntax {
        file: "grub.cfg",
        line: line_of(script, at),
        detail: format!("the quote {quote} is not closed"),
    };
    while let Some(byte) = script.get(at) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b';' | b'&' | b'|' | b'<' | b'>' | b'{' | b'}' => break,
            b'\'' => {
                word.is_bare = false;
                let inside = &script[at + 1..];
                let len =
                    inside.iter().position(|byte| *byte == b'\'').ok_or_else(|| unterminated(at, "'"))?;
                word.text.extend_from_slice(&inside[..len]);
                at += len + 2;
            }
            b'"' => {
                word.is_bare = false;
                at = double_quoted(script, at, &mut word).ok_or_else(|| unterminated(at, "\""))?;
            }
            b'\\' => {
                word.is_bare = false;
                match continuation(script, at) {
                    Some(len) => at += len,
                    None => {
                        let escaped = script.get(at + 1).ok_or_else(|| BootError::Syntax {
                            file: "grub.cfg",
                            line: line_of(script, at),
                            detail: "the file ends in the middle of an escape".into(),
                        })?;
                        word.text.push(*escaped);
                        at += 2;
                    }
                }
            }
            b'$' => {
                word.is_bare = false;
                at = variable(script, at, &mut word);
            }
            other => {
                word.text.push(*other);
                at += 1;
            }
        }
    }
    word.range.end = at;
    Ok(word)
}

/// Reads `"…"` from its opening quote; the position behind it, or `None` when it is not closed.
fn double_quoted(script: &[u8], open: usize, word: &mut Word) -> Option<usize> {
    let mut at = open + 1;
    loop {
        match script.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => match (continuation(script, at), script.get(at + 1)?) {
                (Some(len), _) => at += len,
                (None, escaped @ (b'"' | b'\\' | b'$')) => {
                    word.text.push(*escaped);
                    at += 2;
                }
                (None, other) => {
                    word.text.extend_from_slice(&[b'\\', *other]);
                    at += 2;
                }
            },
            b'$' => at = variable(script, at, word),
            other => {
                word.text.push(*other);
                at += 1;
            }
        }
    }
}

/// Reads `$name`, `${name}`, `$1`, `$?`; a `$` before anything else stands for itself.
fn variable(script: &[u8], at: usize, word: &mut Word) -> usize {
    let rest = &script[at + 1..];
    let name = |from: &[u8]| match from.first() {
        Some(b'?' | b'#' | b'*' | b'@') => 1,
        Some(first) if first.is_ascii_digit() => from.iter().take_while(|byte| byte.is_ascii_digit()).count(),
        _ => from.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count(),
    };
    let len = match rest.split_first() {
        Some((b'{', inside)) => match name(inside) {
            0 => 0,
            len if inside.get(len) == Some(&b'}') => len + 2,
            _ => 0,
        },
        _ => name(rest),
    };
    word.has_variable |= len > 0;
    word.text.extend_from_slice(&script[at..at + 1 + len]);
    at + 1 + len
}

/// Line of a position, counted from 1.
pub(crate) fn line_of(script: &[u8], at: usize) -> usize {
    1 + script[..at.min(script.len())].iter().filter(|byte| **byte == b'\n').count()
}
