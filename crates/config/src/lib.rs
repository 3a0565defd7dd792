//! Configuration files of a guest's programs: evaluated as the programs do, edited token by token.
//!
//! Everything reads through [`Files`], so that it sees the guest's tree, the tree with planned edits over
//! it, or a few files in memory alike. Nothing here writes: an edit is new text for a file.

pub mod adjtime;
pub mod assign;
pub mod cloud_init;
mod files;
pub mod glob;
pub mod ini;
pub mod net;
pub mod shadow;
pub mod sshd;
pub mod sysctl;
pub mod sysv;
mod text;
pub mod time_daemon;
pub mod timesyncd;
pub mod units;
pub mod upstart;
pub mod yaml;

pub use files::{Files, MemoryFiles};
pub use text::Lines;
