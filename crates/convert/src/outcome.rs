//! What a conversion did, as data.

use std::path::PathBuf;

use serde::Serialize;

/// A way around decoding and encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FastPath {
    /// The filesystem shares the blocks.
    Reflink,
    /// The kernel copied the file.
    CopyFileRange,
    /// Compressed clusters were moved as they are.
    PassThrough,
}

/// Nanoseconds of all workers together, by stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StageTimes {
    /// Finding what the source stores.
    pub map: u64,
    /// Reading.
    pub read: u64,
    /// Decompressing.
    pub decode: u64,
    /// Looking for zero.
    pub zero: u64,
    /// Hashing content.
    pub digest: u64,
    /// Compressing.
    pub encode: u64,
    /// Laying out, under the lock.
    pub fold: u64,
    /// Writing.
    pub write: u64,
    /// Making durable.
    pub sync: u64,
    /// Waiting for bytes of the budget.
    pub wait: u64,
}

/// What a conversion did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The target; `None` for the standard output.
    pub target: Option<PathBuf>,
    /// Length of the virtual disk.
    pub virtual_bytes: u64,
    /// Length of the target file.
    pub target_bytes: u64,
    /// Guest bytes that the source stores.
    pub mapped_bytes: u64,
    /// Of these, bytes that are all zero and were left out.
    pub zero_bytes: u64,
    /// Read from host files.
    pub bytes_read: u64,
    /// Written to the target.
    pub bytes_written: u64,
    /// Clusters written as they are.
    pub plain_clusters: u64,
    /// Clusters written compressed.
    pub compressed_clusters: u64,
    /// Clusters whose payload was moved as it was.
    pub moved_clusters: u64,
    /// Encoder with its version: other versions may make other bytes.
    pub encoder: Option<String>,
    /// How the work was avoided.
    pub fast_path: Option<FastPath>,
    /// The target was written past the page cache.
    pub direct: bool,
    /// The target is durable.
    pub synced: bool,
    /// Content digest, hexadecimal.
    pub digest: Option<String>,
    /// SHA-256 of the target file, hexadecimal.
    pub sha256: Option<String>,
    /// Worker threads.
    pub threads: usize,
    /// Bytes of a unit of work.
    pub unit_bytes: u64,
    /// Units worked on.
    pub units: u64,
    /// Most bytes in flight.
    pub high_water_bytes: u64,
    /// Times that a worker had to wait for bytes of the budget.
    pub stalls: u64,
    /// Where the time went.
    pub times: StageTimes,
}
