//! Why a conversion failed, at which stage, and at which range.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use block::BlockError;
use qcow2::Qcow2Error;
use report::{Class, Diagnose};
use serde::Serialize;
use thiserror::Error;

/// What the engine did when something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Opening source or target.
    Open,
    /// Finding what the source stores.
    Map,
    /// Reading from the source.
    Read,
    /// Decompressing.
    Decode,
    /// Compressing.
    Encode,
    /// Writing to the target.
    Write,
    /// Making the target durable.
    Sync,
    /// Looking at the complete target.
    Accept,
    /// Giving the target its name.
    Rename,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Open => "open",
            Stage::Map => "map",
            Stage::Read => "read",
            Stage::Decode => "decode",
            Stage::Encode => "encode",
            Stage::Write => "write",
            Stage::Sync => "sync",
            Stage::Accept => "accept",
            Stage::Rename => "rename",
        })
    }
}

/// Stage and ranges of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What was being done.
    pub stage: Stage,
    /// Bytes of the virtual disk, where one range was being worked on.
    pub guest: Option<Range<u64>>,
    /// Bytes of the host file (of the source when reading, of the target when writing).
    pub host: Option<Range<u64>>,
}

impl Place {
    /// A stage without a range.
    pub fn of(stage: Stage) -> Self {
        Self { stage, guest: None, host: None }
    }

    /// With the range of the virtual disk.
    pub fn guest(mut self, range: Range<u64>) -> Self {
        self.guest = Some(range);
        self
    }

    /// With the range of the host file.
    pub fn host(mut self, range: Range<u64>) -> Self {
        self.host = Some(range);
        self
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.stage)?;
        if let Some(guest) = &self.guest {
            write!(f, ", guest bytes {:#x} to {:#x}", guest.start, guest.end)?;
        }
        if let Some(host) = &self.host {
            write!(f, ", host bytes {:#x} to {:#x}", host.start, host.end)?;
        }
        Ok(())
    }
}

/// Why a conversion failed. Whatever it is: the source is untouched, and a new target is not there.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// A host file or a device.
    #[error("{place}: {source}")]
    Host {
        /// Where.
        place: Place,
        /// The cause.
        source: Box<BlockError>,
    },
    /// The tables of a qcow2 source.
    #[error("{place}: {source}")]
    Qcow2 {
        /// Where.
        place: Place,
        /// The cause.
        source: Box<Qcow2Error>,
    },
    /// A source of another kind, with a code of its own.
    #[error("{place}: {cause}")]
    Source {
        /// Where.
        place: Place,
        /// The cause.
        cause: Box<dyn Diagnose + Send + Sync>,
    },
    /// A compressed cluster of the source does not decompress to a cluster.
    #[error("{place}: {detail}")]
    Decode {
        /// Where.
        place: Place,
        /// What the decoder says.
        detail: String,
    },
    /// An encoder failed, which no content may cause.
    #[error("{place}: {detail}")]
    Encode {
        /// Where.
        place: Place,
        /// What the encoder says.
        detail: String,
    },
    /// The target's filesystem is full, or will be.
    #[error("{}: no space: {needed} more bytes are needed{}", path.display(), available.map(|bytes| format!(", {bytes} are free")).unwrap_or_default())]
    NoSpace {
        /// The target.
        path: PathBuf,
        /// Bytes still to be written, at most.
        needed: u64,
        /// Bytes free for this user, if known.
        available: Option<u64>,
    },
    /// The target cannot be what was asked for.
    #[error("{what}")]
    Target {
        /// Stable code below `convert.target.`.
        code: &'static str,
        /// One sentence.
        what: String,
    },
    /// A combination that is named and not handled.
    #[error("not supported: {what}")]
    Unsupported {
        /// What it is.
        what: String,
    },
    /// The conversion was told to stop.
    #[error("stopped before it was complete")]
    Stopped,
    /// A bug: the worker that had this range panicked.
    #[error("{place}: internal error: {detail}")]
    Panic {
        /// Where.
        place: Place,
        /// Text of the panic.
        detail: String,
    },
}

impl ConvertError {
    /// A failed host operation.
    pub fn host(place: Place, source: BlockError) -> Self {
        Self::Host { place, source: Box::new(source) }
    }

    /// Where it happened, if at a place.
    pub fn place(&self) -> Option<&Place> {
        match self {
            ConvertError::Host { place, .. }
            | ConvertError::Qcow2 { place, .. }
            | ConvertError::Source { place, .. }
            | ConvertError::Decode { place, .. }
            | ConvertError::Encode { place, .. }
            | ConvertError::Panic { place, .. } => Some(place),
            _ => None,
        }
    }
}

impl Diagnose for ConvertError {
    fn code(&self) -> &'static str {
        match self {
            ConvertError::Host { source, .. } => source.code(),
            ConvertError::Qcow2 { source, .. } => source.code(),
            ConvertError::Source { cause, .. } => cause.code(),
            ConvertError::Decode { .. } => "convert.decode",
            ConvertError::Encode { .. } => "convert.encode",
            ConvertError::NoSpace { .. } => "host.no-space",
            ConvertError::Target { code, .. } => code,
            ConvertError::Unsupported { .. } => "convert.unsupported",
            ConvertError::Stopped => "convert.stopped",
            ConvertError::Panic { .. } => "convert.panic",
        }
    }

    fn class(&self) -> Class {
        match self {
            ConvertError::Host { source, .. } => source.class(),
            ConvertError::Qcow2 { source, .. } => source.class(),
            ConvertError::Source { cause, .. } => cause.class(),
            ConvertError::Decode { .. } => Class::Damaged,
            ConvertError::Encode { .. } | ConvertError::Panic { .. } => Class::Bug,
            ConvertError::NoSpace { .. } | ConvertError::Stopped => Class::Environment,
            ConvertError::Target { .. } => Class::Usage,
            ConvertError::Unsupported { .. } => Class::Unsupported,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ConvertError::Host { source, .. } => source.hint(),
            ConvertError::Qcow2 { source, .. } => source.hint(),
            ConvertError::Source { cause, .. } => cause.hint(),
            ConvertError::NoSpace { .. } => {
                Some("Free space on the target's filesystem, or write somewhere else.".into())
            }
            _ => None,
        }
    }
}
