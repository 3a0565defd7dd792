//! Free extents of a group, kept twice: by block and by size. Neighbours are always joined.

use ondisk::{be_u32, put_be_u32};

use crate::btree::{Key, Record, Tree};
use crate::error::{Result, corrupt};
use crate::fs::Xfs;

fn record(start: u32, len: u32) -> Record {
    let mut record = [0; 24];
    put_be_u32(&mut record, 0, start);
    put_be_u32(&mut record, 4, len);
    record
}

fn run(record: &Record) -> (u32, u32) {
    (be_u32(record, 0), be_u32(record, 4))
}

fn key_by_block(start: u32) -> Key {
    Tree::FreeByBlock.key(&record(start, 0))
}

impl Xfs {
    /// The smallest free extent of at least `len` blocks; none smaller is looked at.
    pub(crate) fn find_run(&self, group: u32, len: u32) -> Result<Option<(u32, u32)>> {
        let key = Tree::FreeBySize.key(&record(0, len));
        Ok(self.find_from(group, Tree::FreeBySize, &key)?.map(|record| run(&record)))
    }

    /// A place for `len` blocks that begins at a multiple of `align` in `from..=to`.
    pub(crate) fn find_aligned(
        &self,
        group: u32,
        len: u32,
        align: u32,
        from: u32,
        to: u32,
    ) -> Result<Option<u32>> {
        let key = Tree::FreeBySize.key(&record(0, len));
        let mut place = None;
        self.visit_from(group, Tree::FreeBySize, &key, &mut |record| {
            let (start, have) = run(record);
            let first = u64::from(start.max(from)).next_multiple_of(align.max(1).into());
            let fits = first + u64::from(len) <= u64::from(start) + u64::from(have);
            if fits && first <= u64::from(to) {
                place = Some(first as u32);
            }
            Ok(place.is_none())
        })?;
        Ok(place)
    }

    fn add_free(&mut self, group: u32, start: u32, len: u32) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        self.insert_record(group, Tree::FreeByBlock, &record(start, len))?;
        self.insert_record(group, Tree::FreeBySize, &record(start, len))
    }

    fn remove_free(&mut self, group: u32, start: u32, len: u32) -> Result<()> {
        self.delete_record(group, Tree::FreeByBlock, &record(start, len))?;
        self.delete_record(group, Tree::FreeBySize, &record(start, len))
    }

    /// Takes a run out of the free extent that holds it.
    pub(crate) fn take_run(&mut self, group: u32, start: u32, len: u32) -> Result<()> {
        let found = self.find_at_or_before(group, Tree::FreeByBlock, &key_by_block(start))?;
        let (at, have) = found.as_ref().map_or((0, 0), run);
        let end = u64::from(at) + u64::from(have);
        let wanted_end = u64::from(start) + u64::from(len);
        if found.is_none() || wanted_end > end {
            return Err(corrupt(
                "xfs.free-space",
                format!("group {group}"),
                format!("{len} blocks at {start} are not free"),
            ));
        }
        self.remove_free(group, at, have)?;
        self.add_free(group, at, start - at)?;
        self.add_free(group, wanted_end as u32, (end - wanted_end) as u32)?;
        self.count_free(group, -i64::from(len))
    }

    /// Puts a run back, joined with its free neighbours.
    pub(crate) fn put_run(&mut self, group: u32, start: u32, len: u32) -> Result<()> {
        for block in start..start.saturating_add(len) {
            self.pending.remove(&self.geo.byte(group, block));
        }
        let end = u64::from(start) + u64::from(len);
        let bad = |what: &str| {
            Err(corrupt(
                "xfs.free-space",
                format!("group {group}"),
                format!("{len} blocks at {start} {what}"),
            ))
        };
        if start == 0 || end > self.geo.blocks_of(group).into() {
            return bad("lie outside the group");
        }
        let (mut from, mut to) = (start, end as u32);
        let before = self.find_at_or_before(group, Tree::FreeByBlock, &key_by_block(start))?;
        let after = self.find_from(group, Tree::FreeByBlock, &key_by_block(start))?;
        if let Some((at, have)) = before.as_ref().map(run) {
            if u64::from(at) + u64::from(have) > start.into() {
                return bad("are free already");
            }
            if at + have == start {
                from = at;
                self.remove_free(group, at, have)?;
            }
        }
        if let Some((at, have)) = after.as_ref().map(run) {
            if u64::from(at) < end {
                return bad("are free already");
            }
            if u64::from(at) == end {
                to = at.saturating_add(have);
                self.remove_free(group, at, have)?;
            }
        }
        self.add_free(group, from, to - from)?;
        self.count_free(group, len.into())
    }

    /// Counts free blocks, and looks how long the longest extent is now.
    fn count_free(&mut self, group: u32, by: i64) -> Result<()> {
        let longest = self.find_at_or_before(group, Tree::FreeBySize, &[0xff; 20])?;
        let mut agf = self.agf(group)?;
        let free = i64::from(agf.free_blocks()) + by;
        agf.set_free_blocks(u32::try_from(free).map_err(|_| {
            corrupt("xfs.agf", format!("AGF of group {group}"), format!("{free} free blocks"))
        })?);
        agf.set_longest(longest.as_ref().map_or(0, |record| run(record).1));
        self.put_agf(&agf)
    }

    /// Free extents of a group in order.
    pub(crate) fn free_runs(&self, group: u32) -> Result<Vec<(u32, u32)>> {
        Ok(self.all_records(group, Tree::FreeByBlock)?.iter().map(run).collect())
    }
}
