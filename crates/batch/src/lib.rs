//! Many images in one run.
//!
//! ```text
//!  MANIFEST | FOLDER | GLOB ──collect──> entries ──plan()──> jobs ──shard()──> mine ──Finished──> still to do
//!                                                                                                  │
//!         REPORT.jsonl <──append, sync── Store <──lines── run(): one pool, largest first on one lane ┘
//!             └── page::render ──> PAGE.html
//! ```
//!
//! What is done with an image comes from the caller as a function; this crate decides which images, in which order,
//! on which thread, and what is kept of the outcome. A [`Line`] is one image's outcome: appended and synced as soon
//! as it is known, so that a kill loses the running images and nothing else.

mod collect;
mod disk_map;
mod error;
mod identity;
mod job;
mod line;
mod manifest;
pub mod page;

mod pool;
mod resume;
mod shard;
mod store;
mod template;

pub use collect::{Input, Placed, collect};
pub use disk_map::{DiskMap, MapVolume, Shares};
pub use error::BatchError;
pub use identity::Identity;
pub use job::{Job, plan};
pub use line::{Line, Outcome, ShardOf, TargetFile, worst_exit};
pub use manifest::{Action, Entry, parse as parse_manifest};
pub use pool::{Lanes, Panicked, Pool, RunEnd, run};
pub use resume::Finished;
pub use shard::{Assignment, Shard, shard};
pub use store::{Claims, Store, read_lines};
pub use template::Template;

/// Lower-case hexadecimal SHA-256.
pub fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
