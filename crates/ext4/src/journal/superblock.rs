//! The journal superblock: first block of the log (include/linux/jbd2.h, `journal_superblock_s`).

use std::fmt;

use bitflags::bitflags;
use ondisk::{be_u32, crc32c_raw, put_be_u32};
use vfs::VfsError;

use crate::error::{corrupt, unsupported};

/// Magic number that starts every administrative block of the log.
pub(crate) const MAGIC: u32 = 0xC03B_3998;
/// Bytes of the journal superblock.
pub(crate) const SUPERBLOCK_BYTES: usize = 1024;

/// Journals longer than this are not made by any tool (mke2fs stops here), and the memory for a replay is
/// bounded by it.
const MAX_LOG_BLOCKS: u32 = 10_240_000;
/// Blocks of the fast-commit area when the superblock says 0 (`JBD2_DEFAULT_FAST_COMMIT_BLOCKS`).
const DEFAULT_FAST_COMMIT_BLOCKS: u32 = 256;
/// Shortest normal log that may lie in front of a fast-commit area (`JBD2_MIN_JOURNAL_BLOCKS`).
const MIN_LOG_BLOCKS: u32 = 1024;
const CHECKSUM_TYPE_CRC32C: u8 = 4;

const TYPE_SUPERBLOCK_V1: u32 = 3;
const TYPE_SUPERBLOCK_V2: u32 = 4;

const AT_CHECKSUM: usize = 0xfc;
const AT_SEQUENCE: usize = 0x18;
const AT_START: usize = 0x1c;
const AT_ERRNO: usize = 0x20;

bitflags! {
    /// Incompatible features of a journal.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Incompat: u32 {
        const REVOKE = 0x1;
        const BIT64 = 0x2;
        const ASYNC_COMMIT = 0x4;
        const CHECKSUM_V2 = 0x8;
        const CHECKSUM_V3 = 0x10;
        const FAST_COMMIT = 0x20;
    }
}

/// Compatible feature: transactions carry a CRC-32 over all their blocks in the commit block.
const COMPAT_CHECKSUM: u32 = 1;

/// How the blocks of the log are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checksums {
    /// Not at all.
    None,
    /// One CRC-32 over a transaction, in its commit block.
    V1,
    /// CRC-32C in each block, 16 bits of it in each tag.
    V2,
    /// CRC-32C in each block, 32 bits in each tag.
    V3,
}

impl Checksums {
    /// True when descriptor, revoke and commit blocks have a checksum of their own.
    pub(crate) fn has_block_checksums(self) -> bool {
        matches!(self, Checksums::V2 | Checksums::V3)
    }
}

/// A journal superblock that has been checked.
#[derive(Clone)]
pub(crate) struct JournalSuperblock {
    raw: [u8; SUPERBLOCK_BYTES],
    /// Blocks of the whole journal, this one included.
    pub(crate) max_len: u32,
    /// First block of the ring.
    pub(crate) first: u32,
    /// One past the last block of the ring.
    pub(crate) ring_end: u32,
    /// Sequence expected in the first block of the log.
    pub(crate) sequence: u32,
    /// Block at which the log starts; 0 when it is empty.
    pub(crate) start: u32,
    /// Error that the kernel left for the filesystem.
    pub(crate) errno: u32,
    pub(crate) incompat: Incompat,
    pub(crate) checksums: Checksums,
    /// Seed of all checksums in the log.
    pub(crate) seed: u32,
}

impl fmt::Debug for JournalSuperblock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalSuperblock")
            .field("max_len", &self.max_len)
            .field("first", &self.first)
            .field("ring_end", &self.ring_end)
            .field("sequence", &self.sequence)
            .field("start", &self.start)
            .field("errno", &self.errno)
            .field("incompat", &self.incompat)
            .field("checksums", &self.checksums)
            .finish_non_exhaustive()
    }
}

impl JournalSuperblock {
    /// Parses and checks the first 1024 bytes of the log. `block_size` is the filesystem's,
    /// `mapped_blocks` the length of the journal inode.
    pub(crate) fn parse(bytes: &[u8], block_size: u32, mapped_blocks: u64) -> Result<Self, VfsError> {
        let damaged = |detail: String| corrupt("ext4.journal.superblock", "journal superblock", detail);
        let mut raw = [0u8; SUPERBLOCK_BYTES];
        let Some(head) = bytes.get(..SUPERBLOCK_BYTES) else {
            return Err(damaged(format!("{} bytes, expected {SUPERBLOCK_BYTES}", bytes.len())));
        };
        raw.copy_from_slice(head);

        let magic = be_u32(&raw, 0);
        if magic != MAGIC {
            return Err(damaged(format!("magic {magic:#010x}, expected {MAGIC:#010x}")));
        }
        let has_features = match be_u32(&raw, 4) {
            TYPE_SUPERBLOCK_V1 => false,
            TYPE_SUPERBLOCK_V2 => true,
            other => return Err(damaged(format!("block type {other}, expected 3 or 4"))),
        };
        let s_blocksize = be_u32(&raw, 0x0c);
        if s_blocksize != block_size {
            return Err(unsupported(
                "ext4.journal.block-size",
                format!("a journal of {s_blocksize}-byte blocks in a filesystem of {block_size}-byte blocks"),
                "",
            ));
        }
        let (s_feature_compat, s_feature_incompat, s_feature_ro_compat) = if has_features {
            (be_u32(&raw, 0x24), be_u32(&raw, 0x28), be_u32(&raw, 0x2c))
        } else {
            (0, 0, 0)
        };
        let incompat = Incompat::from_bits_truncate(s_feature_incompat);
        for (kind, unknown) in [
            ("compat", s_feature_compat & !COMPAT_CHECKSUM),
            ("incompat", s_feature_incompat & !Incompat::all().bits()),
            ("ro_compat", s_feature_ro_compat),
        ] {
            if unknown != 0 {
                return Err(unsupported(
                    "ext4.journal.feature",
                    format!("the journal feature {kind} {unknown:#x}"),
                    "",
                ));
            }
        }
        let has_v1 = s_feature_compat & COMPAT_CHECKSUM != 0;
        let has_v2 = incompat.contains(Incompat::CHECKSUM_V2);
        let has_v3 = incompat.contains(Incompat::CHECKSUM_V3);
        let checksums = match (has_v1, has_v2, has_v3) {
            (false, false, false) => Checksums::None,
            (true, false, false) => Checksums::V1,
            (false, true, false) => Checksums::V2,
            (false, false, true) => Checksums::V3,
            _ => return Err(damaged("more than one checksum version is set".into())),
        };
        if checksums.has_block_checksums() {
            let kind = raw[0x50];
            if kind != CHECKSUM_TYPE_CRC32C {
                return Err(unsupported(
                    "ext4.journal.feature",
                    format!("the journal checksum type {kind}"),
                    "",
                ));
            }
            let (found, expected) = (be_u32(&raw, AT_CHECKSUM), Self::checksum(&raw));
            if found != expected {
                return Err(damaged(format!("checksum {found:#010x}, expected {expected:#010x}")));
            }
        }

        let s_maxlen = be_u32(&raw, 0x10);
        let s_first = be_u32(&raw, 0x14);
        if u64::from(s_maxlen) > mapped_blocks {
            return Err(damaged(format!("{s_maxlen} blocks, but the journal inode has {mapped_blocks}")));
        }
        if s_maxlen > MAX_LOG_BLOCKS {
            return Err(unsupported(
                "ext4.journal.length",
                format!("a journal of {s_maxlen} blocks"),
                format!(" (at most {MAX_LOG_BLOCKS})"),
            ));
        }
        let mut ring_end = s_maxlen;
        if incompat.contains(Incompat::FAST_COMMIT) {
            let fast_blocks = match be_u32(&raw, 0x54) {
                0 => DEFAULT_FAST_COMMIT_BLOCKS,
                blocks => blocks,
            };
            if let Some(shorter) = s_maxlen.checked_sub(fast_blocks)
                && shorter >= MIN_LOG_BLOCKS
            {
                ring_end = shorter;
            }
        }
        if s_first == 0 || s_first >= ring_end {
            return Err(damaged(format!("the log begins at block {s_first} of {ring_end}")));
        }
        let s_start = be_u32(&raw, AT_START);
        if s_start != 0 && !(s_first..ring_end).contains(&s_start) {
            return Err(damaged(format!("the log starts at block {s_start}, outside {s_first}..{ring_end}")));
        }
        let uuid = raw.get(0x30..0x40).unwrap_or_default();
        Ok(Self {
            max_len: s_maxlen,
            first: s_first,
            ring_end,
            sequence: be_u32(&raw, AT_SEQUENCE),
            start: s_start,
            errno: be_u32(&raw, AT_ERRNO),
            incompat,
            checksums,
            seed: crc32c_raw(!0, uuid),
            raw,
        })
    }

    /// Blocks of the fast-commit area. The block at `ring_end` itself is never used by the kernel.
    pub(crate) fn fast_commit_area(&self) -> std::ops::Range<u32> {
        if self.ring_end == self.max_len { 0..0 } else { self.ring_end + 1..self.max_len }
    }

    /// The block behind `block` on the ring.
    pub(crate) fn after(&self, block: u32) -> u32 {
        if block + 1 >= self.ring_end { self.first } else { block + 1 }
    }

    /// The superblock of the same journal, empty, with `next_sequence` for the transaction to come.
    pub(crate) fn encode_empty(&self, next_sequence: u32) -> [u8; SUPERBLOCK_BYTES] {
        let mut raw = self.raw;
        put_be_u32(&mut raw, AT_SEQUENCE, next_sequence);
        put_be_u32(&mut raw, AT_START, 0);
        put_be_u32(&mut raw, AT_ERRNO, 0);
        if self.checksums.has_block_checksums() {
            let checksum = Self::checksum(&raw);
            put_be_u32(&mut raw, AT_CHECKSUM, checksum);
        }
        raw
    }

    fn checksum(raw: &[u8; SUPERBLOCK_BYTES]) -> u32 {
        let mut zeroed = *raw;
        put_be_u32(&mut zeroed, AT_CHECKSUM, 0);
        crc32c_raw(!0, &zeroed)
    }
}
