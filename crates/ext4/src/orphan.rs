//! Orphans: inodes that were being deleted or truncated when the filesystem was last used.

use std::sync::Arc;

use block::WriteAt;

use crate::error::{Result, unsupported};

/// What [`process`] did.
pub(crate) struct Processed {
    pub(crate) removed: u64,
    pub(crate) truncated: u64,
}

/// Releases or truncates every orphan of the list and of the orphan file, and empties both.
pub(crate) fn process(_dev: &Arc<dyn WriteAt>) -> Result<Processed> {
    Err(unsupported("ext4.orphans.pending", "a filesystem with orphaned inodes", ""))
}
