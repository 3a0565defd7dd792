//! Where the bytes of the virtual disk are stored, for those that copy them themselves.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use block::{ExtentState, ReadAt};
use ondisk::try_be_u64;

use crate::error::Qcow2Error;
use crate::header::{Compression, EXTENSION_BITMAPS};
use crate::image::Qcow2;
use crate::map::Mapping;

/// How far down the backing chain to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Through the whole chain: what is stored nowhere is a hole.
    Chain,
    /// This image only: what it does not store is a hole, whatever the backing file holds.
    Top,
}

/// How a [`StoredRange`] is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Not stored.
    Hole,
    /// Reads as zero.
    Zero,
    /// As it is in a file of the chain.
    Data {
        /// Position of the file in [`Qcow2::chain_files`].
        file: usize,
        /// First byte.
        host_offset: u64,
    },
    /// In one compressed cluster.
    Compressed {
        /// Position of the file in [`Qcow2::chain_files`].
        file: usize,
        /// First byte of the payload.
        host_offset: u64,
        /// Upper bound of its length; the file may end before.
        payload_len: u64,
        /// Codec.
        compression: Compression,
        /// Guest offset of the whole cluster, of which the range may be a part.
        cluster_offset: u64,
        /// Length of the whole cluster.
        cluster_len: u64,
    },
}

/// Contiguous bytes of the virtual disk that are stored in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredRange {
    /// First byte on the virtual disk.
    pub offset: u64,
    /// Bytes, never 0.
    pub len: u64,
    /// Where they are.
    pub stored: Stored,
}

/// A file of the backing chain.
#[derive(Clone)]
pub struct ChainFile {
    /// The file.
    pub file: Arc<dyn ReadAt>,
    /// Where it was opened.
    pub path: PathBuf,
}

fn push(ranges: &mut Vec<StoredRange>, next: StoredRange) {
    let goes_on = |last: &StoredRange| match (last.stored, next.stored) {
        (Stored::Data { file, host_offset }, Stored::Data { file: next_file, host_offset: there }) => {
            file == next_file && host_offset + last.len == there
        }
        (Stored::Compressed { .. }, _) => false,
        (one, other) => one == other,
    };
    match ranges.last_mut() {
        _ if next.len == 0 => {}
        Some(last) if last.offset + last.len == next.offset && goes_on(last) => last.len += next.len,
        _ => ranges.push(next),
    }
}

impl Qcow2 {
    /// Bytes of a cluster of this image.
    pub fn cluster_len(&self) -> u64 {
        self.cluster_size()
    }

    /// 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// Codec of compressed clusters of this image.
    pub fn compression(&self) -> Compression {
        self.header.compression
    }

    /// True when the image holds the active disk of exactly these bytes and nothing else that a copy of the file
    /// would drag along: no snapshot, bitmap, backing file or unfinished business.
    pub fn is_plain(&self) -> bool {
        self.snapshots.is_empty()
            && self.header.extension(EXTENSION_BITMAPS).is_none()
            && self.header.backing_name.is_none()
            && !self.is_dirty()
            && !self.is_corrupt()
            && !self.header.has_extended_l2()
    }

    /// The greatest cluster of this image and all qcow2 images below it.
    pub fn largest_cluster(&self) -> u64 {
        let below = self.backing.as_ref().and_then(|backing| backing.image.as_ref());
        self.cluster_size().max(below.map_or(0, |image| image.largest_cluster()))
    }

    /// The files of the chain, this image first.
    pub fn chain_files(&self) -> Vec<ChainFile> {
        let mut files = vec![ChainFile { file: Arc::clone(&self.file), path: self.path.clone() }];
        if let Some(backing) = &self.backing {
            match &backing.image {
                Some(image) => files.extend(image.chain_files()),
                None => {
                    let file = Arc::clone(&backing.device);
                    files.push(ChainFile { file, path: backing.path.clone() });
                }
            }
        }
        files
    }

    /// What a prefix of `range` of the virtual disk is made of, in order, without gaps, beginning at its start; all
    /// of it, or about `limit` ranges. Reads the L2 tables that exist and are needed; an absent one costs nothing.
    pub fn stored(
        &self,
        range: Range<u64>,
        depth: Depth,
        limit: usize,
    ) -> Result<Vec<StoredRange>, Qcow2Error> {
        let end = range.end.min(self.header.virtual_size);
        let mut ranges = Vec::new();
        let mut at = range.start;
        while at < end && ranges.len() < limit.max(1) {
            at = self.stored_slice(at..end, depth, 0, limit, &mut ranges)?;
        }
        Ok(ranges)
    }

    /// One slice of an L2 table, or one absent table. Returns how far it came.
    fn stored_slice(
        &self,
        range: Range<u64>,
        depth: Depth,
        file: usize,
        limit: usize,
        ranges: &mut Vec<StoredRange>,
    ) -> Result<u64, Qcow2Error> {
        let cover_bits = self.header.l2_cover_bits();
        let l1_at = self.header.l1_offset + (range.start >> cover_bits) * 8;
        let within_cover = range.start & ((1 << cover_bits) - 1);
        let cover_end = range.end.min(range.start - within_cover + (1 << cover_bits));
        let Some((l2_offset, _)) = self.check_l1_entry(self.table_entry(l1_at)?, l1_at)? else {
            return self.stored_below(range.start..cover_end, depth, file, limit, ranges);
        };
        let entry_shift = self.header.l2_entry_shift();
        let mut entry_at = l2_offset + ((within_cover >> self.cluster_bits()) << entry_shift);
        let slice_start = entry_at - entry_at % self.slice_size();
        // Each slice is read once by a walk: keeping it would only push others out.
        let slice = self.read_padded(slice_start, self.slice_size())?;
        let slice_end = slice_start + self.slice_size();
        let mut at = range.start;
        let mut within = at % self.cluster_size();
        while entry_at < slice_end && at < cover_end && ranges.len() < limit.max(1) {
            let position = (entry_at - slice_start) as usize;
            let raw = try_be_u64(&slice, position).unwrap_or(0);
            let (mapping, len) = if self.header.has_extended_l2() {
                self.map_extended(raw, try_be_u64(&slice, position + 8).unwrap_or(0), within, entry_at)?
            } else {
                (self.map_standard(raw, within, entry_at)?, self.cluster_size() - within)
            };
            let here = at..cover_end.min(at + len);
            let reached = self.stored_mapping(mapping, here.clone(), depth, file, limit, ranges)?;
            if reached < here.end {
                return Ok(reached);
            }
            at = here.end;
            within += len;
            if within >= self.cluster_size() {
                within = 0;
                entry_at += 1 << entry_shift;
            }
        }
        Ok(at)
    }

    fn stored_mapping(
        &self,
        mapping: Mapping,
        range: Range<u64>,
        depth: Depth,
        file: usize,
        limit: usize,
        ranges: &mut Vec<StoredRange>,
    ) -> Result<u64, Qcow2Error> {
        let (offset, len) = (range.start, range.end - range.start);
        let stored = match mapping {
            Mapping::Unallocated => return self.stored_below(range, depth, file, limit, ranges),
            Mapping::Zero => Stored::Zero,
            Mapping::Data { host_offset } => {
                // What lies past the end of the file reads as zero, as QEMU reads it.
                let present = self.file_len.saturating_sub(host_offset).min(len);
                push(
                    ranges,
                    StoredRange { offset, len: present, stored: Stored::Data { file, host_offset } },
                );
                let missing =
                    StoredRange { offset: offset + present, len: len - present, stored: Stored::Zero };
                push(ranges, missing);
                return Ok(range.end);
            }
            Mapping::Compressed { host_offset, payload_len } => Stored::Compressed {
                file,
                host_offset,
                payload_len: payload_len.min(self.file_len.saturating_sub(host_offset)),
                compression: self.header.compression,
                cluster_offset: offset - offset % self.cluster_size(),
                cluster_len: self.cluster_size(),
            },
        };
        push(ranges, StoredRange { offset, len, stored });
        Ok(range.end)
    }

    /// What this image leaves to the file below it.
    fn stored_below(
        &self,
        range: Range<u64>,
        depth: Depth,
        file: usize,
        limit: usize,
        ranges: &mut Vec<StoredRange>,
    ) -> Result<u64, Qcow2Error> {
        let hole = |offset, end: u64| StoredRange { offset, len: end - offset, stored: Stored::Hole };
        let covered = self.backing_len().clamp(range.start, range.end);
        let backing = self.backing.as_ref().filter(|_| depth == Depth::Chain && covered > range.start);
        let Some(backing) = backing else {
            push(ranges, hole(range.start, range.end));
            return Ok(range.end);
        };
        match &backing.image {
            Some(image) => {
                let mut at = range.start;
                while at < covered {
                    if ranges.len() >= limit.max(1) && at > range.start {
                        return Ok(at);
                    }
                    at = image.stored_slice(at..covered, depth, file + 1, limit, ranges)?;
                }
            }
            None => {
                for extent in backing.device.extents(range.start..covered)? {
                    let stored = match extent.state {
                        ExtentState::Hole => Stored::Hole,
                        ExtentState::Zero => Stored::Zero,
                        ExtentState::Data | ExtentState::Compressed => {
                            Stored::Data { file: file + 1, host_offset: extent.offset }
                        }
                    };
                    push(ranges, StoredRange { offset: extent.offset, len: extent.len, stored });
                }
            }
        }
        push(ranges, hole(covered, range.end));
        Ok(range.end)
    }
}
