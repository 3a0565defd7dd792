//! AGF: free space of a group (`struct xfs_agf`).

use ondisk::{be_u32, put_be_u32};

use crate::btree::Tree;
use crate::buffer::Stamp;
use crate::error::{Result, corrupt};
use crate::fs::Xfs;

const MAGIC: u32 = 0x5841_4746;

/// The raw sector with typed access.
#[derive(Debug, Clone)]
pub(crate) struct Agf {
    pub group: u32,
    raw: Vec<u8>,
}

impl Agf {
    pub(crate) fn length(&self) -> u32 {
        be_u32(&self.raw, 12)
    }
    pub(crate) fn first(&self) -> u32 {
        be_u32(&self.raw, 40)
    }
    pub(crate) fn last(&self) -> u32 {
        be_u32(&self.raw, 44)
    }
    pub(crate) fn list_count(&self) -> u32 {
        be_u32(&self.raw, 48)
    }
    pub(crate) fn set_list(&mut self, first: u32, last: u32, count: u32) {
        put_be_u32(&mut self.raw, 40, first);
        put_be_u32(&mut self.raw, 44, last);
        put_be_u32(&mut self.raw, 48, count);
    }
    pub(crate) fn free_blocks(&self) -> u32 {
        be_u32(&self.raw, 52)
    }
    pub(crate) fn set_free_blocks(&mut self, blocks: u32) {
        put_be_u32(&mut self.raw, 52, blocks);
    }
    pub(crate) fn longest(&self) -> u32 {
        be_u32(&self.raw, 56)
    }
    pub(crate) fn set_longest(&mut self, blocks: u32) {
        put_be_u32(&mut self.raw, 56, blocks);
    }
    /// Blocks of the free-space and reverse-mapping trees but their three roots.
    pub(crate) fn btree_blocks(&self) -> u32 {
        be_u32(&self.raw, 60)
    }
    pub(crate) fn rmap_blocks(&self) -> u32 {
        be_u32(&self.raw, 80)
    }
    pub(crate) fn refcount_blocks(&self) -> u32 {
        be_u32(&self.raw, 84)
    }
    fn add(&mut self, at: usize, by: i32) {
        let value = be_u32(&self.raw, at).wrapping_add_signed(by);
        put_be_u32(&mut self.raw, at, value);
    }
    /// Counts blocks of a tree.
    pub(crate) fn count_tree_blocks(&mut self, tree: Tree, by: i32) {
        match tree {
            Tree::FreeByBlock | Tree::FreeBySize => self.add(60, by),
            Tree::Rmap => {
                self.add(60, by);
                self.add(80, by);
            }
            Tree::Refcount => self.add(84, by),
            Tree::Inode | Tree::FreeInode => {}
        }
    }
    fn root_at(tree: Tree) -> (usize, usize) {
        match tree {
            Tree::FreeByBlock => (16, 28),
            Tree::FreeBySize => (20, 32),
            Tree::Rmap => (24, 36),
            _ => (88, 92),
        }
    }
    /// Root block and levels of one of the trees here.
    pub(crate) fn root(&self, tree: Tree) -> (u32, u32) {
        let (root, level) = Self::root_at(tree);
        (be_u32(&self.raw, root), be_u32(&self.raw, level))
    }
    pub(crate) fn set_root(&mut self, tree: Tree, block: u32, levels: u32) {
        let (root, level) = Self::root_at(tree);
        put_be_u32(&mut self.raw, root, block);
        put_be_u32(&mut self.raw, level, levels);
    }
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }
}

impl Xfs {
    /// Reads and checks the AGF of a group.
    pub(crate) fn agf(&self, group: u32) -> Result<Agf> {
        let byte = self.geo.header_byte(group, 1);
        let raw = self.read_unit(byte, self.geo.sector_size)?;
        let what = || format!("AGF of group {group}");
        let bad = |detail: String| corrupt("xfs.agf", what(), detail);
        if be_u32(&raw, 0) != MAGIC || be_u32(&raw, 4) != 1 {
            return Err(bad(format!("magic XAGF expected, {:#010x} found", be_u32(&raw, 0))));
        }
        self.verify(&Stamp::AGF, &raw, byte, group.into(), &what)?;
        if be_u32(&raw, 8) != group {
            return Err(bad(format!("is of group {}", be_u32(&raw, 8))));
        }
        let agf = Agf { group, raw };
        let (length, slots) = (self.geo.blocks_of(group), self.list_slots());
        if agf.length() != length || agf.free_blocks() > length || agf.longest() > agf.free_blocks() {
            return Err(bad(format!(
                "{} blocks, {} free, {} in a run; the group has {length}",
                agf.length(),
                agf.free_blocks(),
                agf.longest()
            )));
        }
        if agf.first() >= slots || agf.last() >= slots || agf.list_count() > slots {
            return Err(bad(format!(
                "a free list {}..={} of {} blocks in {slots} slots",
                agf.first(),
                agf.last(),
                agf.list_count()
            )));
        }
        Ok(agf)
    }

    /// Changes the AGF of a group.
    pub(crate) fn put_agf(&mut self, agf: &Agf) -> Result<()> {
        let byte = self.geo.header_byte(agf.group, 1);
        let mut raw = agf.raw.clone();
        self.seal(&Stamp::AGF, &mut raw, byte, agf.group.into());
        self.put_unit(byte, raw)
    }
}
