//! `/etc/default/grub` and `/etc/default/grub.d/*.cfg`: what the guest's next `update-grub` will use.
//!
//! `grub-mkconfig` lets a shell read these files, the later assignment wins, and puts the value of
//! `GRUB_CMDLINE_LINUX` as it is into `grub.cfg`: inside the shell's quotes stand words of a GRUB script.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::BootError;
use crate::cmdline::{CommandLine, Quoting};
use crate::grub_lexer::{self, Token, Word};
use crate::shell::{self, Part, Statement, Style};

/// Files that are read at most.
const MAX_FILES: usize = 256;
/// Assignments of all files together.
const MAX_ASSIGNMENTS: usize = 4096;
/// Bytes of all files together.
const MAX_TOTAL_BYTES: usize = 1 << 20;
/// Bytes that a value may grow to while variables are replaced.
const MAX_VALUE_BYTES: usize = 64 << 10;

/// One file with its path in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Guest path.
    pub path: String,
    /// Content.
    pub text: Vec<u8>,
}

/// What a variable is worth once all files are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EffectiveValue {
    /// No file assigns it.
    Unset,
    /// This text.
    Known(String),
    /// Only a shell can tell.
    NeedsShell {
        /// `file:line` of the statement.
        place: String,
    },
}

/// Outcome of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Everything holds already.
    Unchanged,
    /// Tokens of an assignment changed, or an assignment was added at the end of a file.
    Changed {
        /// Index of the file in [`DefaultGrub::files`].
        file: usize,
    },
    /// The files cannot be edited in place; a file of our own that is read after all others does it.
    DropIn {
        /// Why not in place.
        reason: String,
        /// Content of the file of our own: one assignment.
        text: String,
    },
}

/// The files that `grub-mkconfig` reads, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultGrub {
    files: Vec<SourceFile>,
    assignments: Vec<Assignment>,
    values: BTreeMap<String, EffectiveValue>,
    /// Where something else was read or evaluated last: what is not assigned later is not known.
    unknown_since: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Assignment {
    file: usize,
    name: String,
    value: Range<usize>,
}

impl DefaultGrub {
    /// Reads `files` in order: `/etc/default/grub` first, then `grub.d/*.cfg` sorted by name.
    pub fn parse(files: Vec<SourceFile>) -> Result<Self, BootError> {
        let total = files.iter().map(|file| file.text.len()).sum();
        check("files", files.len(), MAX_FILES)?;
        check("bytes of all files", total, MAX_TOTAL_BYTES)?;
        let mut parsed = Self::unread(files);
        for index in 0..parsed.files.len() {
            for statement in shell::statements(&parsed.files[index].text)? {
                match statement {
                    Statement::Assignment { name, value, line, is_conditional } => {
                        check("assignments", parsed.assignments.len() + 1, MAX_ASSIGNMENTS)?;
                        let place = parsed.place(index, line);
                        let known = match is_conditional {
                            true => EffectiveValue::NeedsShell { place },
                            false => parsed.evaluate(index, &value, place),
                        };
                        parsed.values.insert(name.clone(), known);
                        parsed.assignments.push(Assignment { file: index, name, value });
                    }
                    Statement::Opaque { range, line } => {
                        let place = parsed.place(index, line);
                        let text = &parsed.files[index].text[range];
                        let names = names_in(text);
                        if reads_elsewhere(text) {
                            parsed.values.clear();
                            parsed.unknown_since = Some(place.clone());
                        }
                        for name in names {
                            parsed.values.insert(name, EffectiveValue::NeedsShell { place: place.clone() });
                        }
                    }
                }
            }
        }
        Ok(parsed)
    }

    /// The files with all edits.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// What a variable is worth once all files are read.
    pub fn value(&self, name: &str) -> EffectiveValue {
        match (self.values.get(name), &self.unknown_since) {
            (Some(value), _) => value.clone(),
            (None, Some(place)) => EffectiveValue::NeedsShell { place: place.clone() },
            (None, None) => EffectiveValue::Unset,
        }
    }

    /// The value of a variable as kernel arguments; `None` when only a shell can tell it.
    pub fn command_line(&self, name: &str) -> Option<CommandLine> {
        let text = match self.value(name) {
            EffectiveValue::Unset => String::new(),
            EffectiveValue::Known(text) => text,
            EffectiveValue::NeedsShell { .. } => return None,
        };
        let words = words(text.as_bytes())?;
        Some(CommandLine::from_words(&words, 0, text.len(), Quoting::Grub, |range| {
            text.as_bytes()[range].to_vec()
        }))
    }

    /// Edits the kernel arguments in a variable such as `GRUB_CMDLINE_LINUX`.
    ///
    /// `edit` may be called several times, on the effective arguments and on those of the last assignment: the
    /// files are changed only when both ways agree on the outcome. Only the last assignment is touched.
    pub fn edit(
        &mut self,
        name: &str,
        edit: impl Fn(&mut CommandLine) -> Result<(), BootError>,
    ) -> Result<Edit, BootError> {
        let Some(effective) = self.command_line(name) else {
            let place = match self.value(name) {
                EffectiveValue::NeedsShell { place } => place,
                _ => "its value".into(),
            };
            let mut added = empty();
            edit(&mut added)?;
            let added = String::from_utf8_lossy(&added.to_bytes()).into_owned();
            return Ok(Edit::DropIn {
                reason: format!("{name} needs a shell to evaluate: {place}"),
                text: format!("{name}=\"${name} {added}\"\n"),
            });
        };
        let mut wanted = effective.clone();
        edit(&mut wanted)?;
        if wanted.arguments().eq(effective.arguments()) {
            return Ok(Edit::Unchanged);
        }
        let last = self.assignments.iter().rev().find(|assignment| assignment.name == name).cloned();
        let candidate = match last {
            Some(last) => self.edit_assignment(&last, &edit)?.map(|text| (last.file, text)),
            None => self.add_assignment(name, &wanted),
        };
        if let Some((file, text)) = candidate {
            let mut files = self.files.clone();
            files[file].text = text;
            let changed = Self::parse(files)?;
            let agrees =
                changed.command_line(name).is_some_and(|line| line.arguments().eq(wanted.arguments()));
            if agrees {
                *self = changed;
                return Ok(Edit::Changed { file });
            }
        }
        let text = format!("{name}=\"{}\"\n", String::from_utf8_lossy(&escape_double(&wanted)));
        let own = SourceFile { path: "/etc/default/grub.d".into(), text: text.clone().into_bytes() };
        let with_own = Self::parse(self.files.iter().cloned().chain([own]).collect())?;
        if !with_own.command_line(name).is_some_and(|line| line.arguments().eq(wanted.arguments())) {
            return Err(BootError::Unsupported {
                file: "/etc/default/grub",
                feature: format!("adding arguments to the value of {name}"),
            });
        }
        Ok(Edit::DropIn {
            reason: format!("the last assignment of {name} does not hold all of its value"),
            text,
        })
    }

    fn unread(files: Vec<SourceFile>) -> Self {
        Self { files, assignments: Vec::new(), values: BTreeMap::new(), unknown_since: None }
    }

    fn place(&self, file: usize, line: usize) -> String {
        format!("{}:{line}", self.files[file].path)
    }

    fn evaluate(&self, file: usize, value: &Range<usize>, place: String) -> EffectiveValue {
        let Some(parts) = shell::parts(&self.files[file].text, value) else {
            return EffectiveValue::NeedsShell { place };
        };
        let mut bytes = Vec::new();
        for part in parts {
            match part {
                Part::Byte(byte, _) => bytes.push(byte),
                Part::Variable(name, _) => match self.value(&name) {
                    EffectiveValue::Known(text) => bytes.extend_from_slice(text.as_bytes()),
                    // Nothing outside of these files sets them.
                    EffectiveValue::Unset if name.starts_with("GRUB_") => {}
                    _ => return EffectiveValue::NeedsShell { place },
                },
            }
            if bytes.len() > MAX_VALUE_BYTES {
                return EffectiveValue::NeedsShell { place };
            }
        }
        match String::from_utf8(bytes) {
            Ok(text) => EffectiveValue::Known(text),
            Err(_) => EffectiveValue::NeedsShell { place },
        }
    }

    /// The whole file with the arguments of one assignment edited; `None` where that is not possible.
    fn edit_assignment(
        &self,
        assignment: &Assignment,
        edit: impl Fn(&mut CommandLine) -> Result<(), BootError>,
    ) -> Result<Option<Vec<u8>>, BootError> {
        let text = &self.files[assignment.file].text;
        let Some(parts) = shell::parts(text, &assignment.value) else { return Ok(None) };
        let (style, inside) = shell::style(text, &assignment.value);
        let (before, after) = (&text[..assignment.value.start], &text[assignment.value.end..]);
        let quoting = match style {
            Style::Double => Quoting::GrubInDoubleQuotes,
            Style::Single => Quoting::GrubInSingleQuotes,
            Style::Mixed => {
                // Written anew inside one pair of quotes, then edited there.
                let mut quoted = b"\"".to_vec();
                for part in &parts {
                    match part {
                        Part::Byte(byte, _) => push_escaped(*byte, &mut quoted),
                        Part::Variable(name, _) => {
                            quoted.extend_from_slice(format!("${{{name}}}").as_bytes())
                        }
                    }
                }
                quoted.push(b'"');
                let value = before.len()..before.len() + quoted.len();
                let mut files = self.files.clone();
                files[assignment.file].text = [before, &quoted, after].concat();
                let rewritten = Self::unread(files);
                let assignment = Assignment { value, ..assignment.clone() };
                return rewritten.edit_assignment(&assignment, edit);
            }
        };
        let Some(mut line) = literal_line(text, &inside, &parts, quoting) else { return Ok(None) };
        edit(&mut line)?;
        let changed = [&text[..inside.start], &line.to_bytes(), &text[inside.end..]].concat();
        Ok(Some(changed))
    }

    /// A new assignment at the end of the first file.
    fn add_assignment(&self, name: &str, wanted: &CommandLine) -> Option<(usize, Vec<u8>)> {
        let mut text = self.files.first()?.text.clone();
        if text.last().is_some_and(|byte| *byte != b'\n') {
            text.push(b'\n');
        }
        text.extend_from_slice(format!("{name}=\"").as_bytes());
        text.extend_from_slice(&escape_double(wanted));
        text.extend_from_slice(b"\"\n");
        Some((0, text))
    }
}

fn check(what: &'static str, found: usize, limit: usize) -> Result<(), BootError> {
    match found > limit {
        true => Err(BootError::TooLarge { file: "/etc/default/grub", what, found, limit }),
        false => Ok(()),
    }
}

/// No arguments, to be written inside `"…"`.
fn empty() -> CommandLine {
    CommandLine::from_words(&[], 0, 0, Quoting::GrubInDoubleQuotes, |_| Vec::new())
}

/// An evaluated value as it is written inside `"…"`.
fn escape_double(line: &CommandLine) -> Vec<u8> {
    let mut escaped = Vec::new();
    for byte in line.to_bytes().trim_ascii() {
        push_escaped(*byte, &mut escaped);
    }
    escaped
}

/// The arguments inside the quotes of one assignment, with the bytes that the file has for them.
fn literal_line(text: &[u8], inside: &Range<usize>, parts: &[Part], quoting: Quoting) -> Option<CommandLine> {
    let mut decoded = Vec::new();
    // Where each decoded byte begins in the file; they tile the range inside the quotes.
    let mut starts = Vec::new();
    for part in parts {
        match part {
            Part::Byte(byte, range) => {
                decoded.push(*byte);
                starts.push(range.start);
            }
            Part::Variable(_, range) => {
                for at in range.clone() {
                    decoded.push(text[at]);
                    starts.push(at);
                }
            }
        }
    }
    if let Some(first) = starts.first_mut() {
        *first = inside.start;
    }
    starts.push(inside.end);
    let words = words(&decoded)?;
    Some(CommandLine::from_words(&words, 0, decoded.len(), quoting, |range| {
        match (starts.get(range.start), starts.get(range.end)) {
            (Some(start), Some(end)) => text[*start..*end].to_vec(),
            _ => Vec::new(),
        }
    }))
}

/// The value as words of a GRUB script; `None` when it holds more than words.
fn words(value: &[u8]) -> Option<Vec<Word>> {
    let tokens = grub_lexer::tokens(value).ok()?;
    tokens
        .into_iter()
        .map(|token| match token {
            Token::Word(word) => Some(word),
            _ => None,
        })
        .collect()
}

fn push_escaped(byte: u8, into: &mut Vec<u8>) {
    if matches!(byte, b'\\' | b'"' | b'$' | b'`') {
        into.push(b'\\');
    }
    into.push(byte);
}

/// True for commands that can assign anything: `.`, `source`, `eval`.
fn reads_elsewhere(text: &[u8]) -> bool {
    text.split(|byte| byte.is_ascii_whitespace() || b";&|(){}`".contains(byte))
        .any(|word| matches!(word, b"." | b"source" | b"eval"))
}

/// Everything in `text` that could be the name of a variable.
fn names_in(text: &[u8]) -> BTreeSet<String> {
    text.split(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_'))
        .filter(|name| name.first().is_some_and(|byte| byte.is_ascii_uppercase()))
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}
