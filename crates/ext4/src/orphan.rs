//! Orphans: inodes that were being deleted or truncated when the filesystem was last used (the kernel's
//! `Documentation/filesystems/ext4/orphan.rst`).

use std::collections::BTreeSet;
use std::sync::Arc;

use block::WriteAt;
use ondisk::{crc32c_raw, le_u32, put_le_u32};
use vfs::{FileKind, Timestamp, WritableFilesystem};

use crate::error::{Result, corrupt};
use crate::feature::{Compat, RoCompat};
use crate::fs::Ext4;
use crate::inode::Inode;

/// Bytes behind the slots of an orphan file block: magic number and checksum.
const TAIL_BYTES: usize = 8;
const TAIL_MAGIC: u32 = 0x0b10_ca04;
/// Position of `s_wtime` in the superblock.
const AT_WRITE_TIME: usize = 0x30;

/// What [`process`] did.
pub(crate) struct Processed {
    pub(crate) removed: u64,
    pub(crate) truncated: u64,
}

/// A block of the orphan file with its slots.
struct OrphanBlock {
    physical: u64,
    raw: Vec<u8>,
}

/// Releases or truncates every orphan of the list and of the orphan file, and empties both.
///
/// The time of deletion is the time of the last write to the filesystem, so that the result depends on
/// the image alone.
pub(crate) fn process(dev: &Arc<dyn WriteAt>) -> Result<Processed> {
    let mut fs = Ext4::load_writable(Arc::clone(dev))?;
    let seconds = le_u32(fs.superblock.raw(), AT_WRITE_TIME);
    fs.set_clock(Timestamp { seconds: seconds.into(), nanoseconds: 0 });
    let listed = fs.listed_orphans()?;
    let blocks = fs.orphan_file_blocks()?;
    let mut done = Processed { removed: 0, truncated: 0 };
    let filed = blocks.iter().flat_map(|block| slots(&block.raw).filter(|inode| *inode != 0));
    let mut seen = BTreeSet::new();
    for number in listed.into_iter().chain(filed) {
        if !seen.insert(number) {
            return Err(corrupt(
                "ext4.orphans.twice",
                format!("inode {number}"),
                "stands twice among the orphans",
            ));
        }
        if fs.release_orphan(number)? {
            done.removed += 1;
        } else {
            done.truncated += 1;
        }
    }
    fs.empty_orphans(blocks)?;
    fs.flush()?;
    Ok(done)
}

fn slots(raw: &[u8]) -> impl Iterator<Item = u32> {
    raw.get(..raw.len().saturating_sub(TAIL_BYTES))
        .unwrap_or_default()
        .chunks_exact(4)
        .map(|slot| le_u32(slot, 0))
}

impl Ext4 {
    fn orphan(&self, number: u32) -> Result<Inode> {
        let is_reserved =
            number < self.superblock.first_inode() || number == self.superblock.orphan_file_inode();
        let inode = self.inode(number)?;
        if is_reserved || inode.mode() == 0 {
            return Err(corrupt(
                "ext4.orphans.inode",
                format!("inode {number}"),
                format!("among the orphans, but reserved or not in use (mode {:#o})", inode.mode()),
            ));
        }
        Ok(inode)
    }

    /// The list: its head in the superblock, each next one in the deletion time of the one before.
    fn listed_orphans(&self) -> Result<Vec<u32>> {
        let mut orphans = Vec::new();
        let mut seen = BTreeSet::new();
        let mut next = self.superblock.last_orphan();
        while next != 0 {
            if !seen.insert(next) {
                return Err(corrupt(
                    "ext4.orphans.loop",
                    format!("inode {next}"),
                    "the list of orphans is a loop",
                ));
            }
            orphans.push(next);
            next = self.orphan(next)?.dtime();
        }
        Ok(orphans)
    }

    /// Reads and verifies all blocks of the orphan file.
    fn orphan_file_blocks(&self) -> Result<Vec<OrphanBlock>> {
        let number = self.superblock.orphan_file_inode();
        let has_orphans = self.superblock.features().ro_compat.contains(RoCompat::ORPHAN_PRESENT);
        if !has_orphans || !self.superblock.features().compat.contains(Compat::ORPHAN_FILE) {
            return Ok(Vec::new());
        }
        let inode = self.inode(number)?;
        let (runs, _) = self.runs(&inode)?;
        let mut blocks = Vec::new();
        for run in runs.iter().filter(|run| run.is_written) {
            for physical in run.physical..run.physical + run.len {
                let raw = self.read_block(physical)?;
                let (body, tail) = raw.split_at(raw.len() - TAIL_BYTES);
                let (magic, found) = (le_u32(tail, 0), le_u32(tail, 4));
                let expected = self.orphan_block_checksum(&inode, physical, body);
                let has_sum = self.superblock.features().has_metadata_csum();
                if magic != TAIL_MAGIC || has_sum && found != expected {
                    return Err(corrupt(
                        "ext4.orphans.file",
                        format!("orphan file block {physical}"),
                        format!(
                            "magic {TAIL_MAGIC:#010x} and checksum {expected:#010x} expected, {magic:#010x} and {found:#010x} found"
                        ),
                    ));
                }
                // Blocks without orphans stay as they are.
                if slots(&raw).any(|slot| slot != 0) {
                    blocks.push(OrphanBlock { physical, raw });
                }
            }
        }
        Ok(blocks)
    }

    fn orphan_block_checksum(&self, inode: &Inode, physical: u64, body: &[u8]) -> u32 {
        let seed = inode.seed(&self.superblock);
        crc32c_raw(crc32c_raw(seed.0, &physical.to_le_bytes()), body)
    }

    /// Releases an orphan without a name (`true`), or cuts one with a name to its size.
    fn release_orphan(&mut self, number: u32) -> Result<bool> {
        self.operate(&[], |fs, pieces| {
            let mut inode = fs.orphan(number)?;
            if inode.links() == 0 {
                fs.release_inode(&mut inode)?;
                return Ok(true);
            }
            inode.set_dtime(0);
            if inode.kind() == Some(FileKind::Regular) {
                fs.finish_truncation(&mut inode, pieces)?;
            }
            fs.put_inode(&inode)?;
            Ok(false)
        })
    }

    fn empty_orphans(&mut self, blocks: Vec<OrphanBlock>) -> Result<()> {
        self.operate(&[], |fs, _| {
            if !blocks.is_empty() {
                let inode = fs.inode(fs.superblock.orphan_file_inode())?;
                for block in blocks {
                    let mut raw = block.raw;
                    let end = raw.len() - TAIL_BYTES;
                    raw[..end].fill(0);
                    if fs.superblock.features().has_metadata_csum() {
                        let sum = fs.orphan_block_checksum(&inode, block.physical, &raw[..end]);
                        put_le_u32(&mut raw, end + 4, sum);
                    }
                    fs.put_block(block.physical, raw, false)?;
                }
            }
            fs.superblock.set_last_orphan(0);
            let mut features = *fs.superblock.features();
            features.ro_compat.remove(RoCompat::ORPHAN_PRESENT);
            fs.superblock.set_features(features);
            fs.allocator.mark_superblock();
            Ok(())
        })
    }
}
