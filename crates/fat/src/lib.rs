//! FAT12, FAT16 and FAT32, as the EFI system partition uses them: reading, editing, checking.
//!
//! The format itself is `hadris-fat`'s work; this crate puts it behind our traits. What FAT cannot hold is refused by
//! name: symlinks, device nodes, hard links, extended attributes, owners, modes. As Linux mounts it, everything belongs
//! to root with mode 0755. Names are found whatever their case.

mod check;
mod device;
mod error;
mod free;
mod fs;
mod write;

pub use check::{CheckReport, check};
pub use fs::Fat;
