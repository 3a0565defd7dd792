//! Space: free extents, the list kept for the trees, owners, shared extents, inodes.

mod free_list;
mod free_space;
mod inodes;
mod refcount;
mod reserve;
pub(crate) mod rmap;

pub(crate) use inodes::Chunk;
pub(crate) use refcount::{COW, Shared};
use rmap::Owner;
use vfs::VfsError;

use crate::error::Result;
use crate::fs::Xfs;

impl Xfs {
    /// Not enough room for `blocks` more.
    pub(crate) fn no_space(&self, blocks: u64) -> VfsError {
        let bs = self.geo.block_size as u64;
        let free = self.available_blocks();
        VfsError::NoSpace {
            filesystem: self.superblock.name(),
            needed_bytes: blocks.max(free + 1) * bs,
            free_bytes: free * bs,
        }
    }

    /// Up to `len` blocks in one run for a file, near `group` where possible. The caller knows the owner, so
    /// that it maps what it gets with [`Xfs::add_rmap`].
    pub(crate) fn take_file_run(&mut self, group: u32, len: u64) -> Result<(u32, u32, u32)> {
        if len > self.available_blocks() {
            return Err(self.no_space(len));
        }
        let len = u32::try_from(len).unwrap_or(u32::MAX).min(crate::map::MAX_EXTENT_BLOCKS as u32);
        let groups = self.geo.groups;
        let mut best: Option<(u32, u32)> = None;
        for step in 0..groups {
            let candidate = (group % groups + step) % groups;
            self.refill_list(candidate)?;
            let agf = self.agf(candidate)?;
            let spare = agf.free_blocks().saturating_sub(self.group_reserve(candidate));
            let room = agf.longest().min(spare);
            if room >= len {
                best = Some((candidate, len));
                break;
            }
            if room > best.map_or(0, |(_, room)| room) {
                best = Some((candidate, room));
            }
        }
        let Some((group, len)) = best else { return Err(self.no_space(1)) };
        let Some((start, found)) = self.find_run(group, len)? else { return Err(self.no_space(len.into())) };
        let len = len.min(found);
        self.take_run(group, start, len)?;
        self.superblock.add_free_blocks(-i64::from(len));
        self.accounting_changed = true;
        Ok((group, start, len))
    }

    /// One block of a group for a tree, its owner noted.
    pub(crate) fn take_metadata_block(&mut self, group: u32, owner: Owner) -> Result<u32> {
        self.refill_list(group)?;
        let Some((start, _)) = self.find_run(group, 1)? else { return Err(self.no_space(1)) };
        self.take_run(group, start, 1)?;
        self.superblock.add_free_blocks(-1);
        self.add_rmap(group, start, 1, owner)?;
        Ok(start)
    }

    /// Frees blocks that have one owner.
    pub(crate) fn release_run(&mut self, group: u32, block: u32, len: u32, owner: Owner) -> Result<()> {
        self.refill_list(group)?;
        self.remove_rmap(group, block, len, owner)?;
        self.put_run(group, block, len)?;
        self.superblock.add_free_blocks(len.into());
        self.accounting_changed = true;
        Ok(())
    }

    /// Takes one owner of blocks away; those that have no other are freed.
    pub(crate) fn release_file_run(&mut self, fsblock: u64, len: u64, owner: Owner) -> Result<()> {
        let (group, block) = self.geo.split(fsblock);
        let len = len as u32;
        self.refill_list(group)?;
        self.remove_rmap(group, block, len, owner)?;
        for (start, len) in self.drop_references(group, block, len)? {
            self.refill_list(group)?;
            self.put_run(group, start, len)?;
            self.superblock.add_free_blocks(len.into());
        }
        self.accounting_changed = true;
        Ok(())
    }
}
