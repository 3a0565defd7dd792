//! `extlinux.conf` and `syslinux.cfg`: read by EXTLINUX, SYSLINUX and U-Boot.
//!
//! Source: the SYSLINUX wiki, "Config", and U-Boot's documentation of `extlinux.conf`. Keywords are not
//! case-sensitive; arguments go to the kernel as they are.

use std::ops::Range;

use crate::{BootError, CommandLine, MAX_ENTRIES};

const FILE: &str = "extlinux.conf";
/// Bytes of a configuration that are read at most.
const MAX_BYTES: usize = 1 << 20;

/// The arguments of one `append` line, or of one that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendLine {
    /// Line in the file, counted from 1; that of the kernel where there is no `append`.
    pub line: usize,
    /// The arguments; edits are made here.
    pub arguments: CommandLine,
    before: CommandLine,
    place: Range<usize>,
    /// What stands before the arguments once there are any: a new line with its keyword.
    lead: Vec<u8>,
}

/// An entry that starts Linux.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtlinuxEntry {
    /// Name of the entry.
    pub label: String,
    /// Title as it is shown: `menu label`, or else the label.
    pub title: String,
    /// Path of the kernel; relative ones start at the directory of the configuration.
    pub kernel: String,
    /// Line of the kernel, counted from 1.
    pub kernel_line: usize,
    /// Initramfs files in order, of `initrd` and of `initrd=` among the arguments.
    pub initrds: Vec<String>,
    /// Line of the first `initrd`.
    pub initrd_line: Option<usize>,
    /// Index of its arguments in [`ExtlinuxConfig::appends`]; entries without their own share the global ones.
    pub append: usize,
    /// `menu default` stands in it.
    pub is_marked: bool,
}

/// A parsed configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtlinuxConfig {
    text: Vec<u8>,
    entries: Vec<ExtlinuxEntry>,
    appends: Vec<AppendLine>,
    default: Option<String>,
    includes: Vec<(usize, String)>,
}

/// An entry while its lines are read.
#[derive(Default)]
struct Open {
    label: String,
    title: Option<String>,
    kernel: Option<(String, usize, usize)>,
    initrds: Vec<String>,
    initrd_line: Option<usize>,
    append: Option<usize>,
    is_marked: bool,
    /// Blanks before the keyword of its kernel.
    indent: Vec<u8>,
}

impl ExtlinuxConfig {
    /// Takes a configuration apart; without edits [`ExtlinuxConfig::to_bytes`] gives back exactly `text`.
    pub fn parse(text: &[u8]) -> Result<Self, BootError> {
        if text.len() > MAX_BYTES {
            let found = text.len();
            return Err(BootError::TooLarge { file: FILE, what: "bytes", found, limit: MAX_BYTES });
        }
        let mut config = Self {
            text: text.to_vec(),
            entries: Vec::new(),
            appends: Vec::new(),
            default: None,
            includes: Vec::new(),
        };
        let mut open: Option<Open> = None;
        let mut closed: Vec<Open> = Vec::new();
        let mut global = None;
        let mut is_text = false;
        let mut start = 0;
        for (index, whole) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let line = index + 1;
            let range = start..start + whole.trim_ascii_end().len();
            start += whole.len();
            let content = &text[range.clone()];
            let indent = content.len() - content.trim_ascii_start().len();
            let content = &content[indent..];
            let (keyword, value) = split_word(content);
            let value_at = range.start + indent + (content.len() - value.len());
            let value_text = String::from_utf8_lossy(value).into_owned();
            let keyword = keyword.to_ascii_lowercase();
            if is_text {
                is_text = keyword != b"endtext";
                continue;
            }
            match &keyword[..] {
                b"text" => is_text = value.to_ascii_lowercase().starts_with(b"help"),
                b"include" => config.includes.push((line, value_text)),
                b"default" if open.is_none() => {
                    config.default = value_text.split_whitespace().next().map(str::to_owned);
                }
                b"label" => {
                    closed.extend(open.take());
                    if closed.len() >= MAX_ENTRIES {
                        let found = closed.len() + 1;
                        let limit = MAX_ENTRIES;
                        return Err(BootError::TooLarge { file: FILE, what: "entries", found, limit });
                    }
                    open = Some(Open { label: value_text, ..Open::default() });
                }
                b"menu" => {
                    let (what, rest) = split_word(value);
                    match (&what.to_ascii_lowercase()[..], open.as_mut()) {
                        (b"label", Some(open)) => {
                            // `^` marks the key that chooses the entry.
                            open.title = Some(String::from_utf8_lossy(rest).replace('^', ""));
                        }
                        (b"default", Some(open)) => open.is_marked = true,
                        (b"include", _) => {
                            config.includes.push((line, String::from_utf8_lossy(rest).into_owned()));
                        }
                        _ => {}
                    }
                }
                b"kernel" | b"linux" => {
                    if let Some(open) = open.as_mut() {
                        open.kernel = Some((value_text, line, range.end));
                        open.indent = text[range.start..range.start + indent].to_vec();
                    }
                }
                b"initrd" => {
                    if let Some(open) = open.as_mut() {
                        open.initrds = value_text.split(',').map(|file| file.trim().to_owned()).collect();
                        open.initrd_line = Some(line);
                    }
                }
                b"append" => {
                    let index = config.append(line, value_at..range.end, content.len() > b"append".len());
                    match open.as_mut() {
                        Some(open) => open.append = Some(index),
                        None => global = Some(index),
                    }
                }
                _ => {}
            }
        }
        closed.extend(open);
        for entry in closed {
            config.close(entry, global)?;
        }
        Ok(config)
    }

    /// The configuration with all edits.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut appends: Vec<&AppendLine> = self.appends.iter().collect();
        appends.sort_by_key(|append| append.place.start);
        let mut bytes = Vec::with_capacity(self.text.len() + 256);
        let mut at = 0;
        for append in appends.into_iter().filter(|append| append.arguments != append.before) {
            bytes.extend_from_slice(&self.text[at..append.place.start]);
            bytes.extend_from_slice(&append.lead);
            bytes.extend_from_slice(&append.arguments.to_bytes());
            at = append.place.end;
        }
        bytes.extend_from_slice(&self.text[at..]);
        bytes
    }

    /// All entries that start Linux, in the order of the file.
    pub fn entries(&self) -> &[ExtlinuxEntry] {
        &self.entries
    }

    /// Arguments of all entries.
    pub fn appends(&self) -> &[AppendLine] {
        &self.appends
    }

    /// Arguments of all entries, for edits.
    pub fn append_mut(&mut self, index: usize) -> Option<&mut AppendLine> {
        self.appends.get_mut(index)
    }

    /// Files that this one takes in, with the line that names them. They are not read.
    pub fn includes(&self) -> &[(usize, String)] {
        &self.includes
    }

    /// The entry that starts when nobody touches the menu.
    pub fn default_entry(&self) -> Option<&ExtlinuxEntry> {
        let named = |name: &String| self.entries.iter().find(|entry| entry.label == *name);
        // `menu default` says which one the menu has chosen; `default` may name the menu's own program.
        let marked = self.entries.iter().rev().find(|entry| entry.is_marked);
        marked.or_else(|| self.default.as_ref().and_then(named)).or(self.entries.first())
    }

    fn append(&mut self, line: usize, place: Range<usize>, has_gap: bool) -> usize {
        let text = &self.text[place.clone()];
        // `append -` takes no arguments, not even the global ones.
        let arguments = match text {
            b"-" => CommandLine::parse(b""),
            text => CommandLine::parse(text),
        };
        let lead = if has_gap { Vec::new() } else { b" ".to_vec() };
        self.appends.push(AppendLine { line, before: arguments.clone(), arguments, place, lead });
        self.appends.len() - 1
    }

    fn close(&mut self, open: Open, global: Option<usize>) -> Result<(), BootError> {
        let Some((kernel, line, end)) = open.kernel else { return Ok(()) };
        // Modules of SYSLINUX itself (`menu.c32`), and boot sectors, are no kernels.
        let is_program = [".c32", ".com", ".cbt", ".bss", ".bin", ".0"];
        if is_program.iter().any(|suffix| kernel.to_ascii_lowercase().ends_with(suffix)) || kernel.is_empty()
        {
            return Ok(());
        }
        if kernel.contains(char::is_whitespace) {
            let feature = format!("arguments behind the kernel, line {line},");
            return Err(BootError::Unsupported { file: FILE, feature });
        }
        let append = match open.append.or(global) {
            Some(index) => index,
            None => {
                let lead = [b"\n", &open.indent[..], b"append "].concat();
                let empty = CommandLine::parse(b"");
                let before = empty.clone();
                self.appends.push(AppendLine { line, arguments: empty, before, place: end..end, lead });
                self.appends.len() - 1
            }
        };
        let mut initrds = open.initrds;
        if let Some(files) = self.appends.get(append).and_then(|append| append.arguments.value("initrd")) {
            initrds.extend(files.split(',').map(str::to_owned));
        }
        self.entries.push(ExtlinuxEntry {
            title: open.title.unwrap_or_else(|| open.label.clone()),
            label: open.label,
            kernel,
            kernel_line: line,
            initrds,
            initrd_line: open.initrd_line,
            append,
            is_marked: open.is_marked,
        });
        Ok(())
    }
}

/// First word, and what follows its blanks.
fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    let len = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(len);
    (word, rest.trim_ascii_start())
}
