//! Errors of the stack: which layer failed, and where.

use std::path::PathBuf;
use std::sync::Arc;

use block::BlockError;
use lvm2::Lvm2Error;
use partition::PartitionError;
use qcow2::Qcow2Error;
use report::{Class, Diagnose};
use thiserror::Error;
use vfs::{DiskEdit, VfsError};
use vhd::VhdError;

use crate::Unmounted;

/// Why an image cannot be opened, read, verified or committed.
#[derive(Debug, Error)]
pub enum StackError {
    /// The host file, the overlay or the transaction.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The qcow2 layer.
    #[error(transparent)]
    Qcow2(#[from] Qcow2Error),
    /// The VHD layer.
    #[error(transparent)]
    Vhd(#[from] VhdError),
    /// The partition table.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// LVM2; shared, since it is kept with the volume that it concerns.
    #[error("{0}")]
    Lvm2(Arc<Lvm2Error>),
    /// A filesystem.
    #[error("{volume}: {source}")]
    Filesystem {
        /// How reports name the volume: `partition 1`, `whole disk`.
        volume: String,
        /// The cause.
        source: VfsError,
    },
    /// A volume whose place on the disk makes no sense.
    #[error("{volume}: {reason} and is not read")]
    Volume {
        /// How reports name the volume.
        volume: String,
        /// Stable code: `partition.overlap`, `partition.out-of-range`.
        code: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An image format that is known by name only.
    #[error("{}: {format} is not supported", path.display())]
    Format {
        /// Host path.
        path: PathBuf,
        /// Name of the format.
        format: &'static str,
    },
    /// No readable volume holds a root filesystem, and some volumes cannot be read.
    #[error("no root filesystem in what can be read; not supported: {}", volumes.join(", "))]
    RootUnsupported {
        /// `partition 2 (lvm2-pv)` and so on.
        volumes: Vec<String>,
    },
    /// Every volume was read, none holds a root filesystem.
    #[error("no root filesystem found: no volume has /etc/fstab, /etc/os-release or /sbin/init")]
    RootNotFound,
    /// Several volumes hold a root filesystem.
    #[error("several root filesystems: {}", volumes.join(", "))]
    RootAmbiguous {
        /// How reports name them.
        volumes: Vec<String>,
    },
    /// The root that the user named is not there or not a filesystem that can be read.
    #[error("root {root:?}: {detail}")]
    RootChoice {
        /// As given.
        root: String,
        /// What is wrong with it.
        detail: String,
        /// What kind of failure.
        class: Class,
    },
    /// Sealing or committing what was opened for reading.
    #[error("{}: opened for reading only", path.display())]
    ReadOnly {
        /// Host path.
        path: PathBuf,
    },
    /// After the edits a filesystem or the image file contradicts itself; nothing was written.
    #[error("{layer}: contradicts itself after the edits: {first} ({count} problems); nothing was written")]
    Verification {
        /// How reports name the volume, or the image's path.
        layer: String,
        /// The first problem.
        first: String,
        /// All problems.
        count: u64,
        /// [`Class::Damaged`] when it was so before the edits, [`Class::Bug`] when they made it so.
        class: Class,
    },
    /// The guest boots from a filesystem that is not part of the tree.
    #[error("the guest boots from a filesystem that cannot be read: {0}")]
    EssentialMount(Unmounted),
    /// An edit of the disk is refused; nothing was written to the image.
    #[error("{edit}: {reason}")]
    DiskEdit {
        /// The edit.
        edit: DiskEdit,
        /// Stable code below `stack.disk-edit.`.
        code: &'static str,
        /// Why not.
        reason: String,
    },
    /// A copy in another directory would name another backing file.
    #[error("{}: the backing file {backing:?} is named relative to the image's directory", path.display())]
    RelativeBacking {
        /// Path of the copy.
        path: PathBuf,
        /// Name in the image.
        backing: String,
    },
}

impl Diagnose for StackError {
    fn code(&self) -> &'static str {
        match self {
            StackError::Block(below) => below.code(),
            StackError::Qcow2(below) => below.code(),
            StackError::Vhd(below) => below.code(),
            StackError::Partition(below) => below.code(),
            StackError::Lvm2(below) => below.code(),
            StackError::Filesystem { source, .. } => source.code(),
            StackError::Volume { code, .. } => code,
            StackError::Format { .. } => "image.format.unsupported",
            StackError::RootUnsupported { .. } => "guest.root.unsupported",
            StackError::RootNotFound => "guest.root.not-found",
            StackError::RootAmbiguous { .. } => "guest.root.ambiguous",
            StackError::RootChoice { .. } => "guest.root.choice",
            StackError::ReadOnly { .. } => "image.read-only",
            StackError::Verification { .. } => "stack.verification",
            StackError::EssentialMount(_) => "guest.mount.essential",
            StackError::DiskEdit { code, .. } => code,
            StackError::RelativeBacking { .. } => "image.backing.relative",
        }
    }

    fn class(&self) -> Class {
        match self {
            StackError::Block(below) => below.class(),
            StackError::Qcow2(below) => below.class(),
            StackError::Vhd(below) => below.class(),
            StackError::Partition(below) => below.class(),
            StackError::Lvm2(below) => below.class(),
            StackError::Filesystem { source, .. } => source.class(),
            StackError::Format { .. } | StackError::RootUnsupported { .. } | StackError::RootNotFound => {
                Class::Unsupported
            }
            StackError::Volume { .. } => Class::Damaged,
            StackError::RootAmbiguous { .. } => Class::Usage,
            StackError::RootChoice { class, .. } => *class,
            StackError::Verification { class, .. } => *class,
            StackError::EssentialMount(_) | StackError::RelativeBacking { .. } => Class::Unsupported,
            StackError::DiskEdit { .. } => Class::Usage,
            // The caller broke the protocol.
            StackError::ReadOnly { .. } => Class::Bug,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            StackError::Block(below) => below.hint(),
            StackError::Qcow2(below) => below.hint(),
            StackError::Vhd(below) => below.hint(),
            StackError::Partition(below) => below.hint(),
            StackError::Lvm2(below) => below.hint(),
            StackError::Filesystem { source, .. } => source.hint(),
            StackError::Format { format, .. } if format.ends_with("compressed image") => {
                Some("Unpack it with `coldfit convert IMAGE disk.raw`, or decompress the image first.".into())
            }
            StackError::Format { format, .. } if format.contains("archive") => {
                Some("Unpack the archive first.".into())
            }
            StackError::Format { .. } => Some(
                "Convert the image with `qemu-img convert -O qcow2`; if it is a raw disk that only looks like \
                 this, say `-f raw`."
                    .into(),
            ),
            StackError::RelativeBacking { .. } => {
                Some("Write the copy into the image's own directory.".into())
            }
            StackError::Verification { class: Class::Damaged, .. } => {
                Some("It was so before the edits; repair it with e2fsck or qemu-img check first.".into())
            }
            StackError::RootAmbiguous { .. } => Some("Choose one, for example with `--root 1`.".into()),
            _ => None,
        }
    }
}
