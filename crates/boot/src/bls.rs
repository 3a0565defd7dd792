//! Entries of the Boot Loader Specification (type 1): one file for each kernel, read by systemd-boot, by GRUB's
//! `blscfg` and by zipl.
//!
//! Source: the UAPI group's Boot Loader Specification, and for GRUB the `blscfg` module of Fedora and RHEL.

use std::cmp::Ordering;
use std::ops::Range;

use crate::cmdline::Quoting;
use crate::{BootError, CommandLine, JoinedLine};

const FILE: &str = "boot loader entry";
/// Bytes of an entry that are read at most; real ones stay below 2 KiB.
const MAX_BYTES: usize = 64 << 10;
/// Lines of an entry.
const MAX_LINES: usize = 1024;

/// A line of an entry: key and value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    key: String,
    value: Range<usize>,
    line: usize,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoaderEntry {
    text: Vec<u8>,
    fields: Vec<Field>,
    /// The arguments of each `options` line, in order.
    options: Vec<CommandLine>,
}

impl LoaderEntry {
    /// Takes an entry apart; without edits [`LoaderEntry::to_bytes`] gives back exactly `text`.
    pub fn parse(text: &[u8]) -> Result<Self, BootError> {
        let too_large = |what, found, limit| BootError::TooLarge { file: FILE, what, found, limit };
        if text.len() > MAX_BYTES {
            return Err(too_large("bytes", text.len(), MAX_BYTES));
        }
        let mut fields = Vec::new();
        let mut start = 0;
        for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            if index >= MAX_LINES {
                return Err(too_large("lines", index + 1, MAX_LINES));
            }
            let range = start..start + line.len();
            start = range.end;
            let content = line.trim_ascii_end();
            let indent = content.len() - content.trim_ascii_start().len();
            let content = &content[indent..];
            if content.is_empty() || content.starts_with(b"#") {
                continue;
            }
            let key_len = content.iter().position(u8::is_ascii_whitespace).unwrap_or(content.len());
            let key = String::from_utf8_lossy(&content[..key_len]).into_owned();
            let blanks = content[key_len..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let from = range.start + indent + key_len + blanks;
            let value = from..range.start + indent + content.len();
            if text[value.clone()].contains(&0) {
                return Err(BootError::Syntax {
                    file: FILE,
                    line: index + 1,
                    detail: "it holds a zero byte".into(),
                });
            }
            fields.push(Field { key, value, line: index + 1 });
        }
        let mut entry = Self { text: text.to_vec(), fields, options: Vec::new() };
        entry.options = entry
            .fields("options")
            .map(|field| CommandLine::parse_loader_options(&text[field.value.clone()]))
            .collect();
        Ok(entry)
    }

    /// The entry with all edits.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.text.len() + 128);
        let mut at = 0;
        for (field, options) in self.fields("options").zip(&self.options) {
            bytes.extend_from_slice(&self.text[at..field.value.start]);
            let options = options.to_bytes();
            // `options` alone on its line has no blank behind it yet.
            let follows_word = bytes.last().is_some_and(|byte| !byte.is_ascii_whitespace());
            if follows_word && !options.is_empty() {
                bytes.push(b' ');
            }
            bytes.extend_from_slice(&options);
            at = field.value.end;
        }
        bytes.extend_from_slice(&self.text[at..]);
        // An entry without `options` has been given some.
        let had = self.fields("options").count();
        for added in &self.options[had.min(self.options.len())..] {
            let added = added.to_bytes();
            if added.is_empty() {
                continue;
            }
            if bytes.last().is_some_and(|byte| *byte != b'\n') {
                bytes.push(b'\n');
            }
            bytes.extend_from_slice(b"options ");
            bytes.extend_from_slice(&added);
            bytes.push(b'\n');
        }
        bytes
    }

    fn fields<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Field> + 'a {
        self.fields.iter().filter(move |field| field.key == key)
    }

    fn values(&self, key: &str) -> Vec<String> {
        let text = |field: &Field| String::from_utf8_lossy(&self.text[field.value.clone()]).into_owned();
        self.fields(key).map(text).collect()
    }

    /// Value of a key; of several the last.
    pub fn value(&self, key: &str) -> Option<String> {
        self.values(key).pop()
    }

    /// Title as it is shown; empty when the entry has none.
    pub fn title(&self) -> String {
        self.value("title").unwrap_or_default()
    }

    /// Path of the kernel on the filesystem that holds the entries.
    pub fn kernel(&self) -> Option<String> {
        self.value("linux")
    }

    /// Line of the kernel, counted from 1.
    pub fn kernel_line(&self) -> usize {
        self.fields("linux").last().map_or(1, |field| field.line)
    }

    /// All initramfs files, in order: early ones first.
    pub fn initrds(&self) -> Vec<String> {
        // GRUB takes several on one line, too.
        let words = |value: String| value.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        self.values("initrd").into_iter().flat_map(words).collect()
    }

    /// Line of the first initramfs, counted from 1.
    pub fn initrd_line(&self) -> Option<usize> {
        self.fields("initrd").next().map(|field| field.line)
    }

    /// Line of the first `options`, or else that of the kernel.
    pub fn options_line(&self) -> usize {
        self.fields("options").next().map_or_else(|| self.kernel_line(), |field| field.line)
    }

    /// A program of the firmware's kind instead of a kernel: `efi` or `uki`.
    pub fn program(&self) -> Option<String> {
        self.value("efi").or_else(|| self.value("uki"))
    }

    /// True when the arguments refer to the variable as a whole.
    pub fn refers_to(&self, variable: &str) -> bool {
        let (plain, braced) = (format!("${variable}"), format!("${{{variable}}}"));
        self.options
            .iter()
            .flat_map(CommandLine::arguments)
            .any(|argument| argument.value.is_none() && (argument.key == plain || argument.key == braced))
    }

    /// The arguments of all `options` lines as one, a variable replaced by what it stands for.
    pub fn arguments(&self, expansion: Option<(&str, CommandLine)>) -> JoinedLine {
        let mut lines = self.options.clone();
        if lines.is_empty() {
            lines.push(CommandLine::empty(Quoting::LoaderEntry));
        }
        JoinedLine::new(lines, expansion)
    }

    /// Takes over edited arguments; what the variable is to stand for comes back.
    pub fn set_arguments(&mut self, arguments: JoinedLine) -> Option<CommandLine> {
        let (lines, inner) = arguments.split();
        self.options = lines;
        inner
    }
}

/// Order of GRUB's menu: the entry that comes first is the default one. `one` and `other` are file names without
/// `.conf`, as in `blscfg`: the newest version first.
pub fn grub_menu_order(one: &str, other: &str) -> Ordering {
    let parts = |name: &str| -> (String, String, String) {
        // NAME-VERSION-RELEASE, as for packages; a missing part is empty.
        match name.rsplitn(3, '-').collect::<Vec<_>>()[..] {
            [release, version, name] => (name.into(), version.into(), release.into()),
            [version, name] => (name.into(), version.into(), String::new()),
            _ => (name.into(), String::new(), String::new()),
        }
    };
    let (one, other) = (parts(one), parts(other));
    version_order(&other.0, &one.0)
        .then_with(|| version_order(&other.1, &one.1))
        .then_with(|| version_order(&other.2, &one.2))
}

/// Order of systemd-boot's menu: entries with a sort key first, by it; then by machine; the newest version first.
pub fn systemd_boot_order(one: (&str, &LoaderEntry), other: (&str, &LoaderEntry)) -> Ordering {
    let ((one_name, one), (other_name, other)) = (one, other);
    let key = |entry: &LoaderEntry| entry.value("sort-key");
    match (key(one), key(other)) {
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (Some(first), Some(second)) => first
            .cmp(&second)
            .then_with(|| one.value("machine-id").cmp(&other.value("machine-id")))
            .then_with(|| {
                let version = |entry: &LoaderEntry| entry.value("version").unwrap_or_default();
                version_order(&version(other), &version(one))
            })
            .then_with(|| version_order(other_name, one_name)),
        (None, None) => version_order(other_name, one_name),
    }
}

/// Compares versions as RPM does: runs of digits by value, runs of letters by their characters, digits above
/// letters, `~` below the end.
pub fn version_order(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    loop {
        let skip = |text: &mut &[u8]| {
            let len = text.iter().take_while(|b| !b.is_ascii_alphanumeric() && **b != b'~' && **b != b'^');
            *text = &text[len.count()..];
        };
        skip(&mut one);
        skip(&mut other);
        match (one.first(), other.first()) {
            (Some(b'~'), Some(b'~')) | (Some(b'^'), Some(b'^')) => {
                (one, other) = (&one[1..], &other[1..]);
                continue;
            }
            (Some(b'~'), _) => return Ordering::Less,
            (_, Some(b'~')) => return Ordering::Greater,
            (Some(b'^'), None) => return Ordering::Greater,
            (None, Some(b'^')) => return Ordering::Less,
            (Some(b'^'), _) => return Ordering::Less,
            (_, Some(b'^')) => return Ordering::Greater,
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(first), Some(second)) => {
                let is_number = first.is_ascii_digit();
                if is_number != second.is_ascii_digit() {
                    return if is_number { Ordering::Greater } else { Ordering::Less };
                }
                let run = |text: &[u8]| {
                    let same = |byte: &&u8| match is_number {
                        true => byte.is_ascii_digit(),
                        false => byte.is_ascii_alphabetic(),
                    };
                    text.iter().take_while(same).count()
                };
                let (left, right) = (&one[..run(one)], &other[..run(other)]);
                (one, other) = (&one[left.len()..], &other[right.len()..]);
                let order = match is_number {
                    true => {
                        let plain = |digits: &'_ [u8]| {
                            let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
                            digits[zeros..].to_vec()
                        };
                        let (left, right) = (plain(left), plain(right));
                        left.len().cmp(&right.len()).then_with(|| left.cmp(&right))
                    }
                    false => left.cmp(right),
                };
                if order != Ordering::Equal {
                    return order;
                }
            }
        }
    }
}
