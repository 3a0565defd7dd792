//! `menu.lst` and `grub.conf` of GRUB legacy (0.9x), as CentOS 6 and old Debian and SUSE releases have them.
//!
//! Source: the GRUB legacy manual, "Configuration", and Debian's `update-grub(8)` for the magic comments. GRUB
//! legacy hands everything behind the kernel's path to the kernel as it is: there are no quotes or variables.

use std::ops::Range;

use crate::grub_cfg::is_recovery;
use crate::{BootError, CommandLine, EntryId, InitrdLine, KernelLine, MAX_ENTRIES, MenuEntry};

const FILE: &str = "menu.lst";
/// Bytes of a configuration that are read at most.
const MAX_BYTES: usize = 1 << 20;
/// Where Debian's `update-grub` looks for its own settings.
const AUTOMAGIC: &[u8] = b"### BEGIN AUTOMAGIC KERNELS LIST";

/// Arguments that `update-grub` uses for the entries that it makes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Line in the file, counted from 1.
    pub line: usize,
    /// `kopt`, `kopt_2_6`, `defoptions`, …
    pub name: String,
    /// The arguments; edits are made here.
    pub arguments: CommandLine,
    place: Range<usize>,
}

/// What `default` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegacyDefault {
    /// The entry with this index.
    Entry(usize),
    /// The one that the file `default` beside the configuration names.
    Saved,
}

/// A parsed configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyConfig {
    text: Vec<u8>,
    entries: Vec<MenuEntry>,
    kernels: Vec<KernelLine>,
    templates: Vec<Template>,
    default: LegacyDefault,
}

impl LegacyConfig {
    /// Takes a configuration apart; without edits [`LegacyConfig::to_bytes`] gives back exactly `text`.
    pub fn parse(text: &[u8]) -> Result<Self, BootError> {
        if text.len() > MAX_BYTES {
            let found = text.len();
            return Err(BootError::TooLarge { file: FILE, what: "bytes", found, limit: MAX_BYTES });
        }
        let mut config = Self {
            text: text.to_vec(),
            entries: Vec::new(),
            kernels: Vec::new(),
            templates: Vec::new(),
            default: LegacyDefault::Entry(0),
        };
        let has_magic = text.windows(AUTOMAGIC.len()).any(|window| window == AUTOMAGIC);
        let mut start = 0;
        for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let range = start..start + line.trim_ascii_end().len();
            start += line.len();
            if has_magic && line.trim_ascii_end().starts_with(b"# ") {
                config.template(index + 1, range.start + 2..range.end);
            }
            config.command(index + 1, range)?;
        }
        config.mark_recovery();
        Ok(config)
    }

    /// The configuration with all edits.
    pub fn to_bytes(&self) -> Vec<u8> {
        let kernels = self.kernels.iter().map(|kernel| (kernel.place.clone(), &kernel.arguments));
        let templates = self.templates.iter().map(|template| (template.place.clone(), &template.arguments));
        let mut places: Vec<_> = kernels.chain(templates).collect();
        places.sort_by_key(|(place, _)| place.start);
        let mut bytes = Vec::with_capacity(self.text.len() + 256);
        let mut at = 0;
        for (place, arguments) in places {
            bytes.extend_from_slice(&self.text[at..place.start]);
            bytes.extend_from_slice(&arguments.to_bytes());
            at = place.end;
        }
        bytes.extend_from_slice(&self.text[at..]);
        bytes
    }

    /// All entries in the order of the file.
    pub fn entries(&self) -> &[MenuEntry] {
        &self.entries
    }

    /// All `kernel` lines that start Linux.
    pub fn kernels(&self) -> &[KernelLine] {
        &self.kernels
    }

    /// All `kernel` lines that start Linux, for editing their arguments.
    pub fn kernels_mut(&mut self) -> impl Iterator<Item = &mut KernelLine> {
        self.kernels.iter_mut()
    }

    /// The entry that a kernel line is in.
    pub fn entry_of(&self, kernel: &KernelLine) -> Option<&MenuEntry> {
        self.entries.get(kernel.entry?.0)
    }

    /// Debian's magic comments, for editing their arguments.
    pub fn templates_mut(&mut self) -> impl Iterator<Item = &mut Template> {
        self.templates.iter_mut()
    }

    /// The entry that starts when nobody touches the menu; `saved` is the content of the file `default`.
    pub fn default_entry(&self, saved: Option<&[u8]>) -> Option<&MenuEntry> {
        let index = match self.default {
            LegacyDefault::Entry(index) => index,
            LegacyDefault::Saved => {
                let digits: String = String::from_utf8_lossy(saved.unwrap_or_default())
                    .trim_start()
                    .chars()
                    .take_while(char::is_ascii_digit)
                    .collect();
                digits.parse().unwrap_or(0)
            }
        };
        self.entries.get(index).or(self.entries.first())
    }

    /// `# kopt=root=/dev/sda1 ro`: exactly one `#` and one blank, as `update-grub` wants it.
    fn template(&mut self, line: usize, range: Range<usize>) {
        let text = &self.text[range.clone()];
        let Some(equals) = text.iter().position(|byte| *byte == b'=') else { return };
        let name = String::from_utf8_lossy(&text[..equals]).into_owned();
        let is_known = name == "defoptions" || name == "kopt" || name.starts_with("kopt_");
        if is_known && !text.contains(&0) {
            let place = range.start + equals + 1..range.end;
            let arguments = CommandLine::parse(&self.text[place.clone()]);
            self.templates.push(Template { line, name, arguments, place });
        }
    }

    fn command(&mut self, line: usize, range: Range<usize>) -> Result<(), BootError> {
        let text = &self.text[range.clone()];
        let indent = text.len() - text.trim_ascii_start().len();
        let text = &text[indent..];
        if text.is_empty() || text.starts_with(b"#") {
            return Ok(());
        }
        // A keyword ends at a blank or at `=`.
        let is_end = |byte: &u8| matches!(byte, b' ' | b'\t' | b'=');
        let key_len = text.iter().position(is_end).unwrap_or(text.len());
        let gap = text[key_len..].iter().take_while(|byte| is_end(byte)).count();
        let (keyword, value) = (&text[..key_len], &text[key_len + gap..]);
        let value_at = range.start + indent + key_len + gap;
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
        let words = || lossy(value).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        if value.ends_with(b"\\") && matches!(keyword, b"kernel" | b"module" | b"initrd") {
            let feature = format!("a command over several lines, line {line},");
            return Err(BootError::Unsupported { file: FILE, feature });
        }
        let value_text = lossy(value);
        match (keyword, self.entries.last_mut()) {
            (b"title", _) => return self.title(line, value_text),
            (b"default", None) => {
                self.default = match value_text.as_str() {
                    "saved" => LegacyDefault::Saved,
                    number => LegacyDefault::Entry(number.parse().unwrap_or(0)),
                };
            }
            (b"root" | b"rootnoverify", Some(entry)) => entry.set_root = one_based(&value_text),
            (b"uuid", Some(entry)) => entry.search_uuids = vec![value_text],
            (b"initrd", Some(entry)) => entry.initrds.push(InitrdLine { line, paths: words() }),
            (b"chainloader", Some(entry)) => entry.chainloader = Some(value_text),
            (b"kernel" | b"module", Some(_)) => {
                let is_module = keyword == b"module";
                self.kernel(line, value_at..range.end, is_module);
            }
            _ => {}
        }
        Ok(())
    }

    fn title(&mut self, line: usize, title: String) -> Result<(), BootError> {
        let id = EntryId(self.entries.len());
        if id.0 >= MAX_ENTRIES {
            let found = id.0 + 1;
            return Err(BootError::TooLarge { file: FILE, what: "entries", found, limit: MAX_ENTRIES });
        }
        self.entries.push(MenuEntry::new(id, title, line));
        Ok(())
    }

    /// `kernel [--option]… PATH ARGUMENTS`; under Xen the kernel is a `module`.
    fn kernel(&mut self, line: usize, value: Range<usize>, is_module: bool) {
        let mut at = value.start;
        let (kernel, end) = loop {
            let rest = &self.text[at..value.end];
            let skip = rest.len() - rest.trim_ascii_start().len();
            let word = &rest[skip..];
            let len = word.iter().position(u8::is_ascii_whitespace).unwrap_or(word.len());
            at += skip + len;
            if len == 0 {
                return;
            }
            if !word.starts_with(b"--") {
                break (String::from_utf8_lossy(&word[..len]).into_owned(), at);
            }
        };
        let id = EntryId(self.entries.len().saturating_sub(1));
        let Some(entry) = self.entries.last_mut() else { return };
        let name = kernel.rsplit('/').next().unwrap_or(&kernel);
        if is_module && name.starts_with("init") {
            entry.initrds.push(InitrdLine { line, paths: vec![kernel] });
            return;
        }
        if name.starts_with("xen") || name.starts_with("tboot") {
            return;
        }
        entry.kernels.push(self.kernels.len());
        let place = end..value.end;
        self.kernels.push(KernelLine {
            line,
            entry: Some(id),
            command: "kernel".into(),
            kernel,
            arguments: CommandLine::parse_behind(&self.text[place.clone()]),
            place,
        });
    }

    fn mark_recovery(&mut self) {
        for entry in &mut self.entries {
            entry.is_recovery = is_recovery(entry, &self.kernels);
        }
    }
}

/// `(hd0,0)` counts partitions from 0; the form with partitions from 1 is what the rest of this crate uses.
fn one_based(device: &str) -> Option<String> {
    let (disk, partition) = device.strip_prefix('(')?.split_once(')')?.0.split_once(',')?;
    let number: u32 = partition.split(',').next()?.parse().ok()?;
    Some(format!("{disk},{}", number.checked_add(1)?))
}
