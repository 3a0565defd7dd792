//! Reading extent trees (the kernel's `Documentation/filesystems/ext4/ifork.rst`).

use ondisk::{le_u16, le_u32};

use super::{MAX_LOGICAL, Mapped, Run};
use crate::error::{Result, corrupt};
use crate::fs::Ext4;
use crate::inode::Inode;

pub(crate) const EXTENT_MAGIC: u16 = 0xf30a;
/// Bytes of a header and of an entry.
pub(crate) const ENTRY_BYTES: usize = 12;
/// Entries in the root, which lies in the inode.
pub(crate) const ROOT_ENTRIES: usize = 4;
/// Deepest tree that can be needed.
pub(crate) const MAX_DEPTH: u16 = 5;
/// Longest written extent; a stored length above it means a preallocated one.
pub(crate) const MAX_EXTENT_BLOCKS: u64 = 32768;
/// Most extents of one file that are held in memory.
const MAX_EXTENTS: usize = 4 << 20;

/// A parsed node.
struct Node {
    depth: u16,
    /// `(first logical block, child block)` of an index node.
    children: Vec<(u64, u64)>,
    runs: Vec<Run>,
}

/// A leaf of a whole tree in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Where it lies; `None` for the root in the inode and for new leaves.
    pub block: Option<u64>,
    pub runs: Vec<Run>,
}

/// A whole tree in memory.
#[derive(Debug, Clone)]
pub(crate) struct ExtentTree {
    /// Index nodes below the root.
    pub index_blocks: Vec<u64>,
    pub leaves: Vec<Leaf>,
}

impl ExtentTree {
    /// All blocks that the tree takes outside the inode.
    pub(crate) fn blocks(&self) -> Vec<u64> {
        let mut blocks = self.index_blocks.clone();
        blocks.extend(self.leaves.iter().filter_map(|leaf| leaf.block));
        blocks
    }
}

impl Ext4 {
    fn bad_tree(&self, inode: &Inode, block: Option<u64>, detail: String) -> vfs::VfsError {
        let place = match block {
            Some(block) => format!("extent block {block} of inode {}", inode.number()),
            None => format!("extent root of inode {}", inode.number()),
        };
        corrupt("ext4.extent.invalid", place, detail)
    }

    /// Entries that fit in an extent block.
    pub(crate) fn extent_block_entries(&self) -> usize {
        (self.block_size() - ENTRY_BYTES) / ENTRY_BYTES
    }

    fn parse_extent_node(&self, inode: &Inode, block: Option<u64>, raw: &[u8]) -> Result<Node> {
        let bad = |detail| self.bad_tree(inode, block, detail);
        let magic = le_u16(raw, 0);
        let (entries, max, depth) =
            (usize::from(le_u16(raw, 2)), usize::from(le_u16(raw, 4)), le_u16(raw, 6));
        if magic != EXTENT_MAGIC {
            return Err(bad(format!("magic {EXTENT_MAGIC:#x} expected, {magic:#x} found")));
        }
        let room = match block {
            None => ROOT_ENTRIES,
            Some(_) => self.extent_block_entries(),
        };
        if entries > max || max > room || depth > MAX_DEPTH {
            return Err(bad(format!(
                "{entries} of {max} entries, depth {depth}; at most {room}, depth {MAX_DEPTH}"
            )));
        }
        if block.is_some() && self.superblock.features().has_metadata_csum() {
            let at = ENTRY_BYTES * (1 + max);
            // In blocks without room for the tail the kernel keeps none.
            let have = ondisk::try_le_u32(raw, at);
            let want = inode.seed(&self.superblock).bytes(raw.get(..at).unwrap_or(raw));
            if have != Some(want) {
                return Err(corrupt(
                    "ext4.extent.checksum",
                    format!("extent block {} of inode {}", block.unwrap_or(0), inode.number()),
                    format!("checksum {want:#010x} expected, {:#010x} found", have.unwrap_or(0)),
                ));
            }
        }
        let mut node = Node { depth, children: Vec::new(), runs: Vec::new() };
        let mut next = 0u64;
        for index in 0..entries {
            let at = ENTRY_BYTES * (1 + index);
            let logical = u64::from(le_u32(raw, at));
            if index > 0 && logical < next {
                return Err(bad(format!("entry {index} starts at logical block {logical}, before {next}")));
            }
            if depth > 0 {
                let child = u64::from(le_u32(raw, at + 4)) | u64::from(le_u16(raw, at + 8)) << 32;
                node.children.push((logical, child));
                next = logical + 1;
                continue;
            }
            let ee_len = u64::from(le_u16(raw, at + 4));
            let is_written = ee_len <= MAX_EXTENT_BLOCKS;
            let len = if is_written { ee_len } else { ee_len - MAX_EXTENT_BLOCKS };
            let physical = u64::from(le_u16(raw, at + 6)) << 32 | u64::from(le_u32(raw, at + 8));
            if len == 0
                || logical + len > MAX_LOGICAL
                || physical <= u64::from(self.superblock.first_data_block())
                || physical + len > self.block_limit()
            {
                return Err(bad(format!(
                    "entry {index}: {len} blocks at {physical} for logical block {logical} of a filesystem with {} blocks",
                    self.superblock.blocks()
                )));
            }
            node.runs.push(Run { logical, physical, len, is_written });
            next = logical + len;
        }
        Ok(node)
    }

    fn read_extent_node(&self, inode: &Inode, block: u64, depth: u16, first: u64) -> Result<Node> {
        let raw = self.read_block(block)?;
        let node = self.parse_extent_node(inode, Some(block), &raw)?;
        if node.depth != depth {
            return Err(self.bad_tree(
                inode,
                Some(block),
                format!("depth {depth} expected, {} found", node.depth),
            ));
        }
        let start = node.children.first().map(|child| child.0).or(node.runs.first().map(|run| run.logical));
        if start.is_some_and(|start| start < first) {
            return Err(self.bad_tree(
                inode,
                Some(block),
                format!("starts at logical block {}, before its key {first}", start.unwrap_or(0)),
            ));
        }
        Ok(node)
    }

    pub(super) fn map_by_extents(&self, inode: &Inode, logical: u64) -> Result<Mapped> {
        let mut node = self.parse_extent_node(inode, None, inode.i_block())?;
        // First logical block behind the subtree that is being walked.
        let mut end = MAX_LOGICAL;
        while node.depth > 0 {
            let after = node.children.partition_point(|child| child.0 <= logical);
            if let Some(next) = node.children.get(after) {
                end = end.min(next.0);
            }
            let Some((first, child)) = after.checked_sub(1).and_then(|index| node.children.get(index)) else {
                return Ok(Mapped::Hole(end - logical.min(end - 1)));
            };
            node = self.read_extent_node(inode, *child, node.depth - 1, *first)?;
        }
        let after = node.runs.partition_point(|run| run.logical <= logical);
        if let Some(run) = after.checked_sub(1).and_then(|index| node.runs.get(index))
            && logical < run.end()
        {
            let skip = logical - run.logical;
            return Ok(Mapped::Blocks(Run {
                logical,
                physical: run.physical + skip,
                len: run.len - skip,
                is_written: run.is_written,
            }));
        }
        let next = node.runs.get(after).map_or(end, |run| run.logical.min(end));
        Ok(Mapped::Hole(next.saturating_sub(logical).max(1)))
    }

    /// Reads a whole tree.
    pub(crate) fn read_extent_tree(&self, inode: &Inode) -> Result<ExtentTree> {
        let root = self.parse_extent_node(inode, None, inode.i_block())?;
        let mut tree = ExtentTree { index_blocks: Vec::new(), leaves: Vec::new() };
        if root.depth == 0 {
            tree.leaves.push(Leaf { block: None, runs: root.runs });
            return Ok(tree);
        }
        let mut extents = 0;
        let mut end = 0;
        // Nodes still to visit, the next one last: depth, first logical block, block.
        let mut todo: Vec<(u16, u64, u64)> =
            root.children.iter().rev().map(|(first, child)| (root.depth - 1, *first, *child)).collect();
        let mut steps = 0u64;
        while let Some((depth, first, block)) = todo.pop() {
            steps += 1;
            if steps > self.superblock.blocks() {
                return Err(self.bad_tree(
                    inode,
                    Some(block),
                    "more extent blocks than the filesystem has".into(),
                ));
            }
            let node = self.read_extent_node(inode, block, depth, first)?;
            if depth > 0 {
                tree.index_blocks.push(block);
                todo.extend(node.children.iter().rev().map(|(first, child)| (depth - 1, *first, *child)));
                continue;
            }
            if let Some(run) = node.runs.first()
                && run.logical < end
            {
                return Err(self.bad_tree(
                    inode,
                    Some(block),
                    format!(
                        "starts at logical block {}, before {end}, where the leaf before it ends",
                        run.logical
                    ),
                ));
            }
            end = node.runs.last().map_or(end, Run::end);
            extents += node.runs.len();
            if extents > MAX_EXTENTS {
                return Err(crate::error::unsupported(
                    "ext4.limit.extents",
                    format!("inode {} with more than {MAX_EXTENTS} extents", inode.number()),
                    "",
                ));
            }
            tree.leaves.push(Leaf { block: Some(block), runs: node.runs });
        }
        Ok(tree)
    }
}
