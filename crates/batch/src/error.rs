//! Why a batch as a whole cannot run. What happens to one image is a line of the report, not an error here.

use std::io;
use std::path::{Path, PathBuf};

use report::{Class, Diagnose};
use thiserror::Error;

/// Failures of a batch as a whole.
#[derive(Debug, Error)]
pub enum BatchError {
    /// A line of the manifest is wrong.
    #[error("{origin}: {reason}")]
    Manifest {
        /// `FILE:LINE` or `FILE:LINE:COLUMN`.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// Nothing to do.
    #[error("no image: {0}")]
    NoImage(String),
    /// A name that JSON cannot hold.
    #[error("{}: its name is not UTF-8, and the report is JSON", .0.display())]
    Name(PathBuf),
    /// A pattern cannot be parsed.
    #[error("{pattern}: {reason}")]
    Glob {
        /// The pattern as given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two jobs would meet in one file.
    #[error("{second}: {}: {first} writes it, too", path.display())]
    Collision {
        /// Where the first stands.
        first: String,
        /// Where the second stands.
        second: String,
        /// The file.
        path: PathBuf,
    },
    /// A result would be taken for an input by the next run.
    #[error("{}: a result there would be an input of the next run", path.display())]
    AmongInputs {
        /// The result.
        path: PathBuf,
    },
    /// A naming template is wrong.
    #[error("{template:?}: {reason}")]
    Template {
        /// As given.
        template: String,
        /// What is wrong.
        reason: String,
    },
    /// A job lacks something.
    #[error("{origin}: {}: {reason}", image.display())]
    Job {
        /// Where it stands.
        origin: String,
        /// The image.
        image: PathBuf,
        /// What it lacks.
        reason: String,
    },
    /// Shards would not agree.
    #[error("{origin}: {}: shards of fixes in place need the allocated bytes in the manifest, since a fixed image may have other ones", image.display())]
    UnstableShards {
        /// Where the job stands.
        origin: String,
        /// The image.
        image: PathBuf,
    },
    /// There is a report already.
    #[error("{}: there is a report already", .0.display())]
    ReportExists(PathBuf),
    /// Another run writes it.
    #[error("{}: another batch writes this report", .0.display())]
    ReportInUse(PathBuf),
    /// A line of a report is wrong.
    #[error("{}:{line}: {reason}", path.display())]
    ReportLine {
        /// The report.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// More than a page can show.
    #[error("more than {most} images in one page")]
    TooMany {
        /// How many there may be.
        most: usize,
    },
    /// A host operation failed.
    #[error("{}: cannot {operation}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl BatchError {
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }
}

impl Diagnose for BatchError {
    fn code(&self) -> &'static str {
        match self {
            BatchError::Manifest { .. } => "batch.manifest",
            BatchError::NoImage(_) => "batch.no-image",
            BatchError::Name(_) => "batch.name",
            BatchError::Glob { .. } => "batch.glob",
            BatchError::Collision { .. } => "batch.collision",
            BatchError::AmongInputs { .. } => "batch.output.among-inputs",
            BatchError::Template { .. } => "batch.output.template",
            BatchError::Job { .. } => "batch.job",
            BatchError::UnstableShards { .. } => "batch.shard.unstable",
            BatchError::ReportExists(_) => "batch.report.exists",
            BatchError::ReportInUse(_) => "batch.report.in-use",
            BatchError::ReportLine { .. } => "batch.report.line",
            BatchError::TooMany { .. } => "batch.report.too-many",
            BatchError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => "host.not-found",
            BatchError::Io { .. } => "host.io",
        }
    }

    fn class(&self) -> Class {
        match self {
            BatchError::Io { .. } | BatchError::ReportInUse(_) => Class::Environment,
            _ => Class::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            BatchError::Manifest { .. } => "docs/batch.md describes the manifest.",
            BatchError::NoImage(_) => "Give a manifest (*.jsonl), a folder, a quoted pattern, or images.",
            BatchError::Name(_) => "Rename it, or run it alone.",
            BatchError::AmongInputs { .. } => {
                "Give another folder, a manifest, or a pattern that does not match the results."
            }
            BatchError::Template { .. } => "It may hold {name}, {stem}, {ext}, {index}, {profile}.",
            BatchError::UnstableShards { .. } => {
                "Make one with coldfit batch … --write-manifest FILE, and give it to every shard."
            }
            BatchError::ReportExists(_) => {
                "Give --resume to do what it does not have yet, or another name with --report."
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
