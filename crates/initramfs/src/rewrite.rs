//! The way with less room: the last segment is packed again together with what is added.

use std::io::{self, BufReader, Write};

use crate::decode::Decoder;
use crate::encode::{Encoder, WHOLE_DICTIONARY, stream_error, writable};
use crate::inject::verify_file;
use crate::newc::{NewcError, NewcReader, encode_trailer, stored_head};
use crate::segment::wrap;
use crate::{Append, Archive, Compression, InitramfsError, Limits, SegmentKind};

/// How the new file was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Every byte of the old file kept, one segment behind them.
    Appended,
    /// The last segment packed again with the additions.
    Rewritten,
}

/// The whole new file, at most `room` bytes long: with the segment appended where that fits and this kernel reads
/// it, else with the last segment packed again.
pub fn new_file(
    original: &[u8],
    archive: &Archive,
    append: &Append,
    room: u64,
    limits: &Limits,
) -> Result<(Vec<u8>, Placement), InitramfsError> {
    let append_len = (original.len() + append.bytes.len()) as u64;
    if append.hazard.is_none() && append_len <= room {
        return Ok(([original, &append.bytes].concat(), Placement::Appended));
    }
    let rewritten = rewrite_last_segment(original, archive, append, limits)?;
    let rewrite_len = rewritten.len() as u64;
    match rewrite_len <= room {
        true => Ok((rewritten, Placement::Rewritten)),
        false => Err(InitramfsError::NoRoom { append_len, rewrite_len, room }),
    }
}

/// The whole file with the last segment's entries copied as stored, the planned ones behind them, packed again.
///
/// A segment that was not compressed, or in a form that we do not write, is packed with gzip. Segments before
/// the last, and the zero bytes between, stay as they are. The result is parsed again and compared with the
/// intended tree.
pub fn rewrite_last_segment(
    original: &[u8],
    archive: &Archive,
    append: &Append,
    limits: &Limits,
) -> Result<Vec<u8>, InitramfsError> {
    let last = archive.segments().last().filter(|segment| segment.kind == SegmentKind::Main).ok_or(
        InitramfsError::WriteUnsupported {
            compression: Compression::None,
            detail: "the file holds early segments alone, which must stay as they are",
        },
    )?;
    let start = usize::try_from(last.offset).unwrap_or(usize::MAX);
    let (Some(head), Some(stored)) = (original.get(..start), original.get(start..)) else {
        return Err(InitramfsError::Verify { detail: "the archive is not that of this file".into() });
    };
    let target = match writable(last.compression) {
        Compression::None => Compression::Gzip,
        other => other,
    };
    let fail = |error: io::Error| stream_error(target, &error);
    let cpio = |error: NewcError| wrap(error, last.offset, last.compression, limits.unpacked_bytes);

    let mut encoder = Encoder::new(target, WHOLE_DICTIONARY, head.to_vec())?;
    let decoder =
        Decoder::new(last.compression, stored, limits).map_err(|error| cpio(NewcError::Stream(error)))?;
    let mut reader = NewcReader::new(BufReader::with_capacity(128 << 10, decoder), limits.unpacked_bytes);
    let mut written = 0u64;
    while let Some(entry) = reader.next_entry().map_err(cpio)? {
        if entry.is_trailer() {
            reader.read_data(&entry, 0).map_err(cpio)?;
            if last.compression == Compression::None || !reader.skip_zeros().map_err(cpio)? {
                break;
            }
            // Another archive follows in the same stream; hard links do not reach across the trailer.
            let mut trailer = Vec::new();
            encode_trailer(&mut trailer);
            encoder.write_all(&trailer).map_err(fail)?;
            continue;
        }
        let entry_head = stored_head(&entry);
        encoder.write_all(&entry_head).map_err(fail)?;
        reader.copy_data(&entry, |data| encoder.write_all(data)).map_err(cpio)?;
        let size = u64::from(entry.header.size);
        let padding = usize::try_from(size.next_multiple_of(4) - size).unwrap_or(0);
        encoder.write_all(&[0u8; 4][..padding]).map_err(fail)?;
        written += entry_head.len() as u64 + size.next_multiple_of(4);
    }
    debug_assert_eq!(written % 4, 0);
    encoder.write_all(append.addition.entries()).map_err(fail)?;
    let mut trailer = Vec::new();
    encode_trailer(&mut trailer);
    encoder.write_all(&trailer).map_err(fail)?;
    let file = encoder.finish().map_err(fail)?;
    verify_file(&file, &append.addition, limits)?;
    Ok(file)
}
