//! From guest offsets to what is stored for them.

use ondisk::try_be_u64;

use crate::entry::{L2Entry, SUBCLUSTERS};
use crate::error::Qcow2Error;
use crate::image::Qcow2;

/// Where the bytes of a guest range are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// In the host file from this offset on.
    Data { host_offset: u64 },
    /// Reads as zero, whatever the backing file holds.
    Zero,
    /// In the backing file, else zero.
    Unallocated,
    /// Inside one compressed cluster.
    Compressed { host_offset: u64, payload_len: u64 },
}

impl Mapping {
    /// True when `next`, `len` bytes behind, goes on with the same thing.
    fn goes_on(self, len: u64, next: Mapping) -> bool {
        match (self, next) {
            (Mapping::Data { host_offset: here }, Mapping::Data { host_offset: there }) => {
                here + len == there
            }
            (Mapping::Zero, Mapping::Zero) | (Mapping::Unallocated, Mapping::Unallocated) => true,
            _ => false,
        }
    }
}

impl Qcow2 {
    /// The mapping at `guest_offset` and for how many bytes (1 to `max`) it holds.
    pub(crate) fn map(&self, guest_offset: u64, max: u64) -> Result<(Mapping, u64), Qcow2Error> {
        let cover_bits = self.header.l2_cover_bits();
        let l1_index = guest_offset >> cover_bits;
        let within_cover = guest_offset & ((1 << cover_bits) - 1);
        let max = max.min((1 << cover_bits) - within_cover);
        let l1_at = self.header.l1_offset + l1_index * 8;
        let Some((l2_offset, _)) = self.check_l1_entry(self.table_entry(l1_at)?, l1_at)? else {
            return Ok((Mapping::Unallocated, max));
        };
        let entry_shift = self.header.l2_entry_shift();
        let mut entry_at = l2_offset + ((within_cover >> self.cluster_bits()) << entry_shift);
        let slice = self.table_slice(entry_at)?;
        let slice_end = entry_at - entry_at % self.slice_size() + self.slice_size();
        let mut within = guest_offset % self.cluster_size();
        let mut found: Option<(Mapping, u64)> = None;
        while entry_at < slice_end {
            let at = (entry_at % self.slice_size()) as usize;
            let raw = try_be_u64(&slice, at).unwrap_or(0);
            let (mapping, len) = if self.header.has_extended_l2() {
                self.map_extended(raw, try_be_u64(&slice, at + 8).unwrap_or(0), within, entry_at)?
            } else {
                (self.map_standard(raw, within, entry_at)?, self.cluster_size() - within)
            };
            let total = match found {
                None => len,
                Some((first, so_far)) if first.goes_on(so_far, mapping) => so_far + len,
                Some(_) => break,
            };
            found = Some((found.map_or(mapping, |(first, _)| first), total));
            within += len;
            if within == self.cluster_size() {
                within = 0;
                entry_at += 1 << entry_shift;
            }
            if total >= max || matches!(mapping, Mapping::Compressed { .. }) {
                break;
            }
        }
        let (mapping, len) = found.unwrap_or((Mapping::Unallocated, max));
        Ok((mapping, len.min(max)))
    }

    /// Decodes an L2 entry that lies at `entry_at` of the host file.
    pub(crate) fn decode_entry(&self, raw: u64, entry_at: u64) -> Result<L2Entry, Qcow2Error> {
        self.entry_format().decode(raw).map_err(|detail| self.damaged("qcow2.l2.entry", entry_at, detail))
    }

    fn inside(&self, host_offset: u64, entry_at: u64) -> Result<u64, Qcow2Error> {
        if host_offset < self.file_len {
            return Ok(host_offset);
        }
        Err(self.damaged(
            "qcow2.l2.past-end",
            entry_at,
            format!(
                "expected guest data inside the {} bytes of the file, found {host_offset:#x}",
                self.file_len
            ),
        ))
    }

    pub(crate) fn map_standard(&self, raw: u64, within: u64, entry_at: u64) -> Result<Mapping, Qcow2Error> {
        Ok(match self.decode_entry(raw, entry_at)? {
            L2Entry::Unallocated => Mapping::Unallocated,
            L2Entry::Zero { .. } => Mapping::Zero,
            L2Entry::Data { host, .. } => {
                Mapping::Data { host_offset: self.inside(host, entry_at)? + within }
            }
            L2Entry::Compressed { host, len } => {
                Mapping::Compressed { host_offset: self.inside(host, entry_at)?, payload_len: len }
            }
        })
    }

    /// Extended entries: the run of equal subclusters from `within` on, inside its cluster.
    pub(crate) fn map_extended(
        &self,
        raw: u64,
        bitmap: u64,
        within: u64,
        entry_at: u64,
    ) -> Result<(Mapping, u64), Qcow2Error> {
        let host = match self.decode_entry(raw, entry_at)? {
            L2Entry::Compressed { .. } => {
                return Ok((self.map_standard(raw, within, entry_at)?, self.cluster_size() - within));
            }
            L2Entry::Data { host, .. } => Some(host),
            L2Entry::Unallocated | L2Entry::Zero { .. } => None,
        };
        let (allocated, zero) = (bitmap & 0xffff_ffff, bitmap >> 32);
        if allocated & zero != 0 || (allocated != 0 && host.is_none()) {
            return Err(self.damaged(
                "qcow2.l2.entry",
                entry_at,
                format!(
                    "expected a subcluster allocated or zero and with a host cluster, found {bitmap:#018x}"
                ),
            ));
        }
        let state = |subcluster: u64| (allocated >> subcluster & 1, zero >> subcluster & 1);
        let subcluster_size = self.cluster_size() / SUBCLUSTERS;
        let first = within / subcluster_size;
        let end = (first..SUBCLUSTERS).find(|next| state(*next) != state(first)).unwrap_or(SUBCLUSTERS);
        let mapping = match (state(first), host) {
            ((1, _), Some(host)) => Mapping::Data { host_offset: self.inside(host, entry_at)? + within },
            ((_, 1), _) => Mapping::Zero,
            _ => Mapping::Unallocated,
        };
        Ok((mapping, end * subcluster_size - within))
    }
}
