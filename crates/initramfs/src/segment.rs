//! The segments of an initramfs file, one after the other with zero bytes between.

use std::io::BufReader;

use crate::decode::Decoder;
use crate::newc::{NewcError, NewcReader, PATH_MAX, RawEntry, S_IFLNK, S_IFMT, S_IFREG};
use crate::tree::{Content, Tree};
use crate::{Compression, InitramfsError, Limits};

/// Paths of all entries together.
const PATH_BYTES_MAX: usize = 64 << 20;
const DECODE_BUFFER_LEN: usize = 128 << 10;

/// What a segment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentKind {
    /// Microcode or ACPI tables that the kernel reads before it unpacks anything; must stay in front, uncompressed.
    Early,
    /// Part of the early root filesystem.
    Main,
}

/// One archive of the file.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Position in the file, bytes.
    pub offset: u64,
    /// Stored length in the file, bytes, without the zero bytes after it.
    pub stored_len: u64,
    /// Unpacked length, bytes.
    pub unpacked_len: u64,
    /// How it is compressed.
    pub compression: Compression,
    /// What it is for.
    pub kind: SegmentKind,
    /// Its entries in their order, the trailer left out.
    pub entries: Vec<Entry>,
}

/// One cpio entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Path as stored, leading `/` and `./` removed; `.` is the root.
    pub path: Vec<u8>,
    /// Type and permission bits as in `st_mode`.
    pub mode: u32,
    /// Length of its data, bytes.
    pub size: u64,
}

/// Everything that reading the segments of a file yields.
pub(crate) struct Unpacked {
    pub(crate) segments: Vec<Segment>,
    pub(crate) tree: Tree,
    /// Zero bytes after the last segment.
    pub(crate) trailing_zeros: u64,
}

/// Reads all segments of `bytes` and applies their entries in order.
pub(crate) fn unpack(bytes: &[u8], limits: &Limits) -> Result<Unpacked, InitramfsError> {
    let limits = &Limits { unpacked_bytes: limits.unpacked_from(bytes.len() as u64), ..*limits };
    let mut state = State { limits, tree: Tree::new(), unpacked: 0, entries: 0, path_bytes: 0, kept: 0 };
    let mut segments = Vec::new();
    let mut offset = skip_zeros(bytes, 0);
    let mut end = 0;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        let compression = probe(rest, offset as u64)?;
        let segment = state.read_segment(rest, offset as u64, compression)?;
        let stored_len = usize::try_from(segment.stored_len).unwrap_or(usize::MAX);
        end = offset.saturating_add(stored_len.max(1));
        segments.push(segment);
        offset = skip_zeros(bytes, end);
    }
    if segments.is_empty() {
        return Err(InitramfsError::UnknownSegment { offset: 0, found: "no segment at all".into() });
    }
    if state.tree.path_bytes() > PATH_BYTES_MAX as u64 {
        return Err(InitramfsError::Limit { what: "bytes of paths", limit: PATH_BYTES_MAX as u64 });
    }
    Ok(Unpacked { segments, tree: state.tree, trailing_zeros: bytes.len().saturating_sub(end) as u64 })
}

fn skip_zeros(bytes: &[u8], from: usize) -> usize {
    from + bytes.get(from..).unwrap_or(&[]).iter().take_while(|byte| **byte == 0).count()
}

fn probe(rest: &[u8], offset: u64) -> Result<Compression, InitramfsError> {
    if rest.starts_with(b"0") {
        return match offset % 4 {
            0 if rest.starts_with(b"0707") => Ok(Compression::None),
            0 => Err(unknown(rest, offset)),
            _ => Err(InitramfsError::Misaligned { offset }),
        };
    }
    Compression::probe(rest).ok_or_else(|| unknown(rest, offset))
}

fn unknown(rest: &[u8], offset: u64) -> InitramfsError {
    let mut found = rest.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    if rest.starts_with(b"MZ") {
        found.push_str(", a PE program: a unified kernel image keeps its initramfs inside a signed file");
    }
    InitramfsError::UnknownSegment { offset, found }
}

struct State<'l> {
    limits: &'l Limits,
    tree: Tree,
    unpacked: u64,
    entries: usize,
    path_bytes: usize,
    kept: u64,
}

impl State<'_> {
    fn read_segment(
        &mut self,
        rest: &[u8],
        offset: u64,
        compression: Compression,
    ) -> Result<Segment, InitramfsError> {
        let limit = self.limits.unpacked_bytes;
        let wrap = |error| wrap(error, offset, compression, limit);
        let decoder =
            Decoder::new(compression, rest, self.limits).map_err(|error| wrap(NewcError::Stream(error)))?;
        let budget = limit.saturating_sub(self.unpacked);
        let mut reader = NewcReader::new(BufReader::with_capacity(DECODE_BUFFER_LEN, decoder), budget);
        let mut entries = Vec::new();
        loop {
            self.read_archive(&mut reader, offset, &wrap, &mut entries)?;
            if compression == Compression::None {
                break;
            }
            // One stream may hold several archives; it ends where the decompressor says.
            if !reader.skip_zeros().map_err(wrap)? {
                break;
            }
            if reader.position() % 4 != 0 {
                let detail = "an archive that does not begin at a multiple of 4".to_string();
                return Err(InitramfsError::Cpio { segment: offset, at: reader.position(), detail });
            }
        }
        self.unpacked += reader.position();
        let stored_len = match compression {
            Compression::None => reader.position().min(rest.len() as u64),
            _ => (rest.len() - reader.stream().get_ref().rest().len()) as u64,
        };
        let is_early = compression == Compression::None && is_early(&entries);
        Ok(Segment {
            offset,
            stored_len,
            unpacked_len: reader.position(),
            compression,
            kind: if is_early { SegmentKind::Early } else { SegmentKind::Main },
            entries,
        })
    }

    /// Reads entries up to and including the trailer.
    fn read_archive(
        &mut self,
        reader: &mut NewcReader<BufReader<Decoder<'_>>>,
        segment: u64,
        wrap: &impl Fn(NewcError) -> InitramfsError,
        entries: &mut Vec<Entry>,
    ) -> Result<(), InitramfsError> {
        loop {
            let Some(raw) = reader.next_entry().map_err(wrap)? else {
                let detail = "the archive ends without TRAILER!!!".to_string();
                return Err(InitramfsError::Cpio { segment, at: reader.position(), detail });
            };
            self.entries += 1;
            self.path_bytes += raw.name.len();
            if self.entries > self.limits.entries {
                return Err(InitramfsError::Limit {
                    what: "cpio entries",
                    limit: self.limits.entries as u64,
                });
            }
            if self.path_bytes > PATH_BYTES_MAX {
                let limit = PATH_BYTES_MAX as u64;
                return Err(InitramfsError::Limit { what: "bytes of paths", limit });
            }
            let (kept, checksum) = reader.read_data(&raw, self.keep_max(&raw)).map_err(wrap)?;
            if raw.is_trailer() {
                self.tree.forget_hard_links();
                return Ok(());
            }
            self.kept += kept.as_ref().map_or(0, |kept| kept.len() as u64);
            let size = u64::from(raw.header.size);
            let path = clean_path(&raw.name).to_vec();
            self.tree.apply(&path, &raw.header, Content { size, checksum, bytes: kept.map(Into::into) });
            entries.push(Entry { path, mode: raw.header.mode, size });
        }
    }

    /// How long the data may be to be kept.
    fn keep_max(&self, raw: &RawEntry) -> u64 {
        match raw.header.mode & S_IFMT {
            S_IFLNK => PATH_MAX as u64,
            S_IFREG => {
                self.limits.kept_file_bytes.min(self.limits.kept_total_bytes.saturating_sub(self.kept))
            }
            _ => 0,
        }
    }
}

/// An error of the cpio layer, placed in the file.
pub(crate) fn wrap(error: NewcError, offset: u64, compression: Compression, limit: u64) -> InitramfsError {
    match error {
        NewcError::Stream(source) => {
            InitramfsError::Stream { offset, compression, detail: source.to_string() }
        }
        NewcError::Malformed { at, detail } => InitramfsError::Cpio { segment: offset, at, detail },
        NewcError::TooLong => InitramfsError::Limit { what: "unpacked bytes", limit },
    }
}

/// A stored name without leading slashes and `./`.
pub(crate) fn clean_path(name: &[u8]) -> &[u8] {
    let mut path = name;
    loop {
        path = match path {
            [b'/', rest @ ..] | [b'.', b'/', rest @ ..] => rest,
            _ => return path,
        };
    }
}

/// What the kernel looks for before it unpacks: microcode and ACPI tables.
fn is_early(entries: &[Entry]) -> bool {
    const EARLY: [&[u8]; 2] = [b"kernel/x86/microcode/", b"kernel/firmware/acpi/"];
    let holds_early = entries.iter().any(|entry| EARLY.iter().any(|prefix| entry.path.starts_with(prefix)));
    holds_early
        && entries.iter().all(|entry| {
            matches!(&entry.path[..], b"." | b"" | b"kernel" | b"early_cpio")
                || entry.path.starts_with(b"kernel/")
        })
}
