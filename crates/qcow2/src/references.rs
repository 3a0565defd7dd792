//! Counting every reference to every host cluster.

use std::collections::BTreeMap;

use ondisk::try_be_u64;

use crate::entry::L2Entry;
use crate::error::Qcow2Error;
use crate::image::Qcow2;

/// Counts in one piece.
const CHUNK: u64 = 4096;
/// Memory for counts: enough for 2^28 clusters (1 TiB of 4 KiB clusters).
const MAX_COUNT_BYTES: u64 = 512 << 20;
/// Clusters with more than 65534 references: only a hostile image has many.
const MAX_LARGE: usize = 1 << 20;
/// Problems that are kept as text.
const MAX_PROBLEMS: usize = 100;

/// References per host cluster, sparse.
#[derive(Default)]
pub(crate) struct Counts {
    chunks: BTreeMap<u64, Box<[u16; CHUNK as usize]>>,
    /// Counts that do not fit the chunk, whose slot then is `u16::MAX`.
    large: BTreeMap<u64, u64>,
}

impl Counts {
    pub fn get(&self, index: u64) -> u64 {
        let slot = self.chunks.get(&(index / CHUNK)).and_then(|chunk| chunk.get((index % CHUNK) as usize));
        match slot.copied() {
            Some(u16::MAX) => self.large.get(&index).copied().unwrap_or(0),
            other => u64::from(other.unwrap_or(0)),
        }
    }

    /// False when this needs more memory than is allowed.
    #[must_use]
    pub fn add(&mut self, index: u64, more: u64) -> bool {
        let total = self.get(index).saturating_add(more);
        let chunk = self.chunks.entry(index / CHUNK).or_insert_with(|| Box::new([0; CHUNK as usize]));
        if let Some(slot) = chunk.get_mut((index % CHUNK) as usize) {
            *slot = u16::try_from(total).unwrap_or(u16::MAX);
        }
        if total >= u64::from(u16::MAX) {
            self.large.insert(index, total);
        }
        self.large.len() <= MAX_LARGE && self.chunks.len() as u64 * CHUNK * 2 <= MAX_COUNT_BYTES
    }

    /// Clusters with references, ascending.
    pub fn indexes(&self) -> impl Iterator<Item = u64> {
        self.chunks.iter().flat_map(|(chunk, slots)| {
            let start = chunk * CHUNK;
            slots.iter().zip(start..).filter(|(slot, _)| **slot != 0).map(|(_, index)| index)
        })
    }

    /// The first cluster from `index` on with references, and their number.
    pub fn first_from(&self, index: u64) -> Option<(u64, u64)> {
        let mut skip = (index % CHUNK) as usize;
        for (chunk, slots) in self.chunks.range(index / CHUNK..) {
            if *chunk != index / CHUNK {
                skip = 0;
            }
            let found = slots.get(skip..).and_then(|slots| slots.iter().position(|slot| *slot != 0));
            if let Some(found) = found {
                let index = chunk * CHUNK + (skip + found) as u64;
                return Some((index, self.get(index)));
            }
        }
        None
    }

    /// One past the last cluster with references.
    pub fn end(&self) -> u64 {
        self.chunks.iter().next_back().map_or(0, |(chunk, slots)| {
            let last = slots.iter().rposition(|slot| *slot != 0).map_or(0, |last| last as u64 + 1);
            chunk * CHUNK + last
        })
    }
}

/// Problems found: a count, and the first of them as text.
#[derive(Default)]
pub(crate) struct Problems {
    pub count: u64,
    pub texts: Vec<String>,
}

impl Problems {
    pub fn add(&mut self, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.texts.len() < MAX_PROBLEMS {
            self.texts.push(text());
        }
    }
}

/// Every reference of an image.
pub(crate) struct References {
    pub counts: Counts,
    /// Entries that cannot be followed.
    pub problems: Problems,
}

impl References {
    /// Walks header, tables, snapshots, bitmaps and every L2 table once, however often it is shared.
    pub fn count(image: &Qcow2, refcount_table: &[u64]) -> Result<Self, Qcow2Error> {
        let mut walk = Walk { image, counts: Counts::default(), problems: Problems::default() };
        let header = &image.header;
        walk.range(0, 1, 1)?;
        walk.range(header.l1_offset, header.l1_entries * 8, 1)?;
        walk.range(header.refcount_table_offset, header.refcount_table_clusters << header.cluster_bits, 1)?;
        walk.range(header.snapshots_offset, image.snapshot_table_len, 1)?;
        for (index, entry) in refcount_table.iter().enumerate() {
            match image.refcount_table_problem(*entry) {
                Some(problem) => walk.problems.add(|| format!("refcount table entry {index}: {problem}")),
                None if *entry != 0 => walk.range(*entry, image.cluster_size(), 1)?,
                None => {}
            }
        }

        // How many L1 entries use each L2 table.
        let mut l2_uses = Counts::default();
        let active = (header.l1_offset, header.l1_entries);
        let tables = image.snapshots.iter().map(|snapshot| (snapshot.l1_offset, snapshot.l1_entries));
        for (number, (l1_offset, l1_entries)) in std::iter::once(active).chain(tables).enumerate() {
            if number > 0 {
                walk.range(l1_offset, l1_entries * 8, 1)?;
            }
            image.for_each_l1(l1_offset, l1_entries, |_, raw, at| {
                match image.check_l1_entry(raw, at) {
                    Ok(Some((l2_offset, _))) => {
                        if !l2_uses.add(l2_offset >> header.cluster_bits, 1) {
                            return Err(image.too_many_references());
                        }
                    }
                    Ok(None) => {}
                    Err(problem) => walk.problems.add(|| problem.to_string()),
                }
                Ok(())
            })?;
        }
        for l2_cluster in l2_uses.indexes() {
            let weight = l2_uses.get(l2_cluster);
            walk.range(l2_cluster << header.cluster_bits, image.cluster_size(), weight)?;
            walk.l2_table(l2_cluster << header.cluster_bits, weight)?;
        }
        crate::bitmaps::for_each_range(image, |offset, len| walk.range(offset, len, 1))?;
        Ok(Self { counts: walk.counts, problems: walk.problems })
    }
}

struct Walk<'i> {
    image: &'i Qcow2,
    counts: Counts,
    problems: Problems,
}

impl Qcow2 {
    /// The error when counting would take too much memory.
    pub(crate) fn too_many_references(&self) -> Qcow2Error {
        Qcow2Error::Limit {
            path: self.path.clone(),
            what: "memory to count the references",
            limit: MAX_COUNT_BYTES,
            found: MAX_COUNT_BYTES + 1,
        }
    }
}

impl Walk<'_> {
    fn range(&mut self, offset: u64, len: u64, weight: u64) -> Result<(), Qcow2Error> {
        if len == 0 {
            return Ok(());
        }
        for index in self.image.entry_format().clusters_of(offset, len) {
            if !self.counts.add(index, weight) {
                return Err(self.image.too_many_references());
            }
        }
        Ok(())
    }

    fn l2_table(&mut self, l2_offset: u64, weight: u64) -> Result<(), Qcow2Error> {
        let image = self.image;
        image.for_each_l2(l2_offset, |raw, at| {
            match image.decode_entry(raw, at) {
                Ok(L2Entry::Data { host, .. } | L2Entry::Zero { host: Some(host), .. }) => {
                    self.range(host, image.cluster_size(), weight)?;
                }
                Ok(L2Entry::Compressed { host, len }) => self.range(host, len, weight)?,
                Ok(L2Entry::Unallocated | L2Entry::Zero { host: None, .. }) => {}
                Err(problem) => self.problems.add(|| problem.to_string()),
            }
            Ok(())
        })
    }
}

impl Qcow2 {
    /// Calls `each` with every L2 entry that is not zero (its first half, if extended) and its position.
    pub(crate) fn for_each_l2(
        &self,
        l2_offset: u64,
        mut each: impl FnMut(u64, u64) -> Result<(), Qcow2Error>,
    ) -> Result<(), Qcow2Error> {
        let step = 1u64 << self.header.l2_entry_shift();
        let mut at = l2_offset;
        while at < l2_offset + self.cluster_size() {
            let slice = self.table_slice(at)?;
            for entry in slice.chunks_exact(step as usize) {
                match try_be_u64(entry, 0) {
                    Some(0) | None => {}
                    Some(raw) => each(raw, at)?,
                }
                at += step;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_counts_and_order() {
        let mut counts = Counts::default();
        assert!(counts.add(5, 65_534));
        assert_eq!((counts.get(5), counts.end()), (65_534, 6));
        assert!(counts.add(5, 1) && counts.add(9000, 1) && counts.add(5, 10));
        assert_eq!((counts.get(5), counts.get(6), counts.get(9000)), (65_545, 0, 1));
        assert_eq!(counts.indexes().collect::<Vec<_>>(), [5, 9000]);
        assert_eq!(counts.end(), 9001);
        let walk = [0, 5, 6, 9000, 9001].map(|index| counts.first_from(index));
        assert_eq!(walk, [Some((5, 65_545)), Some((5, 65_545)), Some((9000, 1)), Some((9000, 1)), None]);
    }
}
