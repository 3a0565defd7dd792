//! Looking records up.

use super::{Key, Node, Record, Tree};
use crate::btree::node::NO_BLOCK;
use crate::error::{Result, corrupt};
use crate::fs::Xfs;

/// Index of the last child whose low key is not above `key`; 0 when all are.
pub(super) fn child_index(tree: Tree, node: &Node, key: &Key) -> usize {
    node.children.partition_point(|child| tree.order(&child.low) <= *key).saturating_sub(1)
}

impl Xfs {
    /// Blocks from the root to the leaf where `key` belongs, with the index taken in each.
    pub(super) fn descend(&self, group: u32, tree: Tree, key: &Key) -> Result<Vec<(Node, usize)>> {
        let (root, levels) = self.tree_root(group, tree)?;
        let mut path = Vec::with_capacity(levels as usize);
        let mut block = root;
        for level in (0..levels).rev() {
            let node = self.tree_node(group, tree, block, level)?;
            let index = if level == 0 {
                node.records.partition_point(|record| tree.key(record) < *key)
            } else {
                let index = child_index(tree, &node, key);
                block = node.children[index].block;
                index
            };
            path.push((node, index));
        }
        Ok(path)
    }

    /// The last record at or before `key`.
    pub(crate) fn find_at_or_before(&self, group: u32, tree: Tree, key: &Key) -> Result<Option<Record>> {
        let path = self.descend(group, tree, key)?;
        let Some((leaf, index)) = path.last() else { return Ok(None) };
        if let Some(record) = leaf.records.get(*index)
            && tree.key(record) == *key
        {
            return Ok(Some(*record));
        }
        Ok(index.checked_sub(1).and_then(|index| leaf.records.get(index)).copied())
    }

    /// Calls `visit` with each record from `key` on, in order, until it says `false`.
    pub(crate) fn visit_from(
        &self,
        group: u32,
        tree: Tree,
        key: &Key,
        visit: &mut dyn FnMut(&Record) -> Result<bool>,
    ) -> Result<()> {
        let mut path = self.descend(group, tree, key)?;
        let Some((mut leaf, mut index)) = path.pop() else { return Ok(()) };
        let mut budget = self.geo.blocks_of(group);
        loop {
            for record in leaf.records.get(index..).unwrap_or_default() {
                if !visit(record)? {
                    return Ok(());
                }
            }
            if leaf.right == NO_BLOCK {
                return Ok(());
            }
            budget = budget.checked_sub(1).ok_or_else(|| {
                corrupt("xfs.btree", format!("{} of group {group}", tree.name()), "leaves go in a circle")
            })?;
            leaf = self.tree_node(group, tree, leaf.right, 0)?;
            index = 0;
        }
    }

    /// The first record from `key` on.
    pub(crate) fn find_from(&self, group: u32, tree: Tree, key: &Key) -> Result<Option<Record>> {
        let mut found = None;
        self.visit_from(group, tree, key, &mut |record| {
            found = Some(*record);
            Ok(false)
        })?;
        Ok(found)
    }

    /// All records.
    pub(crate) fn all_records(&self, group: u32, tree: Tree) -> Result<Vec<Record>> {
        let mut all = Vec::new();
        self.visit_from(group, tree, &[0; 20], &mut |record| {
            all.push(*record);
            Ok(true)
        })?;
        Ok(all)
    }

    /// Reverse mappings that cover a block.
    pub(crate) fn rmaps_over(&self, group: u32, block: u32) -> Result<Vec<Record>> {
        let tree = Tree::Rmap;
        let (root, levels) = self.tree_root(group, tree)?;
        let mut found = Vec::new();
        let mut todo = vec![(root, levels - 1)];
        let mut budget = self.geo.blocks_of(group);
        while let Some((at, level)) = todo.pop() {
            budget = budget.checked_sub(1).ok_or_else(|| {
                corrupt("xfs.btree", format!("rmapbt of group {group}"), "its blocks go in a circle")
            })?;
            let node = self.tree_node(group, tree, at, level)?;
            for child in &node.children {
                if ondisk::be_u32(&child.low, 0) <= block && ondisk::be_u32(&child.high, 0) >= block {
                    todo.push((child.block, level - 1));
                }
            }
            for record in &node.records {
                let (start, len) = (ondisk::be_u32(record, 0), ondisk::be_u32(record, 4));
                if start <= block && block - start < len {
                    found.push(*record);
                }
            }
        }
        Ok(found)
    }
}
