//! What can go wrong while a guest is inspected.

use report::{Class, Diagnose};
use thiserror::Error;
use vfs::VfsError;

/// Error of [`crate::inspect`].
#[derive(Debug, Error)]
pub enum GuestError {
    /// A filesystem of the guest cannot be read.
    #[error("{0}")]
    Filesystem(#[from] VfsError),
    /// The tree does not look like a Linux root.
    #[error("no Linux guest: the root filesystem has none of {expected}")]
    NoGuest {
        /// What was looked for.
        expected: &'static str,
    },
}

impl Diagnose for GuestError {
    fn code(&self) -> &'static str {
        match self {
            GuestError::Filesystem(error) => error.code(),
            GuestError::NoGuest { .. } => "guest.not-found",
        }
    }

    fn class(&self) -> Class {
        match self {
            GuestError::Filesystem(error) => error.class(),
            GuestError::NoGuest { .. } => Class::Unsupported,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            GuestError::Filesystem(error) => error.hint(),
            GuestError::NoGuest { .. } => None,
        }
    }
}
