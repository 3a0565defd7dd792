//! Storing a changed mapping: inline where it fits, else as a B+tree built anew over the blocks that the
//! old tree had.

use ondisk::{put_be_u16, put_be_u32, put_be_u64};
use vfs::VfsError;

use super::{EXTENT_BYTES, Extent, MAX_EXTENT_BLOCKS, Map};
use crate::alloc::rmap::Owner;
use crate::buffer::Stamp;
use crate::error::Result;
use crate::fs::Xfs;
use crate::inode::{Fork, Format, Inode};

/// What a node of the tree is made of: records as they stand on disk, or keys with pointers.
struct Level {
    keys: Vec<u64>,
    blocks: Vec<u64>,
}

/// Neighbours that continue each other become one extent, as far as its length allows.
fn joined(extents: &[Extent]) -> Vec<Extent> {
    let mut all: Vec<Extent> = Vec::with_capacity(extents.len());
    for extent in extents {
        match all.last_mut() {
            Some(last)
                if last.end() == extent.offset
                    && last.block + last.len == extent.block
                    && last.is_unwritten == extent.is_unwritten
                    && last.len + extent.len <= MAX_EXTENT_BLOCKS =>
            {
                last.len += extent.len;
            }
            _ => all.push(*extent),
        }
    }
    all
}

/// Sizes of blocks for `count` entries: three quarters full, none below half but a single one.
fn shares(count: usize, capacity: usize) -> Vec<usize> {
    let fill = (capacity * 3 / 4).max(1);
    let mut sizes = vec![fill; count / fill];
    let rest = count % fill;
    if rest > 0 {
        sizes.push(rest);
    }
    if let [.., before, last] = &mut sizes[..]
        && *last < capacity / 2
    {
        let both = *before + *last;
        *last = both / 2;
        *before = both - *last;
    }
    // Two halves of too few entries share one block.
    if let [.., before, last] = sizes[..]
        && last < capacity / 2
    {
        sizes.truncate(sizes.len() - 2);
        sizes.push(before + last);
    }
    sizes
}

impl Xfs {
    /// Stores the mapping of a fork. Data blocks are counted by whoever takes and frees them; blocks of the
    /// tree are taken, freed and counted here.
    pub(crate) fn store_map(&mut self, inode: &mut Inode, fork: Fork, map: &mut Map) -> Result<()> {
        map.extents = joined(&map.extents);
        let count = map.extents.len() as u64;
        if count > inode.most_extents(fork) {
            return Err(VfsError::Limit {
                path: format!("inode {}", inode.number()),
                limit: format!("{count} extents; at most {}", inode.most_extents(fork)),
            });
        }
        let room = inode.fork(fork).len();
        if map.extents.len() * EXTENT_BYTES <= room {
            let old = std::mem::take(&mut map.tree_blocks);
            self.release_map_blocks(inode, fork, old)?;
            inode.set_format(fork, Format::Extents);
            let raw = inode.fork_mut(fork);
            raw.fill(0);
            for (slot, extent) in raw.chunks_exact_mut(EXTENT_BYTES).zip(&map.extents) {
                extent.encode(slot);
            }
        } else {
            self.build_tree(inode, fork, map)?;
            inode.set_format(fork, Format::Btree);
        }
        inode.set_extent_count(fork, count);
        Ok(())
    }

    fn release_map_blocks(&mut self, inode: &mut Inode, fork: Fork, blocks: Vec<u64>) -> Result<()> {
        for block in blocks {
            let (group, agbno) = self.geo.split(block);
            self.release_run(group, agbno, 1, Owner::map_tree(inode.number(), fork))?;
            inode.set_blocks(inode.blocks().saturating_sub(1));
        }
        Ok(())
    }

    fn build_tree(&mut self, inode: &mut Inode, fork: Fork, map: &mut Map) -> Result<()> {
        let capacity = self.bmbt_capacity();
        let root_room = inode.fork(fork).len().saturating_sub(4) / EXTENT_BYTES;
        let mut old: std::collections::VecDeque<u64> = std::mem::take(&mut map.tree_blocks).into();
        let mut used = Vec::new();
        let mut level = Level { keys: Vec::new(), blocks: Vec::new() };
        let leaf_sizes = shares(map.extents.len(), capacity);
        let blocks = self.map_blocks(inode, fork, &mut old, leaf_sizes.len())?;
        let mut start = 0;
        for (index, size) in leaf_sizes.iter().enumerate() {
            let extents = map.extents[start..start + size].to_vec();
            start += size;
            let mut body = vec![0; self.geo.block_size - self.bmbt_header()];
            for (slot, extent) in body.chunks_exact_mut(EXTENT_BYTES).zip(&extents) {
                extent.encode(slot);
            }
            level.keys.push(extents.first().map_or(0, |extent| extent.offset));
            self.put_map_block(inode, &blocks, index, 0, *size, body)?;
        }
        used.extend_from_slice(&blocks);
        level.blocks = blocks;
        let mut height = 1;
        while level.blocks.len() > root_room {
            let sizes = shares(level.blocks.len(), capacity);
            let blocks = self.map_blocks(inode, fork, &mut old, sizes.len())?;
            let mut above = Level { keys: Vec::new(), blocks: Vec::new() };
            let mut start = 0;
            for (index, size) in sizes.iter().enumerate() {
                let mut body = vec![0; self.geo.block_size - self.bmbt_header()];
                for slot in 0..*size {
                    put_be_u64(&mut body, 8 * slot, level.keys[start + slot]);
                    put_be_u64(&mut body, 8 * capacity + 8 * slot, level.blocks[start + slot]);
                }
                above.keys.push(level.keys[start]);
                start += size;
                self.put_map_block(inode, &blocks, index, height, *size, body)?;
            }
            used.extend_from_slice(&blocks);
            above.blocks = blocks;
            level = above;
            height += 1;
        }
        self.release_map_blocks(inode, fork, old.into())?;
        let raw = inode.fork_mut(fork);
        raw.fill(0);
        put_be_u16(raw, 0, height as u16);
        put_be_u16(raw, 2, level.blocks.len() as u16);
        for (index, (key, block)) in level.keys.iter().zip(&level.blocks).enumerate() {
            put_be_u64(raw, 4 + 8 * index, *key);
            put_be_u64(raw, 4 + 8 * root_room + 8 * index, *block);
        }
        map.tree_blocks = used;
        Ok(())
    }

    /// Blocks for one level of the tree: old ones first, then new ones.
    fn map_blocks(
        &mut self,
        inode: &mut Inode,
        fork: Fork,
        old: &mut std::collections::VecDeque<u64>,
        count: usize,
    ) -> Result<Vec<u64>> {
        let mut blocks = Vec::with_capacity(count);
        let near = self.geo.split_inode(inode.number()).map_or(0, |(group, _)| group);
        while blocks.len() < count {
            if let Some(block) = old.pop_front() {
                blocks.push(block);
                continue;
            }
            let (group, agbno, _) = self.take_file_run(near, 1)?;
            self.add_rmap(group, agbno, 1, Owner::map_tree(inode.number(), fork))?;
            inode.set_blocks(inode.blocks() + 1);
            blocks.push(self.geo.fsblock(group, agbno));
        }
        Ok(blocks)
    }

    fn put_map_block(
        &mut self,
        inode: &Inode,
        blocks: &[u64],
        index: usize,
        level: usize,
        count: usize,
        body: Vec<u8>,
    ) -> Result<()> {
        let mut raw = vec![0; self.bmbt_header()];
        raw.extend_from_slice(&body);
        let magic = u32::from_be_bytes(if self.geo.is_v5 { *b"BMA3" } else { *b"BMAP" });
        put_be_u32(&mut raw, 0, magic);
        put_be_u16(&mut raw, 4, level as u16);
        put_be_u16(&mut raw, 6, count as u16);
        let sibling = |index: Option<usize>| index.and_then(|index| blocks.get(index)).copied();
        put_be_u64(&mut raw, 8, sibling(index.checked_sub(1)).unwrap_or(u64::MAX));
        put_be_u64(&mut raw, 16, sibling(Some(index + 1)).unwrap_or(u64::MAX));
        let byte = self.geo.byte_of(blocks[index]);
        self.seal(&Stamp::BMBT, &mut raw, byte, inode.number());
        self.put_unit(byte, raw)
    }

    /// Maps `blocks` new blocks at `offset` of a fork, in as few runs as the free space allows, and counts
    /// them. The range must be a hole. Returns the new extents.
    pub(crate) fn add_blocks(
        &mut self,
        inode: &mut Inode,
        fork: Fork,
        map: &mut Map,
        offset: u64,
        blocks: u64,
    ) -> Result<Vec<Extent>> {
        let near = self.geo.split_inode(inode.number()).map_or(0, |(group, _)| group);
        let mut added = Vec::new();
        let mut at = offset;
        while at < offset + blocks {
            let (group, agbno, len) = self.take_file_run(near, offset + blocks - at)?;
            self.add_rmap(group, agbno, len, Owner::file(inode.number(), fork, at, false))?;
            let block = self.geo.fsblock(group, agbno);
            added.push(Extent { offset: at, block, len: len.into(), is_unwritten: false });
            at += u64::from(len);
        }
        inode.set_blocks(inode.blocks() + blocks);
        let index = map.extents.partition_point(|extent| extent.offset < offset);
        map.extents.splice(index..index, added.iter().copied());
        Ok(added)
    }

    /// Unmaps `start..end` of a fork and frees what nobody else owns.
    pub(crate) fn remove_blocks(
        &mut self,
        inode: &mut Inode,
        fork: Fork,
        map: &mut Map,
        start: u64,
        end: u64,
    ) -> Result<()> {
        let mut kept = Vec::with_capacity(map.extents.len());
        let mut removed = Vec::new();
        for extent in &map.extents {
            kept.extend(extent.cut(0, start));
            removed.extend(extent.cut(start, end));
            kept.extend(extent.cut(end, u64::MAX));
        }
        map.extents = kept;
        for extent in removed {
            let owner = Owner::file(inode.number(), fork, extent.offset, extent.is_unwritten);
            self.release_file_run(extent.block, extent.len, owner)?;
            inode.set_blocks(inode.blocks().saturating_sub(extent.len));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn no_block_but_a_single_one_is_below_half() {
        for capacity in [3, 4, 9, 27, 251] {
            for count in 1..capacity * 6 {
                let sizes = shares(count, capacity);
                assert_eq!(sizes.iter().sum::<usize>(), count);
                assert!(sizes.iter().all(|size| *size <= capacity), "{count} {capacity} {sizes:?}");
                if sizes.len() > 1 {
                    assert!(sizes.iter().all(|size| *size >= capacity / 2), "{count} {capacity} {sizes:?}");
                }
            }
        }
    }
}
