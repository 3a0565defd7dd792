//! Roots in the group headers, and where blocks of a tree come from.

use super::{MAX_LEVELS, Tree};
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
}
