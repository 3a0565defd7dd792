//! Headers and trees of one group, and its inodes.

use ondisk::be_u32;

use super::Check;
use super::owners::Use;
use crate::ag::UNLINKED_BUCKETS;
use crate::alloc::Chunk;
use crate::alloc::rmap::Owner;
use crate::btree::{Record, Tree};
use crate::feature::RoCompat;

impl Check<'_> {
    pub(super) fn group(&mut self, group: u32) {
        let geo = self.fs.geo;
        let headers = (3 * geo.sector_size / geo.block_size + 1) as u32;
        self.note_use(group, Use::new(0, headers, Owner::HEADERS));
        let sb = self.fs.superblock();
        let (log_group, log_block) = geo.split(sb.log_start());
        if log_group == group {
            let blocks = sb.u32(96);
            self.note_use(group, Use::new(log_block, blocks, Owner::LOG));
        }
        self.free_space(group);
        self.inode_trees(group);
    }

    fn free_space(&mut self, group: u32) {
        let place = format!("AGF of group {group}");
        let Some(agf) = self.take(&place, self.fs.agf(group)) else { return };
        let Some(list) = self.take(&place, self.fs.list_blocks(&agf)) else { return };
        for block in &list {
            self.note_use(group, Use::new(*block, 1, Owner::GROUP));
        }
        let by_block = self.tree(group, Tree::FreeByBlock);
        let by_size = self.tree(group, Tree::FreeBySize);
        let (Some(by_block), Some(by_size)) = (by_block, by_size) else { return };
        let run = |record: &Record| (be_u32(record, 0), be_u32(record, 4));
        let runs: Vec<(u32, u32)> = by_block.records.iter().map(run).collect();
        let mut sizes: Vec<(u32, u32)> = by_size.records.iter().map(run).collect();
        sizes.sort_unstable();
        if runs != sizes {
            self.report.add("xfs.check.free-space", &place, "bnobt and cntbt differ");
        }
        let is_joined = |pair: &[(u32, u32)]| match pair {
            [(start, len), (next, _)] => u64::from(*start) + u64::from(*len) < u64::from(*next),
            _ => true,
        };
        if !runs.windows(2).all(is_joined) || runs.iter().any(|(_, len)| *len == 0) {
            self.report.add("xfs.check.free-space", &place, "free extents overlap or are not joined");
        }
        let total: u64 = runs.iter().map(|(_, len)| u64::from(*len)).sum();
        let longest = runs.iter().map(|(_, len)| *len).max().unwrap_or(0);
        let mut tree_blocks = by_block.blocks + by_size.blocks - 2;
        let features = self.fs.superblock().features();
        if features.has_ro(RoCompat::RMAPBT)
            && let Some(rmap) = self.tree(group, Tree::Rmap)
        {
            tree_blocks += rmap.blocks - 1;
            self.compare(&place, "rmapbt blocks", agf.rmap_blocks(), rmap.blocks);
        }
        if features.has_ro(RoCompat::REFLINK)
            && let Some(refcount) = self.tree(group, Tree::Refcount)
        {
            self.compare(&place, "refcountbt blocks", agf.refcount_blocks(), refcount.blocks);
        }
        self.compare(&place, "free blocks", agf.free_blocks(), total as u32);
        self.compare(&place, "blocks in the longest run", agf.longest(), longest);
        self.compare(&place, "tree blocks", agf.btree_blocks(), tree_blocks);
        self.free_blocks += total + u64::from(agf.list_count()) + u64::from(tree_blocks);
        if let Some(slot) = self.free.get_mut(group as usize) {
            *slot = runs;
        }
    }

    fn compare(&mut self, place: &str, what: &str, is: u32, found: u32) {
        if is != found {
            self.report.add("xfs.check.counter", place, format_args!("{is} {what}, {found} found"));
        }
    }

    fn inode_trees(&mut self, group: u32) {
        let place = format!("AGI of group {group}");
        let Some(agi) = self.take(&place, self.fs.agi(group)) else { return };
        for bucket in 0..UNLINKED_BUCKETS {
            if agi.unlinked(bucket) != u32::MAX {
                self.report.add("xfs.check.unlinked", &place, format_args!("bucket {bucket} is not empty"));
            }
        }
        let Some(inodes) = self.tree(group, Tree::Inode) else { return };
        let has_holes = self.fs.has_sparse_inodes();
        let chunks: Vec<Chunk> =
            inodes.records.iter().map(|record| Chunk::decode(record, has_holes)).collect();
        if self.fs.superblock().features().has_ro(RoCompat::FINOBT)
            && let Some(free) = self.tree(group, Tree::FreeInode)
        {
            let with_free: Vec<Record> = (inodes.records.iter().zip(&chunks))
                .filter(|(_, chunk)| chunk.free_count > 0)
                .map(|(record, _)| *record)
                .collect();
            if with_free != free.records {
                self.report.add("xfs.check.finobt", &place, "finobt is not inobt's chunks with free inodes");
            }
            if let Some((blocks, free_blocks)) = agi.block_counts() {
                self.compare(&place, "inobt blocks", blocks, inodes.blocks);
                self.compare(&place, "finobt blocks", free_blocks, free.blocks);
            }
        }
        let (mut count, mut free_count) = (0, 0);
        for chunk in chunks {
            let present = chunk.present();
            let free = (chunk.free & present).count_ones();
            if chunk.count != present.count_ones()
                || chunk.free_count != free
                || chunk.free | present != u64::MAX
            {
                self.report.add("xfs.check.inobt", &place, format_args!("{chunk:?}"));
            }
            count += chunk.count;
            free_count += free;
            self.chunk(group, chunk);
        }
        self.compare(&place, "inodes", agi.count(), count);
        self.compare(&place, "free inodes", agi.free_count(), free_count);
        self.inodes.0 += u64::from(count);
        self.inodes.1 += u64::from(free_count);
    }

    fn chunk(&mut self, group: u32, chunk: Chunk) {
        let per_block = self.fs.geo.inodes_per_block();
        let (first, blocks) = (chunk.start / per_block, self.fs.geo.chunk_blocks());
        // A large block holds several chunks, and is noted with the first.
        if per_block <= 64 || chunk.start.is_multiple_of(per_block) {
            for block in first..first.saturating_add(blocks) {
                let index = ((block - first) * per_block).min(63);
                if chunk.present() >> index & 1 == 1 {
                    self.note_use(group, Use::new(block, 1, Owner::INODES));
                }
            }
        }
        for index in (0..64).filter(|index| chunk.present() >> index & 1 == 1) {
            let Some(agino) = chunk.start.checked_add(index) else { return };
            self.inode(self.fs.geo.inode(group, agino), chunk.free >> index & 1 == 1);
        }
    }
}
