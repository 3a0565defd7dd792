//! Changing direct and indirect block maps.

use ondisk::{le_u32, put_le_u32};

use super::Run;
use super::indirect::DIRECT;
use crate::error::Result;
use crate::fs::Ext4;
use crate::inode::Inode;

impl Ext4 {
    /// Enters new blocks into the map; makes the indirect blocks that are missing.
    pub(super) fn set_indirect(&mut self, inode: &mut Inode, runs: &[Run]) -> Result<()> {
        for run in runs {
            for step in 0..run.len {
                self.set_pointer(inode, run.logical + step, run.physical + step)?;
            }
        }
        Ok(())
    }

    fn set_pointer(&mut self, inode: &mut Inode, logical: u64, physical: u64) -> Result<()> {
        let limit = |what: &str| vfs::VfsError::Limit {
            path: format!("inode {}", inode.number()),
            limit: what.into(),
        };
        let Some(path) = self.indirect_path(logical) else {
            return Err(limit("larger than three levels of indirect blocks reach"));
        };
        let Ok(pointer) = u32::try_from(physical) else {
            return Err(limit("block numbers above 2^32 need extents"));
        };
        let Some((last, above)) = path.split_last() else { return Ok(()) };
        // The table that holds the slot; `None` is the inode.
        let mut table: Option<u64> = None;
        for slot in above {
            let child = match table {
                None => self.mapped_pointer(inode, inode.i_block(), *slot)?,
                Some(block) => {
                    let raw = self.read_block(block)?;
                    self.mapped_pointer(inode, &raw, *slot)?
                }
            };
            let child = match child {
                0 => {
                    let new = self.take_block(physical)?;
                    self.charge_blocks(inode, 1)?;
                    self.put_block(new, vec![0; self.block_size()], true)?;
                    self.put_slot(inode, table, *slot, new as u32)?;
                    new
                }
                child => child,
            };
            table = Some(child);
        }
        self.put_slot(inode, table, *last, pointer)
    }

    fn put_slot(&mut self, inode: &mut Inode, table: Option<u64>, slot: usize, pointer: u32) -> Result<()> {
        match table {
            None => {
                put_le_u32(inode.i_block_mut(), slot * 4, pointer);
                Ok(())
            }
            Some(block) => self.change_block(block, |raw| put_le_u32(raw, slot * 4, pointer)),
        }
    }

    /// Gives back everything from logical block `keep` on.
    pub(super) fn cut_indirect(&mut self, inode: &mut Inode, keep: u64) -> Result<()> {
        let mut freed = 0;
        for slot in 0..DIRECT {
            let block = self.mapped_pointer(inode, inode.i_block(), slot as usize)?;
            if slot >= keep && block != 0 {
                self.free_blocks(block, 1)?;
                freed += 1;
                put_le_u32(inode.i_block_mut(), slot as usize * 4, 0);
            }
        }
        let per_block = self.pointers_per_block();
        let mut first = DIRECT;
        for level in 1..=3u32 {
            let slot = DIRECT as usize + level as usize - 1;
            let block = self.mapped_pointer(inode, inode.i_block(), slot)?;
            if block != 0 && self.cut_table(inode, block, level, first, keep, &mut freed)? {
                put_le_u32(inode.i_block_mut(), slot * 4, 0);
            }
            first += per_block.pow(level);
        }
        self.charge_blocks(inode, -(freed as i64))
    }

    /// Cuts the subtree below `block`; true when nothing is left and the block itself was given back.
    ///
    /// Each block is given back once: a map that names one twice meets a clear bit and fails.
    fn cut_table(
        &mut self,
        inode: &Inode,
        block: u64,
        level: u32,
        first: u64,
        keep: u64,
        freed: &mut u64,
    ) -> Result<bool> {
        let per_block = self.pointers_per_block();
        let unit = per_block.pow(level - 1);
        if first + unit * per_block <= keep {
            return Ok(false);
        }
        let mut raw = self.read_block(block)?;
        let mut is_changed = false;
        for slot in 0..per_block {
            let start = first + slot * unit;
            if start + unit <= keep || le_u32(&raw, slot as usize * 4) == 0 {
                continue;
            }
            let child = self.mapped_pointer(inode, &raw, slot as usize)?;
            let is_gone = if level == 1 {
                self.free_blocks(child, 1)?;
                *freed += 1;
                true
            } else {
                self.cut_table(inode, child, level - 1, start, keep, freed)?
            };
            if is_gone {
                put_le_u32(&mut raw, slot as usize * 4, 0);
                is_changed = true;
            }
        }
        // A table of holes below the cut may stay; one that is behind it or emptied by it goes.
        if first >= keep || is_changed && raw.iter().all(|byte| *byte == 0) {
            self.free_blocks(block, 1)?;
            *freed += 1;
            return Ok(true);
        }
        if is_changed {
            self.put_block(block, raw, false)?;
        }
        Ok(false)
    }
}
