//! Content of regular files.

use vfs::{FileKind, VfsError};

use super::Piece;
use crate::error::{Result, unsupported};
use crate::feature::RoCompat;
use crate::fs::Ext4;
use crate::inode::{Inode, InodeFlags};
use crate::map::{MAX_LOGICAL, Mapped};

/// From this size on a file needs the large_file feature.
const LARGE_FILE: u64 = 1 << 31;
/// Bytes compared at once.
const COMPARE_BYTES: usize = 1 << 16;

impl Ext4 {
    fn require_regular(&self, inode: &Inode) -> Result<()> {
        let path = format!("inode {}", inode.number());
        match inode.require_kind()? {
            FileKind::Regular => Ok(()),
            FileKind::Directory => Err(VfsError::IsADirectory { path }),
            _ => Err(VfsError::WrongKind { path, detail: "not a regular file".into() }),
        }
    }

    fn require_size(&mut self, inode: &Inode, size: u64) -> Result<()> {
        let bs = self.block_size() as u64;
        // The last logical block number is not used by the kernel.
        let most = if inode.has(InodeFlags::EXTENTS) {
            (MAX_LOGICAL - 1).saturating_mul(bs)
        } else {
            (0..=3)
                .map(|level| self.pointers_per_block().pow(level))
                .sum::<u64>()
                .saturating_add(11)
                .min(MAX_LOGICAL - 1)
                * bs
        };
        let limit = |limit: String| VfsError::Limit { path: format!("inode {}", inode.number()), limit };
        if size > most {
            return Err(limit(format!("{size} bytes, more than the {most} that a file can have here")));
        }
        if size >= LARGE_FILE && !self.superblock.features().ro_compat.contains(RoCompat::LARGE_FILE) {
            if self.superblock.is_revision_zero() {
                return Err(limit(format!("{size} bytes, more than revision 0 of the format allows")));
            }
            let mut features = *self.superblock.features();
            features.ro_compat |= RoCompat::LARGE_FILE;
            self.superblock.set_features(features);
            self.allocator.mark_superblock();
        }
        Ok(())
    }

    /// True when the file holds exactly `data` at `offset` already.
    fn holds(&self, inode: &Inode, offset: u64, data: &[u8]) -> Result<bool> {
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > inode.size(&self.superblock)) {
            return Ok(false);
        }
        let mut have = vec![0; COMPARE_BYTES.min(data.len())];
        let mut at = offset;
        for chunk in data.chunks(COMPARE_BYTES) {
            let have = &mut have[..chunk.len()];
            if self.read_file(inode, at, have)? != chunk.len() || have != chunk {
                return Ok(false);
            }
            at += chunk.len() as u64;
        }
        Ok(true)
    }

    pub(super) fn do_replace(
        &mut self,
        inode: &mut Inode,
        content: &[u8],
        pieces: &mut Vec<Piece>,
    ) -> Result<()> {
        self.require_regular(inode)?;
        let len = content.len() as u64;
        if inode.size(&self.superblock) == len && self.holds(inode, 0, content)? {
            return Ok(());
        }
        self.drop_inline(inode)?;
        let bs = self.block_size() as u64;
        self.cut_map(inode, len.div_ceil(bs))?;
        // Nothing of the old content counts any more.
        inode.set_size(len.min(inode.size(&self.superblock)));
        self.place(inode, 0, len, pieces)?;
        self.zero_tail(inode, len, None, pieces)?;
        self.touch_content(inode)
    }

    pub(super) fn do_write(
        &mut self,
        inode: &mut Inode,
        offset: u64,
        data: &[u8],
        pieces: &mut Vec<Piece>,
    ) -> Result<()> {
        self.require_regular(inode)?;
        if data.is_empty() || self.holds(inode, offset, data)? {
            return Ok(());
        }
        self.convert_inline(inode)?;
        self.place(inode, offset, data.len() as u64, pieces)?;
        self.touch_content(inode)
    }

    pub(super) fn do_truncate(&mut self, inode: &mut Inode, len: u64, pieces: &mut Vec<Piece>) -> Result<()> {
        self.require_regular(inode)?;
        let size = inode.size(&self.superblock);
        if len == size {
            return Ok(());
        }
        self.convert_inline(inode)?;
        if len < size {
            self.cut_map(inode, len.div_ceil(self.block_size() as u64))?;
        } else {
            self.require_size(inode, len)?;
        }
        self.zero_tail(inode, len.min(size), None, pieces)?;
        inode.set_size(len);
        self.touch_content(inode)
    }

    fn touch_content(&mut self, inode: &mut Inode) -> Result<()> {
        inode.set_mtime(self.now);
        inode.set_ctime(self.now);
        self.put_inode(inode)
    }

    /// Zeroes the block that holds byte `end` from there on, but for what `written` will fill: whatever lies
    /// behind the end of a file must be zero before the file grows over it.
    fn zero_tail(
        &self,
        inode: &Inode,
        end: u64,
        written: Option<(u64, u64)>,
        pieces: &mut Vec<Piece>,
    ) -> Result<()> {
        let bs = self.block_size() as u64;
        if end.is_multiple_of(bs) {
            return Ok(());
        }
        let Mapped::Blocks(run) = self.map_block(inode, end / bs)? else { return Ok(()) };
        if !run.is_written {
            return Ok(());
        }
        let block_end = (end / bs + 1) * bs;
        let device_at = |byte: u64| run.physical * bs + byte % bs;
        let (from, to) = written.unwrap_or((block_end, block_end));
        let mut zero = |start: u64, stop: u64| {
            if start < stop {
                pieces.push(Piece::Zero(device_at(start), stop - start));
            }
        };
        zero(end, from.clamp(end, block_end));
        zero(to.clamp(end, block_end), block_end);
        Ok(())
    }

    /// Gives the range blocks, says where each byte goes, and lets the file reach at least to its end.
    fn place(&mut self, inode: &mut Inode, offset: u64, len: u64, pieces: &mut Vec<Piece>) -> Result<()> {
        let size = inode.size(&self.superblock);
        let Some(end) = offset.checked_add(len) else {
            return Err(VfsError::Limit {
                path: format!("inode {}", inode.number()),
                limit: "an end past 2^64 bytes".into(),
            });
        };
        self.require_size(inode, end.max(size))?;
        let bs = self.block_size() as u64;
        if end > size {
            self.zero_tail(inode, size, Some((offset, end)), pieces)?;
        }
        if len > 0 {
            for part in self.fill_map(inode, offset / bs, end.div_ceil(bs))? {
                let start = part.run.logical * bs;
                let stop = part.run.end() * bs;
                let (from, to) = (offset.max(start), end.min(stop));
                let base = part.run.physical * bs;
                if part.is_fresh && start < from {
                    pieces.push(Piece::Zero(base, from - start));
                }
                pieces.push(Piece::Data(
                    base + (from - start),
                    (from - offset) as usize..(to - offset) as usize,
                ));
                if part.is_fresh && to < stop {
                    pieces.push(Piece::Zero(base + (to - start), stop - to));
                }
            }
        }
        if end > size {
            inode.set_size(end);
        }
        Ok(())
    }

    /// Zeroes the last block of a file behind its end.
    pub(super) fn zero_after_end(&mut self, inode: &Inode, size: u64, pieces: &mut Vec<Piece>) -> Result<()> {
        self.zero_tail(inode, size, None, pieces)
    }

    /// Content of a new file.
    pub(super) fn place_new(&mut self, inode: &mut Inode, len: u64, pieces: &mut Vec<Piece>) -> Result<()> {
        self.place(inode, 0, len, pieces)
    }

    /// Moves inline content into blocks.
    pub(crate) fn convert_inline(&mut self, inode: &mut Inode) -> Result<()> {
        if !inode.has(InodeFlags::INLINE_DATA) {
            return Ok(());
        }
        let content = self.inline_file(inode)?;
        self.drop_inline(inode)?;
        let bs = self.block_size();
        if content.len() > bs {
            return Err(unsupported("ext4.feature.unsupported", "inline content longer than a block", ""));
        }
        if !content.is_empty() {
            let filled = self.fill_map(inode, 0, 1)?;
            let mut raw = vec![0; bs];
            raw[..content.len()].copy_from_slice(&content);
            if let Some(part) = filled.first() {
                self.put_block(part.run.physical, raw, true)?;
            }
        }
        Ok(())
    }

    /// Drops inline content: the inode maps blocks from now on, and has none.
    pub(super) fn drop_inline(&mut self, inode: &mut Inode) -> Result<()> {
        if !inode.has(InodeFlags::INLINE_DATA) {
            return Ok(());
        }
        self.remove_inline_attribute(inode)?;
        inode.set_flags(inode.flags() - InodeFlags::INLINE_DATA);
        self.init_map(inode);
        Ok(())
    }
}
