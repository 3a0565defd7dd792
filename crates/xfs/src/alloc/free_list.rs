//! Filling the list from which the free-space and reverse-mapping trees take their blocks
//! (`xfs_alloc_min_freelist`, `xfs_alloc_fix_freelist`).

use super::rmap::Owner;
use crate::ag::Agf;
use crate::btree::Tree;
use crate::error::Result;
use crate::feature::RoCompat;
use crate::fs::Xfs;

/// Blocks that the list may have beyond its need before it gives some back.
const SLACK: u32 = 8;

impl Xfs {
    /// Blocks that the list must have: a split of each tree from the leaf up.
    pub(crate) fn list_need(&self, agf: &Agf) -> u32 {
        let mut trees = vec![Tree::FreeByBlock, Tree::FreeBySize];
        if self.superblock.features().has_ro(RoCompat::RMAPBT) {
            trees.push(Tree::Rmap);
        }
        trees.into_iter().map(|tree| (agf.root(tree).1.min(16) + 1) * 2 - 2).sum()
    }

    /// Brings the list of a group to its length.
    pub(crate) fn refill_list(&mut self, group: u32) -> Result<()> {
        loop {
            let agf = self.agf(group)?;
            let need = self.list_need(&agf).min(self.list_slots());
            if agf.list_count() < need {
                let Some((start, _)) = self.find_run(group, 1)? else { return Ok(()) };
                self.take_run(group, start, 1)?;
                self.push_list(group, start)?;
                self.add_rmap(group, start, 1, Owner::GROUP)?;
            } else if agf.list_count() > need + SLACK {
                let Some(block) = self.pop_list(group)? else { return Ok(()) };
                self.remove_rmap(group, block, 1, Owner::GROUP)?;
                self.put_run(group, block, 1)?;
            } else {
                return Ok(());
            }
        }
    }
}
