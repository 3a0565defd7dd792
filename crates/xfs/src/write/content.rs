//! Content of regular files. Blocks that have another owner, too, are never written: what changes in them
//! goes to new blocks.

use vfs::{FileKind, VfsError};

use super::Piece;
use crate::error::Result;
use crate::fs::Xfs;
use crate::inode::{Fork, Inode};
use crate::map::{Extent, MAX_FILE_BLOCK, Map};

/// Bytes compared at once.
const COMPARE_BYTES: usize = 1 << 16;

/// What is written: a range of the operation's content, or zeroes.
#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Content(&'a [u8]),
    Zero(u64),
}

/// The first or last block of a run that gets new blocks, and what it held.
type Edge = (u64, Option<Vec<u8>>);

impl Source<'_> {
    fn len(self) -> u64 {
        match self {
            Source::Content(content) => content.len() as u64,
            Source::Zero(len) => len,
        }
    }
}

impl Xfs {
    fn require_regular(&self, inode: &Inode) -> Result<()> {
        let path = format!("inode {}", inode.number());
        match inode.require_kind()? {
            FileKind::Regular => Ok(()),
            FileKind::Directory => Err(VfsError::IsADirectory { path }),
            _ => Err(VfsError::WrongKind { path, detail: "not a regular file".into() }),
        }
    }

    fn require_size(&self, inode: &Inode, size: Option<u64>) -> Result<u64> {
        let most = (MAX_FILE_BLOCK - 1).saturating_mul(self.geo.block_size as u64).min(i64::MAX as u64);
        size.filter(|size| *size <= most).ok_or_else(|| VfsError::Limit {
            path: format!("inode {}", inode.number()),
            limit: format!("{most} bytes in a file"),
        })
    }

    /// True when the file holds exactly `data` at `offset` already.
    fn holds(&self, inode: &Inode, offset: u64, data: &[u8]) -> Result<bool> {
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > inode.len()) {
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

    /// Maps the blocks of a file of `len` bytes and says that its content goes there.
    pub(super) fn place_new(
        &mut self,
        inode: &mut Inode,
        map: &mut Map,
        len: u64,
        pieces: &mut Vec<Piece>,
    ) -> Result<()> {
        let bs = self.geo.block_size as u64;
        for extent in self.add_blocks(inode, Fork::Data, map, 0, self.geo.blocks_for(len))? {
            let (start, end) = (extent.offset * bs, (extent.end() * bs).min(len));
            let byte = self.geo.byte_of(extent.block);
            pieces.push(Piece::Data(byte, start as usize..end as usize));
            let rest = extent.end() * bs - end;
            if rest > 0 {
                pieces.push(Piece::Zero(byte + (end - start), rest));
            }
        }
        Ok(())
    }

    pub(super) fn do_replace(
        &mut self,
        inode: &mut Inode,
        content: &[u8],
        pieces: &mut Vec<Piece>,
    ) -> Result<()> {
        self.require_regular(inode)?;
        let len = self.require_size(inode, Some(content.len() as u64))?;
        if inode.len() == len && self.holds(inode, 0, content)? {
            return Ok(());
        }
        let mut old = self.map(inode, Fork::Data)?;
        let mut new = Map { extents: Vec::new(), tree_blocks: std::mem::take(&mut old.tree_blocks) };
        self.place_new(inode, &mut new, len, pieces)?;
        self.remove_blocks(inode, Fork::Data, &mut old, 0, u64::MAX)?;
        self.store_map(inode, Fork::Data, &mut new)?;
        inode.set_len(len);
        inode.set_mtime(self.now);
        self.put_changed(inode)
    }

    pub(super) fn do_write(
        &mut self,
        inode: &mut Inode,
        offset: u64,
        data: &[u8],
        pieces: &mut Vec<Piece>,
    ) -> Result<()> {
        self.require_regular(inode)?;
        let end = self.require_size(inode, offset.checked_add(data.len() as u64))?;
        if data.is_empty() || self.holds(inode, offset, data)? {
            return Ok(());
        }
        let mut map = self.map(inode, Fork::Data)?;
        let old_len = inode.len();
        if end > old_len {
            self.clear_behind_end(inode, &mut map, Some(offset), pieces)?;
        }
        self.write_range(inode, &mut map, offset, Source::Content(data), pieces)?;
        self.store_map(inode, Fork::Data, &mut map)?;
        inode.set_len(end.max(old_len));
        inode.set_mtime(self.now);
        self.put_changed(inode)
    }

    pub(super) fn do_truncate(&mut self, inode: &mut Inode, len: u64, pieces: &mut Vec<Piece>) -> Result<()> {
        self.require_regular(inode)?;
        let len = self.require_size(inode, Some(len))?;
        if len == inode.len() {
            return Ok(());
        }
        let mut map = self.map(inode, Fork::Data)?;
        if len < inode.len() {
            // What lies behind the new end in its last block must read as zero when the file grows again.
            inode.set_len(len);
        }
        self.clear_behind_end(inode, &mut map, None, pieces)?;
        self.store_map(inode, Fork::Data, &mut map)?;
        inode.set_len(len);
        inode.set_mtime(self.now);
        self.put_changed(inode)
    }

    /// Frees what is mapped behind the end, and zeroes the rest of the last block, up to `until` if that lies
    /// in it.
    fn clear_behind_end(
        &mut self,
        inode: &mut Inode,
        map: &mut Map,
        until: Option<u64>,
        pieces: &mut Vec<Piece>,
    ) -> Result<()> {
        let bs = self.geo.block_size as u64;
        let (len, blocks) = (inode.len(), self.geo.blocks_for(inode.len()));
        self.remove_blocks(inode, Fork::Data, map, blocks, u64::MAX)?;
        let stop = until.unwrap_or(u64::MAX).min(blocks * bs);
        if len % bs == 0 || stop <= len || map.block(blocks - 1).is_none() {
            return Ok(());
        }
        // Until the end of the block, since what follows is not yet written.
        self.write_range(inode, map, len, Source::Zero(blocks * bs - len), pieces)
    }

    /// Writes a range without a look at the file's length. Written blocks with one owner are written in
    /// place; all others get new blocks.
    fn write_range(
        &mut self,
        inode: &mut Inode,
        map: &mut Map,
        offset: u64,
        source: Source<'_>,
        pieces: &mut Vec<Piece>,
    ) -> Result<()> {
        let bs = self.geo.block_size as u64;
        let end = offset + source.len();
        let (first, last) = (offset / bs, end.div_ceil(bs));
        let mut at = first;
        while at < last {
            let found = map.at(at).copied();
            let (run_end, existing) = match found {
                Some(extent) if extent.offset <= at => (extent.end().min(last), extent.cut(at, last)),
                Some(extent) => (extent.offset.min(last), None),
                None => (last, None),
            };
            let in_place = match existing {
                Some(extent) => !extent.is_unwritten && !self.is_shared(extent.block, extent.len)?,
                None => false,
            };
            if let (true, Some(extent)) = (in_place, existing) {
                self.stage(extent, offset, end, source, None, pieces);
            } else {
                let edges = [at, run_end - 1].map(|block| self.old_block(map, block, offset, end));
                let [head, tail] = edges;
                let edges = [(at, head?), (run_end - 1, tail?)];
                self.remove_blocks(inode, Fork::Data, map, at, run_end)?;
                for extent in self.add_blocks(inode, Fork::Data, map, at, run_end - at)? {
                    self.stage(extent, offset, end, source, Some(&edges), pieces);
                }
            }
            at = run_end;
        }
        Ok(())
    }

    /// What a block holds that is written in part only; `None` for one that is written whole or reads as zero.
    fn old_block(&self, map: &Map, block: u64, offset: u64, end: u64) -> Result<Option<Vec<u8>>> {
        let bs = self.geo.block_size as u64;
        if offset <= block * bs && end >= (block + 1) * bs {
            return Ok(None);
        }
        let Some(fsblock) = map.block(block) else { return Ok(None) };
        Ok(Some(self.read_unit(self.geo.byte_of(fsblock), self.geo.block_size)?))
    }

    /// Says what goes to the blocks of an extent. New blocks are filled up with what was there, or zeroes.
    fn stage(
        &self,
        extent: Extent,
        offset: u64,
        end: u64,
        source: Source<'_>,
        new: Option<&[Edge; 2]>,
        pieces: &mut Vec<Piece>,
    ) {
        let bs = self.geo.block_size as u64;
        let (start, stop) = (extent.offset * bs, extent.end() * bs);
        let (from, to) = (offset.max(start), end.min(stop));
        let byte = self.geo.byte_of(extent.block);
        if let Some(edges) = new {
            for (block, is_cut) in [(extent.offset, from > start), (extent.end() - 1, to < stop)] {
                let old = edges.iter().find(|(edge, _)| *edge == block).and_then(|(_, old)| old.as_ref());
                let at = byte + (block - extent.offset) * bs;
                match old {
                    _ if !is_cut => {}
                    Some(raw) => pieces.push(Piece::Bytes(at, raw.clone())),
                    None => pieces.push(Piece::Zero(at, bs)),
                }
            }
        }
        let at = byte + (from - start);
        pieces.push(match source {
            Source::Content(_) => Piece::Data(at, (from - offset) as usize..(to - offset) as usize),
            Source::Zero(_) => Piece::Zero(at, to - from),
        });
    }
}
