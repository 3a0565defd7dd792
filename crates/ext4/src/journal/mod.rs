//! jbd2: the journal of ext3 and ext4, big-endian unlike the filesystem around it.
//!
//! Formats: the kernel's `Documentation/filesystems/ext4/journal.rst`, `include/linux/jbd2.h` and
//! `fs/jbd2/recovery.c`.

mod blocks;
mod fast_commit;
mod log;
mod recover;
mod replay;
mod scan;
mod superblock;
#[cfg(test)]
mod tests;

pub use recover::{RecoveryReport, needs_recovery, recover};
