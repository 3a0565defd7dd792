//! fstab as lines of tokens: every byte is kept, an edit changes the bytes of one token.
//!
//! Grammar as `fstab(5)` and libmount read it: fields separated by blanks and tabs, `\ooo` escapes
//! inside them, `#` comments at the start of a line only, everything behind the sixth field ignored.

use std::ops::Range;

/// A file in the grammar of fstab.
///
/// Parsing never fails: what is neither an entry, nor blank, nor a comment is kept and listed by
/// [`Fstab::malformed_lines`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fstab {
    lines: Vec<Line>,
}

/// Names one entry; stays valid while the file is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FstabEntryId(usize);

impl FstabEntryId {
    /// Line number in the file as it was parsed, counted from 1.
    pub fn line(self) -> usize {
        self.0 + 1
    }
}

/// The fields of one entry, escapes decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FstabEntry {
    /// For edits.
    pub id: FstabEntryId,
    /// What is mounted: `UUID=…`, `/dev/…`, `tmpfs`, …
    pub device: Vec<u8>,
    /// Where; `none` or `swap` for swap space.
    pub mount_point: Vec<u8>,
    /// Filesystem type; `auto` lets the guest probe.
    pub fs_type: Vec<u8>,
    /// Comma-separated options; empty when the field is missing.
    pub options: Vec<u8>,
    /// Fifth field; 0 when it is missing or no number.
    pub dump: u32,
    /// Sixth field: order of checking; 0 when it is missing or no number.
    pub pass: u32,
}

impl FstabEntry {
    /// The options one by one.
    pub fn option_list(&self) -> impl Iterator<Item = &[u8]> {
        self.options.split(|byte| *byte == b',').filter(|option| !option.is_empty())
    }

    /// True when `name` is among the options, alone or as `name=value`.
    pub fn has_option(&self, name: &str) -> bool {
        self.option_list().any(|option| option.split(|byte| *byte == b'=').next() == Some(name.as_bytes()))
    }

    /// True for swap space.
    pub fn is_swap(&self) -> bool {
        self.fs_type == b"swap"
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    /// The whole line with its end.
    bytes: Vec<u8>,
    kind: LineKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum LineKind {
    /// Positions of at most six fields.
    Entry(Vec<Range<usize>>),
    BlankOrComment,
    Malformed,
}

/// Fields without which a line is no entry: device, mount point, type.
const REQUIRED_FIELDS: usize = 3;
const MAX_FIELDS: usize = 6;

impl Line {
    fn parse(bytes: &[u8]) -> Self {
        let kind = match fields(bytes) {
            found if found.is_empty() => LineKind::BlankOrComment,
            found if bytes.get(found[0].start) == Some(&b'#') => LineKind::BlankOrComment,
            found if found.len() < REQUIRED_FIELDS => LineKind::Malformed,
            found => LineKind::Entry(found),
        };
        Self { bytes: bytes.to_vec(), kind }
    }

    fn field(&self, index: usize) -> &[u8] {
        match &self.kind {
            LineKind::Entry(fields) => {
                fields.get(index).and_then(|range| self.bytes.get(range.clone())).unwrap_or_default()
            }
            _ => &[],
        }
    }

    fn number(&self, index: usize) -> u32 {
        std::str::from_utf8(self.field(index)).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

impl Fstab {
    /// Takes the file apart; [`Fstab::to_bytes`] gives back exactly `file`.
    pub fn parse(file: &[u8]) -> Self {
        Self { lines: file.split_inclusive(|byte| *byte == b'\n').map(Line::parse).collect() }
    }

    /// The file with all edits.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.lines.iter().flat_map(|line| &line.bytes).copied().collect()
    }

    /// All entries in the order of the file.
    pub fn entries(&self) -> impl Iterator<Item = FstabEntry> + '_ {
        self.lines.iter().enumerate().filter(|(_, line)| matches!(line.kind, LineKind::Entry(_))).map(
            |(index, line)| FstabEntry {
                id: FstabEntryId(index),
                device: decode_field(line.field(0)),
                mount_point: decode_field(line.field(1)),
                fs_type: decode_field(line.field(2)),
                options: decode_field(line.field(3)),
                dump: line.number(4),
                pass: line.number(5),
            },
        )
    }

    /// The entry with this id; `None` when it was removed or commented out.
    pub fn entry(&self, id: FstabEntryId) -> Option<FstabEntry> {
        self.entries().find(|entry| entry.id == id)
    }

    /// Line numbers, counted from 1, of lines that are no entry, no comment and not blank.
    pub fn malformed_lines(&self) -> impl Iterator<Item = usize> + '_ {
        let is_malformed = |line: &Line| line.kind == LineKind::Malformed;
        self.lines.iter().enumerate().filter(move |(_, line)| is_malformed(line)).map(|(index, _)| index + 1)
    }

    /// Replaces the device of an entry. Returns false when there is no such entry (any more) or `device` is empty.
    pub fn set_device(&mut self, id: FstabEntryId, device: &[u8]) -> bool {
        self.set_field(id, 0, device)
    }

    /// Replaces the options of an entry; a missing field is added behind the type. Returns false when there
    /// is no such entry (any more) or `options` is empty.
    pub fn set_options(&mut self, id: FstabEntryId, options: &[u8]) -> bool {
        self.set_field(id, 3, options)
    }

    /// Appends one option (`nofail`) unless it is there. Returns false when there is no such entry (any more).
    pub fn add_option(&mut self, id: FstabEntryId, option: &str) -> bool {
        let Some(entry) = self.entry(id) else { return false };
        if entry.option_list().any(|have| have == option.as_bytes()) {
            return true;
        }
        let mut options = entry.options;
        if !options.is_empty() {
            options.push(b',');
        }
        options.extend_from_slice(option.as_bytes());
        self.set_options(id, &options)
    }

    /// Removes the whole line. Returns false when there is no such entry (any more).
    pub fn remove_entry(&mut self, id: FstabEntryId) -> bool {
        let Some(line) = self.entry_line(id) else { return false };
        line.bytes.clear();
        line.kind = LineKind::BlankOrComment;
        true
    }

    /// Puts `# ` in front of the entry. Returns false when there is no such entry (any more).
    pub fn comment_out(&mut self, id: FstabEntryId) -> bool {
        let Some(line) = self.entry_line(id) else { return false };
        line.bytes.splice(0..0, *b"# ");
        line.kind = LineKind::BlankOrComment;
        true
    }

    fn entry_line(&mut self, id: FstabEntryId) -> Option<&mut Line> {
        self.lines.get_mut(id.0).filter(|line| matches!(line.kind, LineKind::Entry(_)))
    }

    fn set_field(&mut self, id: FstabEntryId, index: usize, value: &[u8]) -> bool {
        let Some(line) = self.entry_line(id) else { return false };
        if value.is_empty() {
            return false;
        }
        let LineKind::Entry(ranges) = &line.kind else { return false };
        let mut token = encode_field(value);
        let place = match (ranges.get(index), ranges.last()) {
            (Some(range), _) => range.clone(),
            (None, Some(last)) => {
                token.insert(0, b' ');
                last.end..last.end
            }
            (None, None) => return false,
        };
        line.bytes.splice(place, token);
        *line = Line::parse(&line.bytes);
        true
    }
}

/// Positions of the first six fields of a line; the line end (`\n`, `\r\n`) belongs to none.
fn fields(line: &[u8]) -> Vec<Range<usize>> {
    let end = line.strip_suffix(b"\n").unwrap_or(line);
    let end = end.strip_suffix(b"\r").unwrap_or(end).len();
    let is_blank = |at: usize| matches!(line.get(at), Some(b' ' | b'\t'));
    let mut found = Vec::new();
    let mut at = 0;
    while found.len() < MAX_FIELDS {
        while at < end && is_blank(at) {
            at += 1;
        }
        let start = at;
        while at < end && !is_blank(at) {
            at += 1;
        }
        if start == at {
            break;
        }
        found.push(start..at);
    }
    found
}

/// Decodes `\ooo` escapes; any other backslash stands for itself.
fn decode_field(token: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(token.len());
    let mut rest = token;
    while let Some((first, tail)) = rest.split_first() {
        match (*first, tail) {
            (b'\\', [high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', after @ ..]) => {
                decoded.push((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'));
                rest = after;
            }
            _ => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    decoded
}

/// Escapes what would end a field, begin a comment or be taken for an escape.
fn encode_field(value: &[u8]) -> Vec<u8> {
    let mut token = Vec::with_capacity(value.len());
    for (index, byte) in value.iter().enumerate() {
        let special = matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\\') || (index == 0 && *byte == b'#');
        match special {
            true => token.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            false => token.push(*byte),
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"# /etc/fstab\n\
        \n\
        /dev/sda1   /\t ext4  errors=remount-ro 0 1   # root\n\
        \t# indented comment\n\
        LABEL=my\\040data /srv/a\\040b auto defaults,nofail,x-systemd.device-timeout=5\r\n\
        broken line\n\
        tmpfs /tmp tmpfs";

    #[test]
    fn every_byte_is_kept() {
        for file in [FILE, b"", b"\n", b"\r\n\r\n", b"a", b"\0 \xff \\ \\777", b"a b c\r"] {
            assert_eq!(Fstab::parse(file).to_bytes(), file);
        }
    }

    #[test]
    fn fields_are_decoded() {
        let fstab = Fstab::parse(FILE);
        let entries: Vec<_> = fstab.entries().collect();
        assert_eq!(entries.len(), 3);
        let root = &entries[0];
        assert_eq!((&root.device[..], &root.mount_point[..]), (&b"/dev/sda1"[..], &b"/"[..]));
        assert_eq!((root.dump, root.pass, root.id.line()), (0, 1, 3));
        let data = &entries[1];
        assert_eq!(data.device, b"LABEL=my data");
        assert_eq!(data.mount_point, b"/srv/a b");
        assert!(data.has_option("nofail") && data.has_option("x-systemd.device-timeout"));
        assert!(!data.has_option("no") && !data.has_option("5"));
        assert_eq!(data.options, b"defaults,nofail,x-systemd.device-timeout=5");
        assert!(entries[2].options.is_empty());
        assert_eq!(fstab.malformed_lines().collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn an_edit_changes_one_token() {
        let mut fstab = Fstab::parse(FILE);
        let ids: Vec<_> = fstab.entries().map(|entry| entry.id).collect();
        assert!(fstab.set_device(ids[0], b"UUID=1-2"));
        assert!(fstab.set_options(ids[0], b"defaults"));
        assert!(fstab.set_device(ids[1], b"LABEL=a b\\"));
        assert!(fstab.add_option(ids[1], "nofail"));
        assert!(fstab.add_option(ids[2], "nofail"));
        let text = String::from_utf8(fstab.to_bytes()).unwrap();
        let expected = String::from_utf8(FILE.to_vec())
            .unwrap()
            .replace("/dev/sda1   /\t ext4  errors=remount-ro 0", "UUID=1-2   /\t ext4  defaults 0")
            .replace("LABEL=my\\040data", "LABEL=a\\040b\\134")
            .replace("/tmp tmpfs", "/tmp tmpfs nofail");
        assert_eq!(text, expected);
        assert_eq!(fstab.entry(ids[1]).unwrap().device, b"LABEL=a b\\");
    }

    #[test]
    fn entries_are_removed_or_commented_out_with_stable_ids() {
        let mut fstab = Fstab::parse(b"a /a ext4\r\nb /b ext4\nc /c ext4\n");
        let ids: Vec<_> = fstab.entries().map(|entry| entry.id).collect();
        assert!(fstab.remove_entry(ids[0]));
        assert!(fstab.comment_out(ids[1]));
        assert!(!fstab.remove_entry(ids[0]) && !fstab.set_device(ids[1], b"x"));
        assert!(fstab.set_device(ids[2], b"#x") && !fstab.set_device(ids[2], b""));
        assert_eq!(fstab.to_bytes(), b"# b /b ext4\n\\043x /c ext4\n");
        assert_eq!(fstab.entries().count(), 1);
    }
}
