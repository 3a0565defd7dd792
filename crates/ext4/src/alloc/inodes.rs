//! Taking and giving back inodes.

use super::blocks::check_bitmap_sum;
use super::{Bitmap, check_count};
use crate::error::{Result, corrupt};
use crate::fs::Ext4;
use crate::group::GroupFlags;

impl Ext4 {
    fn load_inode_map(&mut self, group: u32) -> Result<()> {
        if self.allocator.groups.get(&group).is_some_and(|maps| maps.inodes.is_some()) {
            return Ok(());
        }
        let bits = self.superblock.inodes_per_group();
        let descriptor = self.descriptor(group)?.clone();
        let map = if self.group_flags(group)?.contains(GroupFlags::INODE_UNINIT) {
            Bitmap::empty(self.block_size(), bits)
        } else {
            let raw = self.read_block(descriptor.inode_bitmap())?;
            if self.superblock.features().has_metadata_csum() {
                let want = self.superblock.bitmap_checksum(&raw, bits);
                check_bitmap_sum("inode", group, want, descriptor.inode_bitmap_checksum())?;
            }
            Bitmap::new(raw, bits)
        };
        check_count("inode", group, map.free(), descriptor.free_inodes())?;
        self.allocator.groups.entry(group).or_default().inodes = Some(map);
        Ok(())
    }

    fn inode_map(&mut self, group: u32) -> Result<&mut Bitmap> {
        self.load_inode_map(group)?;
        self.allocator
            .groups
            .get_mut(&group)
            .and_then(|maps| maps.inodes.as_mut())
            .ok_or_else(|| corrupt("ext4.group.number", format!("group {group}"), "no bitmap"))
    }

    /// Group for a new inode: the parent's, or for a directory one near it with room above average.
    fn group_for_inode(&self, parent_group: u32, is_dir: bool) -> Result<Option<u32>> {
        let groups = self.superblock.groups();
        let (free_blocks, free_inodes) = self.descriptor_totals();
        let (mean_blocks, mean_inodes) = (free_blocks / u64::from(groups), free_inodes / u64::from(groups));
        let order =
            (0..groups).map(|step| ((u64::from(parent_group) + u64::from(step)) % u64::from(groups)) as u32);
        let mut fallback = None;
        for group in order {
            let descriptor = self.descriptor(group)?;
            if descriptor.free_inodes() == 0 {
                continue;
            }
            let is_roomy = !is_dir
                || u64::from(descriptor.free_inodes()) >= mean_inodes.max(1)
                    && u64::from(descriptor.free_blocks()) >= mean_blocks.max(1);
            let is_uninit = self.group_flags(group)?.contains(GroupFlags::INODE_UNINIT);
            if is_roomy && !is_uninit {
                return Ok(Some(group));
            }
            let rank = (is_uninit, !is_roomy);
            if fallback.is_none_or(|(best, _)| rank < best) {
                fallback = Some((rank, group));
            }
        }
        Ok(fallback.map(|(_, group)| group))
    }

    /// Takes an inode near `parent`.
    pub(crate) fn take_inode(&mut self, parent: u32, is_dir: bool) -> Result<u32> {
        let no_inodes = || vfs::VfsError::NoInodes {
            filesystem: self.superblock.name(),
            inodes: self.superblock.inodes().into(),
        };
        let parent_group = self.superblock.group_of_inode(parent).map_or(0, |(group, _)| group);
        let Some(group) = self.group_for_inode(parent_group, is_dir)? else { return Err(no_inodes()) };
        let per_group = self.superblock.inodes_per_group();
        let first = u64::from(self.superblock.first_inode() - 1)
            .saturating_sub(u64::from(group) * u64::from(per_group))
            .min(u64::from(per_group)) as u32;
        let Some(index) = self.inode_map(group)?.first_free(first) else {
            return Err(corrupt(
                "ext4.bitmap.count",
                format!("inode bitmap of group {group}"),
                "only reserved inodes are free",
            ));
        };
        self.touch_group(group)?;
        let flags = self.group_flags(group)?;
        self.inode_map(group)?.set(index, true);
        let number = group * per_group + index + 1;
        if self.superblock.features().has_group_checksums() {
            let recorded = self.descriptor(group)?.itable_unused().min(per_group);
            let old = if flags.contains(GroupFlags::INODE_UNINIT) { per_group } else { recorded };
            let new = old.min(per_group - 1 - index);
            if !flags.contains(GroupFlags::INODE_ZEROED) {
                self.zero_inode_slots(group, per_group - old, per_group - new)?;
            }
            self.change_descriptor(group, |descriptor| {
                descriptor.set_itable_unused(new);
                descriptor.set_flags(descriptor.flags() - GroupFlags::INODE_UNINIT);
            })?;
        }
        self.change_descriptor(group, |descriptor| {
            descriptor.set_free_inodes(descriptor.free_inodes().saturating_sub(1));
            if is_dir {
                descriptor.set_used_dirs(descriptor.used_dirs() + 1);
            }
        })?;
        self.superblock.set_free_inodes(self.superblock.free_inodes().saturating_sub(1));
        Ok(number)
    }

    /// Clears slots of the inode table that were never used and may hold anything.
    fn zero_inode_slots(&mut self, group: u32, from: u32, to: u32) -> Result<()> {
        let first_inode = group * self.superblock.inodes_per_group() + 1;
        let len = usize::from(self.superblock.inode_size());
        for index in from..to {
            let (block, at) = self.inode_place(first_inode + index)?;
            self.change_block(block, |raw| {
                if let Some(slot) = raw.get_mut(at..at + len) {
                    slot.fill(0);
                }
            })?;
        }
        Ok(())
    }

    /// Gives an inode back.
    pub(crate) fn free_inode(&mut self, number: u32, is_dir: bool) -> Result<()> {
        let (Some((group, index)), true) =
            (self.superblock.group_of_inode(number), number >= self.superblock.first_inode())
        else {
            return Err(corrupt(
                "ext4.inode.number",
                format!("inode {number}"),
                "to be freed, but reserved or not there",
            ));
        };
        if !self.inode_map(group)?.get(index) {
            return Err(corrupt(
                "ext4.bitmap.free",
                format!("inode {number}"),
                "in use, but free by the bitmap of the group",
            ));
        }
        self.touch_group(group)?;
        self.inode_map(group)?.set(index, false);
        self.change_descriptor(group, |descriptor| {
            descriptor.set_free_inodes(descriptor.free_inodes() + 1);
            if is_dir {
                descriptor.set_used_dirs(descriptor.used_dirs().saturating_sub(1));
            }
        })?;
        self.superblock.set_free_inodes(self.superblock.free_inodes() + 1);
        Ok(())
    }
}
