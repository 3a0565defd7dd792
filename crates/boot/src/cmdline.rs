//! The kernel command line as tokens: an edit changes the bytes of its tokens, all others stay.
//!
//! Splitting follows the kernel's `next_arg` (`lib/cmdline.c`): blanks separate, `"` protects blanks
//! and may stand anywhere in an argument, keys are compared with `-` equal to `_`. Everything behind
//! `--` belongs to init, so nothing is looked up or added there.

use std::borrow::Cow;

use crate::BootError;
use crate::grub_lexer::{self, Word};

/// One argument as the kernel sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Up to the first `=`, lossily printed.
    pub key: String,
    /// Behind the first `=`, quotes removed.
    pub value: Option<String>,
    /// True when a variable of the boot loader or the shell is part of it, so that it is not fully known.
    pub has_variable: bool,
}

/// How arguments are written in the file that holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quoting {
    /// Plain text for the kernel.
    Kernel,
    /// Words of a GRUB script.
    Grub,
    /// Words of a GRUB script inside a shell's `"…"`.
    GrubInDoubleQuotes,
    /// Words of a GRUB script inside a shell's `'…'`.
    GrubInSingleQuotes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    /// Bytes between the token before and this one.
    gap: Vec<u8>,
    /// Bytes as the file holds them.
    raw: Vec<u8>,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    has_variable: bool,
}

/// Kernel arguments in the grammar of the file that holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    tokens: Vec<Token>,
    /// Bytes behind the last token.
    tail: Vec<u8>,
    quoting: Quoting,
}

/// True when two keys name the same parameter: `-` equals `_`.
pub fn keys_equal(one: &[u8], other: &[u8]) -> bool {
    let fold = |byte: &u8| if *byte == b'-' { b'_' } else { *byte };
    one.iter().map(fold).eq(other.iter().map(fold))
}

/// True for parameters that may be given several times, each adding to the others.
pub fn is_multi_valued(key: &str) -> bool {
    let fixed = ["console", "earlycon", "module_blacklist", "modprobe.blacklist"];
    key.starts_with("rd.") || fixed.iter().any(|name| keys_equal(name.as_bytes(), key.as_bytes()))
}

impl CommandLine {
    /// Takes plain text apart, as in `/proc/cmdline` or `/etc/kernel/cmdline`.
    pub fn parse(text: &[u8]) -> Self {
        let mut tokens = Vec::new();
        let mut at = 0;
        loop {
            let gap_start = at;
            while text.get(at).is_some_and(|byte| is_blank(*byte)) {
                at += 1;
            }
            let start = at;
            let mut in_quotes = false;
            while let Some(byte) = text.get(at) {
                if is_blank(*byte) && !in_quotes {
                    break;
                }
                in_quotes ^= *byte == b'"';
                at += 1;
            }
            let gap = text[gap_start..start].to_vec();
            if start == at {
                return Self { tokens, tail: gap, quoting: Quoting::Kernel };
            }
            let raw = text[start..at].to_vec();
            let (key, value) = split_kernel_argument(&raw);
            tokens.push(Token { gap, key, value, has_variable: false, raw });
        }
    }

    /// Arguments out of words that were found in `text` in ascending order; `raw` gives the file's bytes of a
    /// range of `text`.
    pub(crate) fn from_words(
        words: &[Word],
        from: usize,
        to: usize,
        quoting: Quoting,
        raw: impl Fn(std::ops::Range<usize>) -> Vec<u8>,
    ) -> Self {
        let mut tokens = Vec::new();
        let mut at = from;
        for word in words {
            let (key, value) = split_at_equals(&word.text);
            tokens.push(Token {
                gap: raw(at..word.range.start),
                raw: raw(word.range.clone()),
                key,
                value,
                has_variable: word.has_variable,
            });
            at = word.range.end;
        }
        Self { tokens, tail: raw(at..to), quoting }
    }

    /// The text with all edits.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for token in &self.tokens {
            bytes.extend_from_slice(&token.gap);
            bytes.extend_from_slice(&token.raw);
        }
        bytes.extend_from_slice(&self.tail);
        bytes
    }

    /// All arguments for the kernel (up to `--`), in order.
    pub fn arguments(&self) -> impl Iterator<Item = Argument> + '_ {
        self.tokens[..self.kernel_end()].iter().map(|token| Argument {
            key: lossy(&token.key),
            value: token.value.as_deref().map(lossy),
            has_variable: token.has_variable,
        })
    }

    /// The values of every `key=…`, in order; an argument without `=` counts as the empty string.
    pub fn values(&self, key: &str) -> Vec<String> {
        self.positions(key)
            .map(|index| self.tokens[index].value.as_deref().map(lossy).unwrap_or_default())
            .collect()
    }

    /// The value that holds: the last `key=…`. `None` when the key is missing.
    pub fn value(&self, key: &str) -> Option<String> {
        self.values(key).pop()
    }

    /// True when the key is there, with a value or without.
    pub fn has(&self, key: &str) -> bool {
        self.positions(key).next().is_some()
    }

    /// True when some argument holds a variable, so that the arguments are not fully known.
    pub fn has_variables(&self) -> bool {
        self.tokens.iter().any(|token| token.has_variable)
    }

    /// Makes `key=value` hold. Replaces the last such argument in place and drops the others; of a parameter
    /// that may be given several times all others stay. Returns whether anything changed.
    pub fn set(&mut self, key: &str, value: Option<&str>) -> Result<bool, BootError> {
        let wanted = value.map(str::as_bytes);
        let found: Vec<usize> = self.positions(key).collect();
        if is_multi_valued(key) {
            if found.iter().any(|index| self.tokens[*index].value.as_deref() == wanted) {
                return Ok(false);
            }
            return self.append(key, value).map(|()| true);
        }
        let Some((last, others)) = found.split_last() else {
            return self.append(key, value).map(|()| true);
        };
        let token = &self.tokens[*last];
        if token.value.as_deref() == wanted && !token.has_variable && others.is_empty() {
            return Ok(false);
        }
        if token.value.as_deref() != wanted || token.has_variable {
            let token = self.new_token(key, value)?;
            let gap = std::mem::take(&mut self.tokens[*last].gap);
            self.tokens[*last] = Token { gap, ..token };
        }
        self.remove_all(others);
        Ok(true)
    }

    /// Replaces the value of each `key=old`. Returns how many there were.
    pub fn replace_value(&mut self, key: &str, old: &str, new: &str) -> Result<usize, BootError> {
        let found: Vec<usize> = self
            .positions(key)
            .filter(|index| self.tokens[*index].value.as_deref() == Some(old.as_bytes()))
            .collect();
        for index in &found {
            let token = self.new_token(key, Some(new))?;
            let gap = std::mem::take(&mut self.tokens[*index].gap);
            self.tokens[*index] = Token { gap, ..token };
        }
        Ok(found.len())
    }

    /// Removes every argument with this key. Returns how many there were.
    pub fn remove(&mut self, key: &str) -> usize {
        let found: Vec<usize> = self.positions(key).collect();
        self.remove_all(&found);
        found.len()
    }

    /// Removes every `key=value`. Returns how many there were.
    pub fn remove_value(&mut self, key: &str, value: &str) -> usize {
        let found: Vec<usize> = self
            .positions(key)
            .filter(|index| self.tokens[*index].value.as_deref() == Some(value.as_bytes()))
            .collect();
        self.remove_all(&found);
        found.len()
    }

    /// Adds an argument behind the last one for the kernel, whatever is there.
    pub fn append(&mut self, key: &str, value: Option<&str>) -> Result<(), BootError> {
        let token = self.new_token(key, value)?;
        self.insert(self.kernel_end(), token);
        Ok(())
    }

    /// Makes `consoles` (`tty0`, `ttyS0,115200n8`) the last `console=` arguments, in this order, so that the
    /// last of them is `/dev/console`. A console that is there already keeps its options; consoles not named
    /// stay, in front. Returns whether anything changed.
    pub fn set_consoles(&mut self, consoles: &[&str]) -> Result<bool, BootError> {
        let device = |value: &[u8]| value.split(|byte| *byte == b',').next().unwrap_or_default().to_vec();
        // Options with anything else in them are no console's, and are not carried on.
        let has_options = |value: &[u8]| {
            let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b",:-./".contains(byte);
            value.contains(&b',') && value.iter().all(is_plain)
        };
        let found: Vec<usize> = self.positions("console").collect();
        let value_at = |line: &Self, index: usize| line.tokens[index].value.clone().unwrap_or_default();
        let mut wanted: Vec<Vec<u8>> = Vec::new();
        for console in consoles {
            let name = device(console.as_bytes());
            if wanted.iter().any(|have| device(have) == name) {
                continue;
            }
            let existing = found
                .iter()
                .rev()
                .map(|index| value_at(self, *index))
                .find(|value| device(value) == name && has_options(value));
            wanted.push(existing.unwrap_or_else(|| console.as_bytes().to_vec()));
        }
        let is_named = |value: &[u8]| wanted.iter().any(|have| device(have) == device(value));
        let (named, others): (Vec<usize>, Vec<usize>) =
            found.iter().partition(|index| is_named(&value_at(self, **index)));
        let in_order = named.iter().map(|index| value_at(self, *index)).eq(wanted.iter().cloned());
        let comes_last = others.last().is_none_or(|other| named.first().is_some_and(|first| first > other));
        if in_order && comes_last {
            return Ok(false);
        }
        let mut place = match (named.first(), others.last()) {
            (Some(named), Some(other)) => (*named).max(other + 1),
            (Some(named), None) => *named,
            (None, Some(other)) => other + 1,
            (None, None) => self.kernel_end(),
        };
        let tokens: Vec<Token> = wanted
            .iter()
            .map(|value| self.new_token("console", Some(&lossy(value))))
            .collect::<Result<_, _>>()?;
        place -= named.iter().filter(|index| **index < place).count();
        self.remove_all(&named);
        for token in tokens {
            self.insert(place, token);
            place += 1;
        }
        Ok(true)
    }

    /// Index of `--`, or the number of tokens.
    fn kernel_end(&self) -> usize {
        self.tokens.iter().position(|token| token.raw == b"--").unwrap_or(self.tokens.len())
    }

    fn positions(&self, key: &str) -> impl Iterator<Item = usize> + '_ {
        let key = key.as_bytes().to_vec();
        (0..self.kernel_end()).filter(move |index| keys_equal(&self.tokens[*index].key, &key))
    }

    /// Removes tokens, named by ascending indexes, each with the gap before it; the first one's gap stays, so
    /// that nothing moves in front.
    fn remove_all(&mut self, indexes: &[usize]) {
        let mut doomed = indexes.iter().peekable();
        let mut index = 0;
        let mut first_gap = None;
        self.tokens.retain_mut(|token| {
            let is_doomed = doomed.next_if_eq(&&index).is_some();
            let is_leading = index == 0 || first_gap.is_some();
            match (is_doomed, is_leading) {
                (true, true) => {
                    first_gap.get_or_insert_with(|| std::mem::take(&mut token.gap));
                }
                (false, true) => {
                    if let Some(gap) = first_gap.take() {
                        token.gap = gap;
                    }
                }
                _ => {}
            }
            index += 1;
            !is_doomed
        });
        if let Some(gap) = first_gap {
            self.tail.splice(0..0, gap).for_each(drop);
        }
    }

    fn insert(&mut self, index: usize, token: Token) {
        let mut token = token;
        if index == 0 {
            token.gap = match self.tokens.first_mut() {
                Some(next) => std::mem::replace(&mut next.gap, b" ".to_vec()),
                None if self.quoting == Quoting::Grub => b" ".to_vec(),
                None => Vec::new(),
            };
        } else {
            token.gap = b" ".to_vec();
        }
        // The kernel ends an open quote with the text; what comes behind must not fall into it.
        if self.quoting == Quoting::Kernel
            && let Some(before) = index.checked_sub(1).and_then(|before| self.tokens.get_mut(before))
            && before.raw.iter().filter(|byte| **byte == b'"').count() % 2 == 1
        {
            before.raw.push(b'"');
        }
        // A comment may follow at once, which would become part of the last token.
        if index == self.tokens.len() && self.tail.first().is_some_and(|byte| !is_blank(*byte)) {
            self.tail.insert(0, b' ');
        }
        self.tokens.insert(index, token);
    }

    fn new_token(&self, key: &str, value: Option<&str>) -> Result<Token, BootError> {
        let argument = || match value {
            Some(value) => format!("{key}={value}"),
            None => key.to_owned(),
        };
        let refuse = |detail| BootError::Argument { argument: argument(), detail };
        let is_odd = |byte: u8| byte.is_ascii_control() || byte == b'"';
        if key.is_empty() || key.bytes().any(|byte| is_odd(byte) || byte == b' ' || byte == b'=') {
            return Err(refuse("the key is empty or holds blanks, quotes or ="));
        }
        if value.is_some_and(|value| value.bytes().any(is_odd)) {
            return Err(refuse("the value holds a quote or a control character"));
        }
        let raw = match self.quoting {
            Quoting::Kernel => match value {
                Some(value) if value.contains(' ') => format!("{key}=\"{value}\""),
                _ => argument(),
            },
            Quoting::Grub => encode_grub(key, value),
            Quoting::GrubInDoubleQuotes => {
                let mut text = String::new();
                for character in encode_grub(key, value).chars() {
                    if matches!(character, '\\' | '"' | '$' | '`') {
                        text.push('\\');
                    }
                    text.push(character);
                }
                text
            }
            Quoting::GrubInSingleQuotes => {
                let text = encode_grub(key, value);
                if text.contains('\'') {
                    return Err(refuse("it holds a ' and the file has it inside '…'"));
                }
                text
            }
        };
        Ok(Token {
            gap: Vec::new(),
            raw: raw.into_bytes(),
            key: key.as_bytes().to_vec(),
            value: value.map(|value| value.as_bytes().to_vec()),
            has_variable: false,
        })
    }
}

/// One word of a GRUB script.
fn encode_grub(key: &str, value: Option<&str>) -> String {
    let quote = |text: &str| -> String {
        if text.bytes().all(grub_lexer::is_plain) {
            return text.to_owned();
        }
        let mut quoted = String::from("\"");
        for character in text.chars() {
            if matches!(character, '\\' | '$') {
                quoted.push('\\');
            }
            quoted.push(character);
        }
        quoted.push('"');
        quoted
    };
    match value {
        Some(value) => format!("{}={}", quote(key), quote(value)),
        None => quote(key),
    }
}

fn split_at_equals(text: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    match text.iter().position(|byte| *byte == b'=') {
        Some(at) => (text[..at].to_vec(), Some(text[at + 1..].to_vec())),
        None => (text.to_vec(), None),
    }
}

/// Key and value as the kernel's `next_arg` sees them: a quote at the start of the argument or of the value
/// is dropped, with the one at the end.
fn split_kernel_argument(raw: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let (text, is_quoted) = match raw.strip_prefix(b"\"") {
        Some(text) => (text, true),
        None => (raw, false),
    };
    let (key, value) = split_at_equals(text);
    let unquote_end = |text: &[u8]| text.strip_suffix(b"\"").unwrap_or(text).to_vec();
    match value {
        Some(value) => {
            let value = match value.strip_prefix(b"\"") {
                Some(value) => unquote_end(value),
                None if is_quoted => unquote_end(&value),
                None => value,
            };
            (key, Some(value))
        }
        None if is_quoted => (unquote_end(&key), None),
        None => (key, None),
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn lossy(bytes: &[u8]) -> String {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, edit: impl FnOnce(&mut CommandLine)) -> String {
        let mut line = CommandLine::parse(text.as_bytes());
        edit(&mut line);
        String::from_utf8(line.to_bytes()).unwrap()
    }

    /// GRUB refuses it, too; anything put behind would become part of the last word.
    #[test]
    fn a_script_that_ends_in_an_escape_is_refused() {
        for script in ["linux /k\\", "linux /k ro x\\"] {
            let error = crate::GrubConfig::parse(script.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("escape"), "{error}");
        }
        assert!(crate::GrubConfig::parse(b"linux /k ro x\\\\\n").is_ok());
    }

    #[test]
    fn nothing_is_added_inside_an_open_quote() {
        let mut line = CommandLine::parse(b"ro dyndbg=\"file a");
        line.set("root", Some("UUID=1")).unwrap();
        assert_eq!(line.to_bytes(), b"ro dyndbg=\"file a\" root=UUID=1");
        let again = CommandLine::parse(&line.to_bytes());
        assert_eq!(again.value("root").as_deref(), Some("UUID=1"));
        assert_eq!(again.value("dyndbg").as_deref(), Some("file a"));
    }

    #[test]
    fn splits_as_the_kernel_does() {
        let text =
            " quiet  dyndbg=\"file a.c +p\" \"foo=a b\" bar=\"x\ty\" a\"b c\"=d root=UUID=1-2\t-- root=no\n";
        let line = CommandLine::parse(text.as_bytes());
        assert_eq!(line.to_bytes(), text.as_bytes());
        let found: Vec<_> = line.arguments().map(|argument| (argument.key, argument.value)).collect();
        let some = |text: &str| Some(text.to_owned());
        let expected = [
            ("quiet", None),
            ("dyndbg", some("file a.c +p")),
            ("foo", some("a b")),
            ("bar", some("x\ty")),
            ("a\"b c\"", some("d")),
            ("root", some("UUID=1-2")),
        ]
        .map(|(key, value)| (key.to_owned(), value));
        assert_eq!(found, expected);
        assert_eq!(line.value("root").as_deref(), Some("UUID=1-2"));
    }

    #[test]
    fn set_replaces_in_place_and_drops_duplicates() {
        let set = |text: &str, key: &str, value: Option<&str>| {
            edited(text, |line| {
                line.set(key, value).unwrap();
            })
        };
        assert_eq!(set("root=/dev/sda1 ro  quiet", "root", Some("UUID=1")), "root=UUID=1 ro  quiet");
        assert_eq!(set("a root=x  b root=y c\n", "root", Some("z")), "a  b root=z c\n");
        assert_eq!(set("", "quiet", None), "quiet");
        assert_eq!(set("a -- single", "b", None), "a b -- single");
        assert_eq!(set("a-b=1", "a_b", Some("1")), "a-b=1");
        assert_eq!(set("a", "dyndbg", Some("x y")), "a dyndbg=\"x y\"");
        assert_eq!(set("rd.lvm.lv=a", "rd.lvm.lv", Some("b")), "rd.lvm.lv=a rd.lvm.lv=b");
        assert!(!CommandLine::parse(b"a root=x").set("root", Some("x")).unwrap());
        assert!(CommandLine::parse(b"a").set("x\"", None).is_err());
    }

    #[test]
    fn remove_keeps_the_other_blanks() {
        assert_eq!(edited("  a b   c ", |line| assert_eq!(line.remove("a"), 1)), "  b   c ");
        assert_eq!(edited("  a b   c ", |line| assert_eq!(line.remove("c"), 1)), "  a b ");
        assert_eq!(edited(" a ", |line| assert_eq!(line.remove("a"), 1)), "  ");
        assert_eq!(edited("x=1 x=2", |line| assert_eq!(line.remove_value("x", "1"), 1)), "x=2");
        assert_eq!(
            edited("resume=/dev/sda5 x", |line| {
                assert_eq!(line.replace_value("resume", "/dev/sda5", "UUID=9").unwrap(), 1);
            }),
            "resume=UUID=9 x"
        );
    }

    #[test]
    fn consoles_end_in_the_order_asked_for() {
        let want = ["tty0", "ttyS0,115200n8"];
        let cases = [
            ("ro  quiet", "ro  quiet console=tty0 console=ttyS0,115200n8"),
            ("", "console=tty0 console=ttyS0,115200n8"),
            ("console=ttyS0,9600 ro", "console=tty0 console=ttyS0,9600 ro"),
            ("console=ttyS0 ro console=tty0", "console=tty0 console=ttyS0,115200n8 ro"),
            ("console=tty0 a console=ttyS0,115200n8 b", "console=tty0 a console=ttyS0,115200n8 b"),
            ("console=tty0 console=hvc0 x", "console=hvc0 console=tty0 console=ttyS0,115200n8 x"),
            ("console=ttyS1 x", "console=ttyS1 console=tty0 console=ttyS0,115200n8 x"),
            ("a -- b", "a console=tty0 console=ttyS0,115200n8 -- b"),
        ];
        for (before, after) in cases {
            let once = edited(before, |line| assert_eq!(line.set_consoles(&want).unwrap(), before != after));
            assert_eq!(once, after);
            assert_eq!(edited(&once, |line| assert!(!line.set_consoles(&want).unwrap())), once);
        }
    }
}
