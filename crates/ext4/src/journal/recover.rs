//! Brings a filesystem that was not cleanly unmounted into the state that a mount would give it.

use std::sync::Arc;

use block::{ReadAt, WriteAt};
use vfs::FileKind;

use super::log::{Log, LogRun};
use super::replay::{mark_empty, replay};
use super::scan::TargetRange;
use super::superblock::{JournalSuperblock, SUPERBLOCK_BYTES as JOURNAL_SUPERBLOCK_BYTES};
use crate::check::{MapPiece, walk_map};
use crate::error::{Result, corrupt, device, unsupported};
use crate::feature::{Compat, Incompat, RoCompat};
use crate::fs::{Device, Ext4};
use crate::inode::Inode;
use crate::orphan;
use crate::superblock::{SUPERBLOCK_OFFSET, Superblock};

/// `s_state`: the kernel saw errors.
const STATE_ERROR: u16 = 2;

/// What [`recover`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Complete transactions in the log.
    pub transactions: u32,
    /// Blocks written to their places.
    pub blocks: u64,
    /// Blocks of the log that a revoke record kept from being written.
    pub revoked: u64,
    /// The kernel had left an error in the journal; the filesystem is marked as having errors now.
    pub has_recorded_error: bool,
    /// Orphans without a name that were released.
    pub orphans_removed: u64,
    /// Orphans with a name whose content past their size was released.
    pub orphans_truncated: u64,
}

/// True when [`recover`] has something to do or to refuse before the filesystem may be used.
pub fn needs_recovery(dev: &dyn ReadAt) -> Result<bool> {
    let superblock = Superblock::read(dev)?;
    if superblock.features().incompat.contains(Incompat::RECOVER) || has_orphans(&superblock) {
        return Ok(true);
    }
    Ok(match internal_journal(dev, &superblock)? {
        Some((_, journal)) => journal.start != 0,
        None => false,
    })
}

/// Replays the internal journal into `dev` and processes orphans.
///
/// The log is checked as a whole before the first block is written, and is empty afterwards. Refused by
/// name: an external journal, fast commits, unknown features of the journal, damage in a committed
/// transaction, a log that the superblock does not know of, and orphans while errors are recorded.
pub fn recover(dev: &Arc<dyn WriteAt>) -> Result<RecoveryReport> {
    let mut report = RecoveryReport::default();
    let fs = Ext4::load(Device::Write(Arc::clone(dev)))?;
    fs.require_no_other_user()?;
    let superblock = fs.superblock;
    let is_dirty = superblock.features().incompat.contains(Incompat::RECOVER);
    let journal = internal_journal(dev, &superblock)?;
    match journal {
        Some((_, journal)) if !is_dirty && journal.start != 0 => {
            // A mount would drop this log, e2fsck would replay it: nobody can know what is right.
            return Err(unsupported(
                "ext4.journal.unexpected-log",
                "a journal with transactions in a filesystem that is marked clean",
                format!(" (the log starts at block {})", journal.start),
            ));
        }
        Some((log, journal)) if is_dirty => {
            let targets =
                TargetRange { first: superblock.first_data_block().into(), end: superblock.blocks() };
            if journal.start != 0 {
                let done = replay(&**dev, &log, &journal, targets)?;
                (report.transactions, report.blocks, report.revoked) =
                    (done.transactions, done.blocks, done.revoked);
            } else if journal.errno != 0 {
                mark_empty(&**dev, &log, &journal, journal.sequence)?;
            }
            report.has_recorded_error = journal.errno != 0;
            mark_recovered(dev, report.has_recorded_error)?;
        }
        None if is_dirty => {
            return Err(unsupported("ext4.journal.external", "replay of an external journal", ""));
        }
        _ => {}
    }
    // The superblock itself may have been in the log.
    let superblock = Superblock::read(dev)?;
    if has_orphans(&superblock) {
        if superblock.state() & STATE_ERROR != 0 {
            return Err(unsupported(
                "ext4.orphans.error-state",
                "a filesystem with orphaned inodes and recorded errors",
                ": the kernel would drop them unprocessed",
            ));
        }
        let done = orphan::process(dev)?;
        (report.orphans_removed, report.orphans_truncated) = (done.removed, done.truncated);
    }
    Ok(report)
}

fn has_orphans(superblock: &Superblock) -> bool {
    superblock.last_orphan() != 0 || superblock.features().ro_compat.contains(RoCompat::ORPHAN_PRESENT)
}

/// Clears `recover` in the superblock as the replay left it, and brings its totals into line with the
/// descriptors: the kernel logs those, but counts the totals anew at each mount.
fn mark_recovered(dev: &Arc<dyn WriteAt>, has_error: bool) -> Result<()> {
    let mut fs = Ext4::load(Device::Write(Arc::clone(dev)))?;
    fs.settle_totals();
    let mut superblock = fs.superblock;
    let mut features = *superblock.features();
    features.incompat.remove(Incompat::RECOVER);
    superblock.set_features(features);
    if has_error {
        superblock.set_state(superblock.state() | STATE_ERROR);
    }
    dev.write_all_at(&superblock.encode(), SUPERBLOCK_OFFSET).map_err(device)
}

/// The log and its superblock; `None` without a journal inside the filesystem.
fn internal_journal<'a>(
    dev: &'a dyn ReadAt,
    superblock: &Superblock,
) -> Result<Option<(Log<'a>, JournalSuperblock)>> {
    let is_internal = superblock.features().compat.contains(Compat::HAS_JOURNAL)
        && superblock.journal_device() == 0
        && superblock.journal_inode() != 0;
    if !is_internal {
        return Ok(None);
    }
    let log = open_log(dev, superblock)?;
    let mut block = vec![0; superblock.block_size() as usize];
    log.read(0, &mut block)?;
    let head = block.get(..JOURNAL_SUPERBLOCK_BYTES).unwrap_or(&block);
    let journal = JournalSuperblock::parse(head, superblock.block_size(), log.len())?;
    Ok(Some((log, journal)))
}

/// Maps the journal inode. It is read without the descriptors' checksums of other groups, since only
/// a replay may make those right.
fn open_log<'a>(dev: &'a dyn ReadAt, superblock: &Superblock) -> Result<Log<'a>> {
    let number = superblock.journal_inode();
    let bad = |detail: String| corrupt("ext4.journal.inode", format!("journal inode {number}"), detail);
    let (group, index) = superblock
        .group_of_inode(number)
        .ok_or_else(|| bad(format!("the filesystem has inodes 1..={}", superblock.inodes())))?;
    let (descriptors, _) = superblock.read_descriptors(dev)?;
    let descriptor =
        descriptors.get(group as usize).ok_or_else(|| bad(format!("its group {group} has no descriptor")))?;
    superblock.check_descriptor(group, descriptor)?;
    let mut raw = vec![0; usize::from(superblock.inode_size())];
    let at = descriptor.inode_table() * u64::from(superblock.block_size())
        + u64::from(index) * u64::from(superblock.inode_size());
    dev.read_exact_at(&mut raw, at).map_err(device)?;
    let inode = Inode::parse(superblock, number, raw)?;
    if inode.kind() != Some(FileKind::Regular) || inode.links() == 0 {
        return Err(bad(format!(
            "a regular file expected, mode {:#o} with {} links found",
            inode.mode(),
            inode.links()
        )));
    }

    let mut runs = Vec::new();
    let mut unmapped = None;
    let mut problem = None;
    walk_map(
        dev,
        superblock,
        &inode,
        &mut |piece| {
            if let MapPiece::Data { logical, physical, len, is_written } = piece {
                match (u32::try_from(logical), u32::try_from(len)) {
                    (Ok(log_block), Ok(len)) if is_written => {
                        runs.push(LogRun { log_block, device_block: physical, len });
                    }
                    _ => unmapped = Some(logical),
                }
            }
        },
        &mut |(_, detail)| {
            problem.get_or_insert(detail);
        },
    )?;
    if let Some(detail) = problem {
        return Err(bad(detail));
    }
    if let Some(logical) = unmapped {
        return Err(bad(format!("block {logical} was never written")));
    }
    Log::new(dev, superblock.block_size(), runs)
}
