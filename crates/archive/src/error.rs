//! Errors of streams and archives.

use std::io;

use report::{Class, Diagnose};
use thiserror::Error;

/// Why a stream cannot be read or written.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The stream below failed.
    #[error("reading the stream failed after {position} bytes: {source}")]
    Io {
        /// Bytes read before.
        position: u64,
        /// The cause.
        source: io::Error,
    },
    /// The stream ends too early.
    #[error("the {what} ends too early, after {position} bytes")]
    Truncated {
        /// What is incomplete.
        what: &'static str,
        /// Bytes read before.
        position: u64,
    },
    /// The stream contradicts itself.
    #[error("the {what} is damaged near byte {position}: {detail}")]
    Corrupt {
        /// What is damaged.
        what: &'static str,
        /// Bytes read before.
        position: u64,
        /// What the decoder says.
        detail: String,
    },
    /// Decoding would take more memory than is allowed.
    #[error("decoding the {what} needs more than {limit} bytes of memory for its window")]
    Memory {
        /// What needs it.
        what: &'static str,
        /// What is allowed, bytes.
        limit: u64,
    },
    /// A tar archive that is not one disk.
    #[error("the tar archive is no disk: {detail}")]
    Tar {
        /// Stable code below `archive.tar.`.
        code: &'static str,
        /// One clause.
        detail: String,
    },
    /// Inside is an image, not a disk.
    #[error("the stream holds a {format} image, not a raw disk")]
    Content {
        /// Name of the format.
        format: &'static str,
    },
    /// An encoder failed, which no content may cause.
    #[error("encoding failed: {detail}")]
    Encode {
        /// What the encoder says.
        detail: String,
    },
}

impl Diagnose for ArchiveError {
    fn code(&self) -> &'static str {
        match self {
            ArchiveError::Io { .. } => "host.io",
            ArchiveError::Truncated { .. } => "archive.truncated",
            ArchiveError::Corrupt { .. } => "archive.corrupt",
            ArchiveError::Memory { .. } => "archive.memory",
            ArchiveError::Tar { code, .. } => code,
            ArchiveError::Content { .. } => "archive.content",
            ArchiveError::Encode { .. } => "archive.encode",
        }
    }

    fn class(&self) -> Class {
        match self {
            ArchiveError::Io { .. } => Class::Environment,
            ArchiveError::Truncated { .. } | ArchiveError::Corrupt { .. } => Class::Damaged,
            ArchiveError::Tar { code: "archive.tar.damaged", .. } => Class::Damaged,
            ArchiveError::Memory { .. } | ArchiveError::Tar { .. } | ArchiveError::Content { .. } => {
                Class::Unsupported
            }
            ArchiveError::Encode { .. } => Class::Bug,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ArchiveError::Memory { .. } => {
                Some("Allow more with `--memory`, or decompress the image first.".into())
            }
            ArchiveError::Content { .. } => Some("Decompress it first, and name the image inside.".into()),
            ArchiveError::Tar { code: "archive.tar.sparse", .. } => {
                Some("Unpack the archive first: `tar -xSf`.".into())
            }
            _ => None,
        }
    }
}
