//! Inserting a record, splitting full blocks on the way up.

use super::node::{Child, NO_BLOCK, Node};
use super::{Record, Tree};
use crate::error::{Result, corrupt};
use crate::fs::Xfs;

impl Xfs {
    /// Puts a record in; its key must not be there.
    pub(crate) fn insert_record(&mut self, group: u32, tree: Tree, record: &Record) -> Result<()> {
        let key = tree.key(record);
        let mut path = self.descend(group, tree, &key)?;
        let levels = path.len() as u32;
        // The block that a split has added at the level below.
        let mut added: Option<Child> = None;
        // What the parent has to know of the block below.
        let mut below: Option<Child> = None;
        while let Some((mut node, index)) = path.pop() {
            if node.level == 0 {
                if node.records.get(index).is_some_and(|found| tree.key(found) == key) {
                    return Err(corrupt(
                        "xfs.btree",
                        format!("{} of group {group}", tree.name()),
                        format!("{:02x?} is there already", &record[..tree.record_len()]),
                    ));
                }
                node.records.insert(index, *record);
            } else {
                if let (Some(child), Some(slot)) = (below, node.children.get_mut(index)) {
                    *slot = child;
                }
                if let Some(child) = added.take() {
                    node.children.insert(index + 1, child);
                }
            }
            if node.len() > self.node_capacity(tree, node.level) {
                let right = self.split(group, tree, &mut node)?;
                added = right.as_child(tree);
            }
            self.put_node(group, tree, &node, false)?;
            below = node.as_child(tree);
            if added.is_none() && path.is_empty() {
                return Ok(());
            }
        }
        if let (Some(left), Some(right)) = (below, added) {
            let block = self.take_tree_block(group, tree)?;
            let root = Node {
                block,
                level: levels,
                left: NO_BLOCK,
                right: NO_BLOCK,
                records: Vec::new(),
                children: vec![left, right],
            };
            self.put_node(group, tree, &root, true)?;
            self.set_tree_root(group, tree, block, levels + 1)?;
        }
        Ok(())
    }

    /// Moves the upper half of an overfull block to a new one on its right, which is written.
    fn split(&mut self, group: u32, tree: Tree, node: &mut Node) -> Result<Node> {
        let block = self.take_tree_block(group, tree)?;
        let (records, children) = node.split_off(node.len().div_ceil(2));
        let right = Node { block, level: node.level, left: node.block, right: node.right, records, children };
        node.right = block;
        self.put_node(group, tree, &right, true)?;
        self.set_left_sibling(group, tree, right.right, node.level, block)?;
        Ok(right)
    }

    /// Tells the right neighbour, if there is one, who is on its left.
    pub(super) fn set_left_sibling(
        &mut self,
        group: u32,
        tree: Tree,
        neighbour: u32,
        level: u32,
        left: u32,
    ) -> Result<()> {
        if neighbour == NO_BLOCK {
            return Ok(());
        }
        let mut node = self.tree_node(group, tree, neighbour, level)?;
        node.left = left;
        self.put_node(group, tree, &node, false)
    }
}
