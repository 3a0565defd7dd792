//! The active L1 table in a plan: changed entries, and a longer table for a longer disk.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::entry::{COPIED, L2Entry};
use crate::error::{Qcow2Error, Refused};
use crate::header::MAX_L1_BYTES;
use crate::image::Qcow2;
use crate::meta::Meta;
use crate::refcount::Refcounts;

/// Length of a virtual disk in QEMU: a multiple of this.
const SECTOR_BYTES: u64 = 512;

/// The L1 table with planned changes on top.
pub(crate) struct L1<'i> {
    image: &'i Qcow2,
    /// New entries by index.
    changed: BTreeMap<u64, u64>,
    /// Entries afterwards.
    entries: u64,
    /// Clusters of its new place, when it does not fit the old one.
    moved_to: Option<Range<u64>>,
}

/// Where the L1 table is when the plan is complete.
pub(crate) struct FinishedL1 {
    pub offset: u64,
    pub entries: u64,
}

impl<'i> L1<'i> {
    /// The table of `image` for a disk of `len` bytes.
    pub fn new(image: &'i Qcow2, len: u64) -> Self {
        let entries = image.header.l1_entries.max(image.l1_entries_for(len));
        Self { image, changed: BTreeMap::new(), entries, moved_to: None }
    }

    fn clusters(&self, entries: u64) -> u64 {
        (entries * 8).div_ceil(self.image.cluster_size())
    }

    /// Finds room for the new entries: in the clusters of the table as long as it fits them, else in new ones.
    pub fn prepare(&mut self, meta: &mut Meta<'_>, refcounts: &mut Refcounts<'_>) -> Result<(), Qcow2Error> {
        let header = &self.image.header;
        let old_entries = header.l1_entries;
        if self.entries == old_entries {
            return Ok(());
        }
        let (old, new) = (self.clusters(old_entries), self.clusters(self.entries));
        if old == new {
            // What stands behind the table was no entry before.
            for index in old_entries..self.entries {
                meta.set_entry(header.l1_offset + index * 8, 0)?;
            }
            return Ok(());
        }
        self.moved_to = Some(refcounts.allocate_run(meta, new)?);
        let first = header.l1_offset >> self.image.cluster_bits();
        for index in first..first + old {
            refcounts.release(meta, index)?;
        }
        Ok(())
    }

    /// True when the plan has given this entry its table.
    pub fn is_changed(&self, index: u64) -> bool {
        self.changed.contains_key(&index)
    }

    /// Gives an entry a table that belongs to it alone.
    pub fn set(&mut self, index: u64, raw: u64) {
        self.changed.insert(index, raw);
    }

    /// The L2 table of an entry, as planned so far: its offset and copied flag.
    pub fn l2_table(&self, meta: &Meta<'_>, index: u64) -> Result<Option<(u64, bool)>, Qcow2Error> {
        if let Some(raw) = self.changed.get(&index) {
            return Ok(Some((raw & !COPIED, true)));
        }
        if index >= self.image.header.l1_entries {
            return Ok(None);
        }
        let at = self.image.header.l1_offset + index * 8;
        self.image.check_l1_entry(meta.entry(at)?, at)
    }

    /// Brings the entries to their place.
    pub fn finish(self, meta: &mut Meta<'_>) -> Result<FinishedL1, Qcow2Error> {
        let header = &self.image.header;
        let Some(place) = self.moved_to else {
            for (index, raw) in &self.changed {
                meta.set_entry(header.l1_offset + index * 8, *raw)?;
            }
            return Ok(FinishedL1 { offset: header.l1_offset, entries: self.entries });
        };
        let mut table = Vec::with_capacity((self.entries * 8) as usize);
        for index in 0..self.entries {
            let raw = match self.changed.get(&index) {
                Some(raw) => *raw,
                None if index < header.l1_entries => meta.entry(header.l1_offset + index * 8)?,
                None => 0,
            };
            table.extend(raw.to_be_bytes());
        }
        let cluster_size = self.image.cluster_size() as usize;
        for (bytes, cluster) in table.chunks(cluster_size).zip(place.clone()) {
            let mut bytes = bytes.to_vec();
            bytes.resize(cluster_size, 0);
            meta.add_table(cluster, bytes);
        }
        Ok(FinishedL1 { offset: place.start << self.image.cluster_bits(), entries: self.entries })
    }
}

impl Qcow2 {
    /// L1 entries that a disk of `len` bytes needs.
    fn l1_entries_for(&self, len: u64) -> u64 {
        len.div_ceil(1 << self.header.l2_cover_bits())
    }

    /// Fails, saying why, when the disk of this image cannot become `len` bytes long.
    pub fn check_growable(&self, len: u64) -> Result<(), Qcow2Error> {
        self.check_writable()?;
        let old_len = self.header.virtual_size;
        if len <= old_len {
            return Ok(());
        }
        let refuse = |feature| Err(Qcow2Error::Unsupported { path: self.path.clone(), feature });
        let needed = self.l1_entries_for(len) * 8;
        if needed > MAX_L1_BYTES {
            let (path, what) = (self.path.clone(), "size of the L1 table for this length of the disk");
            return Err(Qcow2Error::Limit { path, what, limit: MAX_L1_BYTES, found: needed });
        }
        if !len.is_multiple_of(SECTOR_BYTES) {
            return refuse(Refused::GrowToPartOfSector);
        }
        if self.backing_len() > old_len {
            return refuse(Refused::GrowOverBacking);
        }
        // Without it QEMU gives a snapshot the length that the disk has when the snapshot is applied.
        if self.snapshots.iter().any(|snapshot| snapshot.disk_size.is_none()) {
            return refuse(Refused::GrowSnapshotWithoutSize);
        }
        Ok(())
    }

    /// The part of the last cluster behind the old end of the disk, when what is stored there is not zero: it must
    /// not become content of a disk of `len` bytes.
    pub(crate) fn stale_tail(&self, len: u64) -> Result<Range<u64>, Qcow2Error> {
        let old_len = self.header.virtual_size;
        let within = old_len % self.cluster_size();
        let end = (old_len - within).saturating_add(self.cluster_size()).min(len);
        if within == 0 || end <= old_len {
            return Ok(0..0);
        }
        let l2_bits = self.header.l2_cover_bits() - self.cluster_bits();
        let cluster = old_len >> self.cluster_bits();
        let l1_at = self.header.l1_offset + (cluster >> l2_bits) * 8;
        let Some((l2_offset, _)) = self.check_l1_entry(self.table_entry(l1_at)?, l1_at)? else {
            return Ok(0..0);
        };
        let at = l2_offset + (cluster & ((1 << l2_bits) - 1)) * 8;
        let stored = match self.decode_entry(self.table_entry(at)?, at)? {
            L2Entry::Data { host, .. } => self.read_padded(host, self.cluster_size())?,
            L2Entry::Compressed { host, len } => self.inflated_cluster(host, len)?.to_vec(),
            L2Entry::Zero { .. } | L2Entry::Unallocated => return Ok(0..0),
        };
        let is_zero = stored.iter().skip(within as usize).all(|byte| *byte == 0);
        Ok(if is_zero { 0..0 } else { old_len..end })
    }
}
