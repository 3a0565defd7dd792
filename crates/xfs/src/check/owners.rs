//! Owners of blocks: against free space, reverse mappings and reference counts.

use std::collections::BTreeMap;

use ondisk::{be_u32, be_u64};

use super::Check;
use crate::alloc::rmap::Owner;
use crate::alloc::{COW, Shared};
use crate::btree::Tree;
use crate::feature::RoCompat;

/// A run of blocks and its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Use {
    pub start: u32,
    pub len: u32,
    pub owner: u64,
    pub offset: u64,
    /// Data of a regular file: others may own it, too.
    pub may_share: bool,
}

impl Use {
    pub(super) fn new(start: u32, len: u32, owner: Owner) -> Self {
        Self { start, len, owner: owner.owner, offset: owner.offset, may_share: false }
    }

    fn end(&self) -> u32 {
        self.start.saturating_add(self.len)
    }
}

impl Check<'_> {
    pub(super) fn note_use(&mut self, group: u32, one: Use) {
        if let Some(uses) = self.uses.get_mut(group as usize) {
            uses.push(one);
        }
    }

    pub(super) fn owners(&mut self, group: u32) {
        let place = format!("group {group}");
        let mut uses = self.uses.get_mut(group as usize).map(std::mem::take).unwrap_or_default();
        let features = *self.fs.superblock().features();
        if features.has_ro(RoCompat::REFLINK) {
            self.staging(group, &mut uses);
        }
        uses.sort_unstable();
        self.partition(group, &place, &uses);
        if features.has_ro(RoCompat::REFLINK) {
            self.references(group, &place, &uses);
        }
        if features.has_ro(RoCompat::RMAPBT) {
            self.mappings(group, &place, uses);
        }
    }

    /// Staging blocks of copies on write belong to nobody after a clean unmount; they are used all the same.
    fn staging(&mut self, group: u32, uses: &mut Vec<Use>) {
        let Some(records) = self.take("refcountbt", self.fs.all_records(group, Tree::Refcount)) else {
            return;
        };
        for shared in records.iter().map(Shared::decode).filter(|shared| shared.start & COW != 0) {
            let start = shared.start & !COW;
            self.report.add(
                "xfs.check.staging",
                format_args!("group {group}"),
                format_args!("left at {start}"),
            );
            uses.push(Use::new(start, shared.len, Owner::COW));
        }
    }

    /// Free and used blocks cover the group, and only data of files overlaps.
    fn partition(&mut self, group: u32, place: &str, uses: &[Use]) {
        let free = self.free.get_mut(group as usize).map(std::mem::take).unwrap_or_default();
        let mut all: Vec<(u32, u32, bool)> =
            uses.iter().map(|one| (one.start, one.end(), one.may_share)).collect();
        all.extend(free.iter().map(|(start, len)| (*start, start.saturating_add(*len), false)));
        all.sort_unstable();
        let (mut end, mut end_may_share) = (0, true);
        for (start, stop, may_share) in all {
            if start > end {
                self.report.add(
                    "xfs.check.lost",
                    place,
                    format_args!("blocks {end}..{start} belong to nobody"),
                );
            } else if start < end && !(may_share && end_may_share && self.fs.has_reflink()) {
                self.report.add("xfs.check.overlap", place, format_args!("block {start} belongs to several"));
            }
            if stop > end {
                (end, end_may_share) = (stop, may_share);
            }
        }
        let blocks = self.fs.geo.blocks_of(group);
        if end < blocks {
            self.report.add("xfs.check.lost", place, format_args!("blocks {end}..{blocks} belong to nobody"));
        }
        let free: u64 = free.iter().map(|(_, len)| u64::from(*len)).sum();
        self.report.blocks_in_use += u64::from(blocks).saturating_sub(free);
    }

    /// Reference counts are how many owners a block has, where that is more than one.
    fn references(&mut self, group: u32, place: &str, uses: &[Use]) {
        let mut edges: Vec<(u32, i32)> = Vec::new();
        for one in uses.iter().filter(|one| one.may_share) {
            edges.push((one.start, 1));
            edges.push((one.end(), -1));
        }
        edges.sort_unstable();
        let mut expected: Vec<Shared> = Vec::new();
        let (mut owners, mut since) = (0i32, 0);
        let mut index = 0;
        while let Some((at, _)) = edges.get(index).copied() {
            if owners > 1 && at > since {
                let next = Shared { start: since, len: at - since, owners: owners as u32 };
                match expected.last_mut() {
                    Some(last) if last.start + last.len == next.start && last.owners == next.owners => {
                        last.len += next.len;
                    }
                    _ => expected.push(next),
                }
            }
            while let Some((_, by)) = edges.get(index).filter(|(other, _)| *other == at) {
                owners += by;
                index += 1;
            }
            since = at;
        }
        let Some(records) = self.take(place, self.fs.all_records(group, Tree::Refcount)) else { return };
        let stored = records.iter().map(Shared::decode).filter(|shared| shared.start & COW == 0);
        if !stored.eq(expected.iter().copied()) {
            self.report.add(
                "xfs.check.refcount",
                place,
                "reference counts are not the overlap of the owners",
            );
        }
    }

    /// Reverse mappings are the owners, joined.
    fn mappings(&mut self, group: u32, place: &str, mut uses: Vec<Use>) {
        uses.sort_unstable_by_key(|one| (one.start, one.owner, one.offset));
        // Runs by what would continue them.
        let mut ends: BTreeMap<(u32, u64, u64), usize> = BTreeMap::new();
        let mut expected: Vec<Use> = Vec::with_capacity(uses.len());
        for one in uses {
            let index = match ends.remove(&(one.start, one.owner, one.offset)) {
                Some(index) => {
                    expected[index].len += one.len;
                    index
                }
                None => {
                    expected.push(one);
                    expected.len() - 1
                }
            };
            let whole = expected[index];
            let next = Owner { owner: whole.owner, offset: whole.offset }.advanced(whole.len);
            ends.insert((whole.end(), next.owner, next.offset), index);
        }
        let mut expected: Vec<[u64; 4]> =
            expected.iter().map(|one| [one.start.into(), one.owner, one.offset, one.len.into()]).collect();
        let Some(records) = self.take(place, self.fs.all_records(group, Tree::Rmap)) else { return };
        let mut stored: Vec<[u64; 4]> = records
            .iter()
            .map(|raw| [be_u32(raw, 0).into(), be_u64(raw, 8), be_u64(raw, 16), be_u32(raw, 4).into()])
            .collect();
        expected.sort_unstable();
        stored.sort_unstable();
        if expected != stored {
            let odd = expected.iter().find(|one| stored.binary_search(one).is_err());
            let odd = odd.or_else(|| stored.iter().find(|one| expected.binary_search(one).is_err()));
            self.report.add(
                "xfs.check.rmap",
                place,
                format_args!("reverse mappings are not the owners: {odd:x?} (start, owner, offset, length)"),
            );
        }
    }
}
