//! Sparse members of tar archives: which bytes of the file are stored.
//!
//! GNU tar, manual, "Storing Sparse Files": the old GNU format (type `S`, with its map in the header and blocks behind
//! it) and version 1.0 of the PAX format (the map in front of the data). Versions 0.0 and 0.1 are refused by name.

use tar::{GnuExtSparseHeader, Header};

use crate::ArchiveError;
use crate::input::Input;
use crate::tarball::{BLOCK, damaged, read_block};

/// Segments of a map, at most: 2 MiB apart they make 2 TiB.
const SEGMENTS_MAX: usize = 1 << 20;

/// Stored bytes of a member, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub offset: u64,
    pub len: u64,
}

fn push(segments: &mut Vec<Segment>, offset: u64, len: u64) -> Result<(), ArchiveError> {
    if segments.len() == SEGMENTS_MAX {
        return Err(ArchiveError::Tar {
            code: "archive.tar.sparse",
            detail: format!("its map has more than {SEGMENTS_MAX} segments"),
        });
    }
    segments.push(Segment { offset, len });
    Ok(())
}

/// Ascending, without overlaps, inside the file, and as many bytes as are stored.
fn check(segments: &[Segment], file_len: u64, stored: u64) -> Result<(), ArchiveError> {
    let (mut end, mut sum) = (0u64, 0u64);
    for segment in segments {
        let next = segment.offset.checked_add(segment.len).filter(|next| *next <= file_len);
        let Some(next) = next.filter(|_| segment.offset >= end) else {
            return Err(damaged("the map of a sparse member has no order or leaves the file"));
        };
        end = next;
        sum += segment.len;
    }
    if sum != stored {
        return Err(damaged("the map of a sparse member does not fit the bytes that are stored"));
    }
    Ok(())
}

/// The map of a member of the old GNU format, and the length of the file.
pub(crate) fn old_gnu(
    input: &mut Input,
    header: &Header,
    stored: u64,
) -> Result<(Vec<Segment>, u64), ArchiveError> {
    let Some(gnu) = header.as_gnu() else { return Err(damaged("a sparse member without a GNU header")) };
    let bad = |_| damaged("a number in the map of a sparse member");
    let file_len = gnu.real_size().map_err(bad)?;
    let mut segments = Vec::new();
    for entry in gnu.sparse.iter().filter(|entry| !entry.is_empty()) {
        push(&mut segments, entry.offset().map_err(bad)?, entry.length().map_err(bad)?)?;
    }
    let mut is_extended = gnu.is_extended();
    while is_extended {
        let mut block = GnuExtSparseHeader::new();
        block.as_mut_bytes().copy_from_slice(&read_block(input)?);
        for entry in block.sparse.iter().filter(|entry| !entry.is_empty()) {
            push(&mut segments, entry.offset().map_err(bad)?, entry.length().map_err(bad)?)?;
        }
        is_extended = block.is_extended();
    }
    check(&segments, file_len, stored)?;
    Ok((segments, file_len))
}

/// The map in front of the data of a PAX 1.0 member: decimal numbers, one a line, filled up to whole blocks.
/// `stored` is everything behind the header, the map included.
pub(crate) fn pax_1_0(input: &mut Input, file_len: u64, stored: u64) -> Result<Vec<Segment>, ArchiveError> {
    let mut map = Numbers { input, block: [0; BLOCK], at: BLOCK, read: 0 };
    let count = map.next()?;
    let mut segments = Vec::new();
    for _ in 0..count {
        let (offset, len) = (map.next()?, map.next()?);
        push(&mut segments, offset, len)?;
    }
    let Some(data) = stored.checked_sub(map.read) else {
        return Err(damaged("the map of a sparse member is longer than the member"));
    };
    check(&segments, file_len, data)?;
    Ok(segments)
}

struct Numbers<'i> {
    input: &'i mut Input,
    block: [u8; BLOCK],
    at: usize,
    read: u64,
}

impl Numbers<'_> {
    fn next(&mut self) -> Result<u64, ArchiveError> {
        let mut number: Option<u64> = None;
        loop {
            if self.at == BLOCK {
                self.block = read_block(self.input)?;
                self.read += BLOCK as u64;
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            number = match (byte, number) {
                (b'\n', Some(number)) => return Ok(number),
                (b'0'..=b'9', _) => {
                    let digit = u64::from(byte - b'0');
                    let next = number.unwrap_or(0).checked_mul(10).and_then(|ten| ten.checked_add(digit));
                    Some(next.ok_or_else(|| damaged("a number in the map of a sparse member"))?)
                }
                _ => return Err(damaged("a number in the map of a sparse member")),
            };
        }
    }
}
