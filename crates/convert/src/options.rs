//! What to make, where, and how.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use report::Diagnose;
use serde::Serialize;

use codec::Algorithm;

use crate::{Budget, LayoutMaker};

/// Format of the target.
#[derive(Debug, Clone)]
pub enum TargetFormat {
    /// The file is the disk.
    Raw,
    /// qcow2.
    Qcow2(Qcow2Target),
    /// Any other, by its layout.
    Other(Arc<dyn LayoutMaker>),
}

/// Choices of a qcow2 target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qcow2Target {
    /// 2 or 3.
    pub version: u32,
    /// log2 of the cluster size, 9 to 21.
    pub cluster_bits: u32,
    /// Compress clusters; `None` stores them as they are.
    pub compression: Option<Algorithm>,
    /// Keep this backing file: what the source does not store stays unallocated.
    pub backing: Option<BackingName>,
}

impl Default for Qcow2Target {
    fn default() -> Self {
        Self { version: 3, cluster_bits: 16, compression: None, backing: None }
    }
}

/// A backing file as the header names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingName {
    /// The name, as it will stand in the image; relative ones are relative to the image's directory.
    pub name: String,
    /// `raw` or `qcow2`.
    pub format: String,
}

/// Where the target goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file that appears when it is complete.
    NewFile {
        /// Its path.
        path: PathBuf,
        /// Replace what is there.
        force: bool,
    },
    /// Into a file or block device that is there and stays what it is, however long it is.
    Existing(PathBuf),
    /// The standard output, for formats that are written from front to back.
    Stdout,
}

/// Whether the target is written past the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direct {
    /// Where the target takes it.
    #[default]
    Auto,
    /// Fail where it does not.
    Always,
    /// Through the page cache.
    Never,
}

/// How to convert.
#[derive(Clone)]
pub struct Options {
    /// Worker threads; `None`: as many as this process may use.
    pub threads: Option<usize>,
    /// Bytes in flight, at most.
    pub memory: u64,
    /// A budget shared with other conversions of this process; replaces `memory`.
    pub budget: Option<Arc<Budget>>,
    /// Bytes of a unit of work; `None` follows from threads and memory. Never shows in the result.
    pub unit_bytes: Option<u64>,
    /// O_DIRECT on the target.
    pub direct: Direct,
    /// Everything is durable when the conversion ends.
    pub sync: bool,
    /// Runs of zero of at least this length become holes of a raw target; 0 leaves no holes at all.
    pub sparse_bytes: u64,
    /// Compute the content digest, which is the same in every format.
    pub digest: bool,
    /// Compute the SHA-256 of the target file, in a second pass.
    pub checksum: bool,
    /// Decode compressed clusters that are moved as they are, to see that they decode.
    pub verify: bool,
    /// Use whole-file clones and pass-through where they apply.
    pub fast_paths: bool,
    /// Asked when a new target is complete and durable, before it gets its name.
    pub accept: Option<Accept>,
}

/// Looks at a complete target through the hidden path that it has; an error is the conversion's, and no target stays.
pub type Accept = Arc<dyn Fn(&Path) -> Result<(), Box<dyn Diagnose + Send + Sync>> + Send + Sync>;

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: None,
            memory: 128 << 20,
            budget: None,
            unit_bytes: None,
            direct: Direct::Auto,
            sync: true,
            sparse_bytes: 4096,
            digest: false,
            checksum: false,
            verify: false,
            fast_paths: true,
            accept: None,
        }
    }
}
