//! Errors and findings.

use block::BlockError;
use report::{Class, Diagnose};
use thiserror::Error;

/// Why a partition table cannot be used.
#[derive(Debug, Error)]
pub enum PartitionError {
    /// Reading the disk failed.
    #[error("partition table: {0}")]
    Device(#[from] BlockError),
    /// The caller gave a sector size that no disk has.
    #[error("a sector size of {0} bytes is not supported: it is 512 or 4096")]
    SectorSize(u32),
    /// A protective MBR says GPT, and neither copy of it can be used.
    #[error("GPT: neither copy can be used: {primary}; {backup}")]
    NoValidGpt {
        /// What is wrong with the primary copy.
        primary: Box<CopyFault>,
        /// What is wrong with the backup copy.
        backup: Box<CopyFault>,
    },
    /// An edit of the table is refused; nothing was written.
    #[error("partition table: {detail}")]
    Edit {
        /// Stable code below `partition.`.
        code: &'static str,
        /// Why.
        detail: String,
    },
}

impl Diagnose for PartitionError {
    fn code(&self) -> &'static str {
        match self {
            PartitionError::Device(below) => below.code(),
            PartitionError::SectorSize(_) => "partition.sector-size",
            PartitionError::NoValidGpt { .. } => "gpt.no-valid-copy",
            PartitionError::Edit { code, .. } => code,
        }
    }

    fn class(&self) -> Class {
        match self {
            PartitionError::Device(below) => below.class(),
            PartitionError::SectorSize(_) => Class::Usage,
            PartitionError::NoValidGpt { .. } => Class::Damaged,
            PartitionError::Edit { code, .. } => match *code {
                "partition.edit.damaged" => Class::Damaged,
                "partition.remove.not-found" | "partition.remove.extended" => Class::Usage,
                _ => Class::Unsupported,
            },
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            PartitionError::Device(below) => below.hint(),
            PartitionError::SectorSize(_) => None,
            PartitionError::Edit { code: "partition.edit.damaged", .. } => {
                Some("Repair the table of a copy first, for example with `sgdisk`.".into())
            }
            PartitionError::Edit { .. } => None,
            PartitionError::NoValidGpt { .. } => {
                Some("Check that the image is complete; `sgdisk --verify` says more.".into())
            }
        }
    }
}

/// Why one copy of a GPT is not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFault {
    /// Stable code: `gpt.header.crc`, `gpt.entries.crc`, …
    pub code: &'static str,
    /// `primary` or `backup`.
    pub copy: &'static str,
    /// Where its header was looked for.
    pub header_lba: u64,
    /// Expected and found.
    pub detail: String,
}

impl std::fmt::Display for CopyFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} header at LBA {}: {}", self.copy, self.header_lba, self.detail)
    }
}

/// Something noteworthy or wrong that does not keep the table from being used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Stable dotted code.
    pub code: &'static str,
    /// One sentence: where, expected, found.
    pub detail: String,
}

impl Finding {
    pub(crate) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}
