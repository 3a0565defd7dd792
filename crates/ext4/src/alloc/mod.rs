//! Bitmaps in memory, and taking and giving back blocks and inodes.

use crate::superblock::Superblock;

/// State of the allocator.
pub(crate) struct Allocator {}

impl Allocator {
    pub(crate) fn new(_superblock: &Superblock) -> Self {
        Self {}
    }
}
