//! Mapping of a fork: extents inline or in a B+tree (`xfs_bmap_btree.c`; XFS Algorithms & Data
//! Structures, "Data Extents").

mod edit;
mod extent;

pub(crate) use extent::{Extent, MAX_EXTENT_BLOCKS, MAX_FILE_BLOCK};

use ondisk::{be_u16, be_u32, be_u64};

use crate::buffer::Stamp;
use crate::error::{Result, corrupt, unsupported};
use crate::fs::Xfs;
use crate::inode::{Fork, Format, Inode, InodeFlags};

/// Bytes of an extent, and of a key and pointer of the tree.
pub(crate) const EXTENT_BYTES: usize = 16;
const MAX_LEVELS: u16 = 12;

/// A whole fork's mapping.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Map {
    /// In the order of the file, without overlap.
    pub extents: Vec<Extent>,
    /// Blocks of the tree, leaves of a subtree before its root.
    pub tree_blocks: Vec<u64>,
}

impl Map {
    /// The extent that covers a file block, or the first one behind it.
    pub(crate) fn at(&self, block: u64) -> Option<&Extent> {
        let index = self.extents.partition_point(|extent| extent.end() <= block);
        self.extents.get(index)
    }

    /// Filesystem block of a written file block.
    pub(crate) fn block(&self, block: u64) -> Option<u64> {
        let extent = self.at(block)?;
        (extent.offset <= block && !extent.is_unwritten).then(|| extent.block + (block - extent.offset))
    }

    /// Blocks mapped.
    pub(crate) fn total(&self) -> u64 {
        self.extents.iter().map(|extent| extent.len).sum()
    }
}

impl Xfs {
    pub(crate) fn bmbt_header(&self) -> usize {
        if self.geo.is_v5 { 72 } else { 24 }
    }

    /// Most records or pairs of a block of the tree.
    pub(crate) fn bmbt_capacity(&self) -> usize {
        (self.geo.block_size - self.bmbt_header()) / EXTENT_BYTES
    }

    /// Reads and checks the mapping of a fork; a fork with content of its own has none.
    pub(crate) fn map(&self, inode: &Inode, fork: Fork) -> Result<Map> {
        if fork == Fork::Data && inode.flags().contains(InodeFlags::REALTIME) {
            let feature = format!("the realtime file of inode {}", inode.number());
            return Err(unsupported("xfs.feature.unsupported", feature, ""));
        }
        let mut map = Map::default();
        match inode.format(fork) {
            Format::Device | Format::Local => return Ok(map),
            Format::Extents => {
                let count = inode.extent_count(fork);
                let raw = inode.fork(fork);
                if count > (raw.len() / EXTENT_BYTES) as u64 {
                    return Err(bad(inode, format!("{count} extents in a fork of {} bytes", raw.len())));
                }
                for raw in raw.chunks_exact(EXTENT_BYTES).take(count as usize) {
                    self.add_extent(inode, &mut map, raw)?;
                }
            }
            Format::Btree => self.read_root(inode, fork, &mut map)?,
        }
        if map.extents.len() as u64 != inode.extent_count(fork) {
            let count = inode.extent_count(fork);
            return Err(bad(inode, format!("{} extents, {count} counted", map.extents.len())));
        }
        Ok(map)
    }

    fn read_root(&self, inode: &Inode, fork: Fork, map: &mut Map) -> Result<()> {
        let raw = inode.fork(fork);
        let most = raw.len().saturating_sub(4) / EXTENT_BYTES;
        let (Some(level), Some(count)) = (ondisk::try_be_u16(raw, 0), ondisk::try_be_u16(raw, 2)) else {
            return Err(bad(inode, "no room for the root of its tree".into()));
        };
        if level == 0 || level > MAX_LEVELS || count == 0 || usize::from(count) > most {
            return Err(bad(inode, format!("a root of level {level} with {count} of {most} pointers")));
        }
        let start = 4 + 8 * most;
        for index in 0..usize::from(count) {
            self.read_tree(inode, be_u64(raw, start + 8 * index), level - 1, map)?;
        }
        Ok(())
    }

    fn read_tree(&self, inode: &Inode, block: u64, level: u16, map: &mut Map) -> Result<()> {
        if !self.geo.is_run(block, 1) {
            return Err(bad(inode, format!("its tree names block {block}")));
        }
        let raw = self.read_fsblock(block)?;
        let magic = u32::from_be_bytes(if self.geo.is_v5 { *b"BMA3" } else { *b"BMAP" });
        let (found, count) = (be_u32(&raw, 0), usize::from(be_u16(&raw, 6)));
        let most = self.bmbt_capacity();
        if found != magic || be_u16(&raw, 4) != level || count == 0 || count > most {
            return Err(bad(
                inode,
                format!(
                    "block {block} of its tree: magic {found:#010x}, level {} for {level}, {count} of {most} entries",
                    be_u16(&raw, 4)
                ),
            ));
        }
        let what = || format!("block {block} of the tree of inode {}", inode.number());
        self.verify(&Stamp::BMBT, &raw, self.geo.byte_of(block), inode.number(), &what)?;
        let body = &raw[self.bmbt_header()..];
        if level == 0 {
            for raw in body.chunks_exact(EXTENT_BYTES).take(count) {
                self.add_extent(inode, map, raw)?;
            }
        } else {
            for index in 0..count {
                self.read_tree(inode, be_u64(body, 8 * most + 8 * index), level - 1, map)?;
            }
        }
        map.tree_blocks.push(block);
        Ok(())
    }

    fn add_extent(&self, inode: &Inode, map: &mut Map, raw: &[u8]) -> Result<()> {
        let extent = Extent::decode(raw);
        let end = map.extents.last().map_or(0, Extent::end);
        if extent.offset < end || extent.end() > MAX_FILE_BLOCK || !self.geo.is_run(extent.block, extent.len)
        {
            return Err(bad(inode, format!("the extent {extent:?} behind block {end}")));
        }
        map.extents.push(extent);
        Ok(())
    }
}

fn bad(inode: &Inode, detail: String) -> vfs::VfsError {
    corrupt("xfs.map", format!("inode {}", inode.number()), detail)
}
