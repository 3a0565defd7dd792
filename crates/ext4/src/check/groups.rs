//! Group descriptors, the places of metadata, and at the end bitmaps and counts against what was found.

use super::Checker;
use super::notes::State;
use crate::error::Result;
use crate::feature::Incompat;
use crate::group::{Descriptor, GroupFlags};
use vfs::FileKind;

impl Checker<'_> {
    /// Reads the descriptors and claims all metadata that they and the layout name.
    pub(super) fn check_groups(&mut self) -> Result<()> {
        let (descriptors, _) = self.superblock.read_descriptors(self.dev)?;
        for (group, descriptor) in descriptors.iter().enumerate() {
            if let Err(error) = self.superblock.check_descriptor(group as u32, descriptor) {
                self.report.add("ext4.check.group", format_args!("group {group}"), error);
            }
        }
        self.groups = descriptors;
        self.check_group_flags();
        if self.superblock.cluster_ratio() > 1 {
            // The boot block of 1 KiB blocks shares the first cluster with the superblock.
            self.clusters.set(0);
        }
        for group in 0..self.superblock.groups() {
            for (start, len) in self.superblock.group_head_blocks(group) {
                self.claim_metadata(start, len, group);
            }
        }
        let table_blocks = u64::from(self.superblock.inode_table_blocks());
        for group in 0..self.superblock.groups() {
            let Some(descriptor) = self.groups.get(group as usize) else { break };
            let places = [
                (descriptor.block_bitmap(), 1),
                (descriptor.inode_bitmap(), 1),
                (descriptor.inode_table(), table_blocks),
            ];
            for (start, len) in places {
                self.claim_metadata(start, len, group);
            }
        }
        if self.has_incompat(Incompat::MMP) {
            let block = self.superblock.mmp_block();
            self.claim_metadata(block, 1, 0);
        }
        Ok(())
    }

    fn check_group_flags(&mut self) {
        let has_sums = self.superblock.features().has_group_checksums();
        let uninit = GroupFlags::INODE_UNINIT | GroupFlags::BLOCK_UNINIT;
        for (group, descriptor) in self.groups.iter().enumerate() {
            let flags = descriptor.flags();
            let is_last = group + 1 == self.groups.len();
            let detail = if !has_sums && (flags.intersects(uninit) || descriptor.itable_unused() != 0) {
                "marked as not initialised without the feature for it"
            } else if is_last && flags.contains(GroupFlags::BLOCK_UNINIT) {
                "the block bitmap of the last group is not initialised"
            } else {
                continue;
            };
            self.report.add("ext4.check.group.flags", format_args!("group {group}"), detail);
        }
    }

    fn claim_metadata(&mut self, start: u64, len: u64, group: u32) {
        // Wrong places were reported with the descriptor.
        let end = start.saturating_add(len).min(self.superblock.blocks());
        let ratio = u64::from(self.superblock.cluster_ratio());
        let mut block = start.max(self.superblock.first_data_block().into());
        while block < end {
            let cluster = self.cluster_of(block);
            // Several pieces of metadata may share a cluster.
            let was_set = self.clusters.set(cluster);
            if was_set && ratio == 1 {
                self.report.add(
                    "ext4.check.block.shared",
                    format_args!("metadata of group {group}"),
                    format_args!("block {block} is metadata twice"),
                );
            } else if !was_set && let Some((home, _)) = self.superblock.group_of_block(block) {
                let is_uninit = self.flags(home).contains(GroupFlags::BLOCK_UNINIT);
                if is_uninit {
                    *self.uninit_metadata.entry(home).or_default() += 1;
                }
            }
            block += ratio - (block - u64::from(self.superblock.first_data_block())) % ratio;
        }
    }

    /// Flags of a group; none without group checksums.
    pub(super) fn flags(&self, group: u32) -> GroupFlags {
        match self.groups.get(group as usize) {
            Some(descriptor) if self.superblock.features().has_group_checksums() => descriptor.flags(),
            _ => GroupFlags::empty(),
        }
    }

    /// Compares bitmaps and counts of all groups, and the sums in the superblock.
    pub(super) fn check_bitmaps(&mut self) -> Result<()> {
        let mut free_clusters = 0u64;
        let mut free_inodes = 0u64;
        let descriptors = std::mem::take(&mut self.groups);
        for (group, descriptor) in descriptors.iter().enumerate() {
            let group = group as u32;
            free_clusters += self.check_block_bitmap(group, descriptor)?;
            free_inodes += self.check_inode_bitmap(group, descriptor)?;
        }
        self.groups = descriptors;
        let free_blocks = free_clusters * u64::from(self.superblock.cluster_ratio());
        for (code, what, found, expected) in [
            ("ext4.check.superblock.free-blocks", "free blocks", self.superblock.free_blocks(), free_blocks),
            (
                "ext4.check.superblock.free-inodes",
                "free inodes",
                self.superblock.free_inodes().into(),
                free_inodes,
            ),
        ] {
            if found != expected {
                self.report.add(code, "superblock", format_args!("{found} {what}, expected {expected}"));
            }
        }
        self.report.blocks_in_use = self.clusters.count();
        Ok(())
    }

    fn check_block_bitmap(&mut self, group: u32, descriptor: &Descriptor) -> Result<u64> {
        let ratio = u64::from(self.superblock.cluster_ratio());
        let first = self.cluster_of(self.superblock.group_start(group));
        let clusters = u64::from(self.superblock.group_blocks(group)).div_ceil(ratio);
        let place = format!("group {group}");
        let in_use = (0..clusters).filter(|index| self.clusters.get(first + index)).count() as u64;
        let free = clusters - in_use;
        let is_uninit = self.superblock.features().has_group_checksums()
            && descriptor.flags().contains(GroupFlags::BLOCK_UNINIT);
        if is_uninit {
            let metadata = self.uninit_metadata.get(&group).copied().unwrap_or(0);
            if in_use != metadata {
                self.report.add(
                    "ext4.check.bitmap.uninit",
                    &place,
                    format_args!(
                        "{} blocks are in use, but the block bitmap is not initialised",
                        in_use - metadata.min(in_use)
                    ),
                );
            }
        } else if self.is_readable(descriptor.block_bitmap()) {
            let mut bitmap = vec![0; self.block_bytes()];
            self.read_block(descriptor.block_bitmap(), &mut bitmap)?;
            let bits = self.superblock.clusters_per_group();
            let (stored, mask) = descriptor.block_bitmap_checksum();
            self.check_bitmap_sum(&place, "block", &bitmap, bits, stored, mask);
            self.compare_bitmap(&place, "block", &bitmap, clusters, first, |checker, index| {
                checker.clusters.get(first + index)
            });
            if (clusters..bitmap.len() as u64 * 8).any(|bit| !bit_of(&bitmap, bit)) {
                self.report.add(
                    "ext4.check.bitmap.padding",
                    &place,
                    format_args!("bits past the {clusters} clusters are not all set in the block bitmap"),
                );
            }
        }
        if u64::from(descriptor.free_blocks()) != free {
            self.report.add(
                "ext4.check.group.free-blocks",
                &place,
                format_args!("{} free blocks, expected {free}", descriptor.free_blocks()),
            );
        }
        Ok(free)
    }

    fn check_inode_bitmap(&mut self, group: u32, descriptor: &Descriptor) -> Result<u64> {
        let per_group = self.superblock.inodes_per_group();
        let place = format!("group {group}");
        let notes = self.inodes.group(group);
        let used = notes.iter().filter(|note| note.state != State::Free).count() as u64;
        let directories =
            notes.iter().filter(|note| note.state == State::Used(Some(FileKind::Directory))).count() as u64;
        let free = u64::from(per_group) - used;
        let is_uninit = self.superblock.features().has_group_checksums()
            && descriptor.flags().contains(GroupFlags::INODE_UNINIT);
        if !is_uninit && self.is_readable(descriptor.inode_bitmap()) {
            let mut bitmap = vec![0; self.block_bytes()];
            self.read_block(descriptor.inode_bitmap(), &mut bitmap)?;
            let (stored, mask) = descriptor.inode_bitmap_checksum();
            self.check_bitmap_sum(&place, "inode", &bitmap, per_group, stored, mask);
            let first = u64::from(group) * u64::from(per_group) + 1;
            self.compare_bitmap(&place, "inode", &bitmap, per_group.into(), first, |checker, index| {
                let note = checker.inodes.group(group).get(index as usize);
                note.is_some_and(|note| note.state != State::Free)
            });
            if (u64::from(per_group)..bitmap.len() as u64 * 8).any(|bit| !bit_of(&bitmap, bit)) {
                self.report.add(
                    "ext4.check.bitmap.padding",
                    &place,
                    format_args!("bits past the {per_group} inodes are not all set in the inode bitmap"),
                );
            }
        }
        for (code, what, found, expected) in [
            ("ext4.check.group.free-inodes", "free inodes", u64::from(descriptor.free_inodes()), free),
            ("ext4.check.group.directories", "directories", u64::from(descriptor.used_dirs()), directories),
        ] {
            if found != expected {
                self.report.add(code, &place, format_args!("{found} {what}, expected {expected}"));
            }
        }
        Ok(free)
    }

    fn is_readable(&self, block: u64) -> bool {
        block < self.superblock.blocks()
    }

    fn check_bitmap_sum(
        &mut self,
        place: &str,
        kind: &str,
        bitmap: &[u8],
        bits: u32,
        stored: u32,
        mask: u32,
    ) {
        if !self.has_metadata_csum() {
            return;
        }
        let expected = self.superblock.bitmap_checksum(bitmap, bits) & mask;
        if stored & mask != expected {
            self.report.add(
                "ext4.check.bitmap.checksum",
                place,
                format_args!("checksum {stored:#x} of the {kind} bitmap, expected {expected:#x}"),
            );
        }
    }

    /// Reports the differences of a bitmap as one problem: how many bits and the first of them.
    fn compare_bitmap(
        &mut self,
        place: &str,
        kind: &str,
        bitmap: &[u8],
        bits: u64,
        first: u64,
        expected: impl Fn(&Self, u64) -> bool,
    ) {
        let (mut lost, mut free) = ((0u64, 0u64), (0u64, 0u64));
        for bit in 0..bits {
            let (found, expected) = (bit_of(bitmap, bit), expected(self, bit));
            let (count, example) = match (found, expected) {
                (true, false) => (&mut lost.0, &mut lost.1),
                (false, true) => (&mut free.0, &mut free.1),
                _ => continue,
            };
            if *count == 0 {
                *example = first + bit;
            }
            *count += 1;
        }
        if lost.0 != 0 {
            self.report.add(
                "ext4.check.bitmap.lost",
                place,
                format_args!("{} {kind} bits are set without an owner, the first is {}", lost.0, lost.1),
            );
        }
        if free.0 != 0 {
            self.report.add(
                "ext4.check.bitmap.free",
                place,
                format_args!("{} {kind} bits are clear but in use, the first is {}", free.0, free.1),
            );
        }
    }
}

fn bit_of(bitmap: &[u8], bit: u64) -> bool {
    usize::try_from(bit / 8)
        .ok()
        .and_then(|byte| bitmap.get(byte))
        .is_some_and(|byte| byte >> (bit % 8) & 1 != 0)
}
