//! Reference counts: reading them, and changing them in a plan.

use std::collections::HashSet;
use std::ops::Range;

use block::{HostWrite, WriteSource};

use crate::entry::MAX_HOST_OFFSET;
use crate::error::Qcow2Error;
use crate::guard::Guard;
use crate::header::MAX_REFCOUNT_TABLE_BYTES;
use crate::image::Qcow2;
use crate::meta::{Meta, SECTOR_BYTES};
use crate::references::Counts;

/// The refcount at `index` of `bytes`, `1 << order` bits wide.
pub(crate) fn get_refcount(bytes: &[u8], order: u32, index: usize) -> u64 {
    if order < 3 {
        let bit = index << order;
        let byte = bytes.get(bit / 8).copied().unwrap_or(0);
        return u64::from(byte >> (bit % 8)) & ((1 << (1u32 << order)) - 1);
    }
    let width = 1usize << (order - 3);
    let field = bytes.get(index * width..(index + 1) * width).unwrap_or_default();
    field.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn set_refcount(bytes: &mut [u8], order: u32, index: usize, value: u64) {
    if order < 3 {
        let bit = index << order;
        let mask = ((1u32 << (1u32 << order)) - 1) as u8;
        if let Some(byte) = bytes.get_mut(bit / 8) {
            *byte = *byte & !(mask << (bit % 8)) | (value as u8 & mask) << (bit % 8);
        }
        return;
    }
    let width = 1usize << (order - 3);
    if let Some(field) = bytes.get_mut(index * width..(index + 1) * width) {
        field.copy_from_slice(&value.to_be_bytes()[8 - width..]);
    }
}

impl Qcow2 {
    /// Greatest refcount that the image can hold.
    pub(crate) fn max_refcount(&self) -> u64 {
        u64::MAX >> (64 - (1u32 << self.header.refcount_order))
    }

    /// log2 of the refcounts in one block.
    pub(crate) fn refcount_block_bits(&self) -> u32 {
        self.header.cluster_bits + 3 - self.header.refcount_order
    }

    /// log2 of the refcounts in one sector of a block.
    pub(crate) fn refcount_sector_bits(&self) -> u32 {
        SECTOR_BYTES.trailing_zeros() + 3 - self.header.refcount_order
    }

    /// The refcount table as it stands in the image: at most 8 MiB.
    pub(crate) fn refcount_table(&self) -> Result<Vec<u64>, Qcow2Error> {
        let bytes = (self.header.refcount_table_clusters << self.header.cluster_bits) as usize;
        let mut raw = vec![0; bytes];
        self.file.read_exact_at(&mut raw, self.header.refcount_table_offset)?;
        Ok(raw.chunks_exact(8).map(|entry| ondisk::be_u64(entry, 0)).collect())
    }

    /// Why the entry of a refcount table cannot be right; 0 is always right.
    pub(crate) fn refcount_table_problem(&self, entry: u64) -> Option<String> {
        let is_aligned = entry.trailing_zeros() >= self.cluster_bits();
        (entry != 0 && !(is_aligned && entry < self.file_len)).then(|| {
            format!(
                "expected a refcount block aligned to {} inside the {} bytes of the file, found {entry:#x}",
                self.cluster_size(),
                self.file_len
            )
        })
    }
}

/// Refcounts with planned changes on top, and where new clusters come from.
///
/// A cluster that becomes free in the plan is not used again in the same plan: whoever applies it still
/// reads old content from there.
pub(crate) struct Refcounts<'i> {
    image: &'i Qcow2,
    guard: Guard,
    table: Vec<u64>,
    table_offset: u64,
    table_clusters: u64,
    was_moved: bool,
    /// No cluster before this one is free.
    hand: u64,
    /// One past the last cluster that was handed out.
    used_end: u64,
    freed: HashSet<u64>,
    /// Handed out, not counted yet.
    pending: Vec<Range<u64>>,
    /// Referenced clusters of a dirty image, until its refcounts are right again.
    claimed: Option<Counts>,
    /// Old places of the refcount table, released when the refcounts are right again.
    retired: Vec<Range<u64>>,
}

/// What the refcounts leave to be written when the plan is complete.
pub(crate) struct FinishedRefcounts {
    /// The moved refcount table.
    pub table: Option<HostWrite>,
    pub table_offset: u64,
    pub table_clusters: u64,
    /// One past the last cluster that was handed out.
    pub used_end: u64,
}

impl<'i> Refcounts<'i> {
    pub fn new(image: &'i Qcow2) -> Result<Self, Qcow2Error> {
        let table = image.refcount_table()?;
        let at = |index: usize| image.header.refcount_table_offset + index as u64 * 8;
        for (index, entry) in table.iter().enumerate() {
            if let Some(problem) = image.refcount_table_problem(*entry) {
                return Err(image.damaged("qcow2.refcount.table", at(index), problem));
            }
        }
        // Blocks that are used twice show as an overlap there.
        let guard = Guard::new(image, &table)?;
        Ok(Self {
            image,
            guard,
            table,
            table_offset: image.header.refcount_table_offset,
            table_clusters: image.header.refcount_table_clusters,
            was_moved: false,
            hand: 0,
            used_end: 0,
            freed: HashSet::new(),
            pending: Vec::new(),
            claimed: None,
            retired: Vec::new(),
        })
    }

    /// The table in cluster `index`, if one is there.
    pub fn table_in(&self, index: u64) -> Option<&'static str> {
        self.guard.table_in(index)
    }

    fn block_of(&self, index: u64) -> Option<u64> {
        let block = index >> self.image.refcount_block_bits();
        let offset = usize::try_from(block).ok().and_then(|block| self.table.get(block))?;
        (*offset != 0).then_some(*offset)
    }

    /// Position of the sector with the refcount of cluster `index`, and the index in that sector.
    fn place(&self, index: u64) -> Option<(u64, usize)> {
        let in_block = index & ((1 << self.image.refcount_block_bits()) - 1);
        let sector_bits = self.image.refcount_sector_bits();
        let sector_at = self.block_of(index)? + (in_block >> sector_bits) * SECTOR_BYTES;
        Some((sector_at, (in_block & ((1 << sector_bits) - 1)) as usize))
    }

    /// Refcount of cluster `index`.
    pub fn get(&self, meta: &Meta<'_>, index: u64) -> Result<u64, Qcow2Error> {
        match self.place(index) {
            None => Ok(0),
            Some((sector_at, within)) => {
                Ok(get_refcount(&meta.sector(sector_at)?, self.image.header.refcount_order, within))
            }
        }
    }

    fn set(&mut self, meta: &mut Meta<'_>, index: u64, value: u64) -> Result<(), Qcow2Error> {
        if value > self.image.max_refcount() {
            return Err(self.image.damaged(
                "qcow2.refcount.overflow",
                index << self.image.cluster_bits(),
                format!("expected at most {} references, found {value}", self.image.max_refcount()),
            ));
        }
        self.ensure_block(meta, index)?;
        let order = self.image.header.refcount_order;
        match self.place(index) {
            Some((sector_at, within)) => {
                meta.change(sector_at, |sector, _| set_refcount(sector, order, within, value))
            }
            None => Ok(()),
        }
    }

    /// Takes one reference from cluster `index`.
    pub fn release(&mut self, meta: &mut Meta<'_>, index: u64) -> Result<(), Qcow2Error> {
        let Some(rest) = self.get(meta, index)?.checked_sub(1) else {
            return Err(self.unreferenced(index));
        };
        if rest == 0 {
            self.freed.insert(index);
        }
        self.set(meta, index, rest)
    }

    /// The error for a cluster that is used while its refcount is 0.
    pub fn unreferenced(&self, index: u64) -> Qcow2Error {
        self.image.damaged(
            "qcow2.refcount.zero",
            index << self.image.cluster_bits(),
            "expected a refcount of at least 1 for a cluster in use, found 0".into(),
        )
    }

    /// Finds a free cluster and gives it one reference; its index.
    pub fn allocate(&mut self, meta: &mut Meta<'_>) -> Result<u64, Qcow2Error> {
        let index = self.find_free(meta)?;
        self.take(meta, index..index + 1)?;
        Ok(index)
    }

    /// Finds `count` free clusters in a row behind all that are in use and gives each one reference.
    pub fn allocate_run(&mut self, meta: &mut Meta<'_>, count: u64) -> Result<Range<u64>, Qcow2Error> {
        let mut start = self.end();
        'place: loop {
            let end = start + count;
            if end > MAX_HOST_OFFSET >> self.image.cluster_bits() {
                return Err(self.limit("length of the host file", MAX_HOST_OFFSET, MAX_HOST_OFFSET));
            }
            // A leaked refcount behind the end of the file moves the run further.
            for index in (start..end).rev() {
                if self.get(meta, index)? != 0 || !self.is_usable(index)? {
                    start = index + 1;
                    continue 'place;
                }
            }
            self.take(meta, start..end)?;
            return Ok(start..end);
        }
    }

    /// Counts one reference for each cluster of a free run.
    fn take(&mut self, meta: &mut Meta<'_>, run: Range<u64>) -> Result<(), Qcow2Error> {
        self.used_end = self.used_end.max(run.end);
        self.pending.push(run.clone());
        let outcome = run.into_iter().try_for_each(|index| self.set(meta, index, 1));
        self.pending.pop();
        outcome
    }

    fn is_usable(&self, index: u64) -> Result<bool, Qcow2Error> {
        if self.freed.contains(&index)
            || self.pending.iter().any(|run| run.contains(&index))
            || self.claimed.as_ref().is_some_and(|claimed| claimed.get(index) > 0)
        {
            return Ok(false);
        }
        match self.guard.table_in(index) {
            None => Ok(true),
            Some(_) => Err(self.unreferenced(index)),
        }
    }

    fn find_free(&mut self, meta: &Meta<'_>) -> Result<u64, Qcow2Error> {
        let order = self.image.header.refcount_order;
        let per_sector = 1u64 << self.image.refcount_sector_bits();
        loop {
            if self.hand >= MAX_HOST_OFFSET >> self.image.cluster_bits() {
                return Err(self.limit("length of the host file", MAX_HOST_OFFSET, MAX_HOST_OFFSET));
            }
            let Some((sector_at, within)) = self.place(self.hand) else {
                let index = self.hand;
                self.hand += 1;
                if self.is_usable(index)? {
                    return Ok(index);
                }
                continue;
            };
            let sector = meta.sector(sector_at)?;
            for within in within..per_sector as usize {
                let index = self.hand;
                self.hand += 1;
                if get_refcount(&sector, order, within) == 0 && self.is_usable(index)? {
                    return Ok(index);
                }
            }
        }
    }

    fn limit(&self, what: &'static str, limit: u64, found: u64) -> Qcow2Error {
        Qcow2Error::Limit { path: self.image.path.clone(), what, limit, found }
    }

    /// Makes the refcount block for cluster `index` if it is missing.
    fn ensure_block(&mut self, meta: &mut Meta<'_>, index: u64) -> Result<(), Qcow2Error> {
        if self.block_of(index).is_some() {
            return Ok(());
        }
        let block_bits = self.image.refcount_block_bits();
        let block = index >> block_bits;
        if block >= self.table.len() as u64 {
            self.grow_table(meta, block, index)?;
            if self.block_of(index).is_some() {
                return Ok(());
            }
        }
        let own = self.place_for_block(meta, block << block_bits..(block + 1) << block_bits)?;
        meta.add_table(own, vec![0; self.image.cluster_size() as usize]);
        if let Some(entry) = self.table.get_mut(block as usize) {
            *entry = own << self.image.cluster_bits();
        }
        if !self.was_moved {
            meta.set_entry(self.table_offset + block * 8, own << self.image.cluster_bits())?;
        }
        self.take(meta, own..own + 1)
    }

    /// Where the missing refcount block for `covered` goes. Nothing that it covers is counted yet, so there
    /// is room in its own range and it counts itself; only a dirty image can have that range full.
    fn place_for_block(&self, meta: &Meta<'_>, covered: Range<u64>) -> Result<u64, Qcow2Error> {
        for candidate in covered {
            if self.is_usable(candidate)? {
                return Ok(candidate);
            }
        }
        let mut candidate = self.end();
        while !self.is_usable(candidate)? || self.get(meta, candidate)? != 0 {
            candidate += 1;
        }
        Ok(candidate)
    }

    /// One past every cluster that is known to be in use; leaked refcounts may lie behind it.
    fn end(&self) -> u64 {
        let claimed_end = self.claimed.as_ref().map_or(0, Counts::end);
        let pending_end = self.pending.iter().map(|run| run.end).max().unwrap_or(0);
        self.image.host_clusters().max(self.used_end).max(claimed_end).max(pending_end)
    }

    /// Moves the refcount table to the end of the image, large enough for `block`.
    fn grow_table(&mut self, meta: &mut Meta<'_>, block: u64, index: u64) -> Result<(), Qcow2Error> {
        let cluster_bits = self.image.cluster_bits();
        let block_bits = self.image.refcount_block_bits();
        let mut start = self.end().max(index + 1);
        let old_table =
            self.table_offset >> cluster_bits..(self.table_offset >> cluster_bits) + self.table_clusters;
        // Half as much again, so that an image that grows step by step does not move its table each time;
        // and what the new table itself needs.
        let mut clusters = self.table_clusters + self.table_clusters / 2;
        loop {
            let blocks = (block + 1).max(((start + clusters) >> block_bits) + 1);
            let needed = (blocks * 8).div_ceil(self.image.cluster_size());
            if needed << cluster_bits > MAX_REFCOUNT_TABLE_BYTES {
                return Err(self.limit(
                    "size of the refcount table",
                    MAX_REFCOUNT_TABLE_BYTES,
                    needed << cluster_bits,
                ));
            }
            // A leaked refcount behind the end of the file moves the table further.
            let in_use = (start..start + clusters.max(needed))
                .rev()
                .find(|at| self.block_of(*at).is_some() && !matches!(self.get(meta, *at), Ok(0)));
            match in_use {
                Some(at) => start = at + 1,
                None if needed <= clusters => break,
                None => clusters = needed,
            }
        }
        clusters = clusters.min(MAX_REFCOUNT_TABLE_BYTES >> cluster_bits);
        self.table.resize((clusters << cluster_bits) as usize / 8, 0);
        self.table_offset = start << cluster_bits;
        self.table_clusters = clusters;
        self.was_moved = true;
        self.take(meta, start..start + clusters)?;
        if self.claimed.is_some() {
            self.retired.push(old_table);
            return Ok(());
        }
        self.release_run(meta, old_table)
    }

    fn release_run(&mut self, meta: &mut Meta<'_>, run: Range<u64>) -> Result<(), Qcow2Error> {
        for index in run {
            self.release(meta, index)?;
        }
        Ok(())
    }

    /// Sets every refcount to what `counts` says (the dirty bit says that they may be wrong).
    pub fn rebuild(&mut self, meta: &mut Meta<'_>, counts: Counts) -> Result<(), Qcow2Error> {
        let block_bits = self.image.refcount_block_bits();
        let order = self.image.header.refcount_order;
        let per_sector = 1u64 << self.image.refcount_sector_bits();
        let had_block: Vec<bool> = self.table.iter().map(|entry| *entry != 0).collect();
        for block in 0..self.table.len() as u64 {
            let mut index = block << block_bits;
            let end = (block + 1) << block_bits;
            while index < end && self.block_of(index).is_some() {
                let Some((sector_at, _)) = self.place(index) else { break };
                let sector = meta.sector(sector_at)?;
                for within in 0..per_sector {
                    let right = counts.get(index + within);
                    if get_refcount(&sector, order, within as usize) != right {
                        self.set(meta, index + within, right)?;
                    }
                }
                index += per_sector;
            }
        }
        self.claimed = Some(counts);
        let mut next = 0;
        while let Some((index, right)) = self.claimed.as_ref().and_then(|claimed| claimed.first_from(next)) {
            let block = (index >> block_bits) as usize;
            if !had_block.get(block).copied().unwrap_or(false) {
                self.set(meta, index, right)?;
            }
            next = index + 1;
        }
        self.claimed = None;
        for run in std::mem::take(&mut self.retired) {
            self.release_run(meta, run)?;
        }
        Ok(())
    }

    /// What is left to write.
    pub fn finish(self) -> FinishedRefcounts {
        let table = self.was_moved.then(|| HostWrite {
            host_offset: self.table_offset,
            source: WriteSource::Bytes(self.table.iter().flat_map(|entry| entry.to_be_bytes()).collect()),
        });
        FinishedRefcounts {
            table,
            table_offset: self.table_offset,
            table_clusters: self.table_clusters,
            used_end: self.used_end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_by_the_layout_of_the_specification() {
        for order in 0..=6 {
            let mut block = vec![0u8; 64];
            let count = 512usize >> order;
            let value = |index: usize| (index as u64 * 7 + 1) & (u64::MAX >> (64 - (1u32 << order)));
            for index in 0..count {
                set_refcount(&mut block, order, index, value(index));
            }
            for index in 0..count {
                assert_eq!(get_refcount(&block, order, index), value(index), "order {order} index {index}");
            }
        }
        // Bit 0 is the least significant one; wider fields are big-endian.
        assert_eq!(get_refcount(&[0b10], 0, 1), 1);
        assert_eq!(get_refcount(&[0x21], 2, 1), 2);
        assert_eq!(get_refcount(&[0, 1, 0, 2], 4, 1), 2);
    }
}
