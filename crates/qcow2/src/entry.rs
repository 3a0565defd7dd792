//! L1 and L2 table entries.

use std::ops::Range;

/// Bit 63: the refcount is exactly one.
pub(crate) const COPIED: u64 = 1 << 63;
/// Bit 62: compressed cluster.
const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of a standard descriptor: reads as zero.
pub(crate) const ZERO: u64 = 1;
/// Bits 9 to 55.
pub(crate) const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Host clusters that tables point to end below this.
pub(crate) const MAX_HOST_OFFSET: u64 = 1 << 56;

/// Subclusters of a cluster with extended L2 entries.
pub(crate) const SUBCLUSTERS: u64 = 32;

/// What one L2 entry says about its guest cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum L2Entry {
    Unallocated,
    /// Reads as zero; `host` is a preallocated cluster.
    Zero {
        host: Option<u64>,
        copied: bool,
    },
    Data {
        host: u64,
        copied: bool,
    },
    /// Payload of at most `len` bytes, which may reach into the next host cluster.
    Compressed {
        host: u64,
        len: u64,
    },
}

/// Geometry that decides how an entry is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EntryFormat {
    pub cluster_bits: u32,
    pub allows_zero_flag: bool,
}

impl EntryFormat {
    /// Decodes a standard entry (for extended entries: its first half).
    pub fn decode(self, raw: u64) -> Result<L2Entry, String> {
        if raw & COMPRESSED != 0 {
            return self.decode_compressed(raw);
        }
        let host = raw & OFFSET_MASK;
        let copied = raw & COPIED != 0;
        let reserved = raw & !(COPIED | OFFSET_MASK | if self.allows_zero_flag { ZERO } else { 0 });
        if reserved != 0 {
            return Err(format!("expected reserved bits of the L2 entry to be clear, found {reserved:#x}"));
        }
        if host.trailing_zeros() < self.cluster_bits && host != 0 {
            return Err(format!(
                "expected a cluster aligned to {}, found {host:#x}",
                1u64 << self.cluster_bits
            ));
        }
        if host == 0 && copied && raw & ZERO == 0 {
            return Err("expected a host cluster behind the copied flag, found offset 0".into());
        }
        Ok(match (raw & ZERO != 0, host) {
            (true, 0) => L2Entry::Zero { host: None, copied },
            (true, host) => L2Entry::Zero { host: Some(host), copied },
            (false, 0) => L2Entry::Unallocated,
            (false, host) => L2Entry::Data { host, copied },
        })
    }

    fn decode_compressed(self, raw: u64) -> Result<L2Entry, String> {
        let offset_bits = 62 - (self.cluster_bits - 8);
        let host = raw & ((1 << offset_bits) - 1);
        let more_sectors = (raw & (COMPRESSED - 1)) >> offset_bits;
        if raw & COPIED != 0 {
            return Err("expected a compressed cluster without the copied flag, found it set".into());
        }
        if host >= MAX_HOST_OFFSET || host == 0 {
            return Err(format!("expected a compressed payload between 1 and 2^56, found {host:#x}"));
        }
        Ok(L2Entry::Compressed { host, len: (more_sectors + 1) * 512 - host % 512 })
    }

    /// Indexes of the host clusters that a payload touches.
    pub fn clusters_of(self, host: u64, len: u64) -> Range<u64> {
        (host >> self.cluster_bits)..((host + len - 1) >> self.cluster_bits) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: EntryFormat = EntryFormat { cluster_bits: 16, allows_zero_flag: true };

    #[test]
    fn compressed_descriptor_by_the_layout_of_the_specification() {
        // 54 bits of offset and 8 bits of sectors with 64 KiB clusters.
        let raw = 1u64 << 62 | 3 << 54 | 0x1_fe10;
        assert_eq!(FORMAT.decode(raw), Ok(L2Entry::Compressed { host: 0x1_fe10, len: 4 * 512 - 0x10 }));
        assert_eq!(FORMAT.clusters_of(0x1_fe10, 4 * 512 - 0x10), 1..3);
        assert_eq!(FORMAT.clusters_of(0x1_fe00, 512), 1..2);
    }

    #[test]
    fn nonsense_is_refused() {
        for raw in [0x1_0200, 1 << 57 | 0x1_0000, 1 << 63, 0x1_0002, 3 << 62 | 512, 1 << 62] {
            assert!(FORMAT.decode(raw).is_err(), "{raw:#x}");
        }
        assert!(EntryFormat { allows_zero_flag: false, ..FORMAT }.decode(1).is_err());
    }
}
