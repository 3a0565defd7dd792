//! What the block bitmaps hold as free, for copies that leave it out.

use std::ops::Range;

use vfs::FreeRanges;

use super::blocks::check_bitmap_sum;
use super::{Bitmap, check_count};
use crate::error::{Result, corrupt};
use crate::fs::Ext4;
use crate::group::GroupFlags;

impl Ext4 {
    /// Free blocks of all groups as bytes of the device.
    ///
    /// Each bitmap is verified as it is before an allocation: checksum, the descriptor's count, and no metadata in it
    /// as free. A group whose bitmap is not initialised (`BLOCK_UNINIT`) has everything free but the metadata that lies
    /// in it, which with `flex_bg` may be that of other groups.
    pub(crate) fn free_bytes(&self) -> Result<FreeRanges> {
        let metadata = self.metadata_ranges()?;
        let block_size = u64::from(self.superblock.block_size());
        let mut free = FreeRanges::new();
        let mut next_metadata = 0;
        for group in 0..self.superblock.groups() {
            let start = self.superblock.group_start(group);
            let end = start + u64::from(self.superblock.group_blocks(group));
            while metadata.get(next_metadata).is_some_and(|range| range.1 <= start) {
                next_metadata += 1;
            }
            let inside: Vec<(u64, u64)> = metadata
                .iter()
                .skip(next_metadata)
                .take_while(|range| range.0 < end)
                .map(|range| (range.0.max(start), range.1.min(end)))
                .collect();
            self.each_free_run(group, &inside, |run| {
                free.push(run.start * block_size..run.end * block_size);
            })?;
        }
        Ok(free)
    }

    /// Calls `found` with the free runs of a group, in blocks; `metadata` are the blocks in it that are never free.
    fn each_free_run(
        &self,
        group: u32,
        metadata: &[(u64, u64)],
        mut found: impl FnMut(Range<u64>),
    ) -> Result<()> {
        let (start, ratio) = (self.superblock.group_start(group), u64::from(self.superblock.cluster_ratio()));
        let end = start + u64::from(self.superblock.group_blocks(group));
        let bits = (end - start).div_ceil(ratio) as u32;
        // Bits of all clusters that hold metadata.
        let taken: Vec<(u32, u32)> = metadata
            .iter()
            .map(|(from, to)| (((from - start) / ratio) as u32, (to - start).div_ceil(ratio) as u32))
            .collect();
        let map = self.block_map_now(group, bits, &taken)?;
        if let Some((bit, _)) = taken.iter().find(|(from, to)| !map.all(*from, *to, true)) {
            let block = start + u64::from(*bit) * ratio;
            return Err(corrupt(
                "ext4.bitmap.metadata",
                format!("block bitmap of group {group}"),
                format!("metadata at or after block {block} is marked as free"),
            ));
        }
        check_count("block", group, map.free(), self.descriptor(group)?.free_blocks())?;
        let mut at = 0;
        while let Some(bit) = map.first_free(at) {
            at = bit + map.run_len(bit, u32::MAX);
            found(start + u64::from(bit) * ratio..(start + u64::from(at) * ratio).min(end));
        }
        Ok(())
    }

    /// The block bitmap with what waits for `flush`.
    fn block_map_now(&self, group: u32, bits: u32, taken: &[(u32, u32)]) -> Result<Bitmap> {
        if let Some(map) = self.allocator.groups.get(&group).and_then(|maps| maps.blocks.as_ref()) {
            return Ok(map.clone());
        }
        if self.group_flags(group)?.contains(GroupFlags::BLOCK_UNINIT) {
            let mut map = Bitmap::empty(self.block_size(), bits);
            for (from, to) in taken {
                map.set_range(*from, *to, true);
            }
            return Ok(map);
        }
        let descriptor = self.descriptor(group)?;
        let raw = self.read_block(descriptor.block_bitmap())?;
        if self.superblock.features().has_metadata_csum() {
            let want = self.superblock.bitmap_checksum(&raw, self.superblock.clusters_per_group());
            check_bitmap_sum("block", group, want, descriptor.block_bitmap_checksum())?;
        }
        Ok(Bitmap::new(raw, bits))
    }
}
