//! Structural verification, with the scope of `e2fsck -fn`.
//!
//! The passes are those of fsck: places and sums of the groups, every inode with its map and attributes,
//! every directory with its htree, connectivity and link counts, and at last the bitmaps and counts
//! against what was really found. Only superblock, descriptor and inode fields are read with the
//! driver's code; maps, directories, htrees and attributes are parsed here a second time, so that a
//! mistake of the driver cannot hide in its own check. Memory: one bit for each block in use, a few
//! bytes for each inode in use.

mod attributes;
mod bits;
mod directories;
mod groups;
mod htree;
mod inodes;
mod links;
mod mapping;
mod notes;
mod report;

use std::collections::BTreeMap;

use block::ReadAt;

use crate::error::{Result, device};
use crate::feature::{Compat, Incompat, RoCompat};
use crate::group::Descriptor;
use crate::superblock::Superblock;

use bits::SparseBits;
use notes::InodeNotes;

pub(crate) use mapping::{MapPiece, walk_map};
pub use report::{CheckReport, Problem};

/// `s_state`: the kernel saw errors.
const STATE_ERROR: u16 = 2;

/// Verifies the whole filesystem without changing anything.
///
/// A filesystem that waits for a journal replay is reported as such and not looked at any further.
/// An error means that the device cannot be read or that not even the superblock makes sense.
pub fn check(dev: &dyn ReadAt) -> Result<CheckReport> {
    let superblock = Superblock::read(dev)?;
    let mut report = CheckReport {
        has_recorded_errors: superblock.state() & STATE_ERROR != 0 || superblock.error_count() != 0,
        ..CheckReport::default()
    };
    if superblock.features().incompat.contains(Incompat::RECOVER) {
        report.add("ext4.check.journal", "superblock", "the journal waits to be replayed");
        return Ok(report);
    }
    let mut checker = Checker::new(dev, superblock, report);
    checker.check_groups()?;
    checker.check_inodes()?;
    checker.check_directories()?;
    checker.check_links();
    checker.check_bitmaps()?;
    Ok(checker.report)
}

/// An attribute block that several inodes may share.
struct SharedBlock {
    /// `h_refcount`.
    declared: u32,
    /// Inodes that name it.
    found: u32,
}

struct Checker<'a> {
    dev: &'a dyn ReadAt,
    superblock: Superblock,
    groups: Vec<Descriptor>,
    report: CheckReport,
    /// Clusters with an owner, counted from the first data block.
    clusters: SparseBits,
    inodes: InodeNotes,
    attribute_blocks: BTreeMap<u64, SharedBlock>,
    /// References to inodes that hold attribute values.
    value_references: BTreeMap<u32, u64>,
    directories: links::Directories,
    /// Metadata blocks in groups whose block bitmap is not initialised.
    uninit_metadata: BTreeMap<u32, u64>,
}

impl<'a> Checker<'a> {
    fn new(dev: &'a dyn ReadAt, superblock: Superblock, report: CheckReport) -> Self {
        let clusters = superblock.blocks().div_ceil(superblock.cluster_ratio().into());
        let inodes = InodeNotes::new(superblock.groups(), superblock.inodes_per_group());
        Self {
            dev,
            clusters: SparseBits::new(clusters),
            inodes,
            superblock,
            groups: Vec::new(),
            report,
            attribute_blocks: BTreeMap::new(),
            value_references: BTreeMap::new(),
            directories: links::Directories::default(),
            uninit_metadata: BTreeMap::new(),
        }
    }

    fn has_metadata_csum(&self) -> bool {
        self.superblock.features().has_metadata_csum()
    }

    fn has_compat(&self, feature: Compat) -> bool {
        self.superblock.features().compat.contains(feature)
    }

    fn has_incompat(&self, feature: Incompat) -> bool {
        self.superblock.features().incompat.contains(feature)
    }

    fn has_ro_compat(&self, feature: RoCompat) -> bool {
        self.superblock.features().ro_compat.contains(feature)
    }

    fn block_bytes(&self) -> usize {
        self.superblock.block_size() as usize
    }

    /// True when a block may be owned by an inode.
    fn is_block(&self, block: u64) -> bool {
        block > u64::from(self.superblock.first_data_block()) && block < self.superblock.blocks()
            || self.superblock.cluster_ratio() > 1 && block > 0 && block < self.superblock.blocks()
    }

    fn cluster_of(&self, block: u64) -> u64 {
        block.saturating_sub(self.superblock.first_data_block().into())
            / u64::from(self.superblock.cluster_ratio())
    }

    fn read_block(&self, block: u64, buf: &mut [u8]) -> Result<()> {
        self.dev.read_exact_at(buf, block.saturating_mul(self.superblock.block_size().into())).map_err(device)
    }
}
