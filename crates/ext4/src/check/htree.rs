//! The htree of a directory: which blocks are index nodes, and which hashes each leaf may hold.

use std::collections::BTreeMap;

use ondisk::{le_u16, le_u32, try_le_u32};

use super::Checker;
use crate::dir::hash::{HashKind, NameHash};
use crate::error::Result;
use crate::feature::Incompat;
use crate::inode::{Inode, InodeFlags};

/// Byte at which the entries of a root and of a node start.
const ROOT_ENTRIES_AT: usize = 0x20;
const NODE_ENTRIES_AT: usize = 0x08;
const BLOCK_MASK: u32 = 0x0fff_ffff;
/// Bit of a key that says that names with the same hash stand in the leaf before, too.
const CONTINUED: u32 = 1;

/// What a logical block of an indexed directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Root,
    Node,
    /// Hashes from the first to the last of these, both included.
    Leaf(u32, u32),
}

/// The tree of one directory.
pub(super) struct Htree {
    pub(super) roles: BTreeMap<u64, Role>,
    /// `None` when names are hashed in a form that is not computed here (case folded or encrypted).
    pub(super) hash: Option<NameHash>,
}

/// A node that waits to be read: logical block, levels below it, hashes that it covers.
struct Todo {
    logical: u64,
    levels: u8,
    low: u32,
    high: u32,
}

impl Checker<'_> {
    /// Reads the tree; `None` when its root makes no sense. `blocks` maps logical to physical blocks.
    pub(super) fn read_htree(&mut self, dir: &Inode, blocks: &BTreeMap<u64, u64>) -> Result<Option<Htree>> {
        let mut raw = vec![0; self.block_bytes()];
        let Some(physical) = blocks.get(&0) else { return Ok(None) };
        self.read_block(*physical, &mut raw)?;
        let (version, info_length, levels) = (raw[0x1c], raw[0x1d], raw[0x1e]);
        let most = if self.has_incompat(Incompat::LARGEDIR) { 2 } else { 1 };
        if le_u32(&raw, 0x18) != 0 || info_length != 8 || levels > most {
            self.htree_problem(dir, 0, format!("information of {info_length} bytes, {levels} levels"));
            return Ok(None);
        }
        let is_opaque = dir.has(InodeFlags::CASEFOLD) || dir.has(InodeFlags::ENCRYPT);
        let kind = HashKind::from_version(version);
        if kind.is_none() && !is_opaque {
            self.htree_problem(dir, 0, format!("hash version {version}"));
            return Ok(None);
        }
        let hash = kind.filter(|_| !is_opaque).map(|kind| NameHash {
            kind,
            seed: self.superblock.hash_seed(),
            is_unsigned: self.superblock.hashes_unsigned(),
        });
        let mut tree = Htree { roles: BTreeMap::from([(0, Role::Root)]), hash };
        let mut todo = Vec::new();
        let root = Todo { logical: 0, levels, low: 0, high: u32::MAX };
        self.read_htree_entries(dir, &root, &raw, ROOT_ENTRIES_AT, &mut tree, &mut todo);
        while let Some(node) = todo.pop() {
            let Some(physical) = blocks.get(&node.logical) else { continue };
            self.read_block(*physical, &mut raw)?;
            if le_u32(&raw, 0) != 0 || self.record_length(le_u16(&raw, 4)) != raw.len() {
                self.htree_problem(dir, node.logical, "a node expected".into());
                continue;
            }
            self.read_htree_entries(dir, &node, &raw, NODE_ENTRIES_AT, &mut tree, &mut todo);
        }
        for logical in blocks.keys() {
            if !tree.roles.contains_key(logical) {
                self.htree_problem(dir, *logical, "the block is not in the tree".into());
            }
        }
        for logical in tree.roles.keys() {
            if !blocks.contains_key(logical) {
                self.htree_problem(
                    dir,
                    *logical,
                    "the tree names a block that the directory does not have".into(),
                );
            }
        }
        Ok(Some(tree))
    }

    fn read_htree_entries(
        &mut self,
        dir: &Inode,
        node: &Todo,
        raw: &[u8],
        at: usize,
        tree: &mut Htree,
        todo: &mut Vec<Todo>,
    ) {
        let (limit, count) = (usize::from(le_u16(raw, at)), usize::from(le_u16(raw, at + 2)));
        let room = (raw.len() - at) / 8 - usize::from(self.has_metadata_csum());
        if limit != room || count == 0 || count > limit {
            self.htree_problem(dir, node.logical, format!("{count} of {limit} entries, room for {room}"));
            return;
        }
        if self.has_metadata_csum() {
            let tail = at + 8 * limit;
            let reserved = try_le_u32(raw, tail).unwrap_or(0);
            let covered = raw.get(..at + 8 * count).unwrap_or_default();
            let expected = dir.seed(&self.superblock).htree(covered, reserved);
            if try_le_u32(raw, tail + 4) != Some(expected) {
                self.report.add(
                    "ext4.check.htree.checksum",
                    format_args!("htree block {} of directory {}", node.logical, dir.number()),
                    format_args!("checksum {expected:#010x} expected"),
                );
            }
        }
        let key = |index: usize| if index == 0 { node.low } else { le_u32(raw, at + 8 * index) };
        for index in 0..count {
            let low = key(index);
            let high = if index + 1 < count { key(index + 1) } else { node.high };
            let logical = u64::from(le_u32(raw, at + 8 * index + 4) & BLOCK_MASK);
            if low > high || low < node.low {
                self.htree_problem(dir, node.logical, format!("key {low:#x} is out of order"));
            }
            let role = if node.levels > 0 { Role::Node } else { Role::Leaf(low & !CONTINUED, high) };
            if tree.roles.insert(logical, role).is_some() {
                self.htree_problem(dir, logical, "the tree names the block twice".into());
                continue;
            }
            if node.levels > 0 {
                todo.push(Todo { logical, levels: node.levels - 1, low, high });
            }
        }
    }

    pub(super) fn htree_problem(&mut self, dir: &Inode, logical: u64, detail: String) {
        self.report.add(
            "ext4.check.htree",
            format_args!("htree block {logical} of directory {}", dir.number()),
            detail,
        );
    }
}
