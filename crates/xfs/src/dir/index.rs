//! The hash index and the index of free space of a large directory, built anew.

use ondisk::{be_u16, be_u32, put_be_u16, put_be_u32};

use super::read::DirLeaf;
use crate::buffer::Stamp;
use crate::da::{DaEntry, LEAF1_MAGIC, LEAFN_MAGIC, NODE_MAGIC};
use crate::error::{Result, corrupt};
use crate::fs::Xfs;
use crate::inode::{Fork, Inode};
use crate::map::Map;

/// No data block is there.
pub(crate) const NO_DATA: u16 = 0xffff;

impl Xfs {
    /// Data blocks that one block of the free index describes.
    pub(crate) fn bests_per_block(&self) -> usize {
        (self.geo.dir_block_size() - self.data_header()) / 2
    }

    /// Stores both indexes: hashes with addresses in order, and the largest hole of each data block.
    pub(crate) fn store_index(
        &mut self,
        dir: &mut Inode,
        map: &mut Map,
        leaf: Vec<(u32, u32)>,
        bests: Vec<u16>,
    ) -> Result<()> {
        let (start, step) = (self.leaf_start(), u64::from(self.geo.dir_blocks));
        let size = self.geo.dir_block_size();
        if self.da_header() + 8 * leaf.len() + 2 * bests.len() + 4 <= size {
            self.remove_blocks(dir, Fork::Data, map, start + step, u64::MAX)?;
            self.fill_holes(dir, map, start, start + step)?;
            let only = DirLeaf { forward: 0, back: 0, stale: 0, entries: leaf, bests: Some(bests) };
            return self.put_dir_leaf(dir, map, start, &only);
        }
        let capacity = (size - self.da_header()) / 8;
        let fill = capacity * 3 / 4;
        let leaves = leaf.len().div_ceil(fill).max(1);
        let levels = node_levels(leaves, capacity);
        let blocks = leaves as u64 + levels.iter().sum::<usize>() as u64;
        let free_blocks = bests.len().div_ceil(self.bests_per_block()).max(1) as u64;
        let (free, end) = (self.free_start(), start + blocks * step);
        self.remove_blocks(dir, Fork::Data, map, end, free)?;
        self.remove_blocks(dir, Fork::Data, map, free + free_blocks * step, u64::MAX)?;
        self.fill_holes(dir, map, start, end)?;
        self.fill_holes(dir, map, free, free + free_blocks * step)?;

        // A single leaf is the root; else the root takes the first place and leaves follow.
        let first = u64::from(leaves > 1);
        let place = |index: u64| start + index * step;
        let mut below = Vec::new();
        let chunks: Vec<&[(u32, u32)]> = leaf.chunks(fill).collect();
        for (index, chunk) in chunks.iter().enumerate() {
            let index = index as u64;
            let block = place(first + index);
            let content = DirLeaf {
                forward: if index + 1 < leaves as u64 { place(first + index + 1) as u32 } else { 0 },
                back: if index > 0 { place(first + index - 1) as u32 } else { 0 },
                stale: 0,
                entries: chunk.to_vec(),
                bests: None,
            };
            self.put_dir_leaf(dir, map, block, &content)?;
            below.push(DaEntry { hash: chunk.last().map_or(0, |(hash, _)| *hash), block: block as u32 });
        }
        let places = (leaves as u64 + 1..blocks).map(place).collect();
        self.put_nodes(dir, Fork::Data, map, start, places, below)?;
        for (index, chunk) in bests.chunks(self.bests_per_block()).enumerate() {
            self.put_free_block(dir, map, index, chunk)?;
        }
        Ok(())
    }

    /// Builds the nodes above leaves: the root at `root`, others at `places` in turn.
    pub(crate) fn put_nodes(
        &mut self,
        inode: &Inode,
        fork: Fork,
        map: &Map,
        root: u64,
        places: Vec<u64>,
        mut below: Vec<DaEntry>,
    ) -> Result<()> {
        let capacity = (self.da_size(fork) - self.da_header()) / 8;
        let mut places = places.into_iter();
        let mut level = 1;
        while below.len() > 1 {
            let count = below.len().div_ceil(capacity);
            let share = below.len().div_ceil(count);
            let chunks: Vec<Vec<DaEntry>> = below.chunks(share).map(<[DaEntry]>::to_vec).collect();
            let blocks: Vec<u64> =
                if chunks.len() == 1 { vec![root] } else { places.by_ref().take(chunks.len()).collect() };
            below.clear();
            for (index, chunk) in chunks.iter().enumerate() {
                let neighbour = |index: Option<usize>| {
                    index.and_then(|index| blocks.get(index)).map_or(0, |block| *block as u32)
                };
                let Some(block) = blocks.get(index).copied() else {
                    return Err(corrupt("xfs.index", format!("inode {}", inode.number()), "too many nodes"));
                };
                let links = [neighbour(Some(index + 1)), neighbour(index.checked_sub(1))];
                self.put_da_node(inode, fork, map, block, level, links, chunk)?;
                below.push(DaEntry { hash: chunk.last().map_or(0, |entry| entry.hash), block: block as u32 });
            }
            level += 1;
        }
        Ok(())
    }

    /// Writes a node; `links` are the next and the one before.
    #[expect(clippy::too_many_arguments, reason = "the parts of one block")]
    pub(crate) fn put_da_node(
        &mut self,
        inode: &Inode,
        fork: Fork,
        map: &Map,
        block: u64,
        level: u16,
        links: [u32; 2],
        entries: &[DaEntry],
    ) -> Result<()> {
        let mut raw = vec![0; self.da_size(fork)];
        put_be_u32(&mut raw, 0, links[0]);
        put_be_u32(&mut raw, 4, links[1]);
        put_be_u16(&mut raw, 8, self.da_magic(NODE_MAGIC));
        let (info, header) = (self.da_info(), self.da_header());
        put_be_u16(&mut raw, info, entries.len() as u16);
        put_be_u16(&mut raw, info + 2, level);
        for (slot, entry) in raw[header..].chunks_exact_mut(8).zip(entries) {
            put_be_u32(slot, 0, entry.hash);
            put_be_u32(slot, 4, entry.block);
        }
        self.write_mapped(inode, map, block, &Stamp::DA, raw)
    }

    /// Writes a leaf of the hash index.
    pub(crate) fn put_dir_leaf(&mut self, dir: &Inode, map: &Map, block: u64, leaf: &DirLeaf) -> Result<()> {
        let mut raw = vec![0; self.geo.dir_block_size()];
        put_be_u32(&mut raw, 0, leaf.forward);
        put_be_u32(&mut raw, 4, leaf.back);
        let magic = if leaf.bests.is_some() { LEAF1_MAGIC } else { LEAFN_MAGIC };
        put_be_u16(&mut raw, 8, self.da_magic(magic));
        let (info, header) = (self.da_info(), self.da_header());
        put_be_u16(&mut raw, info, leaf.entries.len() as u16);
        put_be_u16(&mut raw, info + 2, leaf.stale);
        for (slot, (hash, address)) in raw[header..].chunks_exact_mut(8).zip(&leaf.entries) {
            put_be_u32(slot, 0, *hash);
            put_be_u32(slot, 4, *address);
        }
        if let Some(bests) = &leaf.bests {
            let tail = raw.len() - 4;
            put_be_u32(&mut raw, tail, bests.len() as u32);
            let start = tail - 2 * bests.len();
            for (slot, best) in raw[start..tail].chunks_exact_mut(2).zip(bests) {
                put_be_u16(slot, 0, *best);
            }
        }
        self.write_mapped(dir, map, block, &Stamp::DA, raw)
    }

    fn free_magic(&self) -> u32 {
        u32::from_be_bytes(if self.geo.is_v5 { *b"XDF3" } else { *b"XD2F" })
    }

    /// Bytes of a free-index block before first, valid and used counts.
    fn free_counts(&self) -> usize {
        if self.geo.is_v5 { 48 } else { 4 }
    }

    /// Writes one block of the free index.
    pub(crate) fn put_free_block(
        &mut self,
        dir: &Inode,
        map: &Map,
        index: usize,
        bests: &[u16],
    ) -> Result<()> {
        let mut raw = vec![0; self.geo.dir_block_size()];
        put_be_u32(&mut raw, 0, self.free_magic());
        let counts = self.free_counts();
        put_be_u32(&mut raw, counts, (index * self.bests_per_block()) as u32);
        put_be_u32(&mut raw, counts + 4, bests.len() as u32);
        let used = bests.iter().filter(|best| **best != NO_DATA).count();
        put_be_u32(&mut raw, counts + 8, used as u32);
        let header = self.data_header();
        for (slot, best) in raw[header..].chunks_exact_mut(2).zip(bests) {
            put_be_u16(slot, 0, *best);
        }
        let block = self.free_start() + index as u64 * u64::from(self.geo.dir_blocks);
        self.write_mapped(dir, map, block, &Stamp::DIR_DATA, raw)
    }

    /// Largest holes of all data blocks as the free index has them.
    pub(crate) fn free_bests(&self, dir: &Inode, map: &Map) -> Result<Vec<u16>> {
        let mut bests = Vec::new();
        let step = u64::from(self.geo.dir_blocks);
        let mut block = self.free_start();
        while map.block(block).is_some() {
            let (byte, raw) = self.read_mapped(dir, map, block, step)?;
            let what = || format!("free index block {block} of inode {}", dir.number());
            self.verify(&Stamp::DIR_DATA, &raw, byte, dir.number(), &what)?;
            let counts = self.free_counts();
            let (first, valid) = (be_u32(&raw, counts) as usize, be_u32(&raw, counts + 4) as usize);
            if be_u32(&raw, 0) != self.free_magic() || first != bests.len() || valid > self.bests_per_block()
            {
                return Err(corrupt("xfs.dir.free", what(), format!("{valid} blocks from {first} on")));
            }
            let header = self.data_header();
            bests.extend(raw[header..].chunks_exact(2).take(valid).map(|raw| be_u16(raw, 0)));
            block += step;
        }
        Ok(bests)
    }
}

/// Nodes on each level above `leaves`, the root left out.
pub(crate) fn node_levels(leaves: usize, capacity: usize) -> Vec<usize> {
    let mut levels = Vec::new();
    let mut count = leaves;
    while count > 1 {
        count = count.div_ceil(capacity);
        levels.push(count);
    }
    levels
}
