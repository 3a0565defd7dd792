//! Errors of the codecs.

use report::{Class, Diagnose};
use thiserror::Error;

/// Why a cluster cannot be encoded or decoded.
#[derive(Debug, Error)]
pub enum CodecError {
    /// The payload is no valid stream.
    #[error("{codec} stream: {detail} after {produced} bytes")]
    Damaged {
        /// `deflate` or `zstd`.
        codec: &'static str,
        /// What the decoder met.
        detail: String,
        /// Bytes that were decoded before.
        produced: usize,
    },
    /// The stream ends before the cluster is full.
    #[error("{codec} stream: expected {expected} bytes, found {found}")]
    Short {
        /// `deflate` or `zstd`.
        codec: &'static str,
        /// Length of the cluster.
        expected: usize,
        /// What the stream holds.
        found: usize,
    },
    /// More than the encoder was made for.
    #[error("a cluster of {found} bytes, the encoder was made for {limit}")]
    TooLong {
        /// Greatest length.
        limit: usize,
        /// Length given.
        found: usize,
    },
    /// The library under the codec failed on valid input.
    #[error("{codec} encoder: {detail}")]
    Library {
        /// `deflate` or `zstd`.
        codec: &'static str,
        /// What it said.
        detail: String,
    },
}

impl Diagnose for CodecError {
    fn code(&self) -> &'static str {
        match self {
            CodecError::Damaged { .. } => "codec.damaged",
            CodecError::Short { .. } => "codec.short",
            CodecError::TooLong { .. } => "codec.too-long",
            CodecError::Library { .. } => "codec.library",
        }
    }

    fn class(&self) -> Class {
        match self {
            CodecError::Damaged { .. } | CodecError::Short { .. } => Class::Damaged,
            CodecError::TooLong { .. } | CodecError::Library { .. } => Class::Bug,
        }
    }
}
