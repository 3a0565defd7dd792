//! Second pass: the committed blocks go to their places, then the log is marked empty.

use block::WriteAt;
use vfs::VfsError;

use super::blocks::unescape;
use super::log::Log;
use super::scan::{Committed, TargetRange, scan};
use super::superblock::JournalSuperblock;

/// What a replay did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Replayed {
    pub(crate) transactions: u32,
    pub(crate) blocks: u64,
    pub(crate) revoked: u64,
}

/// Replays the log into `device` and empties it. The whole log is checked before the first write.
pub(crate) fn replay(
    device: &dyn WriteAt,
    log: &Log<'_>,
    superblock: &JournalSuperblock,
    targets: TargetRange,
) -> Result<Replayed, VfsError> {
    let committed = scan(log, superblock, targets)?;
    write_blocks(device, log, &committed)?;
    // The number behind the last one is left out, as it may stand in an unfinished transaction.
    mark_empty(device, log, superblock, committed.end_sequence.wrapping_add(1))?;
    Ok(Replayed {
        transactions: committed.transactions,
        blocks: committed.blocks.len() as u64,
        revoked: committed.revoked,
    })
}

/// Writes the journal superblock of an empty log.
pub(crate) fn mark_empty(
    device: &dyn WriteAt,
    log: &Log<'_>,
    superblock: &JournalSuperblock,
    next_sequence: u32,
) -> Result<(), VfsError> {
    let offset = log.device_block(0)?.saturating_mul(u64::from(log.block_size()));
    write(device, &superblock.encode_empty(next_sequence), offset)
}

fn write_blocks(device: &dyn WriteAt, log: &Log<'_>, committed: &Committed) -> Result<(), VfsError> {
    let mut data = vec![0; log.block_size() as usize];
    for (target, logged) in &committed.blocks {
        log.read(logged.log_block, &mut data)?;
        if logged.escaped {
            unescape(&mut data);
        }
        // The target was checked against the size of the filesystem.
        write(device, &data, target.saturating_mul(u64::from(log.block_size())))?;
    }
    Ok(())
}

fn write(device: &dyn WriteAt, bytes: &[u8], offset: u64) -> Result<(), VfsError> {
    device.write_all_at(bytes, offset).map_err(|error| VfsError::Device(Box::new(error)))
}
