//! Shared extents: how many owners a run of blocks has, where that is more than one (`xfs_refcount.c`).

use ondisk::{be_u32, put_be_u32};

use crate::btree::{Key, Record, Tree};
use crate::error::{Result, corrupt};
use crate::feature::RoCompat;
use crate::fs::Xfs;

/// Bit of the start: staging blocks of a copy on write, which have their own order behind all others.
pub(crate) const COW: u32 = 1 << 31;

/// A run of shared blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shared {
    pub start: u32,
    pub len: u32,
    pub owners: u32,
}

impl Shared {
    pub(crate) fn decode(record: &Record) -> Self {
        Self { start: be_u32(record, 0), len: be_u32(record, 4), owners: be_u32(record, 8) }
    }

    fn encode(self) -> Record {
        let mut record = [0; 24];
        put_be_u32(&mut record, 0, self.start);
        put_be_u32(&mut record, 4, self.len);
        put_be_u32(&mut record, 8, self.owners);
        record
    }

    fn end(self) -> u32 {
        self.start.saturating_add(self.len)
    }
}

fn key(start: u32) -> Key {
    Tree::Refcount.key(&Shared { start, len: 0, owners: 0 }.encode())
}

impl Xfs {
    pub(crate) fn has_reflink(&self) -> bool {
        self.superblock.features().has_ro(RoCompat::REFLINK)
    }

    /// Shared runs that touch or adjoin `start..end`, in order.
    fn shared_around(&self, group: u32, start: u32, end: u32) -> Result<Vec<Shared>> {
        let before = self.find_at_or_before(group, Tree::Refcount, &key(start))?;
        let from = before.as_ref().map_or(start, |record| be_u32(record, 0));
        let mut found = Vec::new();
        self.visit_from(group, Tree::Refcount, &key(from), &mut |record| {
            let shared = Shared::decode(record);
            if shared.start & COW != 0 || shared.start > end {
                return Ok(false);
            }
            if shared.end() >= start {
                found.push(shared);
            }
            Ok(true)
        })?;
        Ok(found)
    }

    /// True when any of the blocks has another owner, too.
    pub(crate) fn is_shared(&self, fsblock: u64, len: u64) -> Result<bool> {
        if !self.has_reflink() {
            return Ok(false);
        }
        let (group, start) = self.geo.split(fsblock);
        let end = start + len as u32;
        let around = self.shared_around(group, start, end)?;
        Ok(around.iter().any(|shared| shared.start < end && shared.end() > start && shared.owners > 1))
    }

    /// One owner of a run less. Returns the parts that have none now, which the caller frees.
    pub(crate) fn drop_references(&mut self, group: u32, start: u32, len: u32) -> Result<Vec<(u32, u32)>> {
        if !self.has_reflink() {
            return Ok(vec![(start, len)]);
        }
        let end = start + len;
        let old = self.shared_around(group, start, end)?;
        let mut unowned = Vec::new();
        let mut new: Vec<Shared> = Vec::new();
        let mut add = |piece: Shared| {
            if piece.len == 0 || piece.owners < 2 {
                return;
            }
            match new.last_mut() {
                Some(last) if last.end() == piece.start && last.owners == piece.owners => {
                    last.len += piece.len
                }
                _ => new.push(piece),
            }
        };
        let mut at = start;
        for shared in &old {
            let (from, to) = (shared.start.clamp(start, end), shared.end().clamp(start, end));
            if shared.owners < 2 || shared.end() < shared.start {
                return Err(corrupt("xfs.refcount", format!("group {group}"), format!("{shared:?}")));
            }
            if from > at {
                unowned.push((at, from - at));
            }
            at = at.max(to);
            let piece =
                |from: u32, to: u32, owners| Shared { start: from, len: to.saturating_sub(from), owners };
            add(piece(shared.start, shared.end().min(start), shared.owners));
            add(piece(from, to, shared.owners - 1));
            add(piece(shared.start.max(end), shared.end(), shared.owners));
        }
        if at < end {
            unowned.push((at, end - at));
        }
        for shared in old.iter().filter(|shared| !new.contains(shared)) {
            self.delete_record(group, Tree::Refcount, &shared.encode())?;
        }
        for shared in new.iter().filter(|shared| !old.contains(shared)) {
            self.insert_record(group, Tree::Refcount, &shared.encode())?;
        }
        Ok(unowned)
    }
}
