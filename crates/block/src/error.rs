//! Errors of the block layer.

use std::io;
use std::path::PathBuf;

use report::{Class, Diagnose};
use thiserror::Error;

/// Error of the block layer.
#[derive(Debug, Error)]
pub enum BlockError {
    /// A host system call failed.
    #[error("{}: {operation} failed: {source}", path.display())]
    Io {
        /// What was tried: `open`, `read`, `write`, `sync`, …
        operation: &'static str,
        /// Host path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A range lies outside the device.
    #[error("{len} bytes at {offset} lie outside the {device_len} bytes of {layer}")]
    PastEnd {
        /// Name of the device or layer.
        layer: String,
        /// Start of the range, bytes.
        offset: u64,
        /// Length of the range, bytes.
        len: u64,
        /// Length of the device, bytes.
        device_len: u64,
    },
    /// An earlier operation on this device failed; nothing is tried any more.
    #[error("an earlier I/O error stopped all work on this image: {first}")]
    Failed {
        /// Text of the first error.
        first: String,
    },
    /// Another program has the image open.
    #[error("{}: in use: {detail}", path.display())]
    InUse {
        /// Host path.
        path: PathBuf,
        /// Which lock stands in the way.
        detail: String,
    },
    /// An image names another file that the gate does not let us open.
    #[error("{}: names {named:?}, which is not opened: {reason}", path.display())]
    GateDenied {
        /// The image that names it.
        path: PathBuf,
        /// The name as it stands in the image, lossily printed.
        named: String,
        /// Why not.
        reason: String,
    },
    /// A journal or undo file is damaged or does not belong to this image.
    #[error("{}: {detail}", path.display())]
    Journal {
        /// Host path of the journal.
        path: PathBuf,
        /// Stable code below `transaction.`.
        code: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// An error of an image driver below this device, kept with its code.
    #[error("{0}")]
    Driver(Box<dyn Diagnose + Send + Sync>),
}

impl Diagnose for BlockError {
    fn code(&self) -> &'static str {
        match self {
            BlockError::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => "host.not-found",
                io::ErrorKind::PermissionDenied => "host.permission",
                io::ErrorKind::StorageFull => "host.no-space",
                _ => "host.io",
            },
            BlockError::PastEnd { .. } => "block.range",
            BlockError::Failed { .. } => "block.failed",
            BlockError::InUse { .. } => "image.in-use",
            BlockError::GateDenied { .. } => "image.gate-denied",
            BlockError::Journal { code, .. } => code,
            BlockError::Driver(below) => below.code(),
        }
    }

    fn class(&self) -> Class {
        match self {
            BlockError::PastEnd { .. } => Class::Damaged,
            BlockError::Driver(below) => below.class(),
            _ => Class::Environment,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            BlockError::InUse { .. } => {
                Some("Stop the program that uses the image, or work on a copy.".into())
            }
            BlockError::GateDenied { .. } => {
                Some("Allow backing files below a directory that you trust with --allow-backing DIR.".into())
            }
            BlockError::Driver(below) => below.hint(),
            _ => None,
        }
    }
}

impl BlockError {
    /// Wraps a failed system call.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { operation, path: path.into(), source }
    }
}
