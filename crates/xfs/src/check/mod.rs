//! Structural check of a whole filesystem. Changes nothing.
//!
//! Invariants, as `docs` and tests cite them: fdblocks is what the groups say (XFS-5), inode counts (6), the
//! two trees of free space agree and are joined (7), free and used blocks partition each group (8), reverse
//! mappings are the exact owners (9), reference counts the overlap of owners (10), finobt is inobt with free
//! inodes (12), no block but roots is below half (14), counts and layout of
//! forks (15, 16), links (17), types and `..` (18), directory indexes (19), parent pointers (20), nothing
//! unlinked or staged (21).

mod directories;
mod groups;
mod inodes;
mod owners;
mod report;
mod trees;

use std::collections::BTreeMap;
use std::sync::Arc;

use ::report::Diagnose;
use block::ReadAt;

pub use report::{CheckReport, Problem};

use crate::error::Result;
use crate::fs::{Device, Xfs};
use crate::log;
use owners::Use;

/// What is remembered of an inode in use.
#[derive(Debug, Clone, Default)]
struct Note {
    links: u32,
    /// Names found, subdirectories' `..` and the directory's own two included.
    found: u32,
    mode: u16,
    /// Directory: what its `..` says. Others: 0.
    dotdot: u64,
    /// Directory in which a directory was found.
    parent: u64,
    /// Sums over parent pointers, as stored and as directories have them.
    pointers: (u64, u64),
}

struct Check<'a> {
    fs: &'a Xfs,
    report: CheckReport,
    notes: BTreeMap<u64, Note>,
    /// Owners of blocks by group.
    uses: Vec<Vec<Use>>,
    free: Vec<Vec<(u32, u32)>>,
    /// Free blocks, list and tree blocks of all groups.
    free_blocks: u64,
    inodes: (u64, u64),
}

/// Checks everything; problems are in the report. An error means that the superblock or the device is such
/// that nothing can be checked.
pub fn check(dev: Arc<dyn ReadAt>) -> Result<CheckReport> {
    let fs = Xfs::load(Device::Read(dev))?;
    let groups = fs.geo.groups as usize;
    let mut check = Check {
        fs: &fs,
        report: CheckReport::default(),
        notes: BTreeMap::new(),
        uses: vec![Vec::new(); groups],
        free: vec![Vec::new(); groups],
        free_blocks: 0,
        inodes: (0, 0),
    };
    if !log::is_clean(&fs)? {
        check.report.add("xfs.check.log", "log", "must be replayed");
    }
    for group in 0..fs.geo.groups {
        check.group(group);
    }
    check.directories();
    check.links();
    for group in 0..fs.geo.groups {
        check.owners(group);
    }
    check.counters();
    Ok(check.report)
}

impl Check<'_> {
    /// Takes a value or reports why it is not there.
    fn take<T>(&mut self, place: impl std::fmt::Display, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.report.add(error.code(), place, error);
                None
            }
        }
    }

    fn counters(&mut self) {
        let sb = self.fs.superblock();
        for (what, is, found) in [
            ("free blocks", sb.free_blocks(), self.free_blocks),
            ("inodes", sb.inode_count(), self.inodes.0),
            ("free inodes", sb.free_inodes(), self.inodes.1),
        ] {
            if is != found {
                self.report.add(
                    "xfs.check.counter",
                    "superblock",
                    format_args!("{is} {what}, {found} found"),
                );
            }
        }
    }
}
