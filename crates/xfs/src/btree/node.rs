//! One block of a B+tree, taken apart and put together.

use ondisk::{be_u16, be_u32, put_be_u16, put_be_u32};

use super::{KEY_BYTES, Key, RECORD_BYTES, Record, Tree};
use crate::buffer::Stamp;
use crate::error::{Result, corrupt};
use crate::fs::Xfs;

/// No sibling.
pub(crate) const NO_BLOCK: u32 = u32::MAX;

/// A pointer of an inner block with the keys of what is below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Child {
    /// Low key as on disk.
    pub low: Key,
    /// High key as on disk; equal to `low` where the tree has none.
    pub high: Key,
    pub block: u32,
}

/// A block: records at level 0, children above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub block: u32,
    pub level: u32,
    pub left: u32,
    pub right: u32,
    pub records: Vec<Record>,
    pub children: Vec<Child>,
}

impl Node {
    pub(crate) fn len(&self) -> usize {
        if self.level == 0 { self.records.len() } else { self.children.len() }
    }

    /// What the parent says of this block; `None` when it is empty.
    pub(crate) fn as_child(&self, tree: Tree) -> Option<Child> {
        let (low, high) = if self.level == 0 {
            let low = tree.disk_key(self.records.first()?);
            (low, self.records.iter().map(|record| tree.disk_high_key(record)).max().unwrap_or(low))
        } else {
            let low = self.children.first()?.low;
            (low, self.children.iter().map(|child| child.high).max().unwrap_or(low))
        };
        Some(Child { low, high: if tree.has_high_keys() { high } else { low }, block: self.block })
    }

    /// Moves entries from `at` on out.
    pub(crate) fn split_off(&mut self, at: usize) -> (Vec<Record>, Vec<Child>) {
        if self.level == 0 {
            (self.records.split_off(at.min(self.records.len())), Vec::new())
        } else {
            (Vec::new(), self.children.split_off(at.min(self.children.len())))
        }
    }
}

impl Xfs {
    fn node_header(&self) -> usize {
        if self.geo.is_v5 { 56 } else { 16 }
    }

    /// Most records or children of a block at a level.
    pub(crate) fn node_capacity(&self, tree: Tree, level: u32) -> usize {
        let room = self.geo.block_size - self.node_header();
        if level == 0 { room / tree.record_len() } else { room / (key_stride(tree) + 4) }
    }

    /// Reads and checks a block of a tree; `level` counts from the leaves.
    pub(crate) fn tree_node(&self, group: u32, tree: Tree, block: u32, level: u32) -> Result<Node> {
        let what = || format!("{} block {block} of group {group}", tree.name());
        let bad = |detail: String| corrupt("xfs.btree", what(), detail);
        if block == 0 {
            return Err(bad("block 0 is no block of a tree".into()));
        }
        let raw = self.read_block(group, block)?;
        let magic = tree.magic(self.geo.is_v5);
        if be_u32(&raw, 0) != magic {
            return Err(bad(format!("magic {magic:#010x} expected, {:#010x} found", be_u32(&raw, 0))));
        }
        self.verify(&Stamp::AG_BTREE, &raw, self.geo.byte(group, block), group.into(), &what)?;
        if u32::from(be_u16(&raw, 4)) != level {
            return Err(bad(format!("level {level} expected, {} found", be_u16(&raw, 4))));
        }
        let (count, most) = (usize::from(be_u16(&raw, 6)), self.node_capacity(tree, level));
        if count > most {
            return Err(bad(format!("{count} entries, {most} at most")));
        }
        let mut node = Node {
            block,
            level,
            left: be_u32(&raw, 8),
            right: be_u32(&raw, 12),
            records: Vec::new(),
            children: Vec::new(),
        };
        let body = &raw[self.node_header()..];
        if level == 0 {
            let len = tree.record_len();
            node.records.extend(body.chunks_exact(len).take(count).map(|raw| {
                let mut record = [0; RECORD_BYTES];
                record[..len].copy_from_slice(raw);
                record
            }));
        } else {
            let (len, stride) = (tree.key_len(), key_stride(tree));
            // Pointers follow the keys of a full block.
            let pointers = &body[most * stride..];
            for index in 0..count {
                let key_at = |at: usize| {
                    let mut key = [0; KEY_BYTES];
                    key[..len].copy_from_slice(&body[at..at + len]);
                    key
                };
                let low = key_at(index * stride);
                let high = if tree.has_high_keys() { key_at(index * stride + len) } else { low };
                node.children.push(Child { low, high, block: be_u32(pointers, index * 4) });
            }
            if count == 0 {
                return Err(bad("an inner block without children".into()));
            }
        }
        Ok(node)
    }

    /// Changes a block of a tree. Bytes behind its entries stay as they were where the block was of the tree.
    pub(crate) fn put_node(&mut self, group: u32, tree: Tree, node: &Node, is_new: bool) -> Result<()> {
        let mut raw = if is_new { vec![0; self.geo.block_size] } else { self.read_block(group, node.block)? };
        let header = self.node_header();
        put_be_u32(&mut raw, 0, tree.magic(self.geo.is_v5));
        put_be_u16(&mut raw, 4, node.level as u16);
        put_be_u16(&mut raw, 6, node.len() as u16);
        put_be_u32(&mut raw, 8, node.left);
        put_be_u32(&mut raw, 12, node.right);
        let most = self.node_capacity(tree, node.level);
        if node.len() > most {
            return Err(corrupt("xfs.btree", tree.name(), format!("{} entries, {most} at most", node.len())));
        }
        let body = &mut raw[header..];
        if node.level == 0 {
            let len = tree.record_len();
            for (slot, record) in body.chunks_exact_mut(len).zip(&node.records) {
                slot.copy_from_slice(&record[..len]);
            }
        } else {
            let (len, stride) = (tree.key_len(), key_stride(tree));
            for (index, child) in node.children.iter().enumerate() {
                let at = index * stride;
                body[at..at + len].copy_from_slice(&child.low[..len]);
                if tree.has_high_keys() {
                    body[at + len..at + 2 * len].copy_from_slice(&child.high[..len]);
                }
                put_be_u32(body, most * stride + index * 4, child.block);
            }
        }
        let byte = self.geo.byte(group, node.block);
        self.seal(&Stamp::AG_BTREE, &mut raw, byte, group.into());
        self.put_unit(byte, raw)
    }
}

/// Bytes from one key of a node to the next.
fn key_stride(tree: Tree) -> usize {
    tree.key_len() * if tree.has_high_keys() { 2 } else { 1 }
}
