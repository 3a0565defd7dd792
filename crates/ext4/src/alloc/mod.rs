//! Bitmaps in memory, and taking and giving back blocks and inodes.
//!
//! A group's bitmaps are read when first needed, verified against checksum, descriptor counts and the
//! places of metadata, and written by `flush`. An operation that fails puts the groups it touched back.

mod bitmap;
mod blocks;
mod free;
mod inodes;

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Result, corrupt};
use crate::fs::Ext4;
use crate::group::{Descriptor, GroupFlags};
use crate::superblock::Superblock;

pub(crate) use bitmap::Bitmap;

/// Clean bitmaps that are kept in memory.
const MAX_CLEAN_MAPS: usize = 1024;

/// Bitmaps of one group, as far as they were needed.
#[derive(Clone, Default)]
pub(crate) struct GroupMaps {
    pub blocks: Option<Bitmap>,
    pub inodes: Option<Bitmap>,
    /// No free run of blocks is longer; `None` when not known.
    pub longest_free: Option<u32>,
}

/// A group as it was when the operation under way first changed it.
#[derive(Clone)]
struct Before {
    maps: GroupMaps,
    descriptor: Descriptor,
    was_dirty: bool,
}

/// What the operation under way has taken, so that it can be undone.
#[derive(Clone)]
struct Operation {
    groups: BTreeMap<u32, Before>,
    superblock: Superblock,
    superblock_was_dirty: bool,
    taken_blocks: u64,
    freed_blocks: u64,
    /// Blocks handed out that do not exist, when there were too few.
    overdrawn: u64,
}

/// State of the allocator.
pub(crate) struct Allocator {
    groups: BTreeMap<u32, GroupMaps>,
    dirty: BTreeSet<u32>,
    superblock_dirty: bool,
    /// Ranges of blocks that metadata takes, sorted and disjoint; made when first needed.
    metadata: Option<Vec<(u64, u64)>>,
    operation: Option<Operation>,
}

impl Allocator {
    pub(crate) fn new() -> Self {
        Self {
            groups: BTreeMap::new(),
            dirty: BTreeSet::new(),
            superblock_dirty: false,
            metadata: None,
            operation: None,
        }
    }

    pub(crate) fn mark_superblock(&mut self) {
        self.superblock_dirty = true;
    }
}

impl Ext4 {
    /// Starts an operation: from here on everything can be undone.
    pub(crate) fn begin_operation(&mut self) {
        self.pending.clear();
        self.allocator.operation = Some(Operation {
            groups: BTreeMap::new(),
            superblock: self.superblock.clone(),
            superblock_was_dirty: self.allocator.superblock_dirty,
            taken_blocks: 0,
            freed_blocks: 0,
            overdrawn: 0,
        });
    }

    /// Forgets how to undo the operation under way.
    pub(crate) fn keep_operation(&mut self) {
        self.allocator.operation = None;
        self.drop_clean_maps();
    }

    /// Puts superblock, descriptors and bitmaps back.
    pub(crate) fn undo_operation(&mut self) {
        self.pending.clear();
        let Some(operation) = self.allocator.operation.take() else { return };
        self.superblock = operation.superblock;
        self.allocator.superblock_dirty = operation.superblock_was_dirty;
        for (group, before) in operation.groups {
            if let Some(descriptor) = self.descriptors.get_mut(group as usize) {
                *descriptor = before.descriptor;
            }
            self.allocator.groups.insert(group, before.maps);
            if !before.was_dirty {
                self.allocator.dirty.remove(&group);
            }
        }
    }

    /// The `NoSpace` error of an operation that asked for more blocks than there are.
    pub(crate) fn overdraft(&self) -> Option<vfs::VfsError> {
        let operation = self.allocator.operation.as_ref().filter(|operation| operation.overdrawn > 0)?;
        let bs = self.block_size() as u64;
        let free = operation.superblock.free_blocks();
        let needed = operation.taken_blocks.saturating_sub(operation.freed_blocks).max(free + 1);
        Some(vfs::VfsError::NoSpace {
            filesystem: self.superblock.name(),
            needed_bytes: needed * bs,
            free_bytes: free * bs,
        })
    }

    /// One past the highest block number that may be met now: past the end of the filesystem while an
    /// operation asks for more blocks than there are.
    pub(crate) fn block_limit(&self) -> u64 {
        let overdrawn = self.allocator.operation.as_ref().map_or(0, |operation| operation.overdrawn);
        self.superblock.blocks() + overdrawn
    }

    /// Keeps the state of a group before its first change, and marks it for `flush`.
    fn touch_group(&mut self, group: u32) -> Result<()> {
        let descriptor = self.descriptor(group)?.clone();
        let maps = self.allocator.groups.get(&group).cloned().unwrap_or_default();
        let was_dirty = !self.allocator.dirty.insert(group);
        self.allocator.superblock_dirty = true;
        if let Some(operation) = &mut self.allocator.operation {
            operation.groups.entry(group).or_insert(Before { maps, descriptor, was_dirty });
        }
        Ok(())
    }

    fn drop_clean_maps(&mut self) {
        if self.allocator.groups.len() <= MAX_CLEAN_MAPS + self.allocator.dirty.len() {
            return;
        }
        for (group, maps) in &mut self.allocator.groups {
            if !self.allocator.dirty.contains(group) {
                maps.blocks = None;
                maps.inodes = None;
            }
        }
    }

    /// Changes a descriptor in memory.
    fn change_descriptor(&mut self, group: u32, change: impl FnOnce(&mut Descriptor)) -> Result<()> {
        self.touch_group(group)?;
        if let Some(descriptor) = self.descriptors.get_mut(group as usize) {
            change(descriptor);
        }
        Ok(())
    }

    /// Free blocks and inodes by the descriptors, which are what counts.
    pub(crate) fn descriptor_totals(&self) -> (u64, u64) {
        self.descriptors.iter().fold((0, 0), |(blocks, inodes), descriptor| {
            (blocks + u64::from(descriptor.free_blocks()), inodes + u64::from(descriptor.free_inodes()))
        })
    }

    /// Brings the superblock's totals into line with the descriptors.
    pub(crate) fn settle_totals(&mut self) {
        let (blocks, inodes) = self.descriptor_totals();
        self.superblock.set_free_blocks(blocks * u64::from(self.superblock.cluster_ratio()));
        self.superblock.set_free_inodes(inodes.min(u64::from(u32::MAX)) as u32);
    }

    /// Sorted ranges of blocks (first, one past the last) that superblocks, descriptors, bitmaps and
    /// inode tables take.
    pub(crate) fn metadata_ranges(&self) -> Result<Vec<(u64, u64)>> {
        let mut ranges = Vec::new();
        let table = u64::from(self.superblock.inode_table_blocks());
        for group in 0..self.superblock.groups() {
            let descriptor = self.descriptor(group)?;
            for (start, len) in self.superblock.group_head_blocks(group) {
                ranges.push((start, start + len));
            }
            for (start, len) in [
                (descriptor.block_bitmap(), 1),
                (descriptor.inode_bitmap(), 1),
                (descriptor.inode_table(), table),
            ] {
                ranges.push((start, start + len));
            }
        }
        if self.superblock.features().incompat.contains(crate::feature::Incompat::MMP) {
            ranges.push((self.superblock.mmp_block(), self.superblock.mmp_block() + 1));
        }
        ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                Some(last) if last.1 >= start => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        merged.shrink_to_fit();
        Ok(merged)
    }

    /// Metadata ranges within one group, as bits of its bitmap.
    fn metadata_bits(&mut self, group: u32) -> Result<Vec<(u32, u32)>> {
        if self.allocator.metadata.is_none() {
            self.allocator.metadata = Some(self.metadata_ranges()?);
        }
        let start = self.superblock.group_start(group);
        let end = start + u64::from(self.superblock.group_blocks(group));
        let ranges = self.allocator.metadata.as_deref().unwrap_or(&[]);
        let first = ranges.partition_point(|range| range.1 <= start);
        let inside = ranges.iter().skip(first).take_while(|range| range.0 < end);
        Ok(inside
            .map(|range| ((range.0.max(start) - start) as u32, (range.1.min(end) - start) as u32))
            .collect())
    }

    /// Writes bitmaps, descriptors and superblock that changed.
    pub(crate) fn write_groups(&mut self) -> Result<()> {
        let dirty = std::mem::take(&mut self.allocator.dirty);
        let has_csum = self.superblock.features().has_metadata_csum();
        let mut descriptor_blocks = BTreeSet::new();
        for group in &dirty {
            let maps = self.allocator.groups.get(group).cloned().unwrap_or_default();
            let Some(mut descriptor) = self.descriptors.get(*group as usize).cloned() else { continue };
            let flags = self.group_flags(*group)?;
            if let Some(map) =
                maps.blocks.filter(|map| map.is_dirty() && !flags.contains(GroupFlags::BLOCK_UNINIT))
            {
                if has_csum {
                    let sum =
                        self.superblock.bitmap_checksum(map.bytes(), self.superblock.clusters_per_group());
                    descriptor.set_block_bitmap_checksum(sum);
                }
                self.write_device_block(descriptor.block_bitmap(), map.bytes())?;
            }
            if let Some(map) =
                maps.inodes.filter(|map| map.is_dirty() && !flags.contains(GroupFlags::INODE_UNINIT))
            {
                if has_csum {
                    let sum =
                        self.superblock.bitmap_checksum(map.bytes(), self.superblock.inodes_per_group());
                    descriptor.set_inode_bitmap_checksum(sum);
                }
                self.write_device_block(descriptor.inode_bitmap(), map.bytes())?;
            }
            if let Some(maps) = self.allocator.groups.get_mut(group) {
                maps.blocks.iter_mut().chain(maps.inodes.iter_mut()).for_each(Bitmap::set_clean);
            }
            if self.superblock.features().has_group_checksums() {
                let sum = self.superblock.descriptor_checksum(*group, descriptor.raw());
                descriptor.set_checksum(sum);
            }
            self.descriptors[*group as usize] = descriptor;
            descriptor_blocks.insert(group / self.superblock.descriptors_per_block());
        }
        for index in descriptor_blocks {
            self.write_descriptor_block(index)?;
        }
        if std::mem::take(&mut self.allocator.superblock_dirty) {
            self.settle_totals();
            self.superblock.set_write_time(self.now.seconds);
            let raw = self.superblock.encode();
            self.write_device(crate::superblock::SUPERBLOCK_OFFSET, &raw)?;
        }
        Ok(())
    }

    fn write_descriptor_block(&mut self, index: u32) -> Result<()> {
        let block = self.superblock.descriptor_block(index);
        let mut raw = self.read_block(block)?;
        let per_block = self.superblock.descriptors_per_block() as usize;
        let size = usize::from(self.superblock.descriptor_size());
        let first = index as usize * per_block;
        for (slot, descriptor) in raw.chunks_exact_mut(size).zip(self.descriptors.iter().skip(first)) {
            slot.copy_from_slice(descriptor.raw());
        }
        self.write_device_block(block, &raw)
    }
}

/// Verifies the number of clear bits of a bitmap against a descriptor's count.
fn check_count(what: &str, group: u32, found: u32, recorded: u32) -> Result<()> {
    if found == recorded {
        return Ok(());
    }
    Err(corrupt(
        "ext4.bitmap.count",
        format!("{what} bitmap of group {group}"),
        format!("{recorded} free by the descriptor, {found} by the bitmap"),
    ))
}
