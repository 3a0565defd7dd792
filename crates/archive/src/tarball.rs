//! A tar archive with one member, `disk.raw`.
//!
//! The fields of a header are the `tar` crate's; walking is ours, so that holes of a sparse member stay holes and
//! everything that is not one plain file is refused.

use tar::{EntryType, Header, PaxExtensions};

use crate::input::Input;
use crate::read::Piece;
use crate::sparse::{self, Segment};
use crate::{ArchiveError, MEMBER};

/// Bytes of a block.
pub(crate) const BLOCK: usize = 512;
/// Longest extended header or long name that is read.
const EXTENSION_MAX: u64 = 1 << 20;
/// Extension records before a member.
const EXTENSIONS_MAX: u32 = 64;

pub(crate) fn damaged(detail: &str) -> ArchiveError {
    ArchiveError::Tar { code: "archive.tar.damaged", detail: detail.to_owned() }
}

fn refuse(code: &'static str, detail: String) -> ArchiveError {
    ArchiveError::Tar { code, detail }
}

pub(crate) fn read_block(input: &mut Input) -> Result<[u8; BLOCK], ArchiveError> {
    let mut block = [0; BLOCK];
    if input.read_up_to(&mut block)? < BLOCK {
        return Err(ArchiveError::Truncated { what: "tar archive", position: input.position() });
    }
    Ok(block)
}

/// True for a header block: the magic, and a checksum that fits.
pub(crate) fn is_header(block: &[u8]) -> bool {
    let Ok(block) = <&[u8; BLOCK]>::try_from(block) else { return false };
    // `ustar\0` (POSIX) and `ustar ` (GNU).
    block[257..].starts_with(b"ustar") && checksum_fits(block)
}

/// The sum of all bytes, those of the checksum itself taken as spaces.
fn checksum_fits(block: &[u8; BLOCK]) -> bool {
    let bytes = block.iter().enumerate();
    let sum: u32 = bytes.map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
    Header::from_byte_slice(block).cksum().is_ok_and(|stored| stored == sum)
}

/// The disk as a member of an archive.
pub(crate) struct Member {
    segments: std::vec::IntoIter<Segment>,
    current: Option<Segment>,
    /// Position on the disk.
    at: u64,
    len: u64,
    /// Bytes behind the data up to the next block.
    padding: u64,
}

/// What extension records say about the next member.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: Vec<(String, String)>,
}

impl Extensions {
    fn sparse(&self, key: &str) -> Option<&str> {
        self.sparse.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

impl Member {
    /// Reads headers from `first` on until the data of the disk begins.
    pub fn open(input: &mut Input, first: &[u8]) -> Result<Self, ArchiveError> {
        let mut block = [0; BLOCK];
        block.copy_from_slice(first);
        let mut extensions = Extensions::default();
        for _ in 0..EXTENSIONS_MAX {
            if !checksum_fits(&block) {
                return Err(damaged("a header with a wrong checksum"));
            }
            let header = Header::from_byte_slice(&block).clone();
            let size = header.entry_size().map_err(|_| damaged("the size of a member"))?;
            match header.entry_type() {
                EntryType::XHeader => read_pax(&read_extension(input, size)?, &mut extensions)?,
                EntryType::XGlobalHeader => drop(read_extension(input, size)?),
                EntryType::GNULongName => {
                    let mut name = read_extension(input, size)?;
                    name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
                    extensions.name = Some(name);
                }
                kind => return Self::of_member(input, &header, kind, &extensions),
            }
            block = read_block(input)?;
        }
        Err(damaged("too many extension records"))
    }

    fn of_member(
        input: &mut Input,
        header: &Header,
        kind: EntryType,
        extensions: &Extensions,
    ) -> Result<Self, ArchiveError> {
        let name = match (extensions.sparse("name"), &extensions.name) {
            (Some(name), _) => name.as_bytes().to_vec(),
            (None, Some(name)) => name.clone(),
            (None, None) => header.path_bytes().into_owned(),
        };
        let name = String::from_utf8_lossy(&name).into_owned();
        if name.strip_prefix("./").unwrap_or(&name) != MEMBER {
            let detail =
                format!("its first member is {:?}, expected {MEMBER:?}", name.escape_default().to_string());
            return Err(refuse("archive.tar.member", detail));
        }
        let stored = match extensions.size {
            Some(size) => size,
            None => header.entry_size().map_err(|_| damaged("the size of a member"))?,
        };
        let padding = stored.next_multiple_of(BLOCK as u64).wrapping_sub(stored);
        if stored > u64::MAX - BLOCK as u64 {
            return Err(damaged("the size of a member"));
        }
        let (segments, len) = match kind {
            EntryType::GNUSparse => sparse::old_gnu(input, header, stored)?,
            EntryType::Regular | EntryType::Continuous => Self::regular(input, extensions, stored)?,
            other => {
                let detail = format!("{MEMBER} is no file (type {:?})", char::from(other.as_byte()));
                return Err(refuse("archive.tar.member", detail));
            }
        };
        Ok(Self { segments: segments.into_iter(), current: None, at: 0, len, padding })
    }

    fn regular(
        input: &mut Input,
        extensions: &Extensions,
        stored: u64,
    ) -> Result<(Vec<Segment>, u64), ArchiveError> {
        if extensions.sparse.is_empty() {
            return Ok((vec![Segment { offset: 0, len: stored }], stored));
        }
        let version = (extensions.sparse("major"), extensions.sparse("minor"));
        if version != (Some("1"), Some("0")) {
            let detail = format!("{MEMBER} is sparse in a form other than old GNU and PAX 1.0");
            return Err(refuse("archive.tar.sparse", detail));
        }
        let len = extensions.sparse("realsize").and_then(|text| text.parse().ok());
        let len = len.ok_or_else(|| damaged("the length of a sparse member"))?;
        Ok((sparse::pax_1_0(input, len, stored)?, len))
    }

    /// Length of the disk.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Reads the next part of the disk.
    pub fn read_piece(&mut self, input: &mut Input, buf: &mut [u8]) -> Result<Piece, ArchiveError> {
        while self.current.is_none_or(|segment| segment.len == 0) {
            match self.segments.next() {
                Some(segment) => self.current = Some(segment),
                None if self.at < self.len => {
                    let hole = self.len - self.at;
                    self.at = self.len;
                    return Ok(Piece::Hole(hole));
                }
                None => {
                    let padding = self.padding as usize;
                    let mut rest = [0; BLOCK];
                    if input.read_up_to(&mut rest[..padding])? < padding {
                        return Err(truncated(input));
                    }
                    return Ok(Piece::End);
                }
            }
        }
        let Some(segment) = &mut self.current else { return Err(damaged("no segment")) };
        if segment.offset > self.at {
            let hole = segment.offset - self.at;
            self.at = segment.offset;
            return Ok(Piece::Hole(hole));
        }
        let most = segment.len.min(buf.len() as u64) as usize;
        let len = input.read(&mut buf[..most])?;
        if len == 0 && most != 0 {
            return Err(truncated(input));
        }
        segment.offset += len as u64;
        segment.len -= len as u64;
        self.at += len as u64;
        Ok(Piece::Data(len))
    }
}

fn truncated(input: &Input) -> ArchiveError {
    ArchiveError::Truncated { what: "tar archive", position: input.position() }
}

/// Behind the disk there is the end of the archive and nothing else; reads the stream to its end, which checks it.
pub(crate) fn finish(input: &mut Input) -> Result<(), ArchiveError> {
    let mut block = [0; BLOCK];
    if input.read_up_to(&mut block)? == BLOCK && block.iter().any(|byte| *byte != 0) {
        if !is_header(&block) {
            return Err(damaged("a header with a wrong checksum"));
        }
        let detail = format!("it has more members than {MEMBER}");
        return Err(refuse("archive.tar.member", detail));
    }
    // What follows the end-of-archive block means nothing (tar fills up to a record).
    let mut rest = vec![0; 64 << 10];
    while input.read(&mut rest)? != 0 {}
    Ok(())
}

fn read_extension(input: &mut Input, size: u64) -> Result<Vec<u8>, ArchiveError> {
    if size > EXTENSION_MAX {
        return Err(damaged("an extension record of more than 1 MiB"));
    }
    let mut bytes = vec![0; size.next_multiple_of(BLOCK as u64) as usize];
    if input.read_up_to(&mut bytes)? < bytes.len() {
        return Err(truncated(input));
    }
    bytes.truncate(size as usize);
    Ok(bytes)
}

fn read_pax(bytes: &[u8], extensions: &mut Extensions) -> Result<(), ArchiveError> {
    for extension in PaxExtensions::new(bytes) {
        let extension = extension.map_err(|_| damaged("an extended header"))?;
        let (Ok(key), value) = (extension.key(), extension.value_bytes()) else { continue };
        let text = || std::str::from_utf8(value).map_err(|_| damaged("an extended header"));
        match key {
            "path" => extensions.name = Some(value.to_vec()),
            "size" => extensions.size = Some(text()?.parse().map_err(|_| damaged("an extended header"))?),
            _ => {
                if let Some(name) = key.strip_prefix("GNU.sparse.") {
                    extensions.sparse.push((name.to_owned(), text()?.to_owned()));
                }
            }
        }
    }
    Ok(())
}

/// The header of an archive with a disk of `len` bytes.
pub(crate) fn header(len: u64) -> Result<[u8; BLOCK], ArchiveError> {
    let mut header = Header::new_gnu();
    header.set_path(MEMBER).map_err(|error| ArchiveError::Encode { detail: error.to_string() })?;
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    // Beyond 8 GiB in base 256, as GNU tar does.
    header.set_size(len);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    Ok(*header.as_bytes())
}

/// What follows a disk of `len` bytes: the rest of its last block, and the end of the archive.
pub(crate) fn trailer(len: u64) -> Vec<u8> {
    let padding = len.next_multiple_of(BLOCK as u64) - len;
    vec![0; padding as usize + 2 * BLOCK]
}
