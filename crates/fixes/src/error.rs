//! What can go wrong while planning or applying.

use initramfs::InitramfsError;
use report::{Class, Diagnose};
use thiserror::Error;
use vfs::VfsError;

/// Error of planning or applying.
#[derive(Debug, Error)]
pub enum FixError {
    /// The guest's filesystem refuses or fails.
    #[error(transparent)]
    Guest(#[from] VfsError),
    /// An initramfs cannot be read or changed.
    #[error("{path}: {source}")]
    Initramfs {
        /// Guest path of the initramfs.
        path: String,
        /// The cause.
        source: InitramfsError,
    },
    /// A rule name that the profile does not have.
    #[error("profile {profile} has no rule {rule:?}; it has: {known}")]
    UnknownRule {
        /// The name given.
        rule: String,
        /// The profile.
        profile: String,
        /// Its rules.
        known: String,
    },
    /// A bus name of a rule that is not known.
    #[error("rule {rule}: no bus is named {bus:?}")]
    UnknownBus {
        /// The rule.
        rule: String,
        /// The name given.
        bus: String,
    },
    /// One file is edited as text and as a whole; a rule is wrong.
    #[error("{path}: two rules change this file in ways that exclude each other")]
    TextAndBinary {
        /// Guest path.
        path: String,
    },
    /// The filesystem has no room for the larger initramfs, however it is written.
    #[error(
        "{path}: needs {append_bytes} bytes more when appended, {rewrite_bytes} bytes more when written anew; \
         {free_bytes} bytes are left for it on its filesystem ({filesystem})"
    )]
    NoRoomForInitramfs {
        /// Guest path of the initramfs.
        path: String,
        /// Bytes that an appended segment takes, in whole blocks.
        append_bytes: u64,
        /// Bytes by which a rewritten file is larger, in whole blocks (0 when it is smaller).
        rewrite_bytes: u64,
        /// Bytes free, less what the other edits may take.
        free_bytes: u64,
        /// Mount point.
        filesystem: String,
    },
    /// A filesystem has no room for what is made on it.
    #[error(
        "{path}: needs {needed_bytes} bytes; {free_bytes} bytes are left for it on its filesystem ({filesystem})"
    )]
    NoRoom {
        /// Where it would be.
        path: String,
        /// Bytes that it takes, in whole blocks.
        needed_bytes: u64,
        /// Bytes free, less what the other edits may take.
        free_bytes: u64,
        /// The filesystem's device.
        filesystem: String,
    },
}

impl Diagnose for FixError {
    fn code(&self) -> &'static str {
        match self {
            FixError::Guest(below) => below.code(),
            FixError::Initramfs { source, .. } => source.code(),
            FixError::UnknownRule { .. } => "profile.rule.unknown",
            FixError::UnknownBus { .. } => "profile.bus.unknown",
            FixError::TextAndBinary { .. } => "bug.plan.conflict",
            FixError::NoRoomForInitramfs { .. } => "initramfs.no-room",
            FixError::NoRoom { .. } => "fix.no-room",
        }
    }

    fn class(&self) -> Class {
        match self {
            FixError::Guest(below) => below.class(),
            FixError::Initramfs { source, .. } => source.class(),
            FixError::UnknownRule { .. } | FixError::UnknownBus { .. } => Class::Usage,
            FixError::TextAndBinary { .. } => Class::Bug,
            FixError::NoRoomForInitramfs { .. } | FixError::NoRoom { .. } => Class::NoSpace,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            FixError::Guest(below) => below.hint(),
            FixError::Initramfs { source, .. } => source.hint(),
            FixError::NoRoomForInitramfs { .. } => Some(
                "Remove an old kernel in the guest, or leave drivers out with a profile of your own.".into(),
            ),
            _ => None,
        }
    }
}
