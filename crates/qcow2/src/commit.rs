//! From the changes of a sealed overlay to host-file writes.

use std::ops::Range;

use block::{BlockError, ChangeSet, HostPlan, HostWrite, ReadAt, WriteSource};

use crate::entry::{COPIED, L2Entry, ZERO};
use crate::error::{Qcow2Error, Refused};
use crate::header::{
    AT_AUTOCLEAR, AT_INCOMPATIBLE, AT_L1_ENTRIES, AT_L1_OFFSET, AT_REFCOUNT_TABLE_CLUSTERS,
    AT_REFCOUNT_TABLE_OFFSET, AT_VIRTUAL_SIZE, EXTENSION_BITMAPS, INCOMPATIBLE_DIRTY,
};
use crate::image::Qcow2;
use crate::l1::L1;
use crate::meta::Meta;
use crate::refcount::Refcounts;
use crate::references::References;

/// Bytes read at once when a cluster is looked through for content.
const ZERO_CHECK_BYTES: u64 = 64 << 10;

impl Qcow2 {
    /// The host-file writes that bring `changes`, made over this image, into it.
    ///
    /// Invariants, which tests cite:
    /// 1. No cluster that a snapshot, or any other reference, uses is written: it is copied first.
    /// 2. No cluster that holds old content or an old table is reused: until the first table write, the
    ///    image reads as before, so that planned writes can still read it.
    /// 3. Data comes first, then new tables, then changed tables, the header last; no two writes overlap.
    /// 4. Without changes the plan is empty.
    /// 5. Memory is in proportion to the changed clusters (and, for a dirty image, to the image's clusters).
    ///
    /// A dirty image gets its refcounts rebuilt and the dirty bit cleared. Autoclear bits are cleared. A disk that
    /// became longer gets a new size, and a longer L1 table where it needs one; nothing is stored for the new bytes.
    pub fn plan_commit(&self, changes: &ChangeSet) -> Result<HostPlan, Qcow2Error> {
        let virtual_disk = changes.disk();
        if virtual_disk.len() < self.len() {
            return Err(Qcow2Error::Block(BlockError::PastEnd {
                layer: self.path.display().to_string(),
                offset: 0,
                len: virtual_disk.len(),
                device_len: self.len(),
            }));
        }
        if changes.is_empty() {
            let (old_len, new_len) = (self.file_len, self.file_len);
            return Ok(HostPlan { writes: Vec::new(), old_len, new_len, virtual_disk });
        }
        self.check_growable(virtual_disk.len())?;
        let mut planner = Planner::new(self, &*virtual_disk)?;
        if self.is_dirty() {
            planner.rebuild()?;
        }
        planner.l1.prepare(&mut planner.meta, &mut planner.refcounts)?;
        let tail = self.stale_tail(virtual_disk.len())?;
        let ranges = with_range(changes.ranges(), tail);
        for (cluster, pieces) in by_cluster(&ranges, self.cluster_bits()) {
            planner.change_cluster(cluster, &pieces)?;
        }
        let (writes, new_len) = planner.finish()?;
        Ok(HostPlan { writes, old_len: self.file_len, new_len, virtual_disk })
    }

    /// Fails, naming the feature, when this image is only read.
    pub fn check_writable(&self) -> Result<(), Qcow2Error> {
        let refuse = |feature| Err(Qcow2Error::Unsupported { path: self.path.clone(), feature });
        if self.is_corrupt() {
            return refuse(Refused::WriteCorrupt);
        }
        if self.header.has_extended_l2() {
            return refuse(Refused::WriteExtendedL2);
        }
        if self.header.extension(EXTENSION_BITMAPS).is_some() {
            return refuse(Refused::WriteBitmaps);
        }
        Ok(())
    }
}

/// Sorted, disjoint ranges with one more.
fn with_range(ranges: &[Range<u64>], more: Range<u64>) -> Vec<Range<u64>> {
    let mut all = ranges.to_vec();
    if !more.is_empty() {
        all.push(more);
        all.sort_by_key(|range| range.start);
    }
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(all.len());
    for range in all {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Guest clusters that sorted `ranges` touch, each with its parts of them.
fn by_cluster(ranges: &[Range<u64>], cluster_bits: u32) -> impl Iterator<Item = (u64, Vec<Range<u64>>)> {
    let mut rest = ranges.iter().cloned().peekable();
    let mut left: Option<Range<u64>> = None;
    std::iter::from_fn(move || {
        let first = left.take().or_else(|| rest.next())?;
        let cluster = first.start >> cluster_bits;
        let end = (cluster + 1) << cluster_bits;
        let mut pieces = Vec::new();
        let mut next = Some(first);
        while let Some(range) = next.take() {
            if range.end > end {
                left = Some(end..range.end);
                pieces.push(range.start..end);
                break;
            }
            pieces.push(range);
            next = rest.next_if(|range| range.start < end);
        }
        Some((cluster, pieces))
    })
}

struct Planner<'i> {
    image: &'i Qcow2,
    disk: &'i dyn ReadAt,
    meta: Meta<'i>,
    refcounts: Refcounts<'i>,
    l1: L1<'i>,
    data: Vec<HostWrite>,
    /// Length of the virtual disk afterwards.
    len: u64,
}

impl<'i> Planner<'i> {
    fn new(image: &'i Qcow2, disk: &'i dyn ReadAt) -> Result<Self, Qcow2Error> {
        Ok(Self {
            image,
            disk,
            meta: Meta::new(image),
            refcounts: Refcounts::new(image)?,
            l1: L1::new(image, disk.len()),
            data: Vec::new(),
            len: disk.len(),
        })
    }

    /// Refcounts and copied flags of a dirty image by its own references.
    fn rebuild(&mut self) -> Result<(), Qcow2Error> {
        let image = self.image;
        let references = References::count(image, &image.refcount_table()?)?;
        if let Some(problem) = references.problems.texts.first() {
            return Err(image.damaged(
                "qcow2.dirty.damaged",
                0,
                format!("expected tables from which refcounts can be rebuilt, found: {problem}"),
            ));
        }
        let cluster_bits = image.cluster_bits();
        let counts = &references.counts;
        let flag = |index: u64| if counts.get(index) == 1 { COPIED } else { 0 };
        let meta = &mut self.meta;
        image.for_each_l1(image.header.l1_offset, image.header.l1_entries, |_, raw, at| {
            let Some((l2_offset, _)) = image.check_l1_entry(raw, at)? else { return Ok(()) };
            let l2_flag = flag(l2_offset >> cluster_bits);
            if raw & COPIED != l2_flag {
                meta.set_entry(at, l2_offset | l2_flag)?;
            }
            if l2_flag == 0 {
                // Shared with a snapshot: stays as it is, and is copied before it is changed.
                return Ok(());
            }
            image.for_each_l2(l2_offset, |raw, at| {
                let host = match image.decode_entry(raw, at)? {
                    L2Entry::Data { host, .. } | L2Entry::Zero { host: Some(host), .. } => host,
                    _ => return Ok(()),
                };
                match flag(host >> cluster_bits) {
                    right if raw & COPIED != right => meta.set_entry(at, raw & !COPIED | right),
                    _ => Ok(()),
                }
            })
        })?;
        self.refcounts.rebuild(&mut self.meta, references.counts)
    }

    /// The L2 table of an L1 entry, as planned so far: its offset and copied flag.
    fn l2_table(&self, l1_index: u64) -> Result<Option<(u64, bool)>, Qcow2Error> {
        self.l1.l2_table(&self.meta, l1_index)
    }

    /// An L2 table that may be changed: made or copied if need be.
    fn l2_for_writing(&mut self, l1_index: u64) -> Result<u64, Qcow2Error> {
        let cluster_bits = self.image.cluster_bits();
        let bytes = match self.l2_table(l1_index)? {
            Some((offset, _)) if self.l1.is_changed(l1_index) => return Ok(offset),
            Some((offset, copied)) => {
                match self.refcounts.get(&self.meta, offset >> cluster_bits)? {
                    0 => return Err(self.refcounts.unreferenced(offset >> cluster_bits)),
                    1 if copied => return Ok(offset),
                    _ => {}
                }
                let bytes = self.meta.table(offset)?;
                self.refcounts.release(&mut self.meta, offset >> cluster_bits)?;
                bytes
            }
            None => vec![0; self.image.cluster_size() as usize],
        };
        let index = self.refcounts.allocate(&mut self.meta)?;
        self.meta.add_table(index, bytes);
        self.l1.set(l1_index, index << cluster_bits | COPIED);
        Ok(index << cluster_bits)
    }

    fn change_cluster(&mut self, cluster: u64, pieces: &[Range<u64>]) -> Result<(), Qcow2Error> {
        let image = self.image;
        let cluster_bits = image.cluster_bits();
        let l2_bits = cluster_bits - 3;
        let (l1_index, l2_index) = (cluster >> l2_bits, cluster & ((1 << l2_bits) - 1));
        let entry = match self.l2_table(l1_index)? {
            Some((l2_offset, _)) => {
                let at = l2_offset + l2_index * 8;
                image.decode_entry(self.meta.entry(at)?, at)?
            }
            None => L2Entry::Unallocated,
        };
        let released = match entry {
            L2Entry::Data { host, copied } | L2Entry::Zero { host: Some(host), copied } => {
                let index = host >> cluster_bits;
                let refcount = self.refcounts.get(&self.meta, index)?;
                if refcount == 0 {
                    return Err(self.refcounts.unreferenced(index));
                }
                if copied && refcount == 1 {
                    return self.write_in_place(cluster, pieces, entry, host, l1_index, l2_index);
                }
                index..index + 1
            }
            L2Entry::Compressed { host, len } => image.entry_format().clusters_of(host, len),
            L2Entry::Unallocated | L2Entry::Zero { host: None, .. } => 0..0,
        };

        // Old content that has to be moved is read now: damage shows before anything is written.
        let moves_content = match entry {
            L2Entry::Data { .. } | L2Entry::Compressed { .. } => true,
            L2Entry::Zero { .. } => false,
            L2Entry::Unallocated => cluster << cluster_bits < image.backing_len(),
        };
        let is_zero = self.is_zero(cluster, pieces, moves_content)?;
        let new_raw = match self.zero_entry(cluster) {
            Some(zero) if is_zero => zero,
            _ => {
                let index = self.refcounts.allocate(&mut self.meta)?;
                self.write_cluster(cluster, index << cluster_bits);
                index << cluster_bits | COPIED
            }
        };
        let reads_zero_already = match entry {
            L2Entry::Zero { host: None, .. } => true,
            L2Entry::Unallocated => new_raw == 0,
            _ => false,
        };
        if new_raw & COPIED == 0 && reads_zero_already {
            return Ok(());
        }
        let l2_offset = self.l2_for_writing(l1_index)?;
        self.meta.set_entry(l2_offset + l2_index * 8, new_raw)?;
        for index in released {
            self.refcounts.release(&mut self.meta, index)?;
        }
        Ok(())
    }

    /// The cluster belongs to this entry alone.
    fn write_in_place(
        &mut self,
        cluster: u64,
        pieces: &[Range<u64>],
        entry: L2Entry,
        host: u64,
        l1_index: u64,
        l2_index: u64,
    ) -> Result<(), Qcow2Error> {
        if let Some(table) = self.refcounts.table_in(host >> self.image.cluster_bits()) {
            return Err(self.image.damaged(
                "qcow2.overlap",
                host,
                format!("expected guest data alone in its cluster, found it in the {table}"),
            ));
        }
        if matches!(entry, L2Entry::Zero { .. }) {
            // Preallocated: what is stored there is no content yet.
            self.write_cluster(cluster, host);
            let l2_offset = self.l2_for_writing(l1_index)?;
            return self.meta.set_entry(l2_offset + l2_index * 8, host | COPIED);
        }
        for piece in pieces {
            let within = piece.start % self.image.cluster_size();
            self.push_data(host + within, piece.start, piece.end - piece.start);
        }
        Ok(())
    }

    /// Plans all of a guest cluster into a host cluster; what lies past the virtual disk becomes zero.
    fn write_cluster(&mut self, cluster: u64, host_offset: u64) {
        let guest_offset = cluster << self.image.cluster_bits();
        let len = self.image.cluster_size().min(self.len - guest_offset);
        self.push_data(host_offset, guest_offset, len);
        if len < self.image.cluster_size() {
            let padding = vec![0; (self.image.cluster_size() - len) as usize];
            self.data.push(HostWrite { host_offset: host_offset + len, source: WriteSource::Bytes(padding) });
        }
    }

    fn push_data(&mut self, host_offset: u64, guest_offset: u64, len: u64) {
        let write = HostWrite { host_offset, source: WriteSource::Virtual { guest_offset, len } };
        push_merged(&mut self.data, write);
    }

    /// The L2 entry that makes the cluster read as zero without storing it, if there is one.
    fn zero_entry(&self, cluster: u64) -> Option<u64> {
        if cluster << self.image.cluster_bits() >= self.image.backing_len() {
            return Some(0);
        }
        self.image.entry_format().allows_zero_flag.then_some(ZERO)
    }

    /// True when the cluster's new content is all zero. Most content shows in the first changed piece;
    /// with `read_all` the whole cluster is read all the same.
    fn is_zero(&self, cluster: u64, pieces: &[Range<u64>], read_all: bool) -> Result<bool, Qcow2Error> {
        let start = cluster << self.image.cluster_bits();
        let end = (start + self.image.cluster_size()).min(self.len);
        let mut buf = vec![0; ZERO_CHECK_BYTES.min(self.image.cluster_size()) as usize];
        let mut is_zero = true;
        let first = if read_all { &[] } else { pieces };
        for range in first.iter().cloned().chain(std::iter::once(start..end)) {
            let mut at = range.start;
            while at < range.end {
                let len = (range.end - at).min(buf.len() as u64);
                let part = buf.get_mut(..len as usize).unwrap_or_default();
                self.disk.read_exact_at(part, at)?;
                is_zero &= part.iter().all(|byte| *byte == 0);
                if !is_zero && !read_all {
                    return Ok(false);
                }
                at += len;
            }
        }
        Ok(is_zero)
    }

    /// All writes in order, and the new length of the file.
    fn finish(mut self) -> Result<(Vec<HostWrite>, u64), Qcow2Error> {
        let image = self.image;
        let l1 = self.l1.finish(&mut self.meta)?;
        let refcounts = self.refcounts.finish();
        let mut writes = self.data;
        writes.sort_by_key(|write| write.host_offset);
        writes.extend(self.meta.into_writes()?);
        writes.extend(refcounts.table);
        let fields = HeaderFields {
            virtual_size: self.len,
            l1_offset: l1.offset,
            l1_entries: l1.entries,
            refcount_table_offset: refcounts.table_offset,
            refcount_table_clusters: refcounts.table_clusters,
        };
        writes.extend(header_write(image, &fields)?);
        let mut merged = Vec::new();
        for write in writes {
            push_merged(&mut merged, write);
        }
        let writes = merged;
        check_disjoint(image, &writes)?;
        let cluster_size = image.cluster_size();
        let written_end = writes.iter().map(|write| write.host_offset + write.len()).max().unwrap_or(0);
        let used_end = refcounts.used_end << image.cluster_bits();
        let new_len = match written_end.max(used_end) {
            end if end <= image.file_len => image.file_len,
            end => end.next_multiple_of(cluster_size),
        };
        Ok((writes, new_len))
    }
}

/// What a commit may change in the header.
struct HeaderFields {
    virtual_size: u64,
    l1_offset: u64,
    l1_entries: u64,
    refcount_table_offset: u64,
    refcount_table_clusters: u64,
}

/// The header with these fields, without the dirty bit and without autoclear bits.
fn header_write(image: &Qcow2, fields: &HeaderFields) -> Result<Option<HostWrite>, Qcow2Error> {
    let header = &image.header;
    let old = image.read_padded(0, u64::from(header.header_length.min(512)))?;
    let mut new = old.clone();
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(field) = new.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    put(AT_VIRTUAL_SIZE, &fields.virtual_size.to_be_bytes());
    // At most 32 MiB of 8 bytes each.
    put(AT_L1_ENTRIES, &(fields.l1_entries as u32).to_be_bytes());
    put(AT_L1_OFFSET, &fields.l1_offset.to_be_bytes());
    put(AT_REFCOUNT_TABLE_OFFSET, &fields.refcount_table_offset.to_be_bytes());
    // At most 8 MiB in clusters of at least 512 bytes.
    put(AT_REFCOUNT_TABLE_CLUSTERS, &(fields.refcount_table_clusters as u32).to_be_bytes());
    if header.version >= 3 {
        put(AT_INCOMPATIBLE, &(header.incompatible & !INCOMPATIBLE_DIRTY).to_be_bytes());
        put(AT_AUTOCLEAR, &0u64.to_be_bytes());
    }
    Ok((new != old).then_some(HostWrite { host_offset: 0, source: WriteSource::Bytes(new) }))
}

/// Appends `write`, or lengthens the last write when it goes on with it.
fn push_merged(writes: &mut Vec<HostWrite>, write: HostWrite) {
    let last = writes.last_mut().filter(|last| last.host_offset + last.len() == write.host_offset);
    match (last.map(|last| &mut last.source), &write.source) {
        (Some(WriteSource::Bytes(bytes)), WriteSource::Bytes(more)) => bytes.extend_from_slice(more),
        (
            Some(WriteSource::Virtual { guest_offset, len }),
            WriteSource::Virtual { guest_offset: next, len: more },
        ) if *guest_offset + *len == *next => *len += more,
        _ => writes.push(write),
    }
}

/// Two writes to one place mean that the image uses a cluster twice with a refcount of one.
fn check_disjoint(image: &Qcow2, writes: &[HostWrite]) -> Result<(), Qcow2Error> {
    let mut places: Vec<(u64, u64)> = writes.iter().map(|write| (write.host_offset, write.len())).collect();
    places.sort_unstable();
    let overlap = places.iter().zip(places.iter().skip(1)).find(|((at, len), (next, _))| at + len > *next);
    match overlap {
        None => Ok(()),
        Some((_, (next, _))) => Err(image.damaged(
            "qcow2.overlap",
            *next,
            "expected a cluster with refcount 1 to be used once, found two uses that change".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_joined_with_those_that_it_touches() {
        for (ranges, more, expected) in [
            (vec![], 5..9, "[5..9]"),
            (vec![1..5, 20..30], 9..9, "[1..5, 20..30]"),
            (vec![1..5, 20..30], 5..7, "[1..7, 20..30]"),
            (vec![1..5, 20..30], 6..25, "[1..5, 6..30]"),
            (vec![1..5, 20..30], 2..40, "[1..40]"),
        ] {
            assert_eq!(format!("{:?}", with_range(&ranges, more)), expected);
        }
    }

    #[test]
    fn ranges_are_cut_at_clusters_and_gathered_by_cluster() {
        let ranges = [10..20, 30..600, 700..701, 1024..2100];
        let clusters: Vec<(u64, String)> =
            by_cluster(&ranges, 9).map(|(cluster, pieces)| (cluster, format!("{pieces:?}"))).collect();
        let expected = [
            (0, "[10..20, 30..512]"),
            (1, "[512..600, 700..701]"),
            (2, "[1024..1536]"),
            (3, "[1536..2048]"),
            (4, "[2048..2100]"),
        ];
        assert_eq!(clusters, expected.map(|(cluster, pieces)| (cluster, pieces.to_owned())));
    }
}
