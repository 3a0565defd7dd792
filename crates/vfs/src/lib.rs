//! Filesystem traits, guest paths, the guest tree and fstab.
//!
//! Guest paths and names are bytes. [`GuestTree`] composes the filesystems of one guest by mount
//! point and resolves symlinks inside the guest root: no link can lead outside, and every walk is
//! bounded by [`MAX_SYMLINKS`].

mod devices;
mod error;
mod free;
mod fs;
mod fstab;
mod path;
mod tree;

pub use devices::{
    DeviceTable, DiskEdit, EfiFile, EfiMachine, EfiProgram, FirmwareFacts, LogicalName, TableKind, Volume,
};
pub use error::VfsError;
pub use free::FreeRanges;
pub use fs::{
    DirEntry, FileKind, Filesystem, FilesystemInfo, Metadata, MetadataChange, NewNode, NodeId, SpaceInfo,
    Timestamp, WritableFilesystem, Xattr,
};
pub use fstab::{Fstab, FstabEntry, FstabEntryId};
pub use path::{GuestPath, PathError};
pub use tree::{DETACHED_ESP, GuestTree, Location, MAX_SYMLINKS, Mount};
