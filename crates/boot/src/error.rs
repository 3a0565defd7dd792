//! What can go wrong in boot configuration files.

use report::{Class, Diagnose};
use thiserror::Error;

/// Error of a boot configuration parser or edit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BootError {
    /// The text is not in the grammar of its file.
    #[error("{file}:{line}: {detail}")]
    Syntax {
        /// Kind of file, for example `grub.cfg`.
        file: &'static str,
        /// Line, counted from 1.
        line: usize,
        /// Expected and found.
        detail: String,
    },
    /// A limit of this parser is passed.
    #[error("{file}: {what}: {found}, more than the {limit} that are read")]
    TooLarge {
        /// Kind of file.
        file: &'static str,
        /// What is counted.
        what: &'static str,
        /// Found; where counting stopped early, the count so far.
        found: usize,
        /// Read at most.
        limit: usize,
    },
    /// A feature that is known by name and not handled.
    #[error("{file}: {feature} is not supported")]
    Unsupported {
        /// Kind of file.
        file: &'static str,
        /// Name of the feature.
        feature: String,
    },
    /// A file of fixed length has no room for what is to be in it.
    #[error("{file}: {needed} bytes are needed, and the block has {room}")]
    NoRoom {
        /// Kind of file.
        file: &'static str,
        /// Bytes of the content.
        needed: usize,
        /// Length of the file.
        room: usize,
    },
    /// A kernel argument that the grammar of its file cannot carry.
    #[error("kernel argument {argument:?} cannot be written here: {detail}")]
    Argument {
        /// Key and value.
        argument: String,
        /// Why not.
        detail: &'static str,
    },
}

impl Diagnose for BootError {
    fn code(&self) -> &'static str {
        match self {
            BootError::Syntax { .. } => "boot.config.syntax",
            BootError::TooLarge { .. } => "boot.config.too-large",
            BootError::Unsupported { .. } => "boot.config.unsupported",
            BootError::NoRoom { .. } => "boot.config.no-room",
            BootError::Argument { .. } => "boot.argument.not-representable",
        }
    }

    fn class(&self) -> Class {
        match self {
            BootError::Syntax { .. } => Class::Damaged,
            BootError::TooLarge { .. } | BootError::Unsupported { .. } => Class::Unsupported,
            BootError::NoRoom { .. } => Class::NoSpace,
            BootError::Argument { .. } => Class::Usage,
        }
    }
}
