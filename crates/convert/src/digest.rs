//! The content digest: one value for a virtual disk, whatever format it is in and however it was cut.
//!
//! The disk is cut into leaves of 256 KiB, the last one filled with zero. The digest is SHA-256 over, for every leaf
//! that is not all zero and in order, its number (8 bytes, little-endian) and its SHA-256; then the length of the disk
//! (8 bytes, little-endian). Zero costs nothing, so that a mostly empty disk is quick.

use sha2::{Digest, Sha256};

use crate::zero::is_zero;

/// Bytes of a leaf. No unit of work is smaller.
pub(crate) const LEAF_BYTES: u64 = 256 << 10;

/// Number and hash of a leaf.
pub(crate) type Leaf = (u64, [u8; 32]);

/// Hashes the leaves of a unit that begins at `base`.
pub(crate) fn leaves(base: u64, data: &[u8], out: &mut Vec<Leaf>) {
    for (number, leaf) in (base / LEAF_BYTES..).zip(data.chunks(LEAF_BYTES as usize)) {
        if is_zero(leaf) {
            continue;
        }
        let mut hash = Sha256::new_with_prefix(leaf);
        let missing = LEAF_BYTES as usize - leaf.len();
        if missing > 0 {
            hash.update(vec![0; missing]);
        }
        out.push((number, hash.finalize().into()));
    }
}

/// Combines leaves in order.
#[derive(Default)]
pub(crate) struct Combined(Sha256);

impl Combined {
    pub fn add(&mut self, leaves: &[Leaf]) {
        for (number, hash) in leaves {
            self.0.update(number.to_le_bytes());
            self.0.update(hash);
        }
    }

    pub fn finish(mut self, virtual_len: u64) -> [u8; 32] {
        self.0.update(virtual_len.to_le_bytes());
        self.0.finalize().into()
    }
}

/// Hexadecimal, lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
