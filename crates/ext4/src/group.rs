//! Group descriptors and where metadata lies (the kernel's `Documentation/filesystems/ext4/blockgroup.rst`
//! and `group_descr.rst`).

use bitflags::bitflags;
use block::ReadAt;
use ondisk::{le_u16, le_u32, put_le_u16};

use crate::error::{Result, corrupt, device};
use crate::feature::{Compat, Incompat, RoCompat};
use crate::superblock::Superblock;

bitflags! {
    /// `bg_flags`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct GroupFlags: u16 {
        /// The inode bitmap and table are not initialised.
        const INODE_UNINIT = 1;
        /// The block bitmap is not initialised.
        const BLOCK_UNINIT = 2;
        /// The inode table is zeroed.
        const INODE_ZEROED = 4;
        const _ = !0;
    }
}

/// One group descriptor.
#[derive(Clone)]
pub struct Descriptor {
    raw: Vec<u8>,
}

impl Descriptor {
    /// The raw bytes.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    fn is_wide(&self) -> bool {
        self.raw.len() >= 64
    }

    fn block_at(&self, low: usize, high: usize) -> u64 {
        let high = if self.is_wide() { u64::from(le_u32(&self.raw, high)) << 32 } else { 0 };
        high | u64::from(le_u32(&self.raw, low))
    }

    fn count_at(&self, low: usize, high: usize) -> u32 {
        let high = if self.is_wide() { u32::from(le_u16(&self.raw, high)) << 16 } else { 0 };
        high | u32::from(le_u16(&self.raw, low))
    }

    fn put_count(&mut self, low: usize, high: usize, value: u32) {
        put_le_u16(&mut self.raw, low, value as u16);
        if self.is_wide() {
            put_le_u16(&mut self.raw, high, (value >> 16) as u16);
        }
    }

    /// Block of the block bitmap.
    pub fn block_bitmap(&self) -> u64 {
        self.block_at(0x00, 0x20)
    }

    /// Block of the inode bitmap.
    pub fn inode_bitmap(&self) -> u64 {
        self.block_at(0x04, 0x24)
    }

    /// First block of the inode table.
    pub fn inode_table(&self) -> u64 {
        self.block_at(0x08, 0x28)
    }

    /// Free clusters.
    pub fn free_blocks(&self) -> u32 {
        self.count_at(0x0c, 0x2c)
    }

    pub(crate) fn set_free_blocks(&mut self, count: u32) {
        self.put_count(0x0c, 0x2c, count);
    }

    /// Free inodes.
    pub fn free_inodes(&self) -> u32 {
        self.count_at(0x0e, 0x2e)
    }

    pub(crate) fn set_free_inodes(&mut self, count: u32) {
        self.put_count(0x0e, 0x2e, count);
    }

    /// Directories among the inodes in use.
    pub fn used_dirs(&self) -> u32 {
        self.count_at(0x10, 0x30)
    }

    pub(crate) fn set_used_dirs(&mut self, count: u32) {
        self.put_count(0x10, 0x30, count);
    }

    /// Flags; to be ignored without group checksums.
    pub fn flags(&self) -> GroupFlags {
        GroupFlags::from_bits_retain(le_u16(&self.raw, 0x12))
    }

    pub(crate) fn set_flags(&mut self, flags: GroupFlags) {
        put_le_u16(&mut self.raw, 0x12, flags.bits());
    }

    /// Inodes never used at the end of the table.
    pub fn itable_unused(&self) -> u32 {
        self.count_at(0x1c, 0x32)
    }

    pub(crate) fn set_itable_unused(&mut self, count: u32) {
        self.put_count(0x1c, 0x32, count);
    }

    /// Recorded checksum of the block bitmap and the mask of bits that are stored.
    pub fn block_bitmap_checksum(&self) -> (u32, u32) {
        (self.count_at(0x18, 0x38), if self.is_wide() { !0 } else { 0xffff })
    }

    pub(crate) fn set_block_bitmap_checksum(&mut self, sum: u32) {
        self.put_count(0x18, 0x38, sum);
    }

    /// Recorded checksum of the inode bitmap and the mask of bits that are stored.
    pub fn inode_bitmap_checksum(&self) -> (u32, u32) {
        (self.count_at(0x1a, 0x3a), if self.is_wide() { !0 } else { 0xffff })
    }

    pub(crate) fn set_inode_bitmap_checksum(&mut self, sum: u32) {
        self.put_count(0x1a, 0x3a, sum);
    }

    /// Recorded checksum.
    pub fn checksum(&self) -> u16 {
        le_u16(&self.raw, 0x1e)
    }

    pub(crate) fn set_checksum(&mut self, sum: u16) {
        put_le_u16(&mut self.raw, 0x1e, sum);
    }
}

impl Superblock {
    /// Block in which group `group` starts.
    pub fn group_start(&self, group: u32) -> u64 {
        u64::from(self.first_data_block()) + u64::from(group) * u64::from(self.blocks_per_group())
    }

    /// Blocks of a group; fewer in the last.
    pub fn group_blocks(&self, group: u32) -> u32 {
        let left = self.blocks().saturating_sub(self.group_start(group));
        left.min(u64::from(self.blocks_per_group())) as u32
    }

    /// Group of a block, with the block's place in it; `None` outside the filesystem.
    pub fn group_of_block(&self, block: u64) -> Option<(u32, u32)> {
        if block >= self.blocks() {
            return None;
        }
        let from_first = block.checked_sub(u64::from(self.first_data_block()))?;
        let per_group = u64::from(self.blocks_per_group());
        Some(((from_first / per_group) as u32, (from_first % per_group) as u32))
    }

    /// Group of an inode, with the inode's place in it; `None` for numbers that do not exist.
    pub fn group_of_inode(&self, inode: u32) -> Option<(u32, u32)> {
        if inode == 0 || inode > self.inodes() {
            return None;
        }
        Some(((inode - 1) / self.inodes_per_group(), (inode - 1) % self.inodes_per_group()))
    }

    /// Blocks of one group's inode table.
    pub fn inode_table_blocks(&self) -> u32 {
        let bytes = u64::from(self.inodes_per_group()) * u64::from(self.inode_size());
        bytes.div_ceil(u64::from(self.block_size())) as u32
    }

    /// True when the group starts with a copy of the superblock.
    pub fn has_superblock(&self, group: u32) -> bool {
        if group == 0 {
            return true;
        }
        if self.features().compat.contains(Compat::SPARSE_SUPER2) {
            return self.backup_groups().contains(&group);
        }
        if group == 1 || !self.features().ro_compat.contains(RoCompat::SPARSE_SUPER) {
            return true;
        }
        [3u32, 5, 7].into_iter().any(|base| {
            let mut power = base;
            while power < group {
                match power.checked_mul(base) {
                    Some(next) => power = next,
                    None => return false,
                }
            }
            power == group
        })
    }

    pub(crate) fn descriptors_per_block(&self) -> u32 {
        self.block_size() / u32::from(self.descriptor_size())
    }

    /// Blocks of the whole descriptor table.
    pub fn descriptor_blocks(&self) -> u32 {
        self.groups().div_ceil(self.descriptors_per_block())
    }

    fn uses_meta_bg(&self) -> bool {
        self.features().incompat.contains(Incompat::META_BG)
    }

    /// Block that holds descriptor block `index` of the primary table.
    pub fn descriptor_block(&self, index: u32) -> u64 {
        if self.uses_meta_bg() && index >= self.first_meta_group() {
            let group = index.saturating_mul(self.descriptors_per_block());
            self.group_start(group) + u64::from(self.has_superblock(group))
        } else {
            // The superblock lies in block 1 of 1 KiB blocks (also with bigalloc), else in block 0.
            let own = if self.block_size() == 1024 { 1 } else { 0 };
            own + 1 + u64::from(index)
        }
    }

    /// Blocks at the start of a group that its superblock and descriptor copies take, reserved ones included.
    pub(crate) fn group_head_blocks(&self, group: u32) -> Vec<(u64, u64)> {
        let start = self.group_start(group);
        let has_super = self.has_superblock(group);
        let mut runs = Vec::new();
        // With bigalloc and 1 KiB blocks, group 0 starts at block 0 and the superblock lies in block 1.
        let boot = u64::from(group == 0 && self.block_size() == 1024 && self.first_data_block() == 0);
        if has_super {
            runs.push((start, 1 + boot));
        }
        let per_block = self.descriptors_per_block();
        let metagroup = group / per_block;
        if !self.uses_meta_bg() || metagroup < self.first_meta_group() {
            if has_super {
                let old = if self.uses_meta_bg() {
                    self.first_meta_group().min(self.descriptor_blocks())
                } else {
                    self.descriptor_blocks()
                };
                let count = u64::from(old) + u64::from(self.reserved_descriptor_blocks());
                runs.push((start + 1 + boot, count));
            }
        } else {
            let first = metagroup * per_block;
            if [first, first + 1, first + per_block - 1].contains(&group) {
                runs.push((start + u64::from(has_super), 1));
            }
        }
        runs
    }

    /// Reads all descriptors. The second value says for each whether its checksum and places are right.
    pub(crate) fn read_descriptors(&self, dev: &dyn ReadAt) -> Result<(Vec<Descriptor>, Vec<bool>)> {
        let size = usize::from(self.descriptor_size());
        let mut descriptors = Vec::with_capacity(self.groups() as usize);
        let mut sound = Vec::with_capacity(self.groups() as usize);
        let mut block = vec![0u8; self.block_size() as usize];
        for index in 0..self.descriptor_blocks() {
            let number = self.descriptor_block(index);
            if number >= self.blocks() {
                return Err(corrupt(
                    "ext4.group.place",
                    format!("descriptor block {index}"),
                    format!("lies at block {number} of {}", self.blocks()),
                ));
            }
            dev.read_exact_at(&mut block, number * u64::from(self.block_size())).map_err(device)?;
            for raw in block.chunks_exact(size) {
                let group = descriptors.len() as u32;
                if group == self.groups() {
                    break;
                }
                let descriptor = Descriptor { raw: raw.to_vec() };
                sound.push(self.check_descriptor(group, &descriptor).is_ok());
                descriptors.push(descriptor);
            }
        }
        Ok((descriptors, sound))
    }

    /// Checks checksum, places and counts of one descriptor.
    pub(crate) fn check_descriptor(&self, group: u32, descriptor: &Descriptor) -> Result<()> {
        let structure = || format!("descriptor of group {group}");
        if self.features().has_group_checksums() {
            let want = self.descriptor_checksum(group, descriptor.raw());
            let have = descriptor.checksum();
            if want != have {
                return Err(corrupt(
                    "ext4.group.checksum",
                    structure(),
                    format!("checksum {want:#06x} expected, {have:#06x} found"),
                ));
            }
        }
        let table = u64::from(self.inode_table_blocks());
        for (what, start, len) in [
            ("block bitmap", descriptor.block_bitmap(), 1),
            ("inode bitmap", descriptor.inode_bitmap(), 1),
            ("inode table", descriptor.inode_table(), table),
        ] {
            let end = start.checked_add(len);
            if start <= u64::from(self.first_data_block()) || end.is_none_or(|end| end > self.blocks()) {
                return Err(corrupt(
                    "ext4.group.place",
                    structure(),
                    format!(
                        "{what} at block {start}, outside blocks {}..{}",
                        self.first_data_block() + 1,
                        self.blocks()
                    ),
                ));
            }
        }
        let (free_blocks, free_inodes) = (descriptor.free_blocks(), descriptor.free_inodes());
        if free_blocks > self.clusters_per_group() || free_inodes > self.inodes_per_group() {
            return Err(corrupt(
                "ext4.group.counts",
                structure(),
                format!("{free_blocks} free blocks and {free_inodes} free inodes are more than a group has"),
            ));
        }
        Ok(())
    }
}
