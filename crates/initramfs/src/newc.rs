//! cpio in the newc form: headers, names and data, one entry after the other.
//!
//! `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel.

use std::io::{self, BufRead};

use ondisk::crc32c_raw;

/// Bytes of a header before the name.
pub(crate) const HEADER_LEN: usize = 110;
/// Longest name, NUL included; the kernel skips entries beyond it.
pub(crate) const PATH_MAX: usize = 4096;
/// Name of the entry that ends an archive.
pub(crate) const TRAILER: &[u8] = b"TRAILER!!!";

pub(crate) const S_IFMT: u32 = 0o170_000;
pub(crate) const S_IFDIR: u32 = 0o040_000;
pub(crate) const S_IFREG: u32 = 0o100_000;
pub(crate) const S_IFLNK: u32 = 0o120_000;

/// The numbers of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Header {
    pub(crate) inode: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u32,
    pub(crate) mtime: u32,
    pub(crate) size: u32,
    pub(crate) device: (u32, u32),
    pub(crate) special: (u32, u32),
}

/// One entry without its data.
#[derive(Debug, Clone)]
pub(crate) struct RawEntry {
    /// Unpacked position of the header in the segment.
    pub(crate) at: u64,
    pub(crate) header: Header,
    /// The header as stored.
    pub(crate) stored_header: [u8; HEADER_LEN],
    /// Name as stored, without the NUL.
    pub(crate) name: Vec<u8>,
}

impl RawEntry {
    pub(crate) fn is_trailer(&self) -> bool {
        self.name == TRAILER
    }
}

/// Why reading stopped.
#[derive(Debug)]
pub(crate) enum NewcError {
    /// The stream below failed.
    Stream(io::Error),
    /// The archive contradicts itself.
    Malformed { at: u64, detail: String },
    /// More unpacked bytes than allowed.
    TooLong,
}

/// Reads entries from a stream of unpacked bytes, counting them.
pub(crate) struct NewcReader<R> {
    stream: R,
    position: u64,
    budget: u64,
}

impl<R: BufRead> NewcReader<R> {
    /// Reads at most `budget` bytes of `stream`.
    pub(crate) fn new(stream: R, budget: u64) -> Self {
        Self { stream, position: 0, budget }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn stream(&self) -> &R {
        &self.stream
    }

    /// The next entry's header and name; `None` at the end of the stream.
    pub(crate) fn next_entry(&mut self) -> Result<Option<RawEntry>, NewcError> {
        let mut raw = [0u8; HEADER_LEN];
        let at = self.position;
        let malformed = |detail: String| NewcError::Malformed { at, detail };
        match self.fill_some(&mut raw)? {
            0 => return Ok(None),
            HEADER_LEN => {}
            _ => return Err(malformed("the archive ends inside a header".into())),
        }
        let (header, name_len) = parse_header(&raw).map_err(malformed)?;
        if name_len == 0 || name_len > PATH_MAX {
            return Err(malformed(format!("name of {name_len} bytes; expected 1 to {PATH_MAX}")));
        }
        let padded_len = (HEADER_LEN + name_len).next_multiple_of(4) - HEADER_LEN;
        let mut name = vec![0u8; padded_len];
        if self.fill_some(&mut name)? != padded_len {
            return Err(malformed("the archive ends inside a name".into()));
        }
        name.truncate(name_len);
        if name.pop() != Some(0) {
            return Err(malformed("a name that does not end in NUL".into()));
        }
        // The kernel takes the name as a C string.
        if let Some(end) = name.iter().position(|byte| *byte == 0) {
            name.truncate(end);
        }
        Ok(Some(RawEntry { at, header, stored_header: raw, name }))
    }

    /// Reads the data of the entry that was read last, keeping it up to `keep_max` bytes, and its padding.
    ///
    /// Returns the kept bytes (`None` when longer) and the CRC-32C of all.
    pub(crate) fn read_data(
        &mut self,
        entry: &RawEntry,
        keep_max: u64,
    ) -> Result<(Option<Vec<u8>>, u32), NewcError> {
        let len = u64::from(entry.header.size);
        let mut kept = (len <= keep_max).then(Vec::new);
        let mut checksum = 0;
        self.copy_data(entry, |chunk| {
            checksum = crc32c_raw(checksum, chunk);
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(chunk);
            }
            Ok(())
        })?;
        Ok((kept, checksum))
    }

    /// Hands the data of the entry that was read last to `sink` in pieces, and skips its padding.
    pub(crate) fn copy_data(
        &mut self,
        entry: &RawEntry,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), NewcError> {
        let len = u64::from(entry.header.size);
        let cut_off =
            || NewcError::Malformed { at: entry.at, detail: "the archive ends inside the data".into() };
        let mut buf = vec![0u8; usize::try_from(len.min(128 << 10)).unwrap_or(128 << 10)];
        let mut left = len;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            let chunk = buf.get_mut(..want).unwrap_or(&mut []);
            if self.fill_some(chunk)? != want {
                return Err(cut_off());
            }
            sink(chunk).map_err(NewcError::Stream)?;
            left -= want as u64;
        }
        let padding = usize::try_from(len.next_multiple_of(4) - len).unwrap_or(0);
        let mut zeros = [0u8; 4];
        // The last entry of an archive cut to its length may lack its padding; the header read then says so.
        self.fill_some(&mut zeros[..padding])?;
        Ok(())
    }

    /// Skips zero bytes; false at the end of the stream.
    pub(crate) fn skip_zeros(&mut self) -> Result<bool, NewcError> {
        loop {
            let available = self.stream.fill_buf().map_err(NewcError::Stream)?;
            if available.is_empty() {
                return Ok(false);
            }
            let zeros = available.iter().take_while(|byte| **byte == 0).count();
            let has_more = zeros < available.len();
            self.stream.consume(zeros);
            self.count(zeros)?;
            if has_more {
                return Ok(true);
            }
        }
    }

    fn fill_some(&mut self, buf: &mut [u8]) -> Result<usize, NewcError> {
        let mut filled = 0;
        while let Some(room) = buf.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.stream.read(room) {
                Ok(0) => break,
                Ok(len) => filled += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(NewcError::Stream(error)),
            }
        }
        self.count(filled)?;
        Ok(filled)
    }

    fn count(&mut self, len: usize) -> Result<(), NewcError> {
        self.position += len as u64;
        match self.position > self.budget {
            true => Err(NewcError::TooLong),
            false => Ok(()),
        }
    }
}

fn parse_header(raw: &[u8; HEADER_LEN]) -> Result<(Header, usize), String> {
    let (magic, fields) = raw.split_at(6);
    match magic {
        b"070701" | b"070702" => {}
        b"070707" => return Err("the old portable cpio form (070707); the kernel reads newc alone".into()),
        _ => return Err(format!("magic {:?}; expected 070701 or 070702", String::from_utf8_lossy(magic))),
    }
    let mut numbers = [0u32; 13];
    for (number, digits) in numbers.iter_mut().zip(fields.chunks_exact(8)) {
        *number = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| format!("{:?} is no hexadecimal number", String::from_utf8_lossy(digits)))?;
    }
    let [inode, mode, uid, gid, links, mtime, size, major, minor, rmajor, rminor, name_len, _checksum] =
        numbers;
    let header = Header {
        inode,
        mode,
        uid,
        gid,
        links,
        mtime,
        size,
        device: (major, minor),
        special: (rmajor, rminor),
    };
    Ok((header, usize::try_from(name_len).unwrap_or(usize::MAX)))
}

/// Bytes of one entry, header first, everything padded; `archive` begins at a multiple of 4.
pub(crate) fn encode_entry(archive: &mut Vec<u8>, header: &Header, name: &[u8], data: &[u8]) {
    let len = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let numbers = [
        header.inode,
        header.mode,
        header.uid,
        header.gid,
        header.links,
        header.mtime,
        len(data.len()),
        header.device.0,
        header.device.1,
        header.special.0,
        header.special.1,
        len(name.len() + 1),
        0,
    ];
    archive.extend_from_slice(b"070701");
    for number in numbers {
        archive.extend_from_slice(format!("{number:08X}").as_bytes());
    }
    archive.extend_from_slice(name);
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(data);
    pad(archive);
}

/// Appends the entry that ends an archive.
pub(crate) fn encode_trailer(archive: &mut Vec<u8>) {
    encode_entry(archive, &Header { links: 1, ..Header::default() }, TRAILER, &[]);
}

/// Bytes from an entry's header to its data, as stored.
pub(crate) fn stored_head(entry: &RawEntry) -> Vec<u8> {
    let mut head = entry.stored_header.to_vec();
    head.extend_from_slice(&entry.name);
    // A name that was cut at an inner NUL keeps the length that its header says.
    let name_len = parse_header(&entry.stored_header).map_or(0, |(_, name_len)| name_len);
    head.resize((HEADER_LEN + name_len).next_multiple_of(4), 0);
    head
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}
