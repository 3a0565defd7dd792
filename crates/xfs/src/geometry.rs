//! Sizes and addresses (`xfs_format.h`; XFS Algorithms & Data Structures, "Allocation Groups").
//!
//! A filesystem block number is `group << agblklog | block`: it is not linear, since a group need not
//! have a power of two of blocks.

use crate::error::{Result, corrupt};
use crate::feature::Incompat;
use crate::superblock::Superblock;

/// Everything about sizes, checked once; all shifts and divisors in it are in range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Bytes per block, 512 to 65536.
    pub block_size: usize,
    pub block_log: u32,
    /// Bytes per sector: unit of the group headers.
    pub sector_size: usize,
    /// Bytes per inode.
    pub inode_size: usize,
    pub inodes_per_block_log: u32,
    /// Blocks per group; the last one may be shorter.
    pub group_blocks: u32,
    pub group_log: u32,
    pub groups: u32,
    pub data_blocks: u64,
    /// Blocks per directory block.
    pub dir_blocks: u32,
    /// Alignment of inode chunks in blocks; 0 for none.
    pub inode_align: u32,
    /// Alignment of sparse chunks in blocks.
    pub sparse_align: u32,
    pub is_v5: bool,
    /// UUID in metadata blocks.
    pub uuid: [u8; 16],
}

/// Inodes in a record of the inode B+trees.
pub(crate) const CHUNK_INODES: u32 = 64;

impl Geometry {
    /// Checks the sizes in a superblock against each other and the device.
    pub(crate) fn new(sb: &Superblock, device_len: u64) -> Result<Self> {
        let bad = |detail: String| Err(corrupt("xfs.superblock.geometry", "superblock", detail));
        let block_size = sb.block_size();
        let (block_log, sector_log, inode_log) =
            (u32::from(sb.u8(120)), u32::from(sb.u8(121)), u32::from(sb.u8(122)));
        let (inodes_log, group_log, dir_log) =
            (u32::from(sb.u8(123)), u32::from(sb.u8(124)), u32::from(sb.u8(192)));
        if !(9..=16).contains(&block_log) || block_size != 1 << block_log {
            return bad(format!("blocks of {block_size} bytes, logarithm {block_log}"));
        }
        let sector_size = sb.raw().len();
        if sector_log > 15 || sector_size != 1 << sector_log || sector_size > block_size as usize {
            return bad(format!("sectors of {sector_size} bytes, logarithm {sector_log}"));
        }
        let inode_size = usize::from(sb.u16(104));
        let least = if sb.features().is_v5() { 512 } else { 256 };
        if !(8..=11).contains(&inode_log)
            || inode_size != 1 << inode_log
            || inode_size < least
            || inode_size > block_size as usize
        {
            return bad(format!("inodes of {inode_size} bytes, logarithm {inode_log}"));
        }
        if inodes_log != block_log - inode_log || u32::from(sb.u16(106)) != 1 << inodes_log {
            return bad(format!("{} inodes per block, logarithm {inodes_log}", sb.u16(106)));
        }
        let (group_blocks, groups, data_blocks) = (sb.u32(84), sb.u32(88), sb.data_blocks());
        let log_of_blocks = u64::from(group_blocks).next_power_of_two().trailing_zeros();
        if group_blocks < 64 || group_log != log_of_blocks || group_log > 31 {
            return bad(format!("groups of {group_blocks} blocks, logarithm {group_log}"));
        }
        if groups == 0
            || data_blocks.div_ceil(group_blocks.into()) != u64::from(groups)
            || group_log + inodes_log > 32 + 6
        {
            return bad(format!("{groups} groups of {group_blocks} blocks for {data_blocks} blocks"));
        }
        if data_blocks
            .checked_shl(block_log)
            .is_none_or(|bytes| bytes > device_len || bytes >> block_log != data_blocks)
        {
            return bad(format!(
                "{data_blocks} blocks of {block_size} bytes on a device of {device_len} bytes"
            ));
        }
        if block_log + dir_log > 16 {
            return bad(format!("directory blocks of 2^{dir_log} blocks of {block_size} bytes"));
        }
        Ok(Self {
            block_size: block_size as usize,
            block_log,
            sector_size,
            inode_size,
            inodes_per_block_log: inodes_log,
            group_blocks,
            group_log,
            groups,
            data_blocks,
            dir_blocks: 1 << dir_log,
            inode_align: sb.u32(180),
            sparse_align: if sb.features().has(Incompat::SPINODES) { sb.u32(228) } else { 0 },
            is_v5: sb.features().is_v5(),
            uuid: sb.meta_uuid(),
        })
    }

    /// Blocks of one group.
    pub(crate) fn blocks_of(&self, group: u32) -> u32 {
        let start = u64::from(group) * u64::from(self.group_blocks);
        (self.data_blocks.saturating_sub(start)).min(self.group_blocks.into()) as u32
    }

    /// Filesystem block number.
    pub(crate) fn fsblock(&self, group: u32, block: u32) -> u64 {
        u64::from(group) << self.group_log | u64::from(block)
    }

    /// Group and block in it.
    pub(crate) fn split(&self, fsblock: u64) -> (u32, u32) {
        let group = fsblock >> self.group_log;
        (u32::try_from(group).unwrap_or(u32::MAX), (fsblock & ((1 << self.group_log) - 1)) as u32)
    }

    /// True when `len` blocks from `fsblock` lie in one group, behind its headers' first block.
    pub(crate) fn is_run(&self, fsblock: u64, len: u64) -> bool {
        let (group, block) = self.split(fsblock);
        group < self.groups
            && fsblock >> self.group_log < u64::from(self.groups)
            && len > 0
            && block > 0
            && u64::from(block).checked_add(len).is_some_and(|end| end <= self.blocks_of(group).into())
    }

    /// Byte of a block of a group.
    pub(crate) fn byte(&self, group: u32, block: u32) -> u64 {
        (u64::from(group) * u64::from(self.group_blocks) + u64::from(block)) << self.block_log
    }

    /// Byte of a filesystem block.
    pub(crate) fn byte_of(&self, fsblock: u64) -> u64 {
        let (group, block) = self.split(fsblock);
        self.byte(group, block)
    }

    /// Byte of a header sector of a group: 0 superblock, 1 AGF, 2 AGI, 3 AGFL.
    pub(crate) fn header_byte(&self, group: u32, sector: u32) -> u64 {
        self.byte(group, 0) + u64::from(sector) * self.sector_size as u64
    }

    /// Bits of an inode number below the group.
    pub(crate) fn inode_shift(&self) -> u32 {
        self.group_log + self.inodes_per_block_log
    }

    /// Inode number.
    pub(crate) fn inode(&self, group: u32, agino: u32) -> u64 {
        u64::from(group) << self.inode_shift() | u64::from(agino)
    }

    /// Group and number in it; `None` when the group is not there.
    pub(crate) fn split_inode(&self, inode: u64) -> Option<(u32, u32)> {
        let group = u32::try_from(inode >> self.inode_shift()).ok().filter(|group| *group < self.groups)?;
        let agino = inode & ((1 << self.inode_shift()) - 1);
        let block = agino >> self.inodes_per_block_log;
        (block > 0 && block < self.blocks_of(group).into()).then_some((group, agino as u32))
    }

    /// Byte of an inode on the device.
    pub(crate) fn inode_byte(&self, group: u32, agino: u32) -> u64 {
        let index = agino & ((1 << self.inodes_per_block_log) - 1);
        self.byte(group, agino >> self.inodes_per_block_log) + u64::from(index) * self.inode_size as u64
    }

    /// Inodes per block.
    pub(crate) fn inodes_per_block(&self) -> u32 {
        1 << self.inodes_per_block_log
    }

    /// Blocks of a whole chunk of 64 inodes.
    pub(crate) fn chunk_blocks(&self) -> u32 {
        (CHUNK_INODES >> self.inodes_per_block_log).max(1)
    }

    /// Blocks that `bytes` need.
    pub(crate) fn blocks_for(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.block_size as u64)
    }

    /// Bytes per directory block.
    pub(crate) fn dir_block_size(&self) -> usize {
        self.block_size * self.dir_blocks as usize
    }
}
