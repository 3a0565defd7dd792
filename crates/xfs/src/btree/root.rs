//! Roots in the group headers, and where blocks of a tree come from.

use super::{MAX_LEVELS, Tree};
use crate::alloc::rmap::Owner;
use crate::error::{Result, corrupt};
use crate::fs::Xfs;

impl Xfs {
    /// Root block and levels of a tree.
    pub(crate) fn tree_root(&self, group: u32, tree: Tree) -> Result<(u32, u32)> {
        let (root, levels) =
            if tree.is_of_inodes() { self.agi(group)?.root(tree) } else { self.agf(group)?.root(tree) };
        if levels == 0 || levels > MAX_LEVELS {
            return Err(corrupt(
                "xfs.btree",
                format!("{} of group {group}", tree.name()),
                format!("{levels} levels"),
            ));
        }
        Ok((root, levels))
    }

    pub(super) fn set_tree_root(&mut self, group: u32, tree: Tree, block: u32, levels: u32) -> Result<()> {
        if tree.is_of_inodes() {
            let mut agi = self.agi(group)?;
            agi.set_root(tree, block, levels);
            return self.put_agi(&agi);
        }
        let mut agf = self.agf(group)?;
        agf.set_root(tree, block, levels);
        self.put_agf(&agf)
    }

    fn count_tree_blocks(&mut self, group: u32, tree: Tree, by: i32) -> Result<()> {
        if tree.is_of_inodes() {
            let mut agi = self.agi(group)?;
            agi.count_tree_blocks(tree, by);
            return self.put_agi(&agi);
        }
        let mut agf = self.agf(group)?;
        agf.count_tree_blocks(tree, by);
        self.put_agf(&agf)
    }

    fn owner_of_tree(tree: Tree) -> Owner {
        if tree == Tree::Refcount { Owner::REFCOUNT } else { Owner::INODE_TREE }
    }

    /// A new block for a tree.
    pub(super) fn take_tree_block(&mut self, group: u32, tree: Tree) -> Result<u32> {
        let block = if tree.uses_list() {
            self.pop_list(group)?.ok_or_else(|| self.no_space(1))?
        } else {
            self.take_metadata_block(group, Self::owner_of_tree(tree))?
        };
        self.count_tree_blocks(group, tree, 1)?;
        Ok(block)
    }

    /// Gives a block of a tree back.
    pub(super) fn release_tree_block(&mut self, group: u32, tree: Tree, block: u32) -> Result<()> {
        self.count_tree_blocks(group, tree, -1)?;
        self.pending.remove(&self.geo.byte(group, block));
        if tree.uses_list() {
            self.push_list(group, block)
        } else {
            self.release_run(group, block, 1, Self::owner_of_tree(tree))
        }
    }
}
