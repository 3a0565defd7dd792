//! Everything but the guest data as text: equal images give equal text.

use std::io::Write;

use crate::entry::L2Entry;
use crate::error::Qcow2Error;
use crate::image::Qcow2;
use crate::refcount::get_refcount;
use crate::references::Counts;

impl Qcow2 {
    /// Writes header, extensions, snapshots, L1, L2 tables and refcounts as text, one fact a line.
    /// Runs of equal refcounts, and of L2 entries that go on with each other, share a line.
    pub fn dump(&self, out: &mut dyn Write) -> Result<(), Qcow2Error> {
        self.dump_header(out)?;
        let header = &self.header;
        for (number, snapshot) in self.snapshots.iter().enumerate() {
            writeln!(
                out,
                "snapshot {number}: id {:?} name {:?} l1_table_offset {:#x} l1_size {} date {}.{:09} vm_clock {} vm_state {} disk_size {:?}",
                String::from_utf8_lossy(&snapshot.id),
                String::from_utf8_lossy(&snapshot.name),
                snapshot.l1_offset,
                snapshot.l1_entries,
                snapshot.date_sec,
                snapshot.date_nsec,
                snapshot.vm_clock_nsec,
                snapshot.vm_state_size,
                snapshot.disk_size,
            )?;
        }

        // A table that several L1 tables share is printed once.
        let mut printed = Counts::default();
        self.dump_l1(out, "active", header.l1_offset, header.l1_entries, &mut printed)?;
        for (number, snapshot) in self.snapshots.iter().enumerate() {
            let name = format!("snapshot {number}");
            self.dump_l1(out, &name, snapshot.l1_offset, snapshot.l1_entries, &mut printed)?;
        }
        self.dump_refcounts(out)
    }

    fn dump_header(&self, out: &mut dyn Write) -> Result<(), Qcow2Error> {
        let header = &self.header;
        writeln!(out, "qcow2 version {}", header.version)?;
        writeln!(out, "cluster_bits {}", header.cluster_bits)?;
        writeln!(out, "size {}", header.virtual_size)?;
        writeln!(out, "l1_table_offset {:#x} l1_size {}", header.l1_offset, header.l1_entries)?;
        writeln!(
            out,
            "refcount_table_offset {:#x} refcount_table_clusters {} refcount_order {}",
            header.refcount_table_offset, header.refcount_table_clusters, header.refcount_order
        )?;
        writeln!(
            out,
            "snapshots_offset {:#x} nb_snapshots {}",
            header.snapshots_offset, header.snapshot_count
        )?;
        writeln!(
            out,
            "incompatible_features {:#x} compatible_features {:#x} autoclear_features {:#x}",
            header.incompatible, header.compatible, header.autoclear
        )?;
        writeln!(out, "header_length {} compression {:?}", header.header_length, header.compression)?;
        if let Some(name) = &header.backing_name {
            writeln!(out, "backing_file {:?}", String::from_utf8_lossy(name))?;
        }
        if let Some(format) = &header.backing_format {
            writeln!(out, "backing_format {:?}", String::from_utf8_lossy(format))?;
        }
        for feature in &header.feature_names {
            writeln!(out, "feature name {:?} bit {} {:?}", feature.kind, feature.bit, feature.name)?;
        }
        for extension in &header.extensions {
            write!(out, "extension {:#010x} at {:#x} data ", extension.kind, extension.host_offset)?;
            for byte in &extension.data {
                write!(out, "{byte:02x}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn dump_l1(
        &self,
        out: &mut dyn Write,
        name: &str,
        l1_offset: u64,
        l1_entries: u64,
        printed: &mut Counts,
    ) -> Result<(), Qcow2Error> {
        self.for_each_l1(l1_offset, l1_entries, |index, raw, at| {
            writeln!(out, "l1 {name} {index}: {raw:#018x}")?;
            let Some((l2_offset, _)) = self.check_l1_entry(raw, at)? else { return Ok(()) };
            let l2_cluster = l2_offset >> self.cluster_bits();
            if printed.get(l2_cluster) > 0 {
                return Ok(());
            }
            if !printed.add(l2_cluster, 1) {
                return Err(self.too_many_references());
            }
            self.dump_l2(out, l2_offset)
        })
    }

    fn dump_l2(&self, out: &mut dyn Write, l2_offset: u64) -> Result<(), Qcow2Error> {
        // The run that is open: first index, first entry, entries.
        let mut run: Option<(u64, u64, u64)> = None;
        let print = |out: &mut dyn Write, run: Option<(u64, u64, u64)>| match run {
            Some((index, raw, 1)) => writeln!(out, "l2 {l2_offset:#x} {index}: {raw:#018x}"),
            Some((index, raw, count)) => {
                writeln!(out, "l2 {l2_offset:#x} {index}..{}: {raw:#018x} and on", index + count)
            }
            None => Ok(()),
        };
        self.for_each_l2(l2_offset, |raw, at| {
            let index = (at - l2_offset) >> self.header.l2_entry_shift();
            if self.header.has_extended_l2() {
                let bitmap = self.table_entry(at + 8)?;
                return Ok(writeln!(out, "l2 {l2_offset:#x} {index}: {raw:#018x} bitmap {bitmap:#018x}")?);
            }
            let step = match self.entry_format().decode(raw) {
                Ok(L2Entry::Data { .. }) => self.cluster_size(),
                Ok(L2Entry::Zero { host: None, .. }) => 0,
                _ => u64::MAX,
            };
            run = match run {
                Some((first, start, count))
                    if first + count == index
                        && step.checked_mul(count).and_then(|more| start.checked_add(more)) == Some(raw) =>
                {
                    Some((first, start, count + 1))
                }
                _ => {
                    print(out, run)?;
                    Some((index, raw, 1))
                }
            };
            Ok(())
        })?;
        Ok(print(out, run)?)
    }

    fn dump_refcounts(&self, out: &mut dyn Write) -> Result<(), Qcow2Error> {
        let mut table = self.refcount_table()?;
        let mut seen = std::collections::HashSet::new();
        for (index, entry) in table.iter_mut().enumerate() {
            if *entry == 0 {
                continue;
            }
            writeln!(out, "refcount_table {index}: {entry:#x}")?;
            if let Some(problem) = self.refcount_table_problem(*entry) {
                writeln!(out, "refcount_table {index}: {problem}")?;
                *entry = 0;
            } else if !seen.insert(*entry) {
                writeln!(out, "refcount_table {index}: block used twice")?;
                *entry = 0;
            }
        }
        let mut run = 0..0;
        let mut value = 0;
        self.for_each_refcount_sector(&table, |first, sector, per_sector| {
            for index in first..first + per_sector {
                let next = get_refcount(sector, self.header.refcount_order, (index - first) as usize);
                if next != value || index != run.end {
                    dump_run(out, &run, value)?;
                    (run, value) = (index..index, next);
                }
                run.end = index + 1;
            }
            Ok(())
        })?;
        Ok(dump_run(out, &run, value)?)
    }
}

fn dump_run(out: &mut dyn Write, run: &std::ops::Range<u64>, value: u64) -> std::io::Result<()> {
    match (run.is_empty(), value) {
        (true, _) | (_, 0) => Ok(()),
        _ if run.end - run.start == 1 => writeln!(out, "refcount {}: {value}", run.start),
        _ => writeln!(out, "refcount {}..{}: {value}", run.start, run.end),
    }
}
