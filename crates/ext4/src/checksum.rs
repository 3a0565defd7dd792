//! Checksums of metadata (the kernel's `Documentation/filesystems/ext4/checksums.rst`).

use ondisk::{crc16_ansi, crc32c_raw};

use crate::superblock::Superblock;

/// The state from which the checksums of one inode's structures start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InodeSeed(pub u32);

impl Superblock {
    /// Seed of one inode: filesystem seed, inode number, generation.
    pub(crate) fn inode_seed(&self, number: u32, generation: u32) -> InodeSeed {
        let seed = crc32c_raw(self.checksum_seed(), &number.to_le_bytes());
        InodeSeed(crc32c_raw(seed, &generation.to_le_bytes()))
    }

    /// Checksum of a group descriptor (`bg_checksum`), by whichever of the two methods is on.
    pub(crate) fn descriptor_checksum(&self, group: u32, raw: &[u8]) -> u16 {
        if self.features().has_metadata_csum() {
            let mut state = crc32c_raw(self.checksum_seed(), &group.to_le_bytes());
            let (head, tail) = raw.split_at(0x1e);
            state = crc32c_raw(state, head);
            state = crc32c_raw(state, &[0, 0]);
            state = crc32c_raw(state, tail.get(2..).unwrap_or(&[]));
            (state & 0xffff) as u16
        } else {
            let mut state = crc16_ansi(0xffff, self.uuid_bytes());
            state = crc16_ansi(state, &group.to_le_bytes());
            state = crc16_ansi(state, raw.get(..0x1e).unwrap_or(raw));
            crc16_ansi(state, raw.get(0x20..).unwrap_or(&[]))
        }
    }

    /// Checksum of the first `bits` bits of a bitmap.
    pub(crate) fn bitmap_checksum(&self, bitmap: &[u8], bits: u32) -> u32 {
        let bytes = (bits / 8) as usize;
        crc32c_raw(self.checksum_seed(), bitmap.get(..bytes).unwrap_or(bitmap))
    }

    /// Checksum of an extended-attribute block.
    pub(crate) fn xattr_block_checksum(&self, block: u64, raw: &[u8]) -> u32 {
        let mut state = crc32c_raw(self.checksum_seed(), &block.to_le_bytes());
        let (head, tail) = raw.split_at(raw.len().min(0x10));
        state = crc32c_raw(state, head);
        state = crc32c_raw(state, &[0; 4]);
        crc32c_raw(state, tail.get(4..).unwrap_or(&[]))
    }
}

impl InodeSeed {
    /// Checksum of a whole inode; the two halves of the field count as zero.
    pub(crate) fn inode(self, raw: &[u8], has_high: bool) -> u32 {
        let mut copy = raw.to_vec();
        if let Some(low) = copy.get_mut(0x7c..0x7e) {
            low.fill(0);
        }
        if has_high && let Some(high) = copy.get_mut(0x82..0x84) {
            high.fill(0);
        }
        crc32c_raw(self.0, &copy)
    }

    /// Checksum of the part of a block that `covered` holds.
    pub(crate) fn bytes(self, covered: &[u8]) -> u32 {
        crc32c_raw(self.0, covered)
    }

    /// Checksum of an htree block: entries in use, then the tail with its field as zero.
    pub(crate) fn htree(self, covered: &[u8], reserved: u32) -> u32 {
        let state = crc32c_raw(self.0, covered);
        crc32c_raw(crc32c_raw(state, &reserved.to_le_bytes()), &[0; 4])
    }
}
