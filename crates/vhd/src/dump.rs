//! The whole structure as text, for people who look into an image.

use std::io::Write;

use block::ReadAt;

use crate::image::Form;
use crate::{SECTOR_BYTES, Vhd, VhdError};

impl Vhd {
    /// Prints footer, header and block allocation table; runs of blocks without a place are one line.
    pub fn dump(&self, out: &mut dyn Write) -> Result<(), VhdError> {
        let footer = &self.footer;
        let text = |raw: &[u8]| String::from_utf8_lossy(raw).escape_default().to_string();
        writeln!(
            out,
            "footer: {:?}, version {:#x}, features {:#x}",
            self.kind(),
            footer.version,
            footer.features
        )?;
        writeln!(
            out,
            "  creator \"{}\" {:#x} on \"{}\", timestamp {}, unique id {}",
            text(&footer.creator),
            footer.creator_version,
            text(&footer.creator_host),
            footer.identity.timestamp,
            ondisk::Uuid(footer.identity.unique_id)
        )?;
        writeln!(
            out,
            "  original size {}, current size {}, geometry {}/{}/{} ({} bytes), disk of {} bytes by {:?}",
            footer.original_size,
            footer.current_size,
            footer.geometry.cylinders,
            footer.geometry.heads,
            footer.geometry.sectors,
            footer.geometry.bytes(),
            self.len(),
            self.size_rule
        )?;
        for problem in &self.footer_problems {
            writeln!(out, "  {problem}")?;
        }
        let Form::Dynamic(blocks) = &self.form else { return Ok(()) };
        writeln!(
            out,
            "header at {}: block allocation table at {}, {} entries, blocks of {} bytes",
            footer.data_offset, blocks.header.table_offset, blocks.header.entries, blocks.block_size
        )?;
        let mut block = 0;
        while block < blocks.table.len() {
            if let Some(offset) = blocks.bitmap_offset(block) {
                writeln!(
                    out,
                    "block {block}: sector {} (bitmap), data at {}",
                    offset / SECTOR_BYTES,
                    offset + blocks.bitmap_len
                )?;
                block += 1;
                continue;
            }
            let first = block;
            while block < blocks.table.len() && blocks.bitmap_offset(block).is_none() {
                block += 1;
            }
            writeln!(out, "blocks {first} to {}: not stored", block - 1)?;
        }
        Ok(())
    }
}
