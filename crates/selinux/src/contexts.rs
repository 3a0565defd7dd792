//! `file_contexts`: parsing and looking up.

use std::sync::OnceLock;

use regex::bytes::Regex;
use vfs::FileKind;

use crate::pattern::{compile, has_meta, literal_prefix, stem_of_path, stem_of_pattern};

/// Entries that are read. Fedora's policy, the largest known, has about 6,600 and 800 for home directories.
const ENTRIES_MAX: usize = 100_000;
/// Expressions kept compiled; others are compiled anew when a path needs them.
const COMPILED_MAX: usize = 2_048;
/// Expressions compiled for one path. A real policy needs a few dozen.
const COMPILED_FOR_PATH_MAX: usize = 4_096;

/// What the policy says about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// This label.
    Label(String),
    /// `<<none>>`: it is to have no label of the policy's choice.
    NoLabel,
    /// No entry is for it.
    NoMatch,
    /// An entry that may be for it cannot be understood; the detail names it.
    Unknown(String),
}

/// One line.
#[derive(Debug)]
struct Entry {
    /// The expression with its stem taken off.
    pattern: Vec<u8>,
    /// Index of its stem; `None` when it has none.
    stem: Option<usize>,
    /// What every match has behind the stem.
    prefix: Vec<u8>,
    /// The kind of file that it is for.
    kind: Option<FileKind>,
    /// The label, or `<<none>>`.
    label: String,
    /// File and line, for messages.
    origin: (usize, usize),
    compiled: OnceLock<Result<Regex, String>>,
}

/// All entries of a policy, in the order in which they win: a later one over an earlier one.
#[derive(Debug, Default)]
pub struct FileContexts {
    names: Vec<String>,
    stems: Vec<Vec<u8>>,
    entries: Vec<Entry>,
    /// Lines that are no entries, with why.
    problems: Vec<String>,
    is_cut: bool,
    compiled: std::sync::atomic::AtomicUsize,
}

/// The label that means none.
const NONE: &str = "<<none>>";

impl FileContexts {
    /// Reads the files in their order: the policy's own, the home directories', the administrator's.
    ///
    /// Entries for one path only are moved behind all that hold signs of expressions, as libselinux does after
    /// reading, so that an exact path wins wherever it stands.
    pub fn parse(files: &[(&str, &[u8])]) -> Self {
        let mut contexts = Self::default();
        let mut exact = Vec::new();
        for (name, text) in files {
            contexts.names.push((*name).to_owned());
            for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
                if contexts.entries.len() + exact.len() >= ENTRIES_MAX {
                    contexts.is_cut = true;
                    break;
                }
                match contexts.entry(line, index + 1) {
                    Ok(Some((entry, true))) => contexts.entries.push(entry),
                    Ok(Some((entry, false))) => exact.push(entry),
                    Ok(None) => {}
                    Err(detail) => contexts.problems.push(format!("{name}:{}: {detail}", index + 1)),
                }
            }
        }
        contexts.entries.append(&mut exact);
        contexts
    }

    /// Lines that are no entries, with file and line.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One line: the entry, and whether its expression has signs of one.
    fn entry(&mut self, line: &[u8], number: usize) -> Result<Option<(Entry, bool)>, &'static str> {
        let line = line.trim_ascii();
        if line.is_empty() || line.first() == Some(&b'#') {
            return Ok(None);
        }
        if !line.is_ascii() {
            return Err("holds bytes that are not ASCII");
        }
        let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        let words = [words.next(), words.next(), words.next()];
        let (pattern, kind, label) = match words {
            [Some(pattern), Some(label), None] => (pattern, None, label),
            [Some(pattern), Some(kind), Some(label)] => {
                (pattern, Some(kind_of(kind).ok_or("its second word is no kind of file")?), label)
            }
            _ => return Err("has one word only"),
        };
        let stem = stem_of_pattern(pattern);
        let rest = &pattern[stem.len()..];
        let entry = Entry {
            prefix: literal_prefix(rest),
            pattern: rest.to_vec(),
            stem: (!stem.is_empty()).then(|| self.stem_index(stem)),
            kind,
            label: String::from_utf8_lossy(label).into_owned(),
            origin: (self.names.len().saturating_sub(1), number),
            compiled: OnceLock::new(),
        };
        Ok(Some((entry, has_meta(pattern))))
    }

    fn stem_index(&mut self, stem: &[u8]) -> usize {
        match self.stems.iter().position(|known| known == stem) {
            Some(index) => index,
            None => {
                self.stems.push(stem.to_vec());
                self.stems.len() - 1
            }
        }
    }

    /// Looks up an absolute path without double slashes, substitutions done. `kind` `None` stands for any.
    pub fn lookup(&self, path: &[u8], kind: Option<FileKind>) -> Lookup {
        if self.is_cut {
            return Lookup::Unknown(format!("the policy has more than {ENTRIES_MAX} entries"));
        }
        let stem = stem_of_path(path);
        let stem = self.stems.iter().position(|known| known == stem);
        let behind_stem = &path[stem.map_or(0, |index| self.stems[index].len())..];
        let mut compiled = 0;
        for entry in self.entries.iter().rev() {
            let subject = match entry.stem {
                None => path,
                Some(own) if Some(own) == stem => behind_stem,
                Some(_) => continue,
            };
            let is_of_kind = entry.kind.is_none() || kind.is_none() || entry.kind == kind;
            if !is_of_kind || !subject.starts_with(&entry.prefix) {
                continue;
            }
            compiled += 1;
            if compiled > COMPILED_FOR_PATH_MAX {
                return Lookup::Unknown(format!("more than {COMPILED_FOR_PATH_MAX} entries may be for it"));
            }
            match self.matches(entry, subject) {
                Ok(false) => {}
                Ok(true) if entry.label == NONE => return Lookup::NoLabel,
                Ok(true) => return Lookup::Label(entry.label.clone()),
                Err(detail) => {
                    let name = self.names.get(entry.origin.0).map_or("", String::as_str);
                    return Lookup::Unknown(format!("{name}:{}: {detail}", entry.origin.1));
                }
            }
        }
        Lookup::NoMatch
    }

    fn matches(&self, entry: &Entry, subject: &[u8]) -> Result<bool, String> {
        use std::sync::atomic::Ordering::Relaxed;
        if let Some(known) = entry.compiled.get() {
            return known.as_ref().map(|regex| regex.is_match(subject)).map_err(Clone::clone);
        }
        let regex = compile(&entry.pattern);
        let matches = regex.as_ref().map(|regex| regex.is_match(subject)).map_err(Clone::clone);
        if self.compiled.fetch_add(1, Relaxed) < COMPILED_MAX {
            // Another thread may have been first; both have the same.
            let _ = entry.compiled.set(regex);
        }
        matches
    }
}

/// Kinds as `file_contexts` writes them.
fn kind_of(word: &[u8]) -> Option<FileKind> {
    Some(match word {
        b"--" => FileKind::Regular,
        b"-d" => FileKind::Directory,
        b"-l" => FileKind::Symlink,
        b"-b" => FileKind::BlockDevice,
        b"-c" => FileKind::CharDevice,
        b"-p" => FileKind::Fifo,
        b"-s" => FileKind::Socket,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(contexts: &FileContexts, path: &str, kind: FileKind) -> Lookup {
        contexts.lookup(path.as_bytes(), Some(kind))
    }

    fn some(label: &str) -> Lookup {
        Lookup::Label(label.into())
    }

    #[test]
    fn the_last_match_wins_and_exact_paths_win_over_expressions() {
        let contexts = FileContexts::parse(&[
            (
                "file_contexts",
                b"# comment\n\n/.*\tdefault\n/etc/exact  --  exact\n/etc(/.*)? etc\n/etc/x.* -d dir\n/etc/none(/.*)? <<none>>\n\
                  /dev/[^/]+ -c device\n/.* -l link-default\n",
            ),
            ("file_contexts.local", b"/etc/e.* -- local\n/srv/a(/.*)? local-srv"),
        ]);
        assert_eq!(label(&contexts, "/etc/exact", FileKind::Regular), some("exact"));
        assert_eq!(label(&contexts, "/etc/extra", FileKind::Regular), some("local"));
        assert_eq!(label(&contexts, "/etc/xyz", FileKind::Directory), some("dir"));
        assert_eq!(label(&contexts, "/etc/xyz", FileKind::Regular), some("etc"));
        assert_eq!(label(&contexts, "/etc", FileKind::Directory), some("etc"));
        assert_eq!(label(&contexts, "/etc/none/a", FileKind::Regular), Lookup::NoLabel);
        assert_eq!(label(&contexts, "/opt/x", FileKind::Regular), some("default"));
        assert_eq!(label(&contexts, "/opt/x", FileKind::Symlink), some("link-default"));
        assert_eq!(label(&contexts, "/dev/sda", FileKind::CharDevice), some("device"));
        assert_eq!(label(&contexts, "/srv/a", FileKind::Directory), some("local-srv"));
        // Without a kind every entry counts.
        assert_eq!(contexts.lookup(b"/dev/sda", None), some("link-default"));
        assert_eq!(contexts.len(), 9);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let contexts = FileContexts::parse(&[(
            "fc",
            b"/x\n/y -q label\n/caf\xc3\xa9 label\n/a(?!b).* label\n/ab label\n",
        )]);
        let problems = contexts.problems();
        assert_eq!(problems.len(), 3);
        assert!(problems[0].starts_with("fc:1: ") && problems[2].starts_with("fc:3: "), "{problems:?}");
        assert!(
            matches!(label(&contexts, "/ax", FileKind::Regular), Lookup::Unknown(at) if at.starts_with("fc:4: "))
        );
        assert_eq!(label(&contexts, "/ab", FileKind::Regular), some("label"));
        assert_eq!(label(&contexts, "/b", FileKind::Regular), Lookup::NoMatch);
    }
}
