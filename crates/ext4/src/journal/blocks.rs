//! Administrative blocks of the log: descriptor with its tags, revoke, commit (fs/jbd2/recovery.c).

use ondisk::{be_u16, be_u32, be_u64, crc32_be_raw, crc32c_raw, put_be_u32};

use super::superblock::{Checksums, Incompat, JournalSuperblock, MAGIC};

const HEADER_BYTES: usize = 12;
const REVOKE_HEADER_BYTES: usize = 16;
/// Bytes of the checksum at the end of descriptor and revoke blocks.
const TAIL_BYTES: usize = 4;
const UUID_BYTES: usize = 16;
/// Bytes of `struct commit_header`.
const COMMIT_HEADER_BYTES: usize = 60;
const AT_COMMIT_CHECKSUM: usize = 0x10;

const TAG_ESCAPED: u32 = 1;
const TAG_SAME_UUID: u32 = 2;
const TAG_LAST: u32 = 8;

const V1_TYPE_CRC32: u8 = 1;
const V1_SIZE_CRC32: u8 = 4;

/// Kind of an administrative block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockKind {
    Descriptor,
    Commit,
    Revoke,
    /// Anything else ends the log.
    Other,
}

/// Kind and sequence of an administrative block; `None` when the block has no journal header.
pub(crate) fn parse_header(block: &[u8]) -> Option<(BlockKind, u32)> {
    if block.len() < HEADER_BYTES || be_u32(block, 0) != MAGIC {
        return None;
    }
    let kind = match be_u32(block, 4) {
        1 => BlockKind::Descriptor,
        2 => BlockKind::Commit,
        5 => BlockKind::Revoke,
        _ => BlockKind::Other,
    };
    Some((kind, be_u32(block, 8)))
}

/// One block of a transaction, as its descriptor block announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    /// Filesystem block that the data belongs to.
    pub(crate) target: u64,
    /// The data starts with the journal's magic number, which was replaced by zeroes in the log.
    pub(crate) escaped: bool,
    /// Checksum over sequence and data, 16 bits with version 2.
    pub(crate) checksum: u32,
}

/// Bytes of a tag without its UUID.
pub(crate) fn tag_bytes(superblock: &JournalSuperblock) -> usize {
    if superblock.checksums == Checksums::V3 {
        return 16;
    }
    let wide = if superblock.incompat.contains(Incompat::BIT64) { 4 } else { 0 };
    // Version 2 was meant to use 16 more bits; the two bytes stayed.
    let stray = if superblock.checksums == Checksums::V2 { 2 } else { 0 };
    8 + wide + stray
}

/// All tags of a descriptor block. At most one for every 8 bytes of the block.
pub(crate) fn parse_tags(superblock: &JournalSuperblock, block: &[u8]) -> Vec<Tag> {
    let bytes = tag_bytes(superblock);
    let is_wide = superblock.incompat.contains(Incompat::BIT64);
    let tail = if superblock.checksums.has_block_checksums() { TAIL_BYTES } else { 0 };
    let end = block.len().saturating_sub(tail);
    let mut tags = Vec::new();
    let mut at = HEADER_BYTES;
    while at + bytes <= end {
        let low = be_u32(block, at);
        // Version 3 tags have the field always, but it counts only with the feature.
        let high = if is_wide { be_u32(block, at + 8) } else { 0 };
        let (flags, checksum) = if superblock.checksums == Checksums::V3 {
            (be_u32(block, at + 4), be_u32(block, at + 12))
        } else {
            (u32::from(be_u16(block, at + 6)), u32::from(be_u16(block, at + 4)))
        };
        tags.push(Tag {
            target: u64::from(high) << 32 | u64::from(low),
            escaped: flags & TAG_ESCAPED != 0,
            checksum,
        });
        at += bytes;
        if flags & TAG_SAME_UUID == 0 {
            at += UUID_BYTES;
        }
        if flags & TAG_LAST != 0 {
            break;
        }
    }
    tags
}

/// True when `data` (as it stands in the log) matches the checksum of its tag, or tags have none.
pub(crate) fn tag_matches(superblock: &JournalSuperblock, tag: &Tag, sequence: u32, data: &[u8]) -> bool {
    let full = || crc32c_raw(crc32c_raw(superblock.seed, &sequence.to_be_bytes()), data);
    match superblock.checksums {
        Checksums::None | Checksums::V1 => true,
        Checksums::V2 => tag.checksum == full() & 0xffff,
        Checksums::V3 => tag.checksum == full(),
    }
}

/// True when the checksum at the end of a descriptor or revoke block is right, or there is none.
pub(crate) fn tail_matches(superblock: &JournalSuperblock, block: &[u8]) -> bool {
    if !superblock.checksums.has_block_checksums() {
        return true;
    }
    let Some(at) = block.len().checked_sub(TAIL_BYTES) else { return false };
    let (body, tail) = block.split_at(at);
    crc32c_raw(crc32c_raw(superblock.seed, body), &[0; TAIL_BYTES]) == be_u32(tail, 0)
}

/// Blocks that a revoke block names; `None` when its count does not fit the block.
pub(crate) fn parse_revoke(superblock: &JournalSuperblock, block: &[u8]) -> Option<Vec<u64>> {
    let tail = if superblock.checksums.has_block_checksums() { TAIL_BYTES } else { 0 };
    let end = usize::try_from(be_u32(block, HEADER_BYTES)).ok()?;
    if end > block.len().saturating_sub(tail) {
        return None;
    }
    let records = block.get(REVOKE_HEADER_BYTES..end).unwrap_or_default();
    Some(if superblock.incompat.contains(Incompat::BIT64) {
        records.chunks_exact(8).map(|record| be_u64(record, 0)).collect()
    } else {
        records.chunks_exact(4).map(|record| u64::from(be_u32(record, 0))).collect()
    })
}

/// Seconds since the epoch at which a commit block was written.
pub(crate) fn commit_seconds(block: &[u8]) -> u64 {
    be_u64(block, 0x30)
}

/// True when a commit block belongs to the blocks before it. `transaction_crc` is the version 1 sum
/// over the transaction's descriptor and data blocks.
pub(crate) fn commit_matches(superblock: &JournalSuperblock, block: &[u8], transaction_crc: u32) -> bool {
    match superblock.checksums {
        Checksums::None => true,
        Checksums::V1 => {
            let (kind, size) = (block[0x0c], block[0x0d]);
            let found = be_u32(block, AT_COMMIT_CHECKSUM);
            let is_absent = kind == 0 && size == 0 && found == 0;
            let is_right = kind == V1_TYPE_CRC32 && size == V1_SIZE_CRC32 && found == transaction_crc;
            is_absent || is_right
        }
        Checksums::V2 | Checksums::V3 => {
            let found = be_u32(block, AT_COMMIT_CHECKSUM);
            let mut zeroed = block.to_vec();
            put_be_u32(&mut zeroed, AT_COMMIT_CHECKSUM, 0);
            if crc32c_raw(superblock.seed, &zeroed) == found {
                return true;
            }
            // A device may have stored only the sector with the header; the rest was to be zero.
            zeroed.get_mut(COMMIT_HEADER_BYTES..).unwrap_or_default().fill(0);
            crc32c_raw(superblock.seed, &zeroed) == found
        }
    }
}

/// Continues the version 1 sum of a transaction over one more block.
pub(crate) fn add_to_transaction_crc(crc: u32, block: &[u8]) -> u32 {
    crc32_be_raw(crc, block)
}

/// Puts the magic number back that was taken out of an escaped block.
pub(crate) fn unescape(data: &mut [u8]) {
    put_be_u32(data, 0, MAGIC);
}

/// Order of two sequence numbers, which wrap at 2³².
pub(crate) fn is_not_newer(sequence: u32, than: u32) -> bool {
    (sequence.wrapping_sub(than) as i32) <= 0
}
