//! Taking and giving back inodes; new chunks of them (`xfs_ialloc.c`).

use ondisk::{be_u16, be_u32, be_u64, crc32c_raw, put_be_u16, put_be_u32, put_be_u64};
use vfs::VfsError;

use super::rmap::Owner;
use crate::btree::{Record, Tree};
use crate::error::{Result, corrupt};
use crate::feature::{Incompat, RoCompat};
use crate::fs::Xfs;
use crate::geometry::CHUNK_INODES;
use crate::inode::Inode;

/// Inodes that one bit of a hole mask stands for.
const HOLE_INODES: u32 = 4;

/// A record of the inode trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub start: u32,
    /// A bit for each four inodes that are not there.
    pub holes: u16,
    pub count: u32,
    pub free_count: u32,
    /// A bit for each free inode; those of holes are set, too.
    pub free: u64,
}

impl Chunk {
    pub(crate) fn decode(record: &Record, has_holes: bool) -> Self {
        let (holes, count, free_count) = if has_holes {
            (be_u16(record, 4), record[6].into(), record[7].into())
        } else {
            (0, CHUNK_INODES, be_u32(record, 4))
        };
        Self { start: be_u32(record, 0), holes, count, free_count, free: be_u64(record, 8) }
    }

    pub(crate) fn encode(self, has_holes: bool) -> Record {
        let mut record = [0; 24];
        put_be_u32(&mut record, 0, self.start);
        if has_holes {
            put_be_u16(&mut record, 4, self.holes);
            record[6] = self.count as u8;
            record[7] = self.free_count as u8;
        } else {
            put_be_u32(&mut record, 4, self.free_count);
        }
        put_be_u64(&mut record, 8, self.free);
        record
    }

    /// Bits of inodes that are there.
    pub(crate) fn present(self) -> u64 {
        (0..16).filter(|bit| self.holes >> bit & 1 == 0).fold(0, |all, bit| all | 0xf << (4 * bit))
    }
}

impl Xfs {
    pub(crate) fn has_sparse_inodes(&self) -> bool {
        self.superblock.features().has(Incompat::SPINODES)
    }

    fn has_finobt(&self) -> bool {
        self.superblock.features().has_ro(RoCompat::FINOBT)
    }

    pub(crate) fn chunk_key(&self, start: u32) -> Chunk {
        Chunk { start, holes: 0, count: 0, free_count: 0, free: 0 }
    }

    /// The chunk that holds an inode.
    pub(crate) fn chunk_of(&self, group: u32, tree: Tree, agino: u32) -> Result<Option<Chunk>> {
        let has_holes = self.has_sparse_inodes();
        let key = tree.key(&self.chunk_key(agino).encode(has_holes));
        let record = self.find_at_or_before(group, tree, &key)?;
        let chunk = record.map(|record| Chunk::decode(&record, has_holes));
        Ok(chunk.filter(|chunk| agino - chunk.start < CHUNK_INODES))
    }

    /// Writes a changed chunk to both trees; the free-inode tree has only those with free inodes.
    fn update_chunk(&mut self, group: u32, old: Option<Chunk>, new: Chunk) -> Result<()> {
        let has_holes = self.has_sparse_inodes();
        let record = new.encode(has_holes);
        if old.is_some() {
            self.delete_record(group, Tree::Inode, &record)?;
        }
        self.insert_record(group, Tree::Inode, &record)?;
        if self.has_finobt() {
            if old.is_some_and(|old| old.free_count > 0) {
                self.delete_record(group, Tree::FreeInode, &record)?;
            }
            if new.free_count > 0 {
                self.insert_record(group, Tree::FreeInode, &record)?;
            }
        }
        Ok(())
    }

    fn chunk_with_free(&self, group: u32) -> Result<Option<Chunk>> {
        let has_holes = self.has_sparse_inodes();
        let tree = if self.has_finobt() { Tree::FreeInode } else { Tree::Inode };
        let mut found = None;
        self.visit_from(group, tree, &[0; 20], &mut |record| {
            let chunk = Chunk::decode(record, has_holes);
            if chunk.free_count > 0 && chunk.free & chunk.present() != 0 {
                found = Some(chunk);
            }
            Ok(found.is_none())
        })?;
        Ok(found)
    }

    /// Takes a free inode, in `group` where possible. Its place holds what was there before.
    pub(crate) fn take_inode(&mut self, group: u32) -> Result<(u32, u32)> {
        let groups = self.geo.groups;
        for is_sparse in [false, true] {
            for step in 0..groups {
                let group = (group % groups + step) % groups;
                if self.agi(group)?.free_count() == 0 && !self.add_chunk(group, is_sparse)? {
                    continue;
                }
                if let Some(chunk) = self.chunk_with_free(group)? {
                    let index = (chunk.free & chunk.present()).trailing_zeros();
                    self.mark_inode(group, chunk, index, false)?;
                    return Ok((group, chunk.start + index));
                }
            }
        }
        if self.may_add_inodes() {
            return Err(self.no_space(self.geo.chunk_blocks().into()));
        }
        Err(VfsError::NoInodes { filesystem: self.superblock.name(), inodes: self.superblock.inode_count() })
    }

    fn mark_inode(&mut self, group: u32, old: Chunk, index: u32, is_free: bool) -> Result<()> {
        let mut new = old;
        let by = if is_free { 1 } else { -1 };
        new.free ^= 1 << index;
        new.free_count = new.free_count.wrapping_add_signed(by);
        self.update_chunk(group, Some(old), new)?;
        let mut agi = self.agi(group)?;
        agi.set_counts(agi.count(), agi.free_count().wrapping_add_signed(by));
        self.put_agi(&agi)?;
        self.superblock.add_inodes(0, by.into());
        self.accounting_changed = true;
        Ok(())
    }

    /// Gives an inode back, whose content is gone already.
    pub(crate) fn give_inode(&mut self, group: u32, agino: u32) -> Result<()> {
        let chunk = self.chunk_of(group, Tree::Inode, agino)?;
        let chunk = chunk.filter(|chunk| {
            let bit = 1u64 << (agino - chunk.start);
            chunk.free & bit == 0 && chunk.present() & bit != 0
        });
        let Some(chunk) = chunk else {
            return Err(corrupt(
                "xfs.inobt",
                format!("inode {agino} of group {group}"),
                "is not marked as in use",
            ));
        };
        self.mark_inode(group, chunk, agino - chunk.start, true)
    }

    /// True when the share of space for inodes is not used up.
    fn may_add_inodes(&self) -> bool {
        let percent = u64::from(self.superblock.u8(127));
        let most = u128::from(self.geo.data_blocks) * u128::from(percent) / 100;
        let most = most << self.geo.inodes_per_block_log;
        percent == 0 || u128::from(self.superblock.inode_count() + u64::from(CHUNK_INODES)) <= most
    }

    /// Makes inodes in a group: a whole chunk, or a part of one where only small runs are free.
    fn add_chunk(&mut self, group: u32, is_sparse: bool) -> Result<bool> {
        let blocks = if is_sparse { self.geo.sparse_align } else { self.geo.chunk_blocks() };
        if !self.may_add_inodes() || blocks == 0 || is_sparse && !self.has_sparse_inodes() {
            return Ok(false);
        }
        self.refill_list(group)?;
        let agf = self.agf(group)?;
        let spare = agf.free_blocks().saturating_sub(self.group_reserve(group));
        if spare < blocks || self.available_blocks() < u64::from(blocks) {
            return Ok(false);
        }
        let align = self.geo.inode_align.max(1);
        let last = self.geo.blocks_of(group) / align * align;
        let Some(last) = last.checked_sub(self.geo.chunk_blocks()) else { return Ok(false) };
        let step = if is_sparse { self.geo.sparse_align } else { align };
        let to = if is_sparse { last + self.geo.chunk_blocks() - blocks } else { last };
        let Some(block) = self.find_aligned(group, blocks, step, align, to)? else { return Ok(false) };
        let per_block = self.geo.inodes_per_block();
        let inodes = blocks << self.geo.inodes_per_block_log;
        self.take_run(group, block, blocks)?;
        self.superblock.add_free_blocks(-i64::from(blocks));
        self.add_rmap(group, block, blocks, Owner::INODES)?;
        self.write_blank_inodes(group, block * per_block, inodes)?;
        if is_sparse {
            self.add_sparse(group, block, inodes)?;
        } else {
            // Large blocks hold several chunks.
            for start in (0..inodes).step_by(CHUNK_INODES as usize) {
                let start = block * per_block + start;
                let whole =
                    Chunk { start, holes: 0, count: CHUNK_INODES, free_count: CHUNK_INODES, free: u64::MAX };
                self.update_chunk(group, None, whole)?;
            }
        }
        let mut agi = self.agi(group)?;
        agi.set_counts(agi.count() + inodes, agi.free_count() + inodes);
        agi.set_newest(block * per_block);
        self.put_agi(&agi)?;
        self.superblock.add_inodes(inodes.into(), inodes.into());
        Ok(true)
    }

    /// Notes a part of a chunk, joined with the parts that are there already.
    fn add_sparse(&mut self, group: u32, block: u32, inodes: u32) -> Result<()> {
        let per_block = self.geo.inodes_per_block();
        let skipped = block % self.geo.inode_align.max(1);
        let start = (block - skipped) * per_block;
        let first = skipped * per_block / HOLE_INODES;
        let added = (0..inodes / HOLE_INODES).fold(0u16, |mask, bit| mask | 1 << (first + bit));
        let old = self.chunk_of(group, Tree::Inode, start)?;
        let mut new =
            old.unwrap_or(Chunk { start, holes: u16::MAX, count: 0, free_count: 0, free: u64::MAX });
        if new.holes & added != added {
            return Err(corrupt("xfs.inobt", format!("chunk {start} of group {group}"), "holds used blocks"));
        }
        new.holes &= !added;
        new.count += inodes;
        new.free_count += inodes;
        self.update_chunk(group, old, new)
    }

    fn write_blank_inodes(&mut self, group: u32, start: u32, inodes: u32) -> Result<()> {
        for agino in start..start + inodes {
            let number = self.geo.inode(group, agino);
            let seed = crc32c_raw(crc32c_raw(!0, &self.geo.uuid), &number.to_be_bytes());
            let generation = crc32c_raw(seed, &self.now.seconds.to_be_bytes());
            let blank = Inode::blank(self, number, self.geo.inode_byte(group, agino), generation);
            let raw = blank.encode(self);
            self.put_unit(blank.byte(), raw)?;
        }
        Ok(())
    }
}
