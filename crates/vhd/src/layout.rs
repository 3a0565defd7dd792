//! Where everything lies in an image that is written anew.

use ondisk::put_be_u32;

use crate::footer::{DiskKind, FOOTER_BYTES, Footer, Identity};
use crate::header::{DynamicHeader, HEADER_BYTES};
use crate::{SECTOR_BYTES, VhdError};

/// Most sectors that QEMU opens in a VHD image.
pub const SECTORS_MAX: u64 = 0xff00_0000;
/// Most bytes of a virtual disk: 2040 GiB.
pub const SIZE_MAX: u64 = SECTORS_MAX * SECTOR_BYTES;

/// Entry of a block that is not stored.
pub(crate) const UNALLOCATED: u32 = u32::MAX;
/// Every block's data begins at a multiple of this, so that it can be written past the page cache; the bitmap stands
/// in the sector before. Hyper-V and XenServer place blocks the same way.
const DATA_ALIGNMENT: u64 = 4096;
const TABLE_OFFSET: u64 = (FOOTER_BYTES + HEADER_BYTES) as u64;

/// Ok when a VHD image can hold a disk of exactly `size` bytes.
fn check_size(size: u64) -> Result<(), VhdError> {
    let reason = if size == 0 {
        "it has no sectors"
    } else if !size.is_multiple_of(SECTOR_BYTES) {
        "it is no multiple of 512 bytes"
    } else if size > SIZE_MAX {
        "it is larger than 2040 GiB"
    } else {
        return Ok(());
    };
    Err(VhdError::Size { size, reason })
}

/// A fixed image: the disk, then the footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedLayout {
    size: u64,
}

impl FixedLayout {
    /// Layout for a disk of `size` bytes.
    pub fn new(size: u64) -> Result<Self, VhdError> {
        check_size(size)?;
        Ok(Self { size })
    }

    /// Length of the image file, bytes.
    pub fn file_len(&self) -> u64 {
        self.size + SECTOR_BYTES
    }

    /// The footer, which stands at [`FixedLayout::footer_offset`].
    pub fn footer(&self, identity: Identity) -> [u8; FOOTER_BYTES] {
        Footer::new(DiskKind::Fixed, self.size, identity).to_bytes()
    }

    /// Position of the footer, bytes.
    pub fn footer_offset(&self) -> u64 {
        self.size
    }
}

/// A dynamic image: copy of the footer, header, table, blocks in the order of their numbers, footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DynamicLayout {
    size: u64,
    block_size: u64,
}

impl DynamicLayout {
    /// Layout for a disk of `size` bytes.
    ///
    /// Blocks are of 2 MiB, the specification's default, or of 512 KiB (the other size that Windows makes) when only
    /// those fill the disk exactly: an importer may demand that entries × block size is the size. Above about 2032 GiB
    /// the 32-bit positions of so many small blocks would overflow, and blocks are of 2 MiB whatever the size.
    pub fn new(size: u64) -> Result<Self, VhdError> {
        check_size(size)?;
        let large = Self { size, block_size: 2 << 20 };
        let small = Self { size, block_size: 512 << 10 };
        let only_small_fit = size.is_multiple_of(small.block_size) && !size.is_multiple_of(large.block_size);
        let has_room = small.file_len(small.blocks()) / SECTOR_BYTES < u64::from(UNALLOCATED);
        Ok(if only_small_fit && has_room { small } else { large })
    }

    /// Guest bytes of a block.
    pub fn block_size(&self) -> u64 {
        self.block_size
    }

    /// Blocks of the disk; the last one may reach behind its end.
    pub fn blocks(&self) -> u32 {
        // At most 2040 GiB ÷ 512 KiB.
        self.size.div_ceil(self.block_size) as u32
    }

    fn table_len(&self) -> u64 {
        (u64::from(self.blocks()) * 4).next_multiple_of(SECTOR_BYTES)
    }

    /// Bytes of the bitmap before the data of a block.
    pub fn bitmap_len(&self) -> u64 {
        (self.block_size / SECTOR_BYTES / 8).next_multiple_of(SECTOR_BYTES)
    }

    /// Position of the data of the block that is stored as the `number`th, bytes.
    pub fn data_offset(&self, number: u32) -> u64 {
        let first = (TABLE_OFFSET + self.table_len() + self.bitmap_len()).next_multiple_of(DATA_ALIGNMENT);
        first + u64::from(number) * self.stride()
    }

    /// Position of its bitmap, bytes.
    pub fn bitmap_offset(&self, number: u32) -> u64 {
        self.data_offset(number) - self.bitmap_len()
    }

    fn stride(&self) -> u64 {
        (self.block_size + self.bitmap_len()).next_multiple_of(DATA_ALIGNMENT)
    }

    /// The bitmap of a stored block: every sector of it is in use.
    pub fn bitmap(&self) -> Vec<u8> {
        vec![0xff; self.bitmap_len() as usize]
    }

    /// The table entry of the block that is stored as the `number`th.
    pub fn entry(&self, number: u32) -> u32 {
        // Fits for every block of every layout that `new` makes.
        (self.bitmap_offset(number) / SECTOR_BYTES) as u32
    }

    /// Everything before the blocks, when the blocks of these numbers (ascending) are stored in this order.
    pub fn head(&self, stored: impl IntoIterator<Item = u32>, identity: Identity) -> Vec<u8> {
        let mut head = Vec::with_capacity((TABLE_OFFSET + self.table_len()) as usize);
        head.extend_from_slice(&self.footer(identity));
        head.extend_from_slice(
            &DynamicHeader::new(TABLE_OFFSET, self.blocks(), self.block_size as u32).to_bytes(),
        );
        // Also the rest of the table's last sector is "not stored".
        head.resize((TABLE_OFFSET + self.table_len()) as usize, 0xff);
        for (number, block) in stored.into_iter().enumerate() {
            let at = TABLE_OFFSET as usize + block as usize * 4;
            if block < self.blocks() {
                put_be_u32(&mut head, at, self.entry(number as u32));
            }
        }
        head
    }

    /// The footer, which stands at [`DynamicLayout::footer_offset`] and at the start of the file.
    pub fn footer(&self, identity: Identity) -> [u8; FOOTER_BYTES] {
        Footer::new(DiskKind::Dynamic, self.size, identity).to_bytes()
    }

    /// Position of the footer behind `stored` blocks, bytes.
    pub fn footer_offset(&self, stored: u32) -> u64 {
        match stored.checked_sub(1) {
            Some(last) => self.data_offset(last) + self.block_size,
            None => TABLE_OFFSET + self.table_len(),
        }
    }

    /// Length of the image file with `stored` blocks, bytes.
    pub fn file_len(&self, stored: u32) -> u64 {
        self.footer_offset(stored) + SECTOR_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_the_format_cannot_hold_are_refused() {
        for size in [0, 1, 511, 513, SIZE_MAX + 512, u64::MAX] {
            assert!(FixedLayout::new(size).is_err(), "{size}");
            assert!(DynamicLayout::new(size).is_err(), "{size}");
        }
        assert_eq!(SIZE_MAX, 2040 << 30);
        for size in [512, 1 << 20, SIZE_MAX] {
            assert_eq!(FixedLayout::new(size).unwrap().file_len(), size + 512);
        }
    }

    #[test]
    fn every_block_of_the_largest_disk_has_an_entry() {
        for size in [SIZE_MAX, SIZE_MAX - (512 << 10), SIZE_MAX - 512] {
            let layout = DynamicLayout::new(size).unwrap();
            let last = layout.blocks() - 1;
            let sectors = layout.bitmap_offset(last) / SECTOR_BYTES;
            assert!(sectors < u64::from(UNALLOCATED), "{size}: {sectors:#x}");
            assert_eq!(u64::from(layout.entry(last)), sectors);
        }
    }

    #[test]
    fn entries_times_block_size_is_the_size_wherever_clouds_want_it() {
        for mib in 1..200u64 {
            let layout = DynamicLayout::new(mib << 20).unwrap();
            assert_eq!(u64::from(layout.blocks()) * layout.block_size(), mib << 20);
        }
    }

    #[test]
    fn data_is_aligned_and_nothing_overlaps() {
        for size in [512, 1 << 20, (5 << 20) + 512, 7 << 30] {
            let layout = DynamicLayout::new(size).unwrap();
            assert!(layout.bitmap_offset(0) >= TABLE_OFFSET + layout.table_len());
            for number in 0..4 {
                assert_eq!(layout.data_offset(number) % DATA_ALIGNMENT, 0);
                assert!(layout.bitmap_offset(number + 1) >= layout.data_offset(number) + layout.block_size());
                assert_eq!(
                    layout.footer_offset(number + 1),
                    layout.data_offset(number) + layout.block_size()
                );
            }
        }
    }
}
