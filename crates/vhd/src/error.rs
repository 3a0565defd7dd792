//! Errors of the VHD driver.

use std::path::PathBuf;

use block::BlockError;
use report::{Class, Diagnose};
use thiserror::Error;

/// Something that this driver names and does not handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A child that stores only what differs from a parent.
    Differencing,
    /// The successor format, which shares nothing but three letters.
    Vhdx,
    /// Disk type that the specification reserves or does not know.
    DiskType,
    /// Writing into a dynamic image.
    WriteDynamic,
    /// Writing into the disk of a machine whose memory is saved.
    WriteSavedState,
}

impl Refused {
    fn code(self) -> &'static str {
        match self {
            Refused::Differencing => "vhd.differencing",
            Refused::Vhdx => "vhd.vhdx",
            Refused::DiskType => "vhd.type.unsupported",
            Refused::WriteDynamic => "vhd.dynamic.read-only",
            Refused::WriteSavedState => "vhd.saved-state.read-only",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Refused::Differencing => "differencing VHD images are not supported",
            Refused::Vhdx => "VHDX images are not supported",
            Refused::DiskType => "this type of VHD image is not supported, only fixed and dynamic ones",
            Refused::WriteDynamic => "a dynamic VHD image is only read",
            Refused::WriteSavedState => "the disk belongs to a machine with a saved state and is only read",
        }
    }
}

/// Error of the VHD driver.
#[derive(Debug, Error)]
pub enum VhdError {
    /// No footer at either end.
    #[error("{}: no VHD image: no footer (\"conectix\") at its start or end", path.display())]
    NotVhd {
        /// Host path.
        path: PathBuf,
    },
    /// A version other than 1.0.
    #[error("{}: VHD version {:#x} is not supported, only 1.x", path.display(), found)]
    Version {
        /// Host path.
        path: PathBuf,
        /// Version in the footer or the dynamic header.
        found: u32,
    },
    /// A known form that is not handled.
    #[error("{}: {}", path.display(), feature.text())]
    Unsupported {
        /// Host path.
        path: PathBuf,
        /// Which one.
        feature: Refused,
    },
    /// A size or count above what this driver accepts.
    #[error("{}: {what} is {found}, the limit is {limit}", path.display())]
    Limit {
        /// Host path.
        path: PathBuf,
        /// What is counted.
        what: &'static str,
        /// Greatest accepted value.
        limit: u64,
        /// Value found.
        found: u64,
    },
    /// The image contradicts itself.
    #[error("{}: at host offset {host_offset}: {detail}", path.display())]
    Damaged {
        /// Host path.
        path: PathBuf,
        /// Stable code below `vhd.`.
        code: &'static str,
        /// Position of the structure in the host file, bytes.
        host_offset: u64,
        /// What was expected and what was found.
        detail: String,
    },
    /// A disk of this size has no place in the format.
    #[error("a disk of {size} bytes cannot be a VHD image: {reason}")]
    Size {
        /// Size of the virtual disk, bytes.
        size: u64,
        /// Why not.
        reason: &'static str,
    },
    /// Writing the text dump failed.
    #[error("the dump cannot be written: {0}")]
    Output(#[from] std::io::Error),
    /// The host file failed.
    #[error(transparent)]
    Block(#[from] BlockError),
}

impl Diagnose for VhdError {
    fn code(&self) -> &'static str {
        match self {
            VhdError::NotVhd { .. } => "vhd.magic",
            VhdError::Version { .. } => "vhd.version.unsupported",
            VhdError::Unsupported { feature, .. } => feature.code(),
            VhdError::Limit { .. } => "vhd.limit",
            VhdError::Damaged { code, .. } => code,
            VhdError::Size { .. } => "vhd.size",
            VhdError::Output(_) => "host.io",
            VhdError::Block(below) => below.code(),
        }
    }

    fn class(&self) -> Class {
        match self {
            VhdError::NotVhd { .. } | VhdError::Damaged { .. } => Class::Damaged,
            VhdError::Version { .. }
            | VhdError::Unsupported { .. }
            | VhdError::Limit { .. }
            | VhdError::Size { .. } => Class::Unsupported,
            VhdError::Output(_) => Class::Environment,
            VhdError::Block(below) => below.class(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            VhdError::Unsupported { feature, .. } => Some(
                match feature {
                    Refused::Differencing => {
                        "Merge the image with its parent on the machine that made it (Hyper-V: `Convert-VHD`)."
                    }
                    Refused::Vhdx => "Convert the image with `qemu-img convert -f vhdx -O qcow2`.",
                    Refused::DiskType => return None,
                    Refused::WriteDynamic => "Write the fixed guest to a new image: `coldfit convert --fix`.",
                    Refused::WriteSavedState => "Shut the machine down (not save) and take its disk then.",
                }
                .into(),
            ),
            VhdError::Size { .. } => {
                Some("Grow the disk to a multiple of 1 MiB of at most 2040 GiB, or choose another format.".into())
            }
            VhdError::Block(below) => below.hint(),
            _ => None,
        }
    }
}

impl From<VhdError> for BlockError {
    fn from(error: VhdError) -> Self {
        match error {
            VhdError::Block(below) => below,
            other => BlockError::Driver(Box::new(other)),
        }
    }
}
