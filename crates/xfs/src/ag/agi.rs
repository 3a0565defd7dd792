//! AGI: inodes of a group (`struct xfs_agi`).

use ondisk::{be_u32, put_be_u32};

use crate::btree::Tree;
use crate::buffer::Stamp;
use crate::error::{Result, corrupt};
use crate::feature::RoCompat;
use crate::fs::Xfs;

const MAGIC: u32 = 0x5841_4749;
/// Buckets of the list of unlinked inodes.
pub(crate) const UNLINKED_BUCKETS: usize = 64;

/// The raw sector with typed access.
#[derive(Debug, Clone)]
pub(crate) struct Agi {
    pub group: u32,
    has_block_counts: bool,
    raw: Vec<u8>,
}

impl Agi {
    /// Inodes allocated.
    pub(crate) fn count(&self) -> u32 {
        be_u32(&self.raw, 16)
    }
    pub(crate) fn free_count(&self) -> u32 {
        be_u32(&self.raw, 28)
    }
    pub(crate) fn set_counts(&mut self, count: u32, free: u32) {
        put_be_u32(&mut self.raw, 16, count);
        put_be_u32(&mut self.raw, 28, free);
    }
    pub(crate) fn set_newest(&mut self, agino: u32) {
        put_be_u32(&mut self.raw, 32, agino);
    }
    pub(crate) fn unlinked(&self, bucket: usize) -> u32 {
        be_u32(&self.raw, 40 + 4 * (bucket % UNLINKED_BUCKETS))
    }
    pub(crate) fn set_unlinked(&mut self, bucket: usize, agino: u32) {
        put_be_u32(&mut self.raw, 40 + 4 * (bucket % UNLINKED_BUCKETS), agino);
    }
    fn root_at(tree: Tree) -> (usize, usize) {
        if tree == Tree::FreeInode { (328, 332) } else { (20, 24) }
    }
    pub(crate) fn root(&self, tree: Tree) -> (u32, u32) {
        let (root, level) = Self::root_at(tree);
        (be_u32(&self.raw, root), be_u32(&self.raw, level))
    }
    pub(crate) fn set_root(&mut self, tree: Tree, block: u32, levels: u32) {
        let (root, level) = Self::root_at(tree);
        put_be_u32(&mut self.raw, root, block);
        put_be_u32(&mut self.raw, level, levels);
    }
    /// Blocks of the inode tree and of the free-inode tree, roots included; `None` where not counted.
    pub(crate) fn block_counts(&self) -> Option<(u32, u32)> {
        self.has_block_counts.then(|| (be_u32(&self.raw, 336), be_u32(&self.raw, 340)))
    }
    pub(crate) fn count_tree_blocks(&mut self, tree: Tree, by: i32) {
        if self.has_block_counts {
            let at = if tree == Tree::FreeInode { 340 } else { 336 };
            let value = be_u32(&self.raw, at).wrapping_add_signed(by);
            put_be_u32(&mut self.raw, at, value);
        }
    }
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }
}

impl Xfs {
    /// Reads and checks the AGI of a group.
    pub(crate) fn agi(&self, group: u32) -> Result<Agi> {
        let byte = self.geo.header_byte(group, 2);
        let raw = self.read_unit(byte, self.geo.sector_size)?;
        let what = || format!("AGI of group {group}");
        let bad = |detail: String| corrupt("xfs.agi", what(), detail);
        if be_u32(&raw, 0) != MAGIC || be_u32(&raw, 4) != 1 {
            return Err(bad(format!("magic XAGI expected, {:#010x} found", be_u32(&raw, 0))));
        }
        self.verify(&Stamp::AGI, &raw, byte, group.into(), &what)?;
        if be_u32(&raw, 8) != group || be_u32(&raw, 12) != self.geo.blocks_of(group) {
            return Err(bad(format!("is of group {} with {} blocks", be_u32(&raw, 8), be_u32(&raw, 12))));
        }
        let has_block_counts = self.superblock.features().has_ro(RoCompat::INOBTCNT);
        let agi = Agi { group, has_block_counts, raw };
        if agi.free_count() > agi.count() {
            return Err(bad(format!("{} inodes, {} free", agi.count(), agi.free_count())));
        }
        Ok(agi)
    }

    /// Changes the AGI of a group.
    pub(crate) fn put_agi(&mut self, agi: &Agi) -> Result<()> {
        let byte = self.geo.header_byte(agi.group, 2);
        let mut raw = agi.raw.clone();
        self.seal(&Stamp::AGI, &mut raw, byte, agi.group.into());
        self.put_unit(byte, raw)
    }
}
