//! From a file's logical blocks to blocks of the filesystem.

pub(crate) mod edit;
pub(crate) mod extent;
mod indirect;
mod indirect_edit;

use crate::error::Result;
use crate::fs::Ext4;
use crate::inode::{Inode, InodeFlags};

/// Most logical blocks that a file can have: numbers are 32 bits wide.
pub(crate) const MAX_LOGICAL: u64 = 1 << 32;

/// Blocks of a file that lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First logical block.
    pub logical: u64,
    /// First block of the filesystem.
    pub physical: u64,
    /// Blocks.
    pub len: u64,
    /// False for preallocated blocks, which read as zero.
    pub is_written: bool,
}

impl Run {
    /// Logical block after the last.
    pub fn end(&self) -> u64 {
        self.logical + self.len
    }
}

/// What lies at one logical block, and how far that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapped {
    /// These blocks, from the one asked for.
    Blocks(Run),
    /// A hole of at least so many blocks.
    Hole(u64),
}

impl Ext4 {
    /// Looks up a logical block of an inode that maps blocks (not inline, no fast symlink).
    pub fn map_block(&self, inode: &Inode, logical: u64) -> Result<Mapped> {
        if inode.has(InodeFlags::EXTENTS) {
            self.map_by_extents(inode, logical)
        } else {
            self.map_by_indirect(inode, logical)
        }
    }

    /// All runs of an inode in logical order, and the blocks that the map itself takes.
    pub fn runs(&self, inode: &Inode) -> Result<(Vec<Run>, Vec<u64>)> {
        if inode.has(InodeFlags::EXTENTS) {
            let tree = self.read_extent_tree(inode)?;
            let mut runs = Vec::new();
            for leaf in &tree.leaves {
                runs.extend_from_slice(&leaf.runs);
            }
            Ok((runs, tree.blocks()))
        } else {
            self.indirect_runs(inode)
        }
    }
}

/// Appends a run, joining it with its predecessor where both go on together.
pub(crate) fn push_run(runs: &mut Vec<Run>, run: Run) {
    if run.len == 0 {
        return;
    }
    match runs.last_mut() {
        Some(last)
            if last.end() == run.logical
                && last.physical + last.len == run.physical
                && last.is_written == run.is_written =>
        {
            last.len += run.len;
        }
        _ => runs.push(run),
    }
}
