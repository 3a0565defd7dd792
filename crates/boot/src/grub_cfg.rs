//! `grub.cfg`: menu entries, their kernels and initramfs files, and edits of kernel arguments.
//!
//! The script is never run. It is split into words as GRUB splits it, commands are recognised by their first
//! word, and an edit changes argument words only.

use std::ops::Range;

use crate::cmdline::{CommandLine, Quoting};
use crate::grub_lexer::{self, Token, Word};
use crate::{BootError, GrubEnv};

/// Menu entries and submenus that are read at most.
pub const MAX_ENTRIES: usize = 4096;
/// Nested blocks at most; generated files nest three deep.
const MAX_DEPTH: usize = 64;

/// Filesystems that one entry searches for, at most; generated entries search for one.
const MAX_SEARCHES: usize = 16;

/// Names one menu entry or submenu: its index in [`GrubConfig::entries`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub usize);

/// A `linux` command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelLine {
    /// Line in the file, counted from 1.
    pub line: usize,
    /// The entry that it is in; `None` outside of any.
    pub entry: Option<EntryId>,
    /// The command as it is written: `linux`, `linuxefi`, `$linux`, …
    pub command: String,
    /// Path of the kernel as GRUB sees it; may begin with a device `(hd0,1)` and may hold variables.
    pub kernel: String,
    /// Its arguments; edits are made here.
    pub arguments: CommandLine,
    pub(crate) place: Range<usize>,
}

/// An `initrd` command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitrdLine {
    /// Line in the file, counted from 1.
    pub line: usize,
    /// All files, in order; early ones (microcode) first.
    pub paths: Vec<String>,
}

/// A `menuentry` or `submenu`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MenuEntry {
    /// Index of this entry.
    pub id: EntryId,
    /// Title as it is shown.
    pub title: String,
    /// The value of `--id`.
    pub menu_id: Option<String>,
    /// Line in the file, counted from 1.
    pub line: usize,
    /// The submenu that holds it.
    pub parent: Option<EntryId>,
    /// True for `submenu`.
    pub is_submenu: bool,
    /// Indexes of its `linux` commands in [`GrubConfig::kernels`]; one in a generated entry.
    pub kernels: Vec<usize>,
    /// Its `initrd` commands.
    pub initrds: Vec<InitrdLine>,
    /// Filesystem UUIDs that `search` looks for in it.
    pub search_uuids: Vec<String>,
    /// Filesystem labels that `search` looks for in it.
    pub search_labels: Vec<String>,
    /// The last `set root=`.
    pub set_root: Option<String>,
    /// The file of a `chainloader` command.
    pub chainloader: Option<String>,
    /// A rescue or recovery entry, by its arguments or its title.
    pub is_recovery: bool,
}

impl MenuEntry {
    /// An entry of which nothing but its title is known yet.
    pub(crate) fn new(id: EntryId, title: String, line: usize) -> Self {
        Self {
            id,
            title,
            menu_id: None,
            line,
            parent: None,
            is_submenu: false,
            kernels: Vec::new(),
            initrds: Vec::new(),
            search_uuids: Vec::new(),
            search_labels: Vec::new(),
            set_root: None,
            chainloader: None,
            is_recovery: false,
        }
    }
}

/// Arguments that the script keeps in a variable for entries of the Boot Loader Specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelOptions {
    /// Line in the file, counted from 1.
    pub line: usize,
    /// Name of the variable.
    pub name: String,
    /// Its arguments; edits are made here.
    pub arguments: CommandLine,
    place: Range<usize>,
}

/// A configuration that only leads to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stub {
    /// UUID of the filesystem that it searches.
    pub search_uuid: Option<String>,
    /// `set prefix=`, as it is written: `($root)/boot/grub`.
    pub prefix: Option<String>,
    /// The file, as it is written: `$prefix/grub.cfg`.
    pub target: String,
}

/// `set default=` at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DefaultSetting {
    line: usize,
    value: String,
    has_variable: bool,
}

/// A parsed `grub.cfg`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrubConfig {
    script: Vec<u8>,
    entries: Vec<MenuEntry>,
    kernels: Vec<KernelLine>,
    defaults: Vec<DefaultSetting>,
    stub: Option<Stub>,
    blscfg_line: Option<usize>,
    options: Vec<KernelOptions>,
    variables: Vec<(String, String, bool)>,
}

impl GrubConfig {
    /// Takes a script apart; without edits [`GrubConfig::to_bytes`] gives back exactly `script`.
    pub fn parse(script: &[u8]) -> Result<Self, BootError> {
        Builder::new(script).build()
    }

    /// The script with all edits.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.script.len() + 256);
        let kernels = self.kernels.iter().map(|kernel| (&kernel.place, &kernel.arguments));
        let options = self.options.iter().map(|options| (&options.place, &options.arguments));
        let mut places: Vec<_> = kernels.chain(options).collect();
        places.sort_by_key(|(place, _)| place.start);
        let mut at = 0;
        for (place, arguments) in places {
            bytes.extend_from_slice(&self.script[at..place.start]);
            bytes.extend_from_slice(&arguments.to_bytes());
            at = place.end;
        }
        bytes.extend_from_slice(&self.script[at..]);
        bytes
    }

    /// All entries and submenus in the order of the file.
    pub fn entries(&self) -> &[MenuEntry] {
        &self.entries
    }

    /// All `linux` commands in the order of the file, those outside of any entry included.
    pub fn kernels(&self) -> &[KernelLine] {
        &self.kernels
    }

    /// All `linux` commands, for editing their arguments.
    pub fn kernels_mut(&mut self) -> impl Iterator<Item = &mut KernelLine> {
        self.kernels.iter_mut()
    }

    /// The entry that a `linux` command is in.
    pub fn entry_of(&self, kernel: &KernelLine) -> Option<&MenuEntry> {
        self.entries.get(kernel.entry?.0)
    }

    /// Arguments in variables that entries of the Boot Loader Specification refer to.
    pub fn options(&self) -> &[KernelOptions] {
        &self.options
    }

    /// Arguments in variables that entries of the Boot Loader Specification refer to, for edits.
    pub fn options_mut(&mut self) -> impl Iterator<Item = &mut KernelOptions> {
        self.options.iter_mut()
    }

    /// What a variable that is set outside of entries and functions is worth at the end of the script; `Err` with
    /// the text when that is computed.
    pub fn variable(&self, name: &str) -> Option<Result<&str, &str>> {
        self.variables.iter().rev().find(|(key, ..)| key == name).map(|(_, value, is_computed)| {
            match is_computed {
                true => Err(value.as_str()),
                false => Ok(value.as_str()),
            }
        })
    }

    /// Where this configuration leads, when it has no entries itself.
    pub fn stub(&self) -> Option<&Stub> {
        self.stub.as_ref().filter(|_| self.entries.is_empty() && self.blscfg_line.is_none())
    }

    /// Line of `blscfg`, which makes menu entries of the Boot Loader Specification's.
    pub fn blscfg_line(&self) -> Option<usize> {
        self.blscfg_line
    }

    /// Where the entries of the Boot Loader Specification stand among those of the script.
    pub fn entries_before_blscfg(&self) -> usize {
        let Some(blscfg) = self.blscfg_line else { return self.entries.len() };
        self.entries.iter().filter(|entry| entry.parent.is_none() && entry.line < blscfg).count()
    }

    /// The entry that starts when nobody touches the menu. `None` when there is none at all.
    pub fn default_entry(&self, environment: &GrubEnv) -> Result<Option<&MenuEntry>, BootError> {
        Ok(self.find_entry(&self.default_specification(environment)?))
    }

    /// What names the entry that starts when nobody touches the menu; empty for the first one.
    ///
    /// `next_entry` of the environment comes first, then the last `set default=`.
    pub fn default_specification(&self, environment: &GrubEnv) -> Result<String, BootError> {
        let once = environment.get("next_entry").filter(|value| !value.is_empty());
        let setting = self.defaults.iter().rev().find(|setting| {
            // Only used when next_entry is set.
            !matches!(setting.value.as_str(), "${next_entry}" | "$next_entry")
        });
        match (once, setting) {
            (Some(once), _) => Ok(once),
            (None, None) => Ok(String::new()),
            (None, Some(setting)) => match setting.value.as_str() {
                "${saved_entry}" | "$saved_entry" => Ok(environment.get("saved_entry").unwrap_or_default()),
                value if setting.has_variable => Err(BootError::Unsupported {
                    file: "grub.cfg",
                    feature: format!("the computed default entry {value:?}, line {},", setting.line),
                }),
                value => Ok(value.to_owned()),
            },
        }
    }

    /// Follows an entry specification: indexes, titles or ids, submenus joined by `>`. What is not found
    /// means the first entry, as in GRUB.
    pub fn find_entry(&self, specification: &str) -> Option<&MenuEntry> {
        let mut parent = None;
        let mut rest = Some(specification);
        // Each round goes one submenu down; nesting is bounded by parsing.
        loop {
            let (step, after) = match rest {
                Some(text) => split_step(text),
                None => (String::new(), None),
            };
            let menu: Vec<&MenuEntry> = self.entries.iter().filter(|entry| entry.parent == parent).collect();
            let by_number = || step.parse::<usize>().ok().and_then(|index| menu.get(index).copied());
            let by_name = || {
                menu.iter()
                    .copied()
                    .find(|entry| entry.menu_id.as_deref() == Some(&step) || entry.title == step)
            };
            let entry = by_number().or_else(by_name).or_else(|| menu.first().copied())?;
            if !entry.is_submenu {
                return Some(entry);
            }
            parent = Some(entry.id);
            rest = after;
        }
    }
}

/// First step of a specification and what follows its `>`; `>>` stands for one `>`.
fn split_step(text: &str) -> (String, Option<&str>) {
    let mut step = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if character == '>' {
            match characters.peek() {
                Some((_, '>')) => characters.next(),
                _ => return (step, text.get(at + 1..)),
            };
        }
        step.push(character);
    }
    (step, None)
}

enum Block {
    Entry(EntryId),
    Function,
    Group,
}

struct Builder<'a> {
    script: &'a [u8],
    /// Positions of all newlines, for line numbers.
    newlines: Vec<usize>,
    blocks: Vec<Block>,
    prefix: Option<String>,
    search_uuid: Option<String>,
    config: GrubConfig,
}

impl<'a> Builder<'a> {
    fn new(script: &'a [u8]) -> Self {
        let newlines =
            script.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
        let config = GrubConfig {
            script: script.to_vec(),
            entries: Vec::new(),
            kernels: Vec::new(),
            defaults: Vec::new(),
            stub: None,
            blscfg_line: None,
            options: Vec::new(),
            variables: Vec::new(),
        };
        Self { script, newlines, blocks: Vec::new(), prefix: None, search_uuid: None, config }
    }

    fn line(&self, at: usize) -> usize {
        1 + self.newlines.partition_point(|newline| *newline < at)
    }

    fn syntax(&self, line: usize, detail: &str) -> BootError {
        BootError::Syntax { file: "grub.cfg", line, detail: detail.to_owned() }
    }

    fn build(mut self) -> Result<GrubConfig, BootError> {
        let mut words: Vec<Word> = Vec::new();
        let mut last_line = 1;
        for token in grub_lexer::tokens(self.script)? {
            match token {
                Token::Word(word) => {
                    last_line = self.line(word.range.start);
                    words.push(word);
                }
                Token::Separator => self.command(&std::mem::take(&mut words))?,
                Token::Open => self.open(&std::mem::take(&mut words))?,
                Token::Close => {
                    self.command(&std::mem::take(&mut words))?;
                    if self.blocks.pop().is_none() {
                        return Err(self.syntax(last_line, "a } without its {"));
                    }
                }
            }
        }
        self.command(&words)?;
        if !self.blocks.is_empty() {
            return Err(self.syntax(last_line, "the file ends inside { … }"));
        }
        self.mark_recovery();
        Ok(self.config)
    }

    fn open(&mut self, words: &[Word]) -> Result<(), BootError> {
        if self.blocks.len() >= MAX_DEPTH {
            return Err(BootError::TooLarge {
                file: "grub.cfg",
                what: "nested blocks",
                found: self.blocks.len() + 1,
                limit: MAX_DEPTH,
            });
        }
        let words = strip_keywords(words);
        let block = match words.split_first() {
            Some((first, rest)) if first.is_bare && matches!(&first.text[..], b"menuentry" | b"submenu") => {
                self.entry(first, rest)?
            }
            Some((first, _)) if first.is_bare && first.text == b"function" => Block::Function,
            _ => Block::Group,
        };
        self.blocks.push(block);
        Ok(())
    }

    fn entry(&mut self, first: &Word, rest: &[Word]) -> Result<Block, BootError> {
        let id = EntryId(self.config.entries.len());
        if id.0 >= MAX_ENTRIES {
            return Err(BootError::TooLarge {
                file: "grub.cfg",
                what: "menu entries",
                found: id.0 + 1,
                limit: MAX_ENTRIES,
            });
        }
        let mut title = None;
        let mut menu_id = None;
        let mut words = rest.iter();
        while let Some(word) = words.next() {
            match &word.text[..] {
                b"--id" | b"$menuentry_id_option" | b"${menuentry_id_option}" => {
                    menu_id = words.next().map(Word::lossy);
                }
                b"--class" | b"--users" | b"--hotkey" | b"--source" => drop(words.next()),
                text if text.starts_with(b"--") => {
                    menu_id = text
                        .strip_prefix(b"--id=")
                        .map(|value| String::from_utf8_lossy(value).into_owned())
                        .or(menu_id);
                }
                _ => title = title.or_else(|| Some(word.lossy())),
            }
        }
        self.config.entries.push(MenuEntry {
            menu_id,
            parent: self.current_entry(),
            is_submenu: first.text == b"submenu",
            ..MenuEntry::new(id, title.unwrap_or_default(), self.line(first.range.start))
        });
        Ok(Block::Entry(id))
    }

    fn current_entry(&self) -> Option<EntryId> {
        self.blocks.iter().rev().find_map(|block| match block {
            Block::Entry(id) => Some(*id),
            _ => None,
        })
    }

    fn entry_mut(&mut self) -> Option<&mut MenuEntry> {
        let id = self.current_entry()?;
        self.config.entries.get_mut(id.0)
    }

    fn command(&mut self, words: &[Word]) -> Result<(), BootError> {
        let Some((first, rest)) = strip_keywords(words).split_first() else { return Ok(()) };
        let line = self.line(first.range.start);
        let name: Vec<u8> = first.text.iter().copied().filter(|byte| !b"${}".contains(byte)).collect();
        match &name[..] {
            b"linux" | b"linux16" | b"linuxefi" => self.kernel(first, rest, line),
            b"initrd" | b"initrd16" | b"initrdefi" => {
                let paths = rest.iter().map(Word::lossy).collect();
                if let Some(entry) = self.entry_mut() {
                    entry.initrds.push(InitrdLine { line, paths });
                }
            }
            b"search" | b"search.fs_uuid" | b"search.fs_label" => self.search(&name, rest),
            b"set" => {
                if let Some(assignment) = rest.first() {
                    self.assignment(assignment, line);
                }
            }
            b"configfile" | b"normal" | b"source" | b"." => {
                // SUSE's stubs read the configuration as a part of themselves; other files may be read so, too.
                let is_config = |word: &&Word| {
                    !matches!(&name[..], b"source" | b".") || word.text.ends_with(b"/grub.cfg")
                };
                if let (Some(target), None) = (rest.first().filter(is_config), self.current_entry()) {
                    self.config.stub = Some(Stub {
                        search_uuid: self.search_uuid.clone(),
                        prefix: self.prefix.clone(),
                        target: target.lossy(),
                    });
                }
            }
            b"chainloader" => {
                let file = rest.iter().map(Word::lossy).find(|word| !word.starts_with('-'));
                if let Some(entry) = self.entry_mut() {
                    entry.chainloader = file;
                }
            }
            b"blscfg" => self.config.blscfg_line = self.config.blscfg_line.or(Some(line)),
            _ if first.text.contains(&b'=') => self.assignment(first, line),
            _ => {}
        }
        Ok(())
    }

    fn kernel(&mut self, first: &Word, rest: &[Word], line: usize) {
        let Some((kernel, arguments)) = rest.split_first() else { return };
        let from = kernel.range.end;
        let to = arguments.last().map_or(from, |word| word.range.end);
        let script = self.script;
        let found = KernelLine {
            line,
            entry: self.current_entry(),
            command: first.lossy(),
            kernel: kernel.lossy(),
            arguments: CommandLine::from_words(arguments, from, to, Quoting::Grub, |range| {
                script[range].to_vec()
            }),
            place: from..to,
        };
        let index = self.config.kernels.len();
        self.config.kernels.push(found);
        if let Some(entry) = self.entry_mut() {
            entry.kernels.push(index);
        }
    }

    fn search(&mut self, name: &[u8], rest: &[Word]) {
        let by_label = name == b"search.fs_label" || rest.iter().any(|w| is_flag(w, b"--label", b"-l"));
        let by_uuid = name == b"search.fs_uuid" || rest.iter().any(|w| is_flag(w, b"--fs-uuid", b"-u"));
        // `search.fs_uuid UUID variable hints…`, but `search … --set=root UUID`.
        let subject = match name {
            b"search" => rest.last(),
            _ => rest.first(),
        };
        let Some(subject) = subject.filter(|word| !word.has_variable && !word.text.starts_with(b"-")) else {
            return;
        };
        let value = subject.lossy();
        if by_uuid {
            self.search_uuid = Some(value.clone());
        }
        let Some(entry) = self.entry_mut() else { return };
        let list = match (by_uuid, by_label) {
            (true, _) => &mut entry.search_uuids,
            (_, true) => &mut entry.search_labels,
            _ => return,
        };
        if list.len() < MAX_SEARCHES && !list.contains(&value) {
            list.push(value);
        }
    }

    fn assignment(&mut self, word: &Word, line: usize) {
        if self.blocks.iter().any(|block| matches!(block, Block::Function)) {
            return;
        }
        let text = word.lossy();
        let Some((key, value)) = text.split_once('=') else { return };
        let value = value.to_owned();
        if self.current_entry().is_none() {
            let is_computed = word.has_variable;
            self.config.variables.push((key.to_owned(), value.clone(), is_computed));
            self.options(key, word, line);
        }
        match (key, self.current_entry()) {
            ("default", None) => {
                self.config.defaults.push(DefaultSetting { line, value, has_variable: word.has_variable });
            }
            ("prefix", None) => self.prefix = Some(value),
            ("root", Some(_)) => {
                if let Some(entry) = self.entry_mut() {
                    entry.set_root = Some(value);
                }
            }
            _ => {}
        }
    }

    /// `set kernelopts="root=… ro"`: RHEL 8 and its kin keep the arguments of all entries there.
    fn options(&mut self, key: &str, word: &Word, line: usize) {
        let raw = &self.script[word.range.clone()];
        let inside = raw
            .strip_prefix(key.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"=\""))
            .and_then(|rest| rest.strip_suffix(b"\""));
        let Some(inside) = inside.filter(|_| matches!(key, "kernelopts" | "default_kernelopts")) else {
            return;
        };
        // Quotes inside of the quotes would have to be read twice.
        if inside.iter().any(|byte| matches!(byte, b'"' | b'\\' | b'\'' | b'$')) {
            return;
        }
        let start = word.range.start + key.len() + 2;
        let arguments = CommandLine::parse_as(inside, Quoting::Unquoted);
        let place = start..start + inside.len();
        self.config.options.push(KernelOptions { line, name: key.to_owned(), arguments, place });
    }

    fn mark_recovery(&mut self) {
        for entry in &mut self.config.entries {
            entry.is_recovery = is_recovery(entry, &self.config.kernels);
        }
    }
}

/// True for an entry that is for repairs, by its arguments or its title.
pub(crate) fn is_recovery(entry: &MenuEntry, kernels: &[KernelLine]) -> bool {
    let title = entry.title.to_lowercase();
    let by_title = !entry.is_submenu && (title.contains("recovery mode") || title.contains("rescue"));
    let is_for_repairs = |argument: crate::Argument| match (argument.key.as_str(), argument.value.as_deref())
    {
        ("single" | "recovery" | "emergency" | "rescue" | "S" | "s" | "1", None) => true,
        ("systemd.unit", Some(unit)) => unit.starts_with("rescue.") || unit.starts_with("emergency."),
        _ => false,
    };
    let own = entry.kernels.iter().filter_map(|index| kernels.get(*index));
    by_title || own.flat_map(|kernel| kernel.arguments.arguments()).any(is_for_repairs)
}

/// A command without the shell keywords in front of it.
fn strip_keywords(words: &[Word]) -> &[Word] {
    let is_keyword = |word: &Word| {
        let keywords: [&[u8]; 8] = [b"if", b"then", b"elif", b"else", b"while", b"until", b"do", b"!"];
        word.is_bare && keywords.contains(&&word.text[..])
    };
    let skip = words.iter().take_while(|word| is_keyword(word)).count();
    &words[skip..]
}

fn is_flag(word: &Word, long: &[u8], short: &[u8]) -> bool {
    word.text == long || word.text == short
}
