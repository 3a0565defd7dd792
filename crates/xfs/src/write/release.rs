//! Inodes whose last name is gone.

use crate::error::Result;
use crate::fs::Xfs;
use crate::inode::{Fork, Format, Inode, InodeFlags};

impl Xfs {
    /// Frees everything of a fork; it is empty afterwards.
    pub(crate) fn clear_fork(&mut self, inode: &mut Inode, fork: Fork) -> Result<()> {
        if matches!(inode.format(fork), Format::Extents | Format::Btree) {
            let mut map = self.map(inode, fork)?;
            self.remove_blocks(inode, fork, &mut map, 0, u64::MAX)?;
            self.store_map(inode, fork, &mut map)?;
        }
        inode.fork_mut(fork).fill(0);
        inode.set_format(fork, Format::Extents);
        inode.set_extent_count(fork, 0);
        Ok(())
    }

    /// Frees an inode with all that it holds.
    pub(crate) fn release_inode(&mut self, inode: &mut Inode) -> Result<()> {
        self.clear_fork(inode, Fork::Data)?;
        if inode.fork_offset() != 0 {
            self.clear_fork(inode, Fork::Attr)?;
        }
        inode.set_fork_offset(0);
        inode.set_format(Fork::Attr, Format::Extents);
        inode.set_mode(0);
        inode.set_links(0);
        inode.set_len(0);
        inode.set_blocks(0);
        inode.set_flags(InodeFlags::empty());
        inode.upgrade_free(self.new_flags2());
        inode.set_generation(inode.generation().wrapping_add(1));
        inode.set_ctime(self.now);
        inode.count_change();
        self.put_inode(inode)?;
        match self.geo.split_inode(inode.number()) {
            Some((group, agino)) => self.give_inode(group, agino),
            None => Ok(()),
        }
    }
}
