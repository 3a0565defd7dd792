//! Errors of the qcow2 driver.

use std::path::PathBuf;

use block::BlockError;
use report::{Class, Diagnose};
use thiserror::Error;

/// A feature that this driver names and does not handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Guest clusters live in another file: neither read nor written.
    ExternalDataFile,
    /// AES-CBC payload: neither read nor written.
    AesEncryption,
    /// LUKS payload: neither read nor written.
    LuksEncryption,
    /// Subcluster allocation: read, not written.
    WriteExtendedL2,
    /// Persistent dirty bitmaps: read around, not written.
    WriteBitmaps,
    /// The image carries the corrupt bit: read, not written.
    WriteCorrupt,
    /// A new length that is no multiple of 512 bytes.
    GrowToPartOfSector,
    /// The backing file is longer than the disk: what lies behind the disk's end would become content.
    GrowOverBacking,
    /// A snapshot does not say how long its disk is; applied, it would get the new length.
    GrowSnapshotWithoutSize,
}

impl Refused {
    fn code(self) -> &'static str {
        match self {
            Refused::ExternalDataFile => "qcow2.data-file.unsupported",
            Refused::AesEncryption | Refused::LuksEncryption => "qcow2.encryption.unsupported",
            Refused::WriteExtendedL2 => "qcow2.extended-l2.read-only",
            Refused::WriteBitmaps => "qcow2.bitmaps.read-only",
            Refused::WriteCorrupt => "qcow2.corrupt.read-only",
            Refused::GrowToPartOfSector => "qcow2.grow.alignment",
            Refused::GrowOverBacking => "qcow2.grow.backing",
            Refused::GrowSnapshotWithoutSize => "qcow2.grow.snapshot-size",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Refused::ExternalDataFile => "guest data in an external data file is not supported",
            Refused::AesEncryption => "AES encryption is not supported",
            Refused::LuksEncryption => "LUKS encryption is not supported",
            Refused::WriteExtendedL2 => "writing an image with extended L2 entries is not supported",
            Refused::WriteBitmaps => "writing an image with persistent bitmaps is not supported",
            Refused::WriteCorrupt => "the image is marked corrupt and is only read",
            Refused::GrowToPartOfSector => "the new length of the disk is no multiple of 512 bytes",
            Refused::GrowOverBacking => {
                "growing the disk is not supported: its backing file is longer, and its bytes would appear in the new part"
            }
            Refused::GrowSnapshotWithoutSize => {
                "growing the disk is not supported: a snapshot does not record the length of its disk"
            }
        }
    }
}

/// Error of the qcow2 driver.
#[derive(Debug, Error)]
pub enum Qcow2Error {
    /// The first four bytes are not `QFI\xfb`.
    #[error("{}: no qcow2 image: expected the magic 51 46 49 fb, found {found:02x?}", path.display())]
    NotQcow2 {
        /// Host path.
        path: PathBuf,
        /// The first bytes of the file.
        found: Vec<u8>,
    },
    /// A version other than 2 and 3.
    #[error("{}: qcow2 version {found} is not supported, only 2 and 3", path.display())]
    Version {
        /// Host path.
        path: PathBuf,
        /// Version in the header.
        found: u32,
    },
    /// Incompatible feature bits that this driver does not know.
    #[error("{}: unknown incompatible qcow2 features: {names}", path.display())]
    UnknownFeatures {
        /// Host path.
        path: PathBuf,
        /// Names from the image's feature name table, or bit numbers.
        names: String,
    },
    /// A known feature that is not handled.
    #[error("{}: {}", path.display(), feature.text())]
    Unsupported {
        /// Host path.
        path: PathBuf,
        /// Which one.
        feature: Refused,
    },
    /// A size or count above what this driver (and QEMU) accepts.
    #[error("{}: {what} is {found}, the limit is {limit}", path.display())]
    Limit {
        /// Host path.
        path: PathBuf,
        /// What is counted.
        what: &'static str,
        /// Greatest accepted value.
        limit: u64,
        /// Value found or needed.
        found: u64,
    },
    /// The image contradicts itself.
    #[error("{}: at host offset {host_offset}: {detail}", path.display())]
    Damaged {
        /// Host path.
        path: PathBuf,
        /// Stable code below `qcow2.`.
        code: &'static str,
        /// Position of the structure in the host file, bytes.
        host_offset: u64,
        /// What was expected and what was found.
        detail: String,
    },
    /// The backing chain cannot be opened.
    #[error("{}: backing file {named:?}: {detail}", path.display())]
    Backing {
        /// The image that names it.
        path: PathBuf,
        /// Stable code below `qcow2.backing.`.
        code: &'static str,
        /// The name in the image, lossily printed.
        named: String,
        /// Why not.
        detail: String,
    },
    /// The host file, a backing file or the gate failed.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// Writing the text dump failed.
    #[error("the dump cannot be written: {0}")]
    Output(#[from] std::io::Error),
}

impl Diagnose for Qcow2Error {
    fn code(&self) -> &'static str {
        match self {
            Qcow2Error::NotQcow2 { .. } => "qcow2.magic",
            Qcow2Error::Version { .. } => "qcow2.version.unsupported",
            Qcow2Error::UnknownFeatures { .. } => "qcow2.feature.unsupported",
            Qcow2Error::Unsupported { feature, .. } => feature.code(),
            Qcow2Error::Limit { .. } => "qcow2.limit",
            Qcow2Error::Damaged { code, .. } | Qcow2Error::Backing { code, .. } => code,
            Qcow2Error::Block(below) => below.code(),
            Qcow2Error::Output(_) => "host.io",
        }
    }

    fn class(&self) -> Class {
        match self {
            Qcow2Error::NotQcow2 { .. } | Qcow2Error::Damaged { .. } => Class::Damaged,
            Qcow2Error::Unsupported { feature: Refused::WriteCorrupt, .. } => Class::Damaged,
            Qcow2Error::Version { .. }
            | Qcow2Error::UnknownFeatures { .. }
            | Qcow2Error::Unsupported { .. }
            | Qcow2Error::Limit { .. } => Class::Unsupported,
            Qcow2Error::Backing { code, .. } => match *code {
                "qcow2.backing.cycle" => Class::Damaged,
                _ => Class::Unsupported,
            },
            Qcow2Error::Block(below) => below.class(),
            Qcow2Error::Output(_) => Class::Environment,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Qcow2Error::Unsupported { feature, .. } => Some(
                match feature {
                    Refused::WriteBitmaps => {
                        "Remove the bitmaps of a copy with `qemu-img bitmap --remove`, or convert the image."
                    }
                    Refused::WriteCorrupt => "Repair a copy with `qemu-img check -r all` first.",
                    _ => "Convert a copy to a plain qcow2 or raw image with `qemu-img convert`.",
                }
                .into(),
            ),
            Qcow2Error::Block(below) => below.hint(),
            _ => None,
        }
    }
}

impl From<Qcow2Error> for BlockError {
    fn from(error: Qcow2Error) -> Self {
        match error {
            Qcow2Error::Block(below) => below,
            other => BlockError::Driver(Box::new(other)),
        }
    }
}
