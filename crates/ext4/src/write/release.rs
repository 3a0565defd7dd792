//! Giving back everything that an inode owns.

use vfs::FileKind;

use crate::error::Result;
use crate::fs::Ext4;
use crate::inode::{Inode, InodeFlags};

impl Ext4 {
    /// True when `i_block` maps blocks.
    pub(crate) fn maps_blocks(&self, inode: &Inode) -> bool {
        let is_mapped_kind = match inode.kind() {
            Some(FileKind::Regular | FileKind::Directory) => true,
            Some(FileKind::Symlink) => !self.is_fast_symlink(inode),
            _ => false,
        };
        is_mapped_kind && !inode.has(InodeFlags::INLINE_DATA)
    }

    /// Frees an inode without a name: its blocks, its attributes, its number.
    pub(crate) fn release_inode(&mut self, inode: &mut Inode) -> Result<()> {
        if self.maps_blocks(inode) {
            self.cut_map(inode, 0)?;
            self.clear_map(inode);
        }
        self.drop_xattr_block(inode)?;
        inode.set_links(0);
        inode.set_size(0);
        inode.set_ctime(self.now);
        // A time of deletion of 0 would mean an inode in use.
        inode.set_dtime(self.now.seconds.clamp(1, i64::from(u32::MAX)) as u32);
        self.put_inode(inode)?;
        self.free_inode(inode.number(), inode.is_dir())
    }

    /// Frees everything past the end of a file: for a truncation that was interrupted.
    pub(crate) fn finish_truncation(
        &mut self,
        inode: &mut Inode,
        pieces: &mut Vec<super::Piece>,
    ) -> Result<()> {
        if !self.maps_blocks(inode) {
            return Ok(());
        }
        let size = inode.size(&self.superblock);
        self.cut_map(inode, size.div_ceil(self.block_size() as u64))?;
        self.zero_after_end(inode, size, pieces)
    }
}
