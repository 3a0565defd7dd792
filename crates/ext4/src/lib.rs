//! ext2, ext3 and ext4: read, journal replay, edit, check.
//!
//! [`Ext4`] is one filesystem on a device; it implements [`vfs::Filesystem`] and, when opened for
//! writing, [`vfs::WritableFilesystem`]. Every operation first collects the metadata blocks that it
//! changes and takes all space it needs; only when nothing can fail any more but the device does it write.
//! Superblock, descriptors and bitmaps are held in memory and written by `flush`.
//!
//! Formats are cited by their file in the kernel's `Documentation/filesystems/ext4/` or in e2fsprogs.

mod alloc;
mod check;
mod checksum;
mod dir;
mod dump;
mod error;
mod feature;
mod fs;
mod group;
mod inline;
mod inode;
mod journal;
mod map;
mod orphan;
mod read;
mod superblock;
mod write;
mod xattr;

pub use check::{CheckReport, Problem, check};
pub use dump::dump;
pub use feature::{Compat, Features, Incompat, RoCompat};
pub use fs::Ext4;
pub use group::{Descriptor, GroupFlags};
pub use inode::{Inode, InodeFlags, ROOT_INODE};
pub use journal::{RecoveryReport, needs_recovery, recover};
pub use map::{Mapped, Run};
pub use superblock::{Probe, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET, Superblock, probe};
