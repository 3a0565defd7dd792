//! Which host clusters hold tables: nothing else may be written over them.

use std::ops::Range;

use crate::error::Qcow2Error;
use crate::image::Qcow2;

/// Sorted, disjoint runs of clusters with tables.
pub(crate) struct Guard {
    runs: Vec<(Range<u64>, &'static str)>,
}

impl Guard {
    /// All tables that the header, the active L1 table and `refcount_blocks` name; an overlap is damage.
    pub fn new(image: &Qcow2, refcount_blocks: &[u64]) -> Result<Self, Qcow2Error> {
        let header = &image.header;
        let clusters = |offset: u64, len: u64| {
            let first = offset >> header.cluster_bits;
            first..first + len.div_ceil(header.cluster_size())
        };
        let mut runs = vec![
            (0..1, "header"),
            (clusters(header.l1_offset, header.l1_entries * 8), "L1 table"),
            (
                clusters(header.refcount_table_offset, header.refcount_table_clusters << header.cluster_bits),
                "refcount table",
            ),
            (clusters(header.snapshots_offset, image.snapshot_table_len), "snapshot table"),
        ];
        for snapshot in &image.snapshots {
            runs.push((clusters(snapshot.l1_offset, snapshot.l1_entries * 8), "L1 table of a snapshot"));
        }
        for offset in refcount_blocks.iter().filter(|offset| **offset != 0) {
            runs.push((clusters(*offset, 1), "refcount block"));
        }
        for offset in image.active_l2_offsets()? {
            runs.push((clusters(offset, 1), "L2 table"));
        }
        runs.retain(|(run, _)| !run.is_empty());
        runs.sort_unstable_by_key(|(run, _)| run.start);
        for ((one, what), (next, other)) in runs.iter().zip(runs.iter().skip(1)) {
            if one.end > next.start {
                return Err(image.damaged(
                    "qcow2.overlap",
                    next.start << header.cluster_bits,
                    format!("expected a cluster with one use, found {what} and {other}"),
                ));
            }
        }
        Ok(Self { runs })
    }

    /// The table in cluster `index`, if one is there.
    pub fn table_in(&self, index: u64) -> Option<&'static str> {
        let behind = self.runs.partition_point(|(run, _)| run.start <= index);
        let (run, what) = self.runs.get(behind.checked_sub(1)?)?;
        run.contains(&index).then_some(*what)
    }
}
