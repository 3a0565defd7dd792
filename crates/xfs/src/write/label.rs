//! Label: kept in the superblock of each group.

use vfs::VfsError;

use crate::error::Result;
use crate::fs::Xfs;
use crate::superblock::Superblock;

/// Bytes of a label.
const LABEL_BYTES: usize = 12;

impl Xfs {
    /// Sets the label (at most 12 bytes) in all superblocks, as `xfs_admin -L` does.
    pub fn set_label(&mut self, label: &str) -> Result<()> {
        if label.len() > LABEL_BYTES || label.contains('\0') {
            return Err(VfsError::Limit {
                path: label.to_owned(),
                limit: format!("a label of {} bytes; at most {LABEL_BYTES}", label.len()),
            });
        }
        let mut field = [0; LABEL_BYTES];
        field[..label.len()].copy_from_slice(label.as_bytes());
        self.operate(&[], |fs, _| {
            fs.superblock.raw_mut()[108..108 + LABEL_BYTES].copy_from_slice(&field);
            for group in 1..fs.geo.groups {
                let byte = fs.geo.header_byte(group, 0);
                // Copies are as mkfs or growfs left them: nothing but the label changes.
                let mut raw = fs.read_unit(byte, fs.geo.sector_size)?;
                Superblock::require_intact(&raw, group)?;
                raw[108..108 + LABEL_BYTES].copy_from_slice(&field);
                Superblock::reseal(&mut raw);
                fs.put_unit(byte, raw)?;
            }
            Ok(())
        })
    }
}
