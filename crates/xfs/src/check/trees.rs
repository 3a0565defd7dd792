//! The shape of one B+tree of a group.

use super::Check;
use super::owners::Use;
use crate::alloc::rmap::Owner;
use crate::btree::{Child, Record, Tree};

/// A tree walked through: its records in order and how many blocks it has.
pub(super) struct Walked {
    pub records: Vec<Record>,
    pub blocks: u32,
}

impl Check<'_> {
    /// Walks a tree; `None` when it cannot be followed.
    pub(super) fn tree(&mut self, group: u32, tree: Tree) -> Option<Walked> {
        let place = format!("{} of group {group}", tree.name());
        let root = self.fs.tree_root(group, tree);
        let (root, levels) = self.take(&place, root)?;
        let mut walked = Walked { records: Vec::new(), blocks: 0 };
        // The last block seen on each level, to see that siblings know each other.
        let mut last: Vec<Option<(u32, u32)>> = vec![None; levels as usize];
        let mut todo = vec![(root, levels - 1, None::<Child>)];
        while let Some((block, level, expected)) = todo.pop() {
            walked.blocks += 1;
            if walked.blocks > self.fs.geo.blocks_of(group) {
                self.report.add("xfs.check.btree", &place, "its blocks go in a circle");
                return None;
            }
            let node = self.fs.tree_node(group, tree, block, level);
            let node = self.take(&place, node)?;
            let owner = match tree {
                Tree::FreeByBlock | Tree::FreeBySize | Tree::Rmap => Owner::GROUP,
                Tree::Inode | Tree::FreeInode => Owner::INODE_TREE,
                Tree::Refcount => Owner::REFCOUNT,
            };
            self.note_use(group, Use::new(block, 1, owner));
            if let Some(expected) = expected {
                let is = node.as_child(tree);
                if is != Some(expected) {
                    self.report.add(
                        "xfs.check.btree-keys",
                        &place,
                        format_args!("the keys of block {block} are not those in its parent"),
                    );
                }
                let least = self.fs.node_capacity(tree, level) / 2;
                if node.len() < least {
                    self.report.add(
                        "xfs.check.btree-fill",
                        &place,
                        format_args!("block {block} has {} entries, {least} at least", node.len()),
                    );
                }
            }
            let before = last[level as usize];
            let is_linked = match before {
                None => node.left == u32::MAX,
                Some((left, right)) => node.left == left && right == block,
            };
            if !is_linked {
                self.report.add("xfs.check.btree-links", &place, format_args!("siblings of block {block}"));
            }
            last[level as usize] = Some((block, node.right));
            todo.extend(node.children.iter().rev().map(|child| (child.block, level - 1, Some(*child))));
            walked.records.extend_from_slice(&node.records);
        }
        if last.iter().flatten().any(|(_, right)| *right != u32::MAX) {
            self.report.add("xfs.check.btree-links", &place, "the last block of a level has a right sibling");
        }
        if !walked.records.is_sorted_by(|left, right| tree.key(left) < tree.key(right)) {
            self.report.add("xfs.check.btree-order", &place, "records out of order");
        }
        Some(walked)
    }
}
