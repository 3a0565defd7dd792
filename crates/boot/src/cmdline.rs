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
    /// The same, right behind the path of the kernel.
    KernelBehindWord,
    /// Words of a GRUB script.
    Grub,
    /// Words of a GRUB script inside a shell's `"…"`.
    GrubInDoubleQuotes,
    /// Words of a GRUB script inside a shell's `'…'`.
    GrubInSingleQuotes,
    /// `options` of a Boot Loader Specification entry: systemd-boot hands them to the kernel as they are, GRUB
    /// reads them as words of a script. Only what means the same to both is written.
    LoaderEntry,
    /// Words that need no quotes, inside of quotes.
    Unquoted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// Bytes between the token before and this one.
    gap: Vec<u8>,
    /// Bytes as the file holds them.
    raw: Vec<u8>,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    has_variable: bool,
    /// Which of several joined lines it belongs to; 0 where there is one.
    part: usize,
}

impl Token {
    /// True for `$name` and `${name}`.
    pub(crate) fn is_reference(&self, name: &str) -> bool {
        let inner = self.raw.strip_prefix(b"$").unwrap_or_default();
        let braced = inner.strip_prefix(b"{").and_then(|inner| inner.strip_suffix(b"}"));
        braced.unwrap_or(inner) == name.as_bytes()
    }

    /// Which of several joined lines it belongs to.
    pub(crate) fn part(&self) -> usize {
        self.part
    }

    /// It belongs to a line of its own again.
    pub(crate) fn leave_parts(&mut self) {
        self.part = 0;
    }
}

/// Kernel arguments in the grammar of the file that holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    tokens: Vec<Token>,
    /// Bytes behind the last token.
    tail: Vec<u8>,
    quoting: Quoting,
    /// Of joined lines the one that takes what is added.
    home: Option<usize>,
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
        Self::parse_as(text, Quoting::Kernel)
    }

    /// Takes the `options` of a Boot Loader Specification entry apart, or the `kernelopts` that they refer to.
    pub fn parse_loader_options(text: &[u8]) -> Self {
        let mut line = Self::parse_as(text, Quoting::LoaderEntry);
        for token in &mut line.tokens {
            token.has_variable = has_variable(&token.raw);
        }
        line
    }

    /// As [`CommandLine::parse`], for text that begins right behind another word.
    pub(crate) fn parse_behind(text: &[u8]) -> Self {
        Self::parse_as(text, Quoting::KernelBehindWord)
    }

    pub(crate) fn parse_as(text: &[u8], quoting: Quoting) -> Self {
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
                return Self { tokens, tail: gap, quoting, home: None };
            }
            let raw = text[start..at].to_vec();
            let (key, value) = split_kernel_argument(&raw);
            tokens.push(Token { gap, key, value, has_variable: false, raw, part: 0 });
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
                part: 0,
            });
            at = word.range.end;
        }
        Self { tokens, tail: raw(at..to), quoting, home: None }
    }

    pub(crate) fn empty(quoting: Quoting) -> Self {
        Self { tokens: Vec::new(), tail: Vec::new(), quoting, home: None }
    }

    pub(crate) fn quoting(&self) -> Quoting {
        self.quoting
    }

    /// Blanks before the first token, and bytes behind the last.
    pub(crate) fn edges(&self) -> (Vec<u8>, Vec<u8>) {
        (self.tokens.first().map(|token| token.gap.clone()).unwrap_or_default(), self.tail.clone())
    }

    pub(crate) fn set_edges(&mut self, (head, tail): (Vec<u8>, Vec<u8>)) {
        if let Some(first) = self.tokens.first_mut() {
            first.gap = head;
        }
        self.tail = tail;
    }

    /// The tokens, as those of one of several joined lines.
    pub(crate) fn into_tokens(self, part: usize) -> Vec<Token> {
        let of_part = |token| Token { part, ..token };
        self.tokens.into_iter().map(of_part).collect()
    }

    pub(crate) fn into_own_tokens(self) -> Vec<Token> {
        self.tokens
    }

    /// Adds a token at the very end; what is before it does not run into it.
    pub(crate) fn push(&mut self, mut token: Token) {
        if token.gap.is_empty() && !self.tokens.is_empty() {
            token.gap.push(b' ');
        }
        self.tokens.push(token);
    }

    /// Names the part that takes what is added.
    pub(crate) fn set_home(&mut self, part: usize) {
        self.home = Some(part);
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
            self.replace(*last, token);
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
            self.replace(*index, token);
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
        self.insert(self.end_of_home(), token);
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
            (None, None) => self.end_of_home(),
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

    /// Where something is added. Joined lines take it at the end of the one that is the home of additions, when
    /// nothing but variables follows that.
    fn end_of_home(&self) -> usize {
        let end = self.kernel_end();
        let Some(home) = self.home else { return end };
        let last = self.tokens[..end].iter().rposition(|token| token.part == home);
        match last {
            Some(last) if self.tokens[last + 1..end].iter().all(|token| token.has_variable) => last + 1,
            _ => end,
        }
    }

    /// Puts another token in the place of one.
    fn replace(&mut self, index: usize, token: Token) {
        if let Some(old) = self.tokens.get_mut(index) {
            let gap = std::mem::take(&mut old.gap);
            *old = Token { gap, part: old.part, ..token };
        }
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
        let neighbour = index.checked_sub(1).and_then(|before| self.tokens.get(before));
        token.part = neighbour.or(self.tokens.first()).map_or(0, |token| token.part);
        if index == 0 {
            token.gap = match self.tokens.first_mut() {
                Some(next) => std::mem::replace(&mut next.gap, b" ".to_vec()),
                None if matches!(self.quoting, Quoting::Grub | Quoting::KernelBehindWord) => b" ".to_vec(),
                None => Vec::new(),
            };
        } else {
            token.gap = b" ".to_vec();
        }
        // The kernel ends an open quote with the text; what comes behind must not fall into it.
        if matches!(self.quoting, Quoting::Kernel | Quoting::KernelBehindWord | Quoting::LoaderEntry)
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
            Quoting::Kernel | Quoting::KernelBehindWord => match value {
                Some(value) if value.contains(' ') => format!("{key}=\"{value}\""),
                _ => argument(),
            },
            Quoting::Unquoted => {
                let is_plain = |text: &str| text.bytes().all(grub_lexer::is_plain);
                match is_plain(key) && value.is_none_or(is_plain) {
                    true => argument(),
                    false => return Err(refuse("it needs quotes, and the file has it inside quotes")),
                }
            }
            Quoting::LoaderEntry => {
                let is_plain =
                    |text: &str| text.bytes().all(|byte| grub_lexer::is_plain(byte) || byte == b' ');
                if !is_plain(key) || !value.is_none_or(is_plain) {
                    return Err(refuse("boot loaders read its special characters in different ways"));
                }
                match value {
                    Some(value) if value.contains(' ') => format!("{key}=\"{value}\""),
                    _ => argument(),
                }
            }
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
            part: 0,
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

/// True where GRUB would put something else for a part of this text.
fn has_variable(text: &[u8]) -> bool {
    let starts_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == b'{';
    text.windows(2).any(|pair| pair[0] == b'$' && starts_name(&pair[1]))
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
