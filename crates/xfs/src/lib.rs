//! XFS: read, log recovery, edit, check.
//!
//! [`Xfs`] is one filesystem on a device; it implements [`vfs::Filesystem`] and, when opened for writing,
//! [`vfs::WritableFilesystem`]. An operation collects the units of metadata that it changes, each stamped,
//! and takes all space it needs; only when nothing can fail any more but the device does it write.
//!
//! Formats are cited by their header in the kernel's `fs/xfs/libxfs/` or by their chapter in
//! *XFS Algorithms & Data Structures*.

mod ag;
mod alloc;
mod attr;
mod btree;
mod buffer;
mod check;
mod da;
mod dir;
mod dump;
mod error;
mod feature;
mod fs;
mod geometry;
mod inode;
mod log;
mod map;
mod read;
mod superblock;
mod write;

pub use check::{CheckReport, Problem, check};
pub use dump::dump;
pub use feature::{Features, Features2, Incompat, RoCompat, Version};
pub use fs::Xfs;
pub use inode::{Inode, InodeFlags, InodeFlags2};
pub use log::{RecoveryReport, needs_recovery, recover};
pub use superblock::{Probe, SUPERBLOCK_BYTES, Superblock, probe};
