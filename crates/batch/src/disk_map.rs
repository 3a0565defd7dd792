//! Where on a virtual disk there is data, free space and change: coarse enough to be part of a report line.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Buckets of a map at most.
const BUCKETS_MAX: u32 = 1024;

/// One disk in at most some hundred buckets of equal size.
///
/// Each map is a text with one hexadecimal digit for each bucket: `0` nothing of it, `f` all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskMap {
    /// Virtual size.
    pub bytes: u64,
    /// What the image stores.
    pub data: String,
    /// Bytes that the image stores.
    pub data_bytes: u64,
    /// What the guest's filesystems hold as free, as far as it is stored; empty where that is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub free: String,
    /// What the edits change; empty when nothing does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub changed: String,
    /// Bytes that the edits change.
    #[serde(default)]
    pub changed_bytes: u64,
    /// Partitions, or the whole disk.
    pub volumes: Vec<MapVolume>,
}

/// A partition, or the whole disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapVolume {
    /// `partition 1`.
    pub name: String,
    /// First byte.
    pub start: u64,
    /// Length.
    pub bytes: u64,
    /// `ext4`, `vfat`, `swap`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Where the guest mounts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounted_at: Option<String>,
    /// Free bytes of its filesystem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
}

impl DiskMap {
    /// A map of `data`, with nothing changed.
    pub fn new(data: &Shares, volumes: Vec<MapVolume>) -> Self {
        Self {
            bytes: data.bytes,
            data: data.digits(),
            data_bytes: data.total(),
            free: String::new(),
            changed: String::new(),
            changed_bytes: 0,
            volumes,
        }
    }

    /// Notes what of the stored bytes the guest's filesystems hold as free.
    pub fn mark_free(&mut self, free: &Shares) {
        self.free = if free.total() > 0 { free.digits() } else { String::new() };
    }

    /// Notes what the edits change; ranges do not overlap.
    pub fn mark_changed(&mut self, ranges: &[Range<u64>]) {
        let mut shares = Shares::new(self.bytes, u32::try_from(self.data.len()).unwrap_or(BUCKETS_MAX));
        ranges.iter().for_each(|range| shares.add(range.clone()));
        self.changed_bytes = shares.total();
        self.changed = if self.changed_bytes > 0 { shares.digits() } else { String::new() };
    }
}

/// Bytes counted by bucket.
#[derive(Debug, Clone)]
pub struct Shares {
    bytes: u64,
    bucket_bytes: u64,
    counts: Vec<u64>,
}

impl Shares {
    /// Nothing yet, on a disk of `bytes`.
    pub fn new(bytes: u64, buckets: u32) -> Self {
        let bucket_bytes = bytes.div_ceil(u64::from(buckets.clamp(1, BUCKETS_MAX))).max(1);
        let count = usize::try_from(bytes.div_ceil(bucket_bytes)).unwrap_or(0);
        Self { bytes, bucket_bytes, counts: vec![0; count] }
    }

    /// Counts a range; what lies behind the disk does not count.
    pub fn add(&mut self, range: Range<u64>) {
        let end = range.end.min(self.bytes);
        let mut at = range.start;
        while at < end {
            let bucket = at / self.bucket_bytes;
            let until = bucket.saturating_add(1).saturating_mul(self.bucket_bytes).min(end);
            if let Some(count) = self.counts.get_mut(usize::try_from(bucket).unwrap_or(usize::MAX)) {
                *count += until - at;
            }
            at = until;
        }
    }

    /// All bytes counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// One digit a bucket; a byte is enough for a 1, and only a full bucket is an f.
    pub fn digits(&self) -> String {
        let digit = |(index, count): (usize, &u64)| {
            let start = self.bucket_bytes.saturating_mul(index as u64);
            let whole = self.bytes.saturating_sub(start).min(self.bucket_bytes);
            let level = match *count {
                0 => 0,
                count if count >= whole => 15,
                count => (u128::from(count) * 15 / u128::from(whole)).clamp(1, 14),
            };
            char::from_digit(level as u32, 16).unwrap_or('f')
        };
        self.counts.iter().enumerate().map(digit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_shows_and_only_a_full_bucket_is_full() {
        let mut shares = Shares::new(1000, 4);
        shares.add(0..1);
        shares.add(250..499);
        shares.add(500..5000);
        assert_eq!(shares.digits(), "1eff");
        assert_eq!(shares.total(), 1 + 249 + 500);
    }

    #[test]
    fn odd_sizes_have_a_short_last_bucket() {
        let mut shares = Shares::new(10, 3);
        assert_eq!(shares.digits(), "000");
        shares.add(8..10);
        assert_eq!(shares.digits(), "00f");
        assert_eq!(Shares::new(0, 5).digits(), "");
        let mut huge = Shares::new(u64::MAX, 1 << 20);
        huge.add(u64::MAX - 1..u64::MAX);
        assert_eq!(huge.digits().len(), 1024);
        assert!(huge.digits().ends_with('1'));
    }
}
