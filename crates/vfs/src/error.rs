//! What can go wrong in a guest filesystem.

use report::{Class, Diagnose};
use thiserror::Error;

/// Error of a guest filesystem or of the tree above it.
#[derive(Debug, Error)]
pub enum VfsError {
    /// No such file or directory.
    #[error("{path}: no such file or directory in the guest")]
    NotFound {
        /// Guest path or name asked for.
        path: String,
    },
    /// A path component is not a directory.
    #[error("{path}: not a directory")]
    NotADirectory {
        /// Guest path or name.
        path: String,
    },
    /// A directory where a file was wanted.
    #[error("{path}: is a directory")]
    IsADirectory {
        /// Guest path or name.
        path: String,
    },
    /// The operation does not fit the kind of file.
    #[error("{path}: {detail}")]
    WrongKind {
        /// Guest path or name.
        path: String,
        /// What was wanted and what is there.
        detail: String,
    },
    /// The name exists already.
    #[error("{path}: exists already")]
    Exists {
        /// Guest path or name.
        path: String,
    },
    /// The directory has entries.
    #[error("{path}: directory not empty")]
    NotEmpty {
        /// Guest path or name.
        path: String,
    },
    /// A name longer than the filesystem allows, empty, or with a forbidden byte.
    #[error("{name}: not a valid file name here: {detail}")]
    BadName {
        /// The name, lossily printed.
        name: String,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// Too many symlinks in one walk.
    #[error("{path}: too many levels of symbolic links")]
    SymlinkLoop {
        /// Guest path.
        path: String,
    },
    /// Rename or link across filesystems.
    #[error("{path}: lies on another filesystem of the guest")]
    CrossesFilesystems {
        /// Guest path.
        path: String,
    },
    /// Not enough blocks in the guest filesystem.
    #[error("{filesystem}: {needed_bytes} bytes needed, {free_bytes} bytes free")]
    NoSpace {
        /// Which filesystem (UUID or label).
        filesystem: String,
        /// Bytes that the operation needs.
        needed_bytes: u64,
        /// Bytes free for it.
        free_bytes: u64,
    },
    /// No free inode in the guest filesystem.
    #[error("{filesystem}: no free inode ({inodes} in all)")]
    NoInodes {
        /// Which filesystem.
        filesystem: String,
        /// Inodes in all.
        inodes: u64,
    },
    /// A limit of the format (links, xattr size, file size) would be passed.
    #[error("{path}: {limit}")]
    Limit {
        /// Guest path or name.
        path: String,
        /// The limit, with its value.
        limit: String,
    },
    /// A feature that is known by name and not handled.
    #[error("{layer}: {feature} is not supported{detail}")]
    Unsupported {
        /// Layer that refuses, for example `ext4`.
        layer: &'static str,
        /// Stable code, for example `ext4.feature.unsupported`.
        code: &'static str,
        /// Name of the feature.
        feature: String,
        /// More words, with a leading separator, or empty.
        detail: String,
    },
    /// The filesystem contradicts itself.
    #[error("{layer}: {structure}: {detail}")]
    Corrupt {
        /// Layer, for example `ext4`.
        layer: &'static str,
        /// Stable code, for example `ext4.inode.checksum`.
        code: &'static str,
        /// Which structure, where.
        structure: String,
        /// Expected and found.
        detail: String,
    },
    /// This filesystem was opened for reading only.
    #[error("{filesystem}: opened for reading only: {reason}")]
    ReadOnly {
        /// Which filesystem.
        filesystem: String,
        /// Why.
        reason: String,
    },
    /// Reading or writing the device below failed.
    #[error("{0}")]
    Device(Box<dyn Diagnose + Send + Sync>),
}

impl Diagnose for VfsError {
    fn code(&self) -> &'static str {
        match self {
            VfsError::NotFound { .. } => "guest.path.not-found",
            VfsError::NotADirectory { .. } => "guest.path.not-a-directory",
            VfsError::IsADirectory { .. } => "guest.path.is-a-directory",
            VfsError::WrongKind { .. } => "guest.path.wrong-kind",
            VfsError::Exists { .. } => "guest.path.exists",
            VfsError::NotEmpty { .. } => "guest.path.not-empty",
            VfsError::BadName { .. } => "guest.path.bad-name",
            VfsError::SymlinkLoop { .. } => "guest.path.symlink-loop",
            VfsError::CrossesFilesystems { .. } => "guest.path.crosses-filesystems",
            VfsError::NoSpace { .. } => "guest.space.blocks",
            VfsError::NoInodes { .. } => "guest.space.inodes",
            VfsError::Limit { .. } => "guest.limit",
            VfsError::Unsupported { code, .. } | VfsError::Corrupt { code, .. } => code,
            VfsError::ReadOnly { .. } => "guest.read-only",
            VfsError::Device(below) => below.code(),
        }
    }

    fn class(&self) -> Class {
        match self {
            VfsError::NotFound { .. }
            | VfsError::NotADirectory { .. }
            | VfsError::IsADirectory { .. }
            | VfsError::WrongKind { .. }
            | VfsError::Exists { .. }
            | VfsError::NotEmpty { .. }
            | VfsError::BadName { .. }
            | VfsError::SymlinkLoop { .. }
            | VfsError::CrossesFilesystems { .. } => Class::Environment,
            VfsError::NoSpace { .. } | VfsError::NoInodes { .. } | VfsError::Limit { .. } => Class::NoSpace,
            VfsError::Unsupported { .. } | VfsError::ReadOnly { .. } => Class::Unsupported,
            VfsError::Corrupt { .. } => Class::Damaged,
            VfsError::Device(below) => below.class(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            VfsError::NoSpace { .. } => Some("Free space in the guest, or grow the filesystem first.".into()),
            VfsError::Device(below) => below.hint(),
            _ => None,
        }
    }
}
