//! Layout of the journal and pointer files. All numbers are little-endian.
//!
//! | bytes | journal file |
//! |---|---|
//! | 0..512 | header: what the rest is, with a sum over the image table and one over all records |
//! | 512..1024 | mark: begun only when everything else is durable; a byte that is not zero makes the journal *hot* |
//! | 1024.. | image table, then records (40 bytes and the pre-image each), then, in an undo file, the outcome |
//!
//! Header: 0 magic `CFITJRNL`, 8 version u32, 12 number of images u32, 16 id (16 bytes), 32 length of the image
//! table u64, 40 number of records u64, 48 length of all records u64, 56 CRC-32C of the image table u32,
//! 60 CRC-32C of all records u32, 64 CRC-32C of bytes 0..64 u32.
//!
//! Mark: 0 magic `CFITMARK`, 8 id, 24 CRC-32C of bytes 0..24 u32.
//!
//! Image: 0 length of the path u32, 4 zero u32, 8 inode u64, 16 old length u64, 24 new length u64, 32 path.
//!
//! Record: 0 image number u32, 4 bytes written u32, 8 host offset u64, 16 bytes of the pre-image u32 (fewer than
//! written where the file grew), 20 CRC-32C of the pre-image u32, 24 CRC-32C of the new bytes u32, 28 zero u32,
//! 32 zero u32, 36 CRC-32C of bytes 0..36 u32, 40 pre-image.
//!
//! Outcome: 0 magic `CFITDONE`, 8 id, then per image seconds i64, nanoseconds u32, zero u32 of its last change;
//! then CRC-32C of all before u32.
//!
//! Pointer file: 0 magic `CFITPTR1`, 8 id, 24 length of the path u32, 28 path of the journal, then CRC-32C u32.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ondisk::{le_u32, le_u64, put_le_u32, put_le_u64, try_le_u32, try_le_u64};

pub(crate) const HEADER_BYTES: usize = 512;
pub(crate) const MARK_OFFSET: u64 = 512;
pub(crate) const MARK_BYTES: usize = 28;
pub(crate) const IMAGES_OFFSET: u64 = 1024;
pub(crate) const RECORD_HEAD_BYTES: usize = 40;

/// Images that one commit may name.
pub(crate) const MAX_IMAGES: usize = 64;
/// Longest path that a journal may hold (Linux `PATH_MAX`).
const MAX_PATH: usize = 4096;
/// Largest piece of one write that gets a record of its own; bounds the memory of reading a record.
pub(crate) const MAX_RECORD_BYTES: usize = 1 << 20;
/// Records that a journal may hold; bounds the memory of an index of them.
pub(crate) const MAX_RECORDS: u64 = 1 << 24;

const VERSION: u32 = 1;
const HEADER_MAGIC: &[u8; 8] = b"CFITJRNL";
const MARK_MAGIC: &[u8; 8] = b"CFITMARK";
const OUTCOME_MAGIC: &[u8; 8] = b"CFITDONE";
const POINTER_MAGIC: &[u8; 8] = b"CFITPTR1";

/// Ties the files of one commit together.
pub(crate) type UnitId = [u8; 16];

/// What the first bytes say a file beside an image is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FileStart {
    Journal,
    Pointer,
    /// Neither: the file was never finished.
    Unknown,
}

pub(crate) fn classify(start: &[u8]) -> FileStart {
    match start.get(..8) {
        Some(magic) if magic == HEADER_MAGIC => FileStart::Journal,
        Some(magic) if magic == POINTER_MAGIC => FileStart::Pointer,
        _ => FileStart::Unknown,
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub id: UnitId,
    pub image_count: u32,
    pub images_len: u64,
    pub record_count: u64,
    pub records_len: u64,
    pub images_sum: u32,
    pub records_sum: u32,
}

/// Why bytes are no header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Damaged(&'static str),
    Version(u32),
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut buf = [0; HEADER_BYTES];
        buf[..8].copy_from_slice(HEADER_MAGIC);
        put_le_u32(&mut buf, 8, VERSION);
        put_le_u32(&mut buf, 12, self.image_count);
        buf[16..32].copy_from_slice(&self.id);
        put_le_u64(&mut buf, 32, self.images_len);
        put_le_u64(&mut buf, 40, self.record_count);
        put_le_u64(&mut buf, 48, self.records_len);
        put_le_u32(&mut buf, 56, self.images_sum);
        put_le_u32(&mut buf, 60, self.records_sum);
        let sum = crc32c::crc32c(&buf[..64]);
        put_le_u32(&mut buf, 64, sum);
        buf
    }

    pub(crate) fn parse(buf: &[u8; HEADER_BYTES]) -> Result<Self, HeaderFault> {
        if classify(buf) != FileStart::Journal {
            return Err(HeaderFault::Damaged("the header has no magic"));
        }
        let version = le_u32(buf, 8);
        if version > VERSION {
            return Err(HeaderFault::Version(version));
        }
        if version != VERSION || crc32c::crc32c(&buf[..64]) != le_u32(buf, 64) {
            return Err(HeaderFault::Damaged("the header does not match its sum"));
        }
        let mut id = [0; 16];
        id.copy_from_slice(&buf[16..32]);
        let header = Self {
            id,
            image_count: le_u32(buf, 12),
            images_len: le_u64(buf, 32),
            record_count: le_u64(buf, 40),
            records_len: le_u64(buf, 48),
            images_sum: le_u32(buf, 56),
            records_sum: le_u32(buf, 60),
        };
        if header.image_count == 0 || header.image_count as usize > MAX_IMAGES {
            return Err(HeaderFault::Damaged("the number of images is out of range"));
        }
        if header.images_len > (MAX_IMAGES * (MAX_PATH + IMAGE_HEAD_BYTES)) as u64 {
            return Err(HeaderFault::Damaged("the image table is too long"));
        }
        let most = MAX_RECORDS * (RECORD_HEAD_BYTES + MAX_RECORD_BYTES) as u64;
        if header.record_count > MAX_RECORDS || header.records_len > most {
            return Err(HeaderFault::Damaged("there are too many records"));
        }
        Ok(header)
    }

    pub(crate) fn records_offset(&self) -> u64 {
        IMAGES_OFFSET + self.images_len
    }

    pub(crate) fn outcome_offset(&self) -> u64 {
        self.records_offset() + self.records_len
    }
}

pub(crate) fn encode_mark(id: &UnitId) -> [u8; MARK_BYTES] {
    let mut buf = [0; MARK_BYTES];
    buf[..8].copy_from_slice(MARK_MAGIC);
    buf[8..24].copy_from_slice(id);
    let sum = crc32c::crc32c(&buf[..24]);
    put_le_u32(&mut buf, 24, sum);
    buf
}

/// The id of a complete mark.
pub(crate) fn parse_mark(buf: &[u8; MARK_BYTES]) -> Option<UnitId> {
    if &buf[..8] != MARK_MAGIC || crc32c::crc32c(&buf[..24]) != le_u32(buf, 24) {
        return None;
    }
    let mut id = [0; 16];
    id.copy_from_slice(&buf[8..24]);
    Some(id)
}

/// One image of the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageEntry {
    /// Resolved path. The first image's directory is where the journal lies; only its file name counts.
    pub path: PathBuf,
    pub inode: u64,
    pub old_len: u64,
    pub new_len: u64,
}

const IMAGE_HEAD_BYTES: usize = 32;

pub(crate) fn encode_images(images: &[ImageEntry]) -> Vec<u8> {
    let mut table = Vec::new();
    for image in images {
        let path = image.path.as_os_str().as_bytes();
        let mut head = [0; IMAGE_HEAD_BYTES];
        put_le_u32(&mut head, 0, path.len() as u32);
        put_le_u64(&mut head, 8, image.inode);
        put_le_u64(&mut head, 16, image.old_len);
        put_le_u64(&mut head, 24, image.new_len);
        table.extend_from_slice(&head);
        table.extend_from_slice(path);
    }
    table
}

pub(crate) fn parse_images(table: &[u8], count: u32) -> Option<Vec<ImageEntry>> {
    let mut images = Vec::new();
    let mut rest = table;
    for _ in 0..count {
        let (head, after) = rest.split_at_checked(IMAGE_HEAD_BYTES)?;
        let path_len = le_u32(head, 0) as usize;
        if path_len == 0 || path_len > MAX_PATH {
            return None;
        }
        let (path, after) = after.split_at_checked(path_len)?;
        images.push(ImageEntry {
            path: PathBuf::from(OsStr::from_bytes(path)),
            inode: le_u64(head, 8),
            old_len: le_u64(head, 16),
            new_len: le_u64(head, 24),
        });
        rest = after;
    }
    rest.is_empty().then_some(images)
}

/// One replaced range of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub image: u32,
    /// Bytes written.
    pub new_len: u32,
    pub host_offset: u64,
    /// Bytes of the pre-image; the rest lies behind the old end of the file.
    pub old_len: u32,
    pub old_sum: u32,
    pub new_sum: u32,
}

impl Record {
    pub(crate) fn encode(&self) -> [u8; RECORD_HEAD_BYTES] {
        let mut buf = [0; RECORD_HEAD_BYTES];
        put_le_u32(&mut buf, 0, self.image);
        put_le_u32(&mut buf, 4, self.new_len);
        put_le_u64(&mut buf, 8, self.host_offset);
        put_le_u32(&mut buf, 16, self.old_len);
        put_le_u32(&mut buf, 20, self.old_sum);
        put_le_u32(&mut buf, 24, self.new_sum);
        let sum = crc32c::crc32c(&buf[..36]);
        put_le_u32(&mut buf, 36, sum);
        buf
    }

    /// `None` when the sum is wrong or the record does not lie inside its image.
    pub(crate) fn parse(buf: &[u8; RECORD_HEAD_BYTES], images: &[ImageEntry]) -> Option<Self> {
        if crc32c::crc32c(&buf[..36]) != le_u32(buf, 36) {
            return None;
        }
        let record = Self {
            image: le_u32(buf, 0),
            new_len: le_u32(buf, 4),
            host_offset: le_u64(buf, 8),
            old_len: le_u32(buf, 16),
            old_sum: le_u32(buf, 20),
            new_sum: le_u32(buf, 24),
        };
        let image = images.get(record.image as usize)?;
        let is_bounded = record.new_len as usize <= MAX_RECORD_BYTES && record.old_len <= record.new_len;
        let old_fits = record.host_offset.checked_add(u64::from(record.old_len))? <= image.old_len
            || record.old_len == 0;
        let new_fits = record.host_offset.checked_add(u64::from(record.new_len))? <= image.new_len;
        (is_bounded && old_fits && new_fits).then_some(record)
    }
}

/// When each image was last changed, as seen right after the commit.
pub(crate) fn encode_outcome(id: &UnitId, modified: &[(i64, u32)]) -> Vec<u8> {
    let mut buf = Vec::from(OUTCOME_MAGIC);
    buf.extend_from_slice(id);
    for (seconds, nanoseconds) in modified {
        buf.extend_from_slice(&seconds.to_le_bytes());
        buf.extend_from_slice(&nanoseconds.to_le_bytes());
        buf.extend_from_slice(&[0; 4]);
    }
    let sum = crc32c::crc32c(&buf);
    buf.extend_from_slice(&sum.to_le_bytes());
    buf
}

pub(crate) fn outcome_len(images: usize) -> usize {
    24 + 16 * images + 4
}

pub(crate) fn parse_outcome(buf: &[u8], id: &UnitId) -> Option<Vec<(i64, u32)>> {
    let (body, sum) = buf.split_at_checked(buf.len().checked_sub(4)?)?;
    let rest = body.strip_prefix(OUTCOME_MAGIC.as_slice())?.strip_prefix(id.as_slice())?;
    if try_le_u32(sum, 0)? != crc32c::crc32c(body) {
        return None;
    }
    let mut times = Vec::new();
    for entry in rest.chunks_exact(16) {
        times.push((try_le_u64(entry, 0)? as i64, try_le_u32(entry, 8)?));
    }
    Some(times)
}

/// Most bytes of a pointer file.
pub(crate) const MAX_POINTER_BYTES: usize = 28 + MAX_PATH + 4;

pub(crate) fn encode_pointer(id: &UnitId, journal: &Path) -> Vec<u8> {
    let path = journal.as_os_str().as_bytes();
    let mut buf = Vec::from(POINTER_MAGIC);
    buf.extend_from_slice(id);
    buf.extend_from_slice(&(path.len() as u32).to_le_bytes());
    buf.extend_from_slice(path);
    let sum = crc32c::crc32c(&buf);
    buf.extend_from_slice(&sum.to_le_bytes());
    buf
}

/// The id and the path of the journal; `None` when the file was never finished.
pub(crate) fn parse_pointer(buf: &[u8]) -> Option<(UnitId, PathBuf)> {
    let rest = buf.strip_prefix(POINTER_MAGIC.as_slice())?;
    let (id, rest) = rest.split_first_chunk::<16>()?;
    let path_len = try_le_u32(rest, 0)? as usize;
    if path_len == 0 || path_len > MAX_PATH {
        return None;
    }
    let path = rest.get(4..4 + path_len)?;
    let sum_at = 28 + path_len;
    if try_le_u32(buf, sum_at)? != crc32c::crc32c(buf.get(..sum_at)?) {
        return None;
    }
    Some((*id, PathBuf::from(OsStr::from_bytes(path))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Vec<ImageEntry> {
        vec![
            ImageEntry { path: "/a/disk.raw".into(), inode: 7, old_len: 1000, new_len: 2000 },
            ImageEntry { path: "/b/other".into(), inode: 8, old_len: 1 << 40, new_len: 1 << 40 },
        ]
    }

    #[test]
    fn everything_comes_back_and_one_changed_bit_is_noticed() {
        let table = encode_images(&images());
        assert_eq!(parse_images(&table, 2), Some(images()));
        assert_eq!(parse_images(&table, 3), None);
        assert_eq!(parse_images(&table, 1), None);
        let header = Header {
            id: [3; 16],
            image_count: 2,
            images_len: table.len() as u64,
            record_count: 5,
            records_len: 999,
            images_sum: 1,
            records_sum: 2,
        };
        let bytes = header.encode();
        assert_eq!(Header::parse(&bytes), Ok(header));
        let record = Record { image: 0, new_len: 50, host_offset: 960, old_len: 40, old_sum: 1, new_sum: 2 };
        let record_bytes = record.encode();
        assert_eq!(Record::parse(&record_bytes, &images()), Some(record));
        let pointer = encode_pointer(&[9; 16], Path::new("/a/.disk.raw.coldfit-journal"));
        assert_eq!(parse_pointer(&pointer), Some(([9; 16], "/a/.disk.raw.coldfit-journal".into())));
        let outcome = encode_outcome(&[4; 16], &[(-1, 999), (5, 6)]);
        assert_eq!(outcome.len(), outcome_len(2));
        assert_eq!(parse_outcome(&outcome, &[4; 16]), Some(vec![(-1, 999), (5, 6)]));
        assert_eq!(parse_outcome(&outcome, &[5; 16]), None);
        let mark = encode_mark(&[6; 16]);
        assert_eq!(parse_mark(&mark), Some([6; 16]));

        for bit in 0..68 * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::parse(&bad).is_err(), "header bit {bit}");
        }
        for bit in 0..RECORD_HEAD_BYTES * 8 {
            let mut bad = record_bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::parse(&bad, &images()), None, "record bit {bit}");
        }
        for bit in 0..MARK_BYTES * 8 {
            let mut bad = mark;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_mark(&bad), None, "mark bit {bit}");
        }
        for bit in 0..pointer.len() * 8 {
            let mut bad = pointer.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_pointer(&bad), None, "pointer bit {bit}");
        }
    }

    #[test]
    fn a_record_outside_its_image_is_refused() {
        let good = Record { image: 0, new_len: 50, host_offset: 960, old_len: 40, old_sum: 1, new_sum: 2 };
        for bad in [
            Record { image: 2, ..good },
            Record { old_len: 41, ..good },
            Record { new_len: 1041, ..good },
            Record { host_offset: u64::MAX - 10, ..good },
            Record { old_len: 51, host_offset: 0, ..good },
            Record { image: 1, new_len: MAX_RECORD_BYTES as u32 + 1, ..good },
        ] {
            assert_eq!(Record::parse(&bad.encode(), &images()), None, "{bad:?}");
        }
    }
}
