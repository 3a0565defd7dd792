//! Persistent bitmaps, as far as their clusters are counted. Their content is never used.

use ondisk::{be_u16, be_u32, be_u64, try_be_u32, try_be_u64};

use crate::entry::OFFSET_MASK;
use crate::error::Qcow2Error;
use crate::header::{EXTENSION_BITMAPS, check_table};
use crate::image::Qcow2;

/// QEMU's limits (`QCOW2_MAX_BITMAPS`, `QCOW2_MAX_BITMAP_DIRECTORY_SIZE`, `BME_MAX_TABLE_SIZE`).
const MAX_BITMAPS: u32 = 65_535;
const MAX_DIRECTORY_BYTES: u64 = 1024 * MAX_BITMAPS as u64;
const MAX_TABLE_BYTES: u64 = 8 * 0x800_0000;
const ENTRY_BYTES: u64 = 24;

/// Calls `each` with offset and length of the directory, of every bitmap table and of every cluster of
/// bitmap data.
pub(crate) fn for_each_range(
    image: &Qcow2,
    mut each: impl FnMut(u64, u64) -> Result<(), Qcow2Error>,
) -> Result<(), Qcow2Error> {
    let Some(extension) = image.header.extension(EXTENSION_BITMAPS) else { return Ok(()) };
    let bad = |at: u64, detail: String| Err(image.damaged("qcow2.bitmaps", at, detail));
    let at = extension.host_offset;
    let (Some(count), Some(directory_len), Some(directory_offset)) =
        (try_be_u32(&extension.data, 0), try_be_u64(&extension.data, 8), try_be_u64(&extension.data, 16))
    else {
        return bad(at, format!("expected a bitmaps extension of 24 bytes, found {}", extension.data.len()));
    };
    if count > MAX_BITMAPS {
        return bad(at, format!("expected at most {MAX_BITMAPS} bitmaps, found {count}"));
    }
    let placed = |what, offset, len, limit, at| {
        check_table(what, offset, len, limit, image.cluster_bits(), image.file_len)
            .map_err(|problem| problem.at(&image.path, at))
    };
    placed("bitmap directory", directory_offset, directory_len, MAX_DIRECTORY_BYTES, at)?;
    each(directory_offset, directory_len)?;

    let directory_end = directory_offset + directory_len;
    let mut at = directory_offset;
    let mut table_bytes = 0u64;
    for _ in 0..count {
        let mut entry = [0; ENTRY_BYTES as usize];
        if at + ENTRY_BYTES > directory_end {
            return bad(at, format!("expected {count} bitmaps in the directory, found its end"));
        }
        image.file.read_exact_at(&mut entry, at)?;
        let (table_offset, table_len) = (be_u64(&entry, 0), u64::from(be_u32(&entry, 8)) * 8);
        placed("bitmap table", table_offset, table_len, MAX_TABLE_BYTES, at)?;
        table_bytes += table_len;
        if table_bytes > image.file_len {
            return bad(
                at,
                "expected bitmap tables that do not overlap, found more than the file holds".into(),
            );
        }
        each(table_offset, table_len)?;
        image.for_each_l1(table_offset, table_len / 8, |_, raw, _| match raw & OFFSET_MASK {
            0 => Ok(()),
            data => each(data, image.cluster_size()),
        })?;
        let variable = u64::from(be_u16(&entry, 18)) + u64::from(be_u32(&entry, 20));
        at += (ENTRY_BYTES + variable).next_multiple_of(8);
    }
    Ok(())
}
