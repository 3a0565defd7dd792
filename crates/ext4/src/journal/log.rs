//! The log as a sequence of blocks: journal inode mapping over the device.

use block::ReadAt;
use vfs::VfsError;

use crate::error::corrupt;

/// Contiguous piece of the journal inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogRun {
    /// First block within the journal.
    pub(crate) log_block: u32,
    /// Where it lies in the filesystem.
    pub(crate) device_block: u64,
    /// Blocks, never 0.
    pub(crate) len: u32,
}

/// Reads blocks of the log.
pub(crate) struct Log<'a> {
    device: &'a dyn ReadAt,
    block_size: u32,
    /// Sorted by log block, without gaps from block 0 on.
    runs: Vec<LogRun>,
    /// The same by device block: start and end.
    owned: Vec<(u64, u64)>,
}

impl<'a> Log<'a> {
    /// A log over `runs`, which must cover it from block 0 without gaps.
    pub(crate) fn new(device: &'a dyn ReadAt, block_size: u32, runs: Vec<LogRun>) -> Result<Self, VfsError> {
        let mut expected = 0u32;
        for run in &runs {
            let next = expected.checked_add(run.len);
            match next {
                Some(next) if run.log_block == expected && run.len != 0 => expected = next,
                _ => {
                    return Err(corrupt(
                        "ext4.journal.map",
                        "journal inode",
                        format!("block {expected} of the log is not mapped"),
                    ));
                }
            }
        }
        let mut owned: Vec<(u64, u64)> = runs
            .iter()
            .map(|run| (run.device_block, run.device_block.saturating_add(u64::from(run.len))))
            .collect();
        owned.sort_unstable();
        Ok(Self { device, block_size, runs, owned })
    }

    /// Blocks that are mapped.
    pub(crate) fn len(&self) -> u64 {
        self.runs.last().map_or(0, |run| u64::from(run.log_block) + u64::from(run.len))
    }

    /// Bytes per block.
    pub(crate) fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Where `log_block` lies in the filesystem.
    pub(crate) fn device_block(&self, log_block: u32) -> Result<u64, VfsError> {
        let index = self.runs.partition_point(|run| run.log_block <= log_block);
        index
            .checked_sub(1)
            .and_then(|index| self.runs.get(index))
            .and_then(|run| {
                let within = log_block - run.log_block;
                (within < run.len).then_some(run.device_block.checked_add(u64::from(within))?)
            })
            .ok_or_else(|| {
                corrupt("ext4.journal.map", "journal inode", format!("block {log_block} is not mapped"))
            })
    }

    /// True when a filesystem block is part of the journal.
    pub(crate) fn owns(&self, device_block: u64) -> bool {
        let index = self.owned.partition_point(|(start, _)| *start <= device_block);
        index
            .checked_sub(1)
            .and_then(|index| self.owned.get(index))
            .is_some_and(|(_, end)| device_block < *end)
    }

    /// Fills `buf`, one block long, with `log_block`.
    pub(crate) fn read(&self, log_block: u32, buf: &mut [u8]) -> Result<(), VfsError> {
        let offset =
            self.device_block(log_block)?.checked_mul(u64::from(self.block_size)).ok_or_else(|| {
                corrupt(
                    "ext4.journal.map",
                    "journal inode",
                    format!("block {log_block} lies past 2^64 bytes"),
                )
            })?;
        self.device.read_exact_at(buf, offset).map_err(|error| VfsError::Device(Box::new(error)))
    }
}
