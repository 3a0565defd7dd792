//! Blocks that the kernel sets aside so that its trees can always grow (`xfs_ag_resv.c`,
//! `xfs_alloc_set_aside`). They count as free on disk; a filesystem that is filled beyond them warns at the
//! next mount.

use crate::btree::Tree;
use crate::error::Result;
use crate::feature::RoCompat;
use crate::fs::Xfs;
use crate::geometry::CHUNK_INODES;

/// Blocks of each group that nobody gets: 4 for the list, 4 more.
const SET_ASIDE: u64 = 8;

impl Xfs {
    /// Most blocks that a tree of `records` records can have.
    fn largest_tree(&self, tree: Tree, records: u64) -> u64 {
        let mut total = 0;
        let (mut count, mut level) = (records, 0);
        loop {
            let least = (self.node_capacity(tree, level) / 2).max(2) as u64;
            count = count.div_ceil(least);
            total += count;
            if count <= 1 {
                return total;
            }
            level = 1;
        }
    }

    /// Blocks set aside in a group for trees that may still grow.
    pub(crate) fn group_reserve(&self, group: u32) -> u32 {
        let all = self.reserves.get_or_init(|| {
            // A group whose headers cannot be read gives nothing away anyhow.
            (0..self.geo.groups).map(|group| self.compute_reserve(group).unwrap_or(0)).collect()
        });
        all.get(group as usize).copied().unwrap_or(0)
    }

    fn compute_reserve(&self, group: u32) -> Result<u32> {
        let agf = self.agf(group)?;
        let features = self.superblock.features();
        let mut blocks = u64::from(self.geo.blocks_of(group));
        let (log_group, _) = self.geo.split(self.superblock.log_start());
        if log_group == group {
            blocks = blocks.saturating_sub(self.superblock.u32(96).into());
        }
        let mut sum = 0;
        if features.has_ro(RoCompat::REFLINK) {
            sum += self.largest_tree(Tree::Refcount, blocks).saturating_sub(agf.refcount_blocks().into());
        }
        if features.has_ro(RoCompat::RMAPBT) {
            let most = self.largest_tree(Tree::Rmap, blocks).max(blocks / 100);
            sum += most.saturating_sub(agf.rmap_blocks().into());
        }
        if features.has_ro(RoCompat::FINOBT) {
            let records = (blocks << self.geo.inodes_per_block_log) / u64::from(CHUNK_INODES);
            let used = self.agi(group)?.block_counts().map_or(1, |(_, blocks)| blocks);
            sum += self.largest_tree(Tree::FreeInode, records.max(1)).saturating_sub(used.into());
        }
        Ok(u32::try_from(sum).unwrap_or(u32::MAX))
    }

    /// Blocks set aside in the whole filesystem.
    pub(crate) fn reserved_blocks(&self) -> u64 {
        (0..self.geo.groups).map(|group| SET_ASIDE + u64::from(self.group_reserve(group))).sum()
    }

    /// Blocks that a file can get.
    pub(crate) fn available_blocks(&self) -> u64 {
        self.superblock.free_blocks().saturating_sub(self.reserved_blocks())
    }
}
