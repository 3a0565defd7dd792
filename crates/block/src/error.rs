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
    /// A file changed while it was read, although it was locked.
    #[error("{}: another program changed it while it was read", path.display())]
    Changed {
        /// Host path.
        path: PathBuf,
    },
    /// The path names nothing that can be used as an image in this way.
    #[error("{}: not usable as an image: {reason}", path.display())]
    NotAnImageFile {
        /// Host path.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// A target that must not be replaced exists, or is the source itself.
    #[error("{}: {reason}", path.display())]
    Target {
        /// Host path of the target.
        path: PathBuf,
        /// Why it is not written.
        reason: &'static str,
    },
    /// A driver planned writes that do not fit the image.
    #[error("planned writes contradict themselves: {0}")]
    BadPlan(String),
    /// A commit failed; says in which state the images are.
    #[error("{cause}; {state}")]
    Commit {
        /// The first error.
        cause: Box<BlockError>,
        /// What became of the images.
        state: ImageState,
    },
    /// An error of an image driver below this device, kept with its code.
    #[error("{0}")]
    Driver(Box<dyn Diagnose + Send + Sync>),
}

/// State of all images of a unit after a commit failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageState {
    /// No byte was written; no journal is left.
    Untouched,
    /// No byte was written; a journal without meaning could not be removed.
    UntouchedWithLeftover(String),
    /// The old bytes were written back.
    RolledBack,
    /// Writing back failed, too: the journal beside the image restores it on the next opening.
    NeedsRecovery(String),
    /// The new bytes are there, but a power failure now could bring the old ones back.
    Written,
}

impl std::fmt::Display for ImageState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ImageState::Untouched => write!(f, "nothing was written to the image"),
            ImageState::UntouchedWithLeftover(error) => {
                write!(f, "nothing was written to the image, but its journal could not be removed: {error}")
            }
            ImageState::RolledBack => write!(f, "the image was rolled back to its old bytes"),
            ImageState::NeedsRecovery(error) => write!(
                f,
                "the image is incomplete, and rolling it back failed: {error}; the journal beside it restores it \
                 the next time it is opened"
            ),
            ImageState::Written => write!(
                f,
                "the image holds the new bytes, but until the host has written everything a power failure may \
                 bring back the old ones"
            ),
        }
    }
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
            BlockError::Changed { .. } => "image.changed",
            BlockError::GateDenied { .. } => "image.gate-denied",
            BlockError::Journal { code, .. } => code,
            BlockError::NotAnImageFile { .. } => "image.kind",
            BlockError::Target { .. } => "target.refused",
            BlockError::BadPlan(_) => "transaction.plan",
            BlockError::Commit { cause, .. } => cause.code(),
            BlockError::Driver(below) => below.code(),
        }
    }

    fn class(&self) -> Class {
        match self {
            BlockError::PastEnd { .. } => Class::Damaged,
            BlockError::Journal { code: "transaction.journal.damaged", .. } => Class::Damaged,
            BlockError::Journal { code: "transaction.journal.version", .. } => Class::Unsupported,
            BlockError::NotAnImageFile { .. } => Class::Unsupported,
            BlockError::Target { .. } => Class::Usage,
            BlockError::BadPlan(_) => Class::Bug,
            BlockError::Commit { cause, .. } => cause.class(),
            BlockError::Driver(below) => below.class(),
            _ => Class::Environment,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            BlockError::InUse { .. } | BlockError::Changed { .. } => {
                Some("Stop the program that uses the image, or work on a copy.".into())
            }
            BlockError::Journal { code, .. } => journal_hint(code).map(str::to_owned),
            BlockError::GateDenied { .. } => {
                Some("Allow backing files below a directory that you trust with --allow-backing DIR.".into())
            }
            BlockError::Commit { state: ImageState::NeedsRecovery(_), .. } => Some(
                "Remove the cause of the error and open the image again with this program; do not delete the \
                 journal and do not start the guest before."
                    .into(),
            ),
            BlockError::Commit { cause, .. } => cause.hint(),
            BlockError::Driver(below) => below.hint(),
            _ => None,
        }
    }
}

fn journal_hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "transaction.journal.damaged" => {
            "A commit was interrupted and its journal cannot be trusted: restore the image from a copy."
        }
        "transaction.journal.other-image" | "transaction.journal.image-missing" => {
            "Put the images and the journal back where they were when the commit was interrupted; if the file there is \
             a different image that is complete, move the journal away."
        }
        "transaction.journal.owner" => "Look who put the journal there; if it is not yours, move it away.",
        "transaction.undo.exists" => "Give another name, or remove the old undo file.",
        "transaction.undo.changed" => "Undoing would mix two states: restore the image from a copy.",
        _ => return None,
    })
}

impl BlockError {
    /// Wraps a failed system call.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { operation, path: path.into(), source }
    }
}
