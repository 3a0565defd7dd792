//! Detection of fast commits that wait to be replayed (fs/ext4/fast_commit.h).
//!
//! The fast-commit area is a *logical* log: inodes, names and ranges. Replay of it is refused by name;
//! what matters here is to never overlook one.

use ondisk::{try_le_u16, try_le_u32};

const TAG_HEAD: u16 = 9;
/// Bytes of a HEAD value: features and transaction number.
const HEAD_VALUE_BYTES: u16 = 8;

/// True when the first block of the area starts a fast commit on top of the transaction before `next_sequence`.
pub(crate) fn starts_fast_commit(block: &[u8], next_sequence: u32) -> bool {
    try_le_u16(block, 0) == Some(TAG_HEAD)
        && try_le_u16(block, 2) == Some(HEAD_VALUE_BYTES)
        && try_le_u32(block, 8) == Some(next_sequence)
}
