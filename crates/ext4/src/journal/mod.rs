//! jbd2: the journal of ext3 and ext4, big-endian unlike the filesystem around it.

mod blocks;
mod fast_commit;
mod log;
mod replay;
mod scan;
mod superblock;
#[cfg(test)]
mod tests;

use vfs::VfsError;

fn corrupt(code: &'static str, structure: impl Into<String>, detail: impl Into<String>) -> VfsError {
    VfsError::Corrupt { layer: "ext4", code, structure: structure.into(), detail: detail.into() }
}

fn unsupported(code: &'static str, feature: String) -> VfsError {
    VfsError::Unsupported { layer: "ext4", code, feature, detail: String::new() }
}
