//! Targets of symbolic links: inline, or in blocks with a header for each extent.

use ondisk::put_be_u32;
use vfs::VfsError;

use crate::buffer::Stamp;
use crate::error::{Result, shown};
use crate::fs::Xfs;
use crate::inode::{Fork, Format, Inode};
use crate::map::Map;
use crate::read::MAX_SYMLINK;

impl Xfs {
    pub(super) fn fill_symlink(&mut self, inode: &mut Inode, target: &[u8]) -> Result<()> {
        if target.is_empty() || target.contains(&0) {
            return Err(VfsError::BadName { name: shown(target), detail: "no target of a symbolic link" });
        }
        if target.len() as u64 >= MAX_SYMLINK {
            return Err(VfsError::Limit {
                path: format!("symbolic link to {}…", shown(target.get(..40).unwrap_or(target))),
                limit: format!("a target of {} bytes; at most {}", target.len(), MAX_SYMLINK - 1),
            });
        }
        inode.set_len(target.len() as u64);
        if let Some(slot) = inode.fork_mut(Fork::Data).get_mut(..target.len()) {
            slot.copy_from_slice(target);
            inode.set_format(Fork::Data, Format::Local);
            return Ok(());
        }
        self.store_remote_target(inode, target)
    }

    /// Moves a target out of the inode.
    pub(crate) fn store_remote_target(&mut self, inode: &mut Inode, target: &[u8]) -> Result<()> {
        let header = self.remote_header();
        let payload = self.geo.block_size - header;
        let mut map = Map::default();
        let blocks = target.len().div_ceil(payload) as u64;
        inode.set_format(Fork::Data, Format::Extents);
        let added = self.add_blocks(inode, Fork::Data, &mut map, 0, blocks)?;
        let mut done = 0;
        for extent in added {
            let room = extent.len as usize * self.geo.block_size - header;
            let part = room.min(target.len() - done);
            let mut raw = vec![0; header];
            if self.geo.is_v5 {
                raw[..4].copy_from_slice(b"XSLM");
                put_be_u32(&mut raw, 4, done as u32);
                put_be_u32(&mut raw, 8, part as u32);
            }
            raw.extend_from_slice(&target[done..done + part]);
            raw.resize(extent.len as usize * self.geo.block_size, 0);
            self.write_mapped(inode, &map, extent.offset, &Stamp::SYMLINK, raw)?;
            done += part;
        }
        self.store_map(inode, Fork::Data, &mut map)
    }
}
