//! Whether a file is the one that it was.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Bytes in a block of `st_blocks` (stat(2)).
const STAT_BLOCK_BYTES: u64 = 512;

/// What identifies the content of a host file without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Length.
    pub bytes: u64,
    /// Bytes that the host stores.
    pub allocated: u64,
    /// Last change of content: seconds and nanoseconds since 1970, as text, since JSON numbers do not hold it exactly.
    pub modified: String,
    /// Inode number.
    pub inode: u64,
}

impl Identity {
    /// Of a file, symlinks followed.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from(&std::fs::metadata(path)?))
    }

    /// True when both are the same file with the same content, as far as can be told without reading. How many bytes
    /// are allocated is no part of it: filesystems allocate late.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.bytes, &self.modified, self.inode) == (other.bytes, &other.modified, other.inode)
    }
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            allocated: metadata.blocks().saturating_mul(STAT_BLOCK_BYTES),
            modified: format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec()),
            inode: metadata.ino(),
        }
    }
}
