//! Taking and giving back blocks.

use super::{Bitmap, check_count};
use crate::error::{Result, corrupt};
use crate::fs::Ext4;
use crate::group::GroupFlags;

/// Blocks that lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub start: u64,
    pub len: u64,
}

impl Ext4 {
    /// Reads and verifies the block bitmap of a group, or builds that of an uninitialised one.
    fn load_block_map(&mut self, group: u32) -> Result<()> {
        if self.allocator.groups.get(&group).is_some_and(|maps| maps.blocks.is_some()) {
            return Ok(());
        }
        let bits = self.superblock.group_blocks(group);
        let metadata = self.metadata_bits(group)?;
        let descriptor = self.descriptor(group)?.clone();
        let map = if self.group_flags(group)?.contains(GroupFlags::BLOCK_UNINIT) {
            let mut map = Bitmap::empty(self.block_size(), bits);
            for (start, end) in &metadata {
                map.set_range(*start, *end, true);
            }
            map
        } else {
            let raw = self.read_block(descriptor.block_bitmap())?;
            if self.superblock.features().has_metadata_csum() {
                let want = self.superblock.bitmap_checksum(&raw, self.superblock.clusters_per_group());
                check_bitmap_sum("block", group, want, descriptor.block_bitmap_checksum())?;
            }
            Bitmap::new(raw, bits)
        };
        if let Some((start, _)) = metadata.iter().find(|(start, end)| !map.all(*start, *end, true)) {
            return Err(corrupt(
                "ext4.bitmap.metadata",
                format!("block bitmap of group {group}"),
                format!(
                    "metadata at or after block {} is marked as free",
                    self.superblock.group_start(group) + u64::from(*start)
                ),
            ));
        }
        check_count("block", group, map.free(), descriptor.free_blocks())?;
        self.allocator.groups.entry(group).or_default().blocks = Some(map);
        Ok(())
    }

    fn block_map(&mut self, group: u32) -> Result<&mut Bitmap> {
        self.load_block_map(group)?;
        self.allocator
            .groups
            .get_mut(&group)
            .and_then(|maps| maps.blocks.as_mut())
            .ok_or_else(|| corrupt("ext4.group.number", format!("group {group}"), "no bitmap"))
    }

    /// Marks blocks of one group as used.
    fn take_bits(&mut self, group: u32, start: u32, len: u32) -> Result<Taken> {
        self.touch_group(group)?;
        self.block_map(group)?.set_range(start, start + len, true);
        self.change_descriptor(group, |descriptor| {
            descriptor.set_free_blocks(descriptor.free_blocks().saturating_sub(len));
            descriptor.set_flags(descriptor.flags() - GroupFlags::BLOCK_UNINIT);
        })?;
        self.count_taken(u64::from(len));
        Ok(Taken { start: self.superblock.group_start(group) + u64::from(start), len: len.into() })
    }

    fn count_taken(&mut self, len: u64) {
        self.superblock.set_free_blocks(self.superblock.free_blocks().saturating_sub(len));
        if let Some(operation) = &mut self.allocator.operation {
            operation.taken_blocks += len;
        }
    }

    /// Longest free run of a group at most: a bound that is exact when it was just computed.
    fn longest_free(&mut self, group: u32) -> Result<u32> {
        if let Some(known) = self.allocator.groups.get(&group).and_then(|maps| maps.longest_free) {
            return Ok(known);
        }
        let longest = self.block_map(group)?.find_run(0, u32::MAX).map_or(0, |(_, len)| len);
        self.allocator.groups.entry(group).or_default().longest_free = Some(longest);
        self.drop_clean_maps();
        Ok(longest)
    }

    /// Takes one run of at most `wanted` blocks, near `goal` and as long as can be had.
    fn take_run(&mut self, goal: u64, wanted: u64) -> Result<Option<Taken>> {
        let groups = self.superblock.groups();
        let (goal_group, goal_bit) = self.superblock.group_of_block(goal).unwrap_or((0, 0));
        let wanted = wanted.min(u64::from(self.superblock.blocks_per_group())) as u32;
        let goal_flags = self.group_flags(goal_group)?;
        if self.descriptor(goal_group)?.free_blocks() > 0 && !goal_flags.contains(GroupFlags::BLOCK_UNINIT) {
            let len = self.block_map(goal_group)?.run_len(goal_bit, wanted);
            if len > 0 {
                return self.take_bits(goal_group, goal_bit, len).map(Some);
            }
        }
        let mut least = wanted;
        while least > 0 {
            for accept_uninit in [false, true] {
                for step in 0..groups {
                    let group = ((u64::from(goal_group) + u64::from(step)) % u64::from(groups)) as u32;
                    let is_uninit = self.group_flags(group)?.contains(GroupFlags::BLOCK_UNINIT);
                    if is_uninit != accept_uninit
                        || self.descriptor(group)?.free_blocks() < least
                        || self.longest_free(group)? < least
                    {
                        continue;
                    }
                    let from = if group == goal_group { goal_bit } else { 0 };
                    let map = self.block_map(group)?;
                    let fits = |run: &(u32, u32)| run.1 >= least;
                    let found = map
                        .find_run(from, wanted)
                        .filter(fits)
                        .or_else(|| map.find_run(0, wanted).filter(fits));
                    let Some((start, len)) = found else {
                        // The bound was too high: learn the right one.
                        self.allocator.groups.entry(group).or_default().longest_free = None;
                        self.longest_free(group)?;
                        continue;
                    };
                    return self.take_bits(group, start, len.min(wanted)).map(Some);
                }
            }
            least = if least == 1 { 0 } else { (least / 4).max(1) };
        }
        Ok(None)
    }

    /// Takes `count` blocks in as few runs as can be, the first near `goal`.
    ///
    /// When there are too few, the rest are numbers past the end of the filesystem: the operation goes on
    /// to find out how many it needs in all, and is then undone ([`Ext4::overdraft`]).
    pub(crate) fn take_blocks(&mut self, goal: u64, count: u64) -> Result<Vec<Taken>> {
        let mut runs = Vec::new();
        let (mut goal, mut left) = (goal, count);
        while left > 0 {
            let run = match self.take_run(goal, left)? {
                Some(run) => run,
                None => {
                    let Some(operation) = &mut self.allocator.operation else { break };
                    let start = self.superblock.blocks() + operation.overdrawn;
                    operation.overdrawn += left;
                    operation.taken_blocks += left;
                    Taken { start, len: left }
                }
            };
            goal = run.start + run.len;
            left -= run.len;
            runs.push(run);
        }
        Ok(runs)
    }

    /// Takes one block near `goal`.
    pub(crate) fn take_block(&mut self, goal: u64) -> Result<u64> {
        Ok(self.take_blocks(goal, 1)?.first().map_or(0, |run| run.start))
    }

    /// Gives blocks back.
    pub(crate) fn free_blocks(&mut self, start: u64, len: u64) -> Result<()> {
        let (mut at, mut left) = (start, len);
        while left > 0 {
            if at >= self.superblock.blocks() && self.overdraft().is_some() {
                return Ok(());
            }
            let Some((group, bit)) = self.superblock.group_of_block(at) else {
                return Err(corrupt(
                    "ext4.block.range",
                    format!("block {at}"),
                    "to be freed, but outside the filesystem",
                ));
            };
            let step = left.min(u64::from(self.superblock.group_blocks(group) - bit)) as u32;
            let end = bit + step;
            let metadata = self.metadata_bits(group)?;
            let is_metadata = metadata.iter().any(|(first, past)| *first < end && bit < *past);
            if is_metadata || !self.block_map(group)?.all(bit, end, true) {
                return Err(corrupt(
                    "ext4.bitmap.free",
                    format!("blocks {at}..{}", at + u64::from(step)),
                    "in use by a file, but free or metadata by the bitmap of the group",
                ));
            }
            self.touch_group(group)?;
            self.block_map(group)?.set_range(bit, end, false);
            if let Some(maps) = self.allocator.groups.get_mut(&group) {
                maps.longest_free = None;
            }
            self.change_descriptor(group, |descriptor| {
                descriptor.set_free_blocks(descriptor.free_blocks() + step)
            })?;
            self.superblock.set_free_blocks(self.superblock.free_blocks() + u64::from(step));
            if let Some(operation) = &mut self.allocator.operation {
                operation.freed_blocks += u64::from(step);
            }
            // What the block would have become no longer matters.
            for block in at..at + u64::from(step) {
                self.pending.remove(&block);
            }
            at += u64::from(step);
            left -= u64::from(step);
        }
        Ok(())
    }
}

/// Compares a bitmap's checksum in the width in which it is stored.
pub(super) fn check_bitmap_sum(what: &str, group: u32, want: u32, (have, mask): (u32, u32)) -> Result<()> {
    if want & mask == have {
        return Ok(());
    }
    Err(corrupt(
        "ext4.bitmap.checksum",
        format!("{what} bitmap of group {group}"),
        format!("checksum {:#010x} expected, {have:#010x} found", want & mask),
    ))
}
