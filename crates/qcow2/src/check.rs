//! Refcounts against references, counted as `qemu-img check` counts them.

use serde::Serialize;

use crate::entry::{COPIED, L2Entry};
use crate::error::Qcow2Error;
use crate::image::Qcow2;
use crate::meta::{Meta, SECTOR_BYTES};
use crate::refcount::get_refcount;
use crate::references::{Problems, References};

/// What a check found. Nothing is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// References above the refcount, wrong copied flags, entries that lead nowhere.
    pub corruptions: u64,
    /// Clusters with a refcount above their references: lost space, no danger.
    pub leaks: u64,
    /// The first problems, one sentence each.
    pub problems: Vec<String>,
    /// Guest clusters of the virtual disk.
    pub total_clusters: u64,
    /// Guest clusters with a host cluster or a payload in the active tables.
    pub allocated_clusters: u64,
    /// Compressed ones among them.
    pub compressed_clusters: u64,
    /// End of the last host cluster with a refcount or a reference.
    pub image_end_offset: u64,
    /// The dirty bit is set: refcounts are expected to be wrong, and are rebuilt by the next commit.
    pub is_dirty: bool,
    /// The corrupt bit is set.
    pub is_marked_corrupt: bool,
}

impl CheckReport {
    /// True without corruptions and leaks.
    pub fn is_clean(&self) -> bool {
        self.corruptions == 0 && self.leaks == 0
    }
}

impl Qcow2 {
    /// Compares every refcount with the references from all L1 and L2 tables, snapshots, compressed
    /// clusters and bitmaps, and every copied flag with the refcount.
    ///
    /// Memory: two bytes per host cluster in use, at most 512 MiB.
    pub fn check(&self) -> Result<CheckReport, Qcow2Error> {
        let mut table = self.refcount_table()?;
        let References { counts, problems: mut corruptions } = References::count(self, &table)?;
        // Blocks that cannot be used (reported just now) count as missing, and each block counts once.
        let mut seen = std::collections::HashSet::new();
        for entry in &mut table {
            if self.refcount_table_problem(*entry).is_some() || (*entry != 0 && !seen.insert(*entry)) {
                *entry = 0;
            }
        }
        let mut leaks = Problems::default();
        let mut end = counts.end();
        let block_bits = self.refcount_block_bits();
        let mut compare = |index: u64, stored: u64| {
            let counted = counts.get(index);
            if stored != 0 {
                end = end.max(index + 1);
            }
            if stored < counted {
                corruptions.add(|| format!("cluster {index}: refcount {stored}, {counted} references"));
            } else if stored > counted {
                leaks.add(|| format!("cluster {index}: refcount {stored}, {counted} references (leak)"));
            }
        };
        self.for_each_refcount_sector(&table, |first, sector, per_sector| {
            for within in 0..per_sector {
                let stored = get_refcount(sector, self.header.refcount_order, within as usize);
                compare(first + within, stored);
            }
            Ok(())
        })?;
        for index in counts.indexes() {
            let block = usize::try_from(index >> block_bits).ok().and_then(|block| table.get(block));
            if block.copied().unwrap_or(0) == 0 {
                compare(index, 0);
            }
        }

        let mut report = CheckReport {
            corruptions: 0,
            leaks: leaks.count,
            problems: Vec::new(),
            total_clusters: self.header.virtual_size.div_ceil(self.cluster_size()),
            allocated_clusters: 0,
            compressed_clusters: 0,
            image_end_offset: end << self.cluster_bits(),
            is_dirty: self.is_dirty(),
            is_marked_corrupt: self.is_corrupt(),
        };
        self.check_active_tables(&table, &mut corruptions, &mut report)?;
        report.corruptions = corruptions.count;
        report.problems = corruptions.texts;
        report.problems.extend(leaks.texts);
        Ok(report)
    }

    /// Calls `each` with the index of the first cluster, the sector and the refcounts in it, for every
    /// sector of the refcount blocks that `table` names.
    pub(crate) fn for_each_refcount_sector(
        &self,
        table: &[u64],
        mut each: impl FnMut(u64, &[u8], u64) -> Result<(), Qcow2Error>,
    ) -> Result<(), Qcow2Error> {
        let per_sector = 1u64 << self.refcount_sector_bits();
        let mut first = 0;
        for block in table {
            let mut at = *block;
            while *block != 0 && at < block + self.cluster_size() {
                let slice = self.table_slice(at)?;
                for sector in slice.chunks_exact(SECTOR_BYTES as usize) {
                    each(first, sector, per_sector)?;
                    first += per_sector;
                    at += SECTOR_BYTES;
                }
            }
            if *block == 0 {
                first += 1 << self.refcount_block_bits();
            }
        }
        Ok(())
    }

    /// Copied flags of the active tables against the refcounts; counts allocated clusters on the way.
    fn check_active_tables(
        &self,
        table: &[u64],
        corruptions: &mut Problems,
        report: &mut CheckReport,
    ) -> Result<(), Qcow2Error> {
        let meta = Meta::new(self);
        let refcount = |index: u64| {
            let block =
                usize::try_from(index >> self.refcount_block_bits()).ok().and_then(|at| table.get(at));
            let Some(block) = block.copied().filter(|block| *block != 0) else { return Ok(0) };
            let in_block = index & ((1 << self.refcount_block_bits()) - 1);
            let sector = meta.sector(block + (in_block >> self.refcount_sector_bits()) * SECTOR_BYTES)?;
            let within = in_block & ((1 << self.refcount_sector_bits()) - 1);
            Ok::<_, Qcow2Error>(get_refcount(&sector, self.header.refcount_order, within as usize))
        };
        let mut check_flag = |what: &str, at: u64, host: u64, copied: bool| {
            let stored = refcount(host >> self.cluster_bits())?;
            if (stored == 1) != copied {
                corruptions.add(|| {
                    format!(
                        "{what} at {at:#x}: copied flag {}, refcount {stored}",
                        if copied { "set" } else { "clear" }
                    )
                });
            }
            Ok::<_, Qcow2Error>(())
        };
        let mut tables = Vec::new();
        self.for_each_l1(self.header.l1_offset, self.header.l1_entries, |_, raw, at| {
            if let Ok(Some((l2_offset, copied))) = self.check_l1_entry(raw, at) {
                check_flag("L1 entry", at, l2_offset, copied)?;
                tables.push(l2_offset);
            }
            Ok(())
        })?;
        for l2_offset in tables {
            self.for_each_l2(l2_offset, |raw, at| {
                match self.decode_entry(raw, at) {
                    Ok(L2Entry::Data { host, .. } | L2Entry::Zero { host: Some(host), .. }) => {
                        report.allocated_clusters += 1;
                        check_flag("L2 entry", at, host, raw & COPIED != 0)?;
                    }
                    Ok(L2Entry::Compressed { .. }) => {
                        report.allocated_clusters += 1;
                        report.compressed_clusters += 1;
                    }
                    Ok(L2Entry::Unallocated | L2Entry::Zero { host: None, .. }) | Err(_) => {}
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
