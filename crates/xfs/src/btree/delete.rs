//! Deleting a record. A block that falls below half of what it can hold takes from a sibling or joins it:
//! `xfs_repair` rejects others.

use super::node::Node;
use super::{Record, Tree};
use crate::error::{Result, corrupt};
use crate::fs::Xfs;

impl Xfs {
    /// Takes out the record with the key of `record`, which must be there.
    pub(crate) fn delete_record(&mut self, group: u32, tree: Tree, record: &Record) -> Result<()> {
        let key = tree.key(record);
        let mut path = self.descend(group, tree, &key)?;
        let missing = || {
            corrupt(
                "xfs.btree",
                format!("{} of group {group}", tree.name()),
                format!("{:02x?} is not there", &record[..tree.record_len()]),
            )
        };
        let Some((mut node, index)) = path.pop() else { return Err(missing()) };
        if node.records.get(index).is_none_or(|found| tree.key(found) != key) {
            return Err(missing());
        }
        node.records.remove(index);
        loop {
            let Some((mut parent, at)) = path.pop() else {
                return self.settle_root(group, tree, &node);
            };
            let least = self.node_capacity(tree, node.level) / 2;
            if node.len() < least && parent.children.len() > 1 {
                self.balance(group, tree, &mut parent, at, node)?;
            } else {
                self.put_node(group, tree, &node, false)?;
                if let (Some(child), Some(slot)) = (node.as_child(tree), parent.children.get_mut(at)) {
                    *slot = child;
                }
            }
            node = parent;
        }
    }

    /// Writes the root; an inner one with a single child gives way to it.
    fn settle_root(&mut self, group: u32, tree: Tree, root: &Node) -> Result<()> {
        if let ([child], true) = (&root.children[..], root.level > 0) {
            self.set_tree_root(group, tree, child.block, root.level)?;
            return self.release_tree_block(group, tree, root.block);
        }
        self.put_node(group, tree, root, false)
    }

    /// Shares entries of the child `at` of `parent`, which is `node`, with a sibling, or joins the two.
    fn balance(&mut self, group: u32, tree: Tree, parent: &mut Node, at: usize, node: Node) -> Result<()> {
        let at_left = if at > 0 { at - 1 } else { at };
        let sibling_at = if at > 0 { at - 1 } else { at + 1 };
        let sibling = self.tree_node(group, tree, parent.children[sibling_at].block, node.level)?;
        let (mut left, mut right) = if at > 0 { (sibling, node) } else { (node, sibling) };
        if left.right != right.block || right.left != left.block {
            return Err(corrupt(
                "xfs.btree",
                format!("{} of group {group}", tree.name()),
                format!("blocks {} and {} are no neighbours", left.block, right.block),
            ));
        }
        left.records.append(&mut right.records);
        left.children.append(&mut right.children);
        if left.len() <= self.node_capacity(tree, left.level) {
            left.right = right.right;
            self.set_left_sibling(group, tree, right.right, left.level, left.block)?;
            parent.children.remove(at_left + 1);
            self.put_node(group, tree, &left, false)?;
            self.release_tree_block(group, tree, right.block)?;
        } else {
            (right.records, right.children) = left.split_off(left.len().div_ceil(2));
            self.put_node(group, tree, &left, false)?;
            self.put_node(group, tree, &right, false)?;
            if let Some(child) = right.as_child(tree) {
                parent.children[at_left + 1] = child;
            }
        }
        if let Some(child) = left.as_child(tree) {
            parent.children[at_left] = child;
        }
        Ok(())
    }
}
