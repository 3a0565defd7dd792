//! Direct and indirect block maps (the kernel's `Documentation/filesystems/ext4/ifork.rst`).

use ondisk::le_u32;

use super::{MAX_LOGICAL, Mapped, Run, push_run};
use crate::error::{Result, corrupt};
use crate::fs::Ext4;
use crate::inode::Inode;

/// Blocks that the inode names itself.
pub(crate) const DIRECT: u64 = 12;

impl Ext4 {
    /// Block numbers in an indirect block.
    pub(crate) fn pointers_per_block(&self) -> u64 {
        self.block_size() as u64 / 4
    }

    /// Way to a logical block: slot in `i_block`, then the slot in each indirect block.
    /// `None` past what three levels reach.
    pub(crate) fn indirect_path(&self, logical: u64) -> Option<Vec<usize>> {
        let per_block = self.pointers_per_block();
        if logical < DIRECT {
            return Some(vec![logical as usize]);
        }
        let mut rest = logical - DIRECT;
        let mut covered = 1u64;
        for level in 1..=3usize {
            let below = covered;
            covered *= per_block;
            if rest >= covered {
                rest -= covered;
                continue;
            }
            let mut path = vec![DIRECT as usize + level - 1];
            let mut unit = below;
            for _ in 0..level {
                path.push((rest / unit) as usize);
                rest %= unit;
                unit /= per_block;
            }
            return Some(path);
        }
        None
    }

    /// A block number out of a map, checked; 0 is a hole.
    pub(crate) fn mapped_pointer(&self, inode: &Inode, raw: &[u8], slot: usize) -> Result<u64> {
        let block = u64::from(ondisk::try_le_u32(raw, slot * 4).unwrap_or(0));
        if block != 0
            && (block <= u64::from(self.superblock.first_data_block()) || block >= self.block_limit())
        {
            return Err(corrupt(
                "ext4.indirect.range",
                format!("block map of inode {}", inode.number()),
                format!("block {block} of a filesystem with {} blocks", self.superblock.blocks()),
            ));
        }
        Ok(block)
    }

    pub(super) fn map_by_indirect(&self, inode: &Inode, logical: u64) -> Result<Mapped> {
        let Some(path) = self.indirect_path(logical) else {
            return Ok(Mapped::Hole(MAX_LOGICAL.saturating_sub(logical).max(1)));
        };
        let mut table = inode.i_block().to_vec();
        let mut end = DIRECT as usize;
        // Logical blocks under one slot of the current table.
        let mut unit = self.pointers_per_block().pow(path.len() as u32 - 1);
        let (Some(last), above) = (path.last(), path.len() - 1) else { return Ok(Mapped::Hole(1)) };
        for slot in &path[..above] {
            let block = self.mapped_pointer(inode, &table, *slot)?;
            if block == 0 {
                return Ok(Mapped::Hole(self.hole_rest(logical, unit)));
            }
            table = self.read_block(block)?;
            end = self.pointers_per_block() as usize;
            unit /= self.pointers_per_block();
        }
        let first = self.mapped_pointer(inode, &table, *last)?;
        let mut len = 1u64;
        for slot in last + 1..end {
            let block = u64::from(le_u32(&table, slot * 4));
            let goes_on = if first == 0 { block == 0 } else { block == first + len };
            if !goes_on || first != 0 && block >= self.superblock.blocks() {
                break;
            }
            len += 1;
        }
        if first == 0 {
            return Ok(Mapped::Hole(len));
        }
        Ok(Mapped::Blocks(Run { logical, physical: first, len, is_written: true }))
    }

    /// Blocks to the end of a missing subtree of `unit` blocks.
    fn hole_rest(&self, logical: u64, unit: u64) -> u64 {
        let mut start = logical.saturating_sub(DIRECT);
        let mut covered = self.pointers_per_block();
        for _ in 0..2 {
            if start >= covered {
                start -= covered;
                covered *= self.pointers_per_block();
            }
        }
        unit - start % unit
    }

    /// All runs and all indirect blocks.
    pub(super) fn indirect_runs(&self, inode: &Inode) -> Result<(Vec<Run>, Vec<u64>)> {
        let (mut runs, mut tables) = (Vec::new(), Vec::new());
        let per_block = self.pointers_per_block();
        let root = inode.i_block().to_vec();
        // Subtrees still to visit, the next one last: level, first logical block, block.
        let mut todo: Vec<(u32, u64, u64)> = Vec::new();
        let mut first = DIRECT + per_block + per_block * per_block;
        for level in (1..=3u32).rev() {
            let block = self.mapped_pointer(inode, &root, DIRECT as usize + level as usize - 1)?;
            if block != 0 {
                todo.push((level, first, block));
            }
            first -= if level > 1 { per_block.pow(level - 1) } else { 0 };
        }
        for slot in 0..DIRECT {
            let physical = self.mapped_pointer(inode, &root, slot as usize)?;
            if physical != 0 {
                push_run(&mut runs, Run { logical: slot, physical, len: 1, is_written: true });
            }
        }
        while let Some((level, first, block)) = todo.pop() {
            tables.push(block);
            if tables.len() as u64 > self.superblock.blocks() || runs.len() as u64 > self.superblock.blocks()
            {
                return Err(corrupt(
                    "ext4.indirect.loop",
                    format!("block map of inode {}", inode.number()),
                    "more blocks than the filesystem has",
                ));
            }
            let table = self.read_block(block)?;
            let unit = per_block.pow(level - 1);
            if level == 1 {
                for slot in 0..per_block {
                    let physical = self.mapped_pointer(inode, &table, slot as usize)?;
                    if physical != 0 {
                        push_run(
                            &mut runs,
                            Run { logical: first + slot, physical, len: 1, is_written: true },
                        );
                    }
                }
                continue;
            }
            for slot in (0..per_block).rev() {
                let child = self.mapped_pointer(inode, &table, slot as usize)?;
                if child != 0 {
                    todo.push((level - 1, first + slot * unit, child));
                }
            }
        }
        Ok((runs, tables))
    }
}
