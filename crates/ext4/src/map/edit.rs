//! Changing block maps: filling holes, cutting the end, making an empty map.

use std::collections::BTreeSet;

use ondisk::{put_le_u16, put_le_u32};

use super::extent::{
    ENTRY_BYTES, EXTENT_MAGIC, ExtentTree, Leaf, MAX_DEPTH, MAX_EXTENT_BLOCKS, ROOT_ENTRIES,
};
use super::{Mapped, Run};
use crate::error::{Result, corrupt};
use crate::feature::Incompat;
use crate::fs::Ext4;
use crate::inode::{Inode, InodeFlags};

/// A part of a file and whether its blocks hold nothing of it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filled {
    pub run: Run,
    /// New, or preallocated until now: whatever is not written must be zeroed.
    pub is_fresh: bool,
}

impl Ext4 {
    /// Gives an inode an empty map of the kind that new files have.
    pub(crate) fn init_map(&self, inode: &mut Inode) {
        inode.i_block_mut().fill(0);
        let has_extents = self.superblock.features().incompat.contains(Incompat::EXTENTS);
        let mut flags = inode.flags();
        flags.set(InodeFlags::EXTENTS, has_extents);
        inode.set_flags(flags);
        self.clear_map(inode);
    }

    /// Empties the map of an inode, whose blocks were given back.
    pub(crate) fn clear_map(&self, inode: &mut Inode) {
        let is_extents = inode.has(InodeFlags::EXTENTS);
        let root = inode.i_block_mut();
        root.fill(0);
        if is_extents {
            put_le_u16(root, 0, EXTENT_MAGIC);
            put_le_u16(root, 4, ROOT_ENTRIES as u16);
        }
    }

    /// Adds to (or takes from) the storage that an inode is charged with.
    pub(crate) fn charge_blocks(&self, inode: &mut Inode, more: i64) -> Result<()> {
        let per_block = i64::from(self.superblock.block_size() / 512);
        let sectors = inode.sectors(&self.superblock);
        let blocks = (sectors / per_block as u64).checked_add_signed(more).ok_or_else(|| {
            corrupt(
                "ext4.inode.blocks",
                format!("inode {}", inode.number()),
                format!("{sectors} sectors are charged, fewer than the file has"),
            )
        })?;
        inode.set_blocks(&self.superblock, blocks)
    }

    /// Where the next blocks of an inode should lie, given the run before them.
    pub(crate) fn allocation_goal(&self, inode: &Inode, before: Option<Run>) -> u64 {
        match before {
            Some(run) => run.physical + run.len,
            None => {
                let group = self.superblock.group_of_inode(inode.number()).map_or(0, |(group, _)| group);
                self.superblock.group_start(group)
            }
        }
    }

    /// Gives every logical block of `first..end` a block that counts as written.
    pub(crate) fn fill_map(&mut self, inode: &mut Inode, first: u64, end: u64) -> Result<Vec<Filled>> {
        let mut filled = Vec::new();
        let mut missing: Vec<(u64, u64, Option<u64>)> = Vec::new();
        let mut at = first;
        while at < end {
            match self.map_block(inode, at)? {
                Mapped::Blocks(mut run) => {
                    run.len = run.len.min(end - at);
                    at = run.end();
                    if !run.is_written {
                        missing.push((run.logical, run.len, Some(run.physical)));
                    }
                    filled.push(Filled { run, is_fresh: !run.is_written });
                }
                Mapped::Hole(len) => {
                    let len = len.min(end - at);
                    match missing.last_mut() {
                        Some((start, have, None)) if *start + *have == at => *have += len,
                        _ => missing.push((at, len, None)),
                    }
                    at += len;
                }
            }
        }
        if missing.is_empty() {
            return Ok(filled);
        }
        filled.retain(|part| !part.is_fresh);
        let mut fresh = Vec::new();
        for (logical, len, physical) in missing {
            if let Some(physical) = physical {
                fresh.push(Run { logical, physical, len, is_written: true });
                continue;
            }
            let before = self.run_before(inode, logical)?;
            let mut next = logical;
            let taken = self.take_blocks(self.allocation_goal(inode, before), len)?;
            self.charge_blocks(inode, len as i64)?;
            for run in taken {
                fresh.push(Run { logical: next, physical: run.start, len: run.len, is_written: true });
                next += run.len;
            }
        }
        if inode.has(InodeFlags::EXTENTS) {
            let mut tree = self.read_extent_tree(inode)?;
            let old = tree.clone();
            for run in &fresh {
                tree.replace(*run);
            }
            self.store_extent_tree(inode, tree, &old)?;
        } else {
            self.set_indirect(inode, &fresh)?;
        }
        filled.extend(fresh.into_iter().map(|run| Filled { run, is_fresh: true }));
        filled.sort_by_key(|part| part.run.logical);
        Ok(filled)
    }

    /// The run that ends at or before `logical`, if it is the block before.
    fn run_before(&self, inode: &Inode, logical: u64) -> Result<Option<Run>> {
        let Some(before) = logical.checked_sub(1) else { return Ok(None) };
        Ok(match self.map_block(inode, before)? {
            Mapped::Blocks(run) => Some(Run { len: 1, ..run }),
            Mapped::Hole(_) => None,
        })
    }

    /// Gives back all blocks from logical block `keep` on, and what of the map is no longer needed.
    pub(crate) fn cut_map(&mut self, inode: &mut Inode, keep: u64) -> Result<()> {
        if !inode.has(InodeFlags::EXTENTS) {
            return self.cut_indirect(inode, keep);
        }
        let mut tree = self.read_extent_tree(inode)?;
        let old = tree.clone();
        let gone = tree.cut(keep);
        if gone.is_empty() {
            return Ok(());
        }
        for run in gone {
            self.free_blocks(run.physical, run.len)?;
            self.charge_blocks(inode, -(run.len as i64))?;
        }
        self.store_extent_tree(inode, tree, &old)
    }

    /// Writes a changed tree: leaves that did not change stay where and as they are.
    fn store_extent_tree(&mut self, inode: &mut Inode, tree: ExtentTree, old: &ExtentTree) -> Result<()> {
        let capacity = self.extent_block_entries();
        let mut leaves = tree.leaves;
        leaves.retain(|leaf| !leaf.runs.is_empty());
        let total: usize = leaves.iter().map(|leaf| leaf.runs.len()).sum();
        let mut unused: Vec<u64> = old.blocks();
        if total <= ROOT_ENTRIES {
            let runs: Vec<Run> = leaves.into_iter().flat_map(|leaf| leaf.runs).collect();
            encode_node(inode.i_block_mut(), ROOT_ENTRIES, 0, NodeEntries::Runs(&runs));
            return self.free_map_blocks(inode, &unused);
        }
        let mut split = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            let mut block = leaf.block;
            for runs in leaf.runs.chunks(capacity) {
                split.push(Leaf { block: block.take(), runs: runs.to_vec() });
            }
        }
        let goal =
            split.iter().find_map(|leaf| leaf.block).unwrap_or_else(|| self.allocation_goal(inode, None));
        let kept: BTreeSet<u64> = split.iter().filter_map(|leaf| leaf.block).collect();
        unused.retain(|block| !kept.contains(block));
        let mut children = Vec::with_capacity(split.len());
        for leaf in &split {
            let (block, is_new) = self.map_node_block(inode, leaf.block, goal)?;
            self.put_extent_block(inode, block, is_new, 0, NodeEntries::Runs(&leaf.runs))?;
            children.push((leaf.runs.first().map_or(0, |run| run.logical), block));
        }
        let mut old_index = old.index_blocks.iter().copied();
        let mut depth = 1;
        while children.len() > ROOT_ENTRIES {
            let mut above = Vec::new();
            for chunk in children.chunks(capacity) {
                let reused = old_index.next();
                unused.retain(|block| Some(*block) != reused);
                let (block, is_new) = self.map_node_block(inode, reused, goal)?;
                self.put_extent_block(inode, block, is_new, depth, NodeEntries::Children(chunk))?;
                above.push((chunk.first().map_or(0, |child| child.0), block));
            }
            children = above;
            depth += 1;
            if depth > MAX_DEPTH {
                return Err(vfs::VfsError::Limit {
                    path: format!("inode {}", inode.number()),
                    limit: format!("more extents than a tree of depth {MAX_DEPTH} holds"),
                });
            }
        }
        encode_node(inode.i_block_mut(), ROOT_ENTRIES, depth, NodeEntries::Children(&children));
        self.free_map_blocks(inode, &unused)
    }

    /// A block for a node of the map: the one it has, or a new one.
    fn map_node_block(&mut self, inode: &mut Inode, block: Option<u64>, goal: u64) -> Result<(u64, bool)> {
        if let Some(block) = block {
            return Ok((block, false));
        }
        let block = self.take_block(goal)?;
        self.charge_blocks(inode, 1)?;
        Ok((block, true))
    }

    fn free_map_blocks(&mut self, inode: &mut Inode, blocks: &[u64]) -> Result<()> {
        for block in blocks {
            self.free_blocks(*block, 1)?;
            self.charge_blocks(inode, -1)?;
        }
        Ok(())
    }

    fn put_extent_block(
        &mut self,
        inode: &Inode,
        block: u64,
        is_new: bool,
        depth: u16,
        entries: NodeEntries<'_>,
    ) -> Result<()> {
        let mut raw = if is_new { vec![0; self.block_size()] } else { self.read_block(block)? };
        let capacity = self.extent_block_entries();
        encode_node(&mut raw, capacity, depth, entries);
        if self.superblock.features().has_metadata_csum() {
            let at = ENTRY_BYTES * (1 + capacity);
            let sum = inode.seed(&self.superblock).bytes(&raw[..at]);
            put_le_u32(&mut raw, at, sum);
        }
        self.put_block(block, raw, is_new)
    }
}

#[derive(Clone, Copy)]
enum NodeEntries<'a> {
    Runs(&'a [Run]),
    Children(&'a [(u64, u64)]),
}

/// Writes header and entries; `raw` has room for `capacity` of them.
fn encode_node(raw: &mut [u8], capacity: usize, depth: u16, entries: NodeEntries<'_>) {
    let count = match entries {
        NodeEntries::Runs(runs) => runs.len(),
        NodeEntries::Children(children) => children.len(),
    };
    put_le_u16(raw, 0, EXTENT_MAGIC);
    put_le_u16(raw, 2, count as u16);
    put_le_u16(raw, 4, capacity as u16);
    put_le_u16(raw, 6, depth);
    match entries {
        NodeEntries::Runs(runs) => {
            for (index, run) in runs.iter().enumerate() {
                let at = ENTRY_BYTES * (1 + index);
                let ee_len = if run.is_written { run.len } else { run.len + MAX_EXTENT_BLOCKS };
                put_le_u32(raw, at, run.logical as u32);
                put_le_u16(raw, at + 4, ee_len as u16);
                put_le_u16(raw, at + 6, (run.physical >> 32) as u16);
                put_le_u32(raw, at + 8, run.physical as u32);
            }
        }
        NodeEntries::Children(children) => {
            for (index, (logical, block)) in children.iter().enumerate() {
                let at = ENTRY_BYTES * (1 + index);
                put_le_u32(raw, at, *logical as u32);
                put_le_u32(raw, at + 4, *block as u32);
                put_le_u16(raw, at + 8, (block >> 32) as u16);
                put_le_u16(raw, at + 10, 0);
            }
        }
    }
}

fn longest(is_written: bool) -> u64 {
    if is_written { MAX_EXTENT_BLOCKS } else { MAX_EXTENT_BLOCKS - 1 }
}

/// Appends a run, joined with its predecessor as far as one extent may reach.
fn push_extent(runs: &mut Vec<Run>, mut run: Run) {
    if let Some(last) = runs.last_mut()
        && last.end() == run.logical
        && last.physical + last.len == run.physical
        && last.is_written == run.is_written
    {
        let more = run.len.min(longest(run.is_written).saturating_sub(last.len));
        last.len += more;
        run = Run { logical: run.logical + more, physical: run.physical + more, len: run.len - more, ..run };
    }
    while run.len > 0 {
        let len = run.len.min(longest(run.is_written));
        runs.push(Run { len, ..run });
        run = Run { logical: run.logical + len, physical: run.physical + len, len: run.len - len, ..run };
    }
}

impl ExtentTree {
    /// Puts `new` in place of whatever covers its logical blocks.
    fn replace(&mut self, new: Run) {
        let home = self
            .leaves
            .iter()
            .rposition(|leaf| leaf.runs.first().is_some_and(|run| run.logical <= new.logical))
            .or_else(|| self.leaves.iter().position(|leaf| !leaf.runs.is_empty()))
            .unwrap_or(0);
        if self.leaves.is_empty() {
            self.leaves.push(Leaf { block: None, runs: Vec::new() });
        }
        for (index, leaf) in self.leaves.iter_mut().enumerate().skip(home) {
            let starts_after = leaf.runs.first().is_some_and(|run| run.logical >= new.end());
            if index > home && starts_after {
                break;
            }
            let mut runs = Vec::with_capacity(leaf.runs.len() + 2);
            let mut is_placed = index != home;
            for run in leaf.runs.drain(..) {
                if run.logical < new.logical {
                    push_extent(&mut runs, Run { len: run.len.min(new.logical - run.logical), ..run });
                }
                if !is_placed && run.end() > new.logical {
                    push_extent(&mut runs, new);
                    is_placed = true;
                }
                if run.end() > new.end() {
                    let skip = new.end().saturating_sub(run.logical);
                    let rest = Run {
                        logical: run.logical + skip,
                        physical: run.physical + skip,
                        len: run.len - skip,
                        ..run
                    };
                    push_extent(&mut runs, rest);
                }
            }
            if !is_placed {
                push_extent(&mut runs, new);
            }
            leaf.runs = runs;
        }
    }

    /// Drops everything from logical block `keep` on and returns it.
    fn cut(&mut self, keep: u64) -> Vec<Run> {
        let mut gone = Vec::new();
        for leaf in &mut self.leaves {
            leaf.runs.retain_mut(|run| {
                if run.end() <= keep {
                    return true;
                }
                let kept = keep.saturating_sub(run.logical);
                gone.push(Run {
                    logical: run.logical + kept,
                    physical: run.physical + kept,
                    len: run.len - kept,
                    ..*run
                });
                run.len = kept;
                kept > 0
            });
        }
        gone
    }
}
