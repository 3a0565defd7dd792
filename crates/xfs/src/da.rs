//! Blocks that directories and attributes share: hash order, nodes above leaves (`xfs_da_btree.c`).

use ondisk::{be_u16, be_u32};

use crate::buffer::Stamp;
use crate::error::{Result, corrupt};
use crate::fs::Xfs;
use crate::inode::{Fork, Inode};
use crate::map::Map;

pub(crate) const LEAF1_MAGIC: [u16; 2] = [0xd2f1, 0x3df1];
pub(crate) const LEAFN_MAGIC: [u16; 2] = [0xd2ff, 0x3dff];
pub(crate) const NODE_MAGIC: [u16; 2] = [0xfebe, 0x3ebe];
pub(crate) const ATTR_LEAF_MAGIC: [u16; 2] = [0xfbee, 0x3bee];
/// Deepest tree of nodes (`XFS_DA_NODE_MAXDEPTH`).
pub(crate) const MAX_DEPTH: u16 = 5;

/// Hash of a name.
pub(crate) fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0u32, |hash, byte| hash.rotate_left(7) ^ u32::from(*byte))
}

/// A node's pointer: the highest hash below it, and the file block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DaEntry {
    pub hash: u32,
    pub block: u32,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DaNode {
    pub level: u16,
    pub forward: u32,
    pub back: u32,
    pub entries: Vec<DaEntry>,
}

impl Xfs {
    /// Bytes of a block of the hash index of a fork.
    pub(crate) fn da_size(&self, fork: Fork) -> usize {
        if fork == Fork::Data { self.geo.dir_block_size() } else { self.geo.block_size }
    }

    /// Bytes before a node's or a directory leaf's entries.
    pub(crate) fn da_header(&self) -> usize {
        if self.geo.is_v5 { 64 } else { 16 }
    }

    /// Bytes before count and level or stale.
    pub(crate) fn da_info(&self) -> usize {
        if self.geo.is_v5 { 56 } else { 12 }
    }

    pub(crate) fn da_magic(&self, magics: [u16; 2]) -> u16 {
        magics[usize::from(self.geo.is_v5)]
    }

    /// Bytes of `blocks` file blocks from `block` on, which may lie apart, and the first one's byte.
    pub(crate) fn read_mapped(
        &self,
        inode: &Inode,
        map: &Map,
        block: u64,
        blocks: u64,
    ) -> Result<(u64, Vec<u8>)> {
        let mut first = 0;
        let mut raw = Vec::with_capacity(blocks as usize * self.geo.block_size);
        for index in 0..blocks {
            let Some(fsblock) = map.block(block + index) else {
                return Err(corrupt(
                    "xfs.map.hole",
                    format!("inode {}", inode.number()),
                    format!("block {} is not there", block + index),
                ));
            };
            if index == 0 {
                first = self.geo.byte_of(fsblock);
            }
            raw.extend_from_slice(&self.read_fsblock(fsblock)?);
        }
        Ok((first, raw))
    }

    /// Writes what [`Xfs::read_mapped`] reads, sealed.
    pub(crate) fn write_mapped(
        &mut self,
        inode: &Inode,
        map: &Map,
        block: u64,
        stamp: &Stamp,
        mut raw: Vec<u8>,
    ) -> Result<()> {
        let mut places = Vec::new();
        for index in 0..raw.len() / self.geo.block_size {
            let Some(fsblock) = map.block(block + index as u64) else {
                return Err(corrupt(
                    "xfs.map.hole",
                    format!("inode {}", inode.number()),
                    format!("block {} is not there", block + index as u64),
                ));
            };
            places.push(self.geo.byte_of(fsblock));
        }
        let Some(first) = places.first().copied() else { return Ok(()) };
        self.seal(stamp, &mut raw, first, inode.number());
        for (byte, piece) in places.into_iter().zip(raw.chunks(self.geo.block_size)) {
            self.put_unit(byte, piece.to_vec())?;
        }
        Ok(())
    }

    /// Reads and checks a block of the hash index: its magic and bytes.
    pub(crate) fn da_block(
        &self,
        inode: &Inode,
        fork: Fork,
        map: &Map,
        block: u64,
    ) -> Result<(u16, Vec<u8>)> {
        let blocks = (self.da_size(fork) / self.geo.block_size) as u64;
        let (byte, raw) = self.read_mapped(inode, map, block, blocks)?;
        let what = || format!("index block {block} of inode {}", inode.number());
        self.verify(&Stamp::DA, &raw, byte, inode.number(), &what)?;
        Ok((be_u16(&raw, 8), raw))
    }

    /// Takes a node apart.
    pub(crate) fn da_node(&self, inode: &Inode, fork: Fork, raw: &[u8]) -> Result<DaNode> {
        let info = self.da_info();
        let (count, level) = (usize::from(be_u16(raw, info)), be_u16(raw, info + 2));
        let most = (self.da_size(fork) - self.da_header()) / 8;
        if count == 0 || count > most || level == 0 || level > MAX_DEPTH {
            return Err(corrupt(
                "xfs.index",
                format!("inode {}", inode.number()),
                format!("a node of level {level} with {count} of {most} entries"),
            ));
        }
        let entries = raw[self.da_header()..]
            .chunks_exact(8)
            .take(count)
            .map(|raw| DaEntry { hash: be_u32(raw, 0), block: be_u32(raw, 4) })
            .collect();
        Ok(DaNode { level, forward: be_u32(raw, 0), back: be_u32(raw, 4), entries })
    }

    /// Goes down from the index block at `root` to the leaf where `hash` belongs. Returns the leaf's file
    /// block, its magic and bytes, and the nodes passed with the index taken.
    pub(crate) fn da_descend(
        &self,
        inode: &Inode,
        fork: Fork,
        map: &Map,
        root: u64,
        hash: u32,
    ) -> Result<DaPath> {
        let mut nodes = Vec::new();
        let mut block = root;
        let mut level = None;
        loop {
            let (magic, raw) = self.da_block(inode, fork, map, block)?;
            if magic != self.da_magic(NODE_MAGIC) {
                if level.is_some_and(|level| level != 1) {
                    return Err(corrupt(
                        "xfs.index",
                        format!("inode {}", inode.number()),
                        "a leaf too high up",
                    ));
                }
                return Ok(DaPath { nodes, block, magic, raw });
            }
            let node = self.da_node(inode, fork, &raw)?;
            if level.is_some_and(|above: u16| node.level + 1 != above) {
                return Err(corrupt(
                    "xfs.index",
                    format!("inode {}", inode.number()),
                    "levels do not go down",
                ));
            }
            level = Some(node.level);
            let index = node.entries.partition_point(|entry| entry.hash < hash).min(node.entries.len() - 1);
            let next = node.entries[index].block.into();
            nodes.push((block, node, index));
            block = next;
        }
    }
}

/// Way from the root of a hash index to a leaf.
#[derive(Debug)]
pub(crate) struct DaPath {
    /// File block, node, index taken.
    pub nodes: Vec<(u64, DaNode, usize)>,
    /// File block of the leaf.
    pub block: u64,
    pub magic: u16,
    pub raw: Vec<u8>,
}

#[cfg(test)]
mod tests {
    #[test]
    fn hash_rotates_by_seven() {
        assert_eq!(super::hash(b"."), 0x2e);
        assert_eq!(super::hash(b".."), 0x172e);
    }
}
