//! The log: whether it is clean (`xfs_log_format.h`; XFS Algorithms & Data Structures, "Journaling Log").

mod buffer;
mod finish;
mod head;
mod inode;
mod record;
mod recover;
mod transaction;

use ondisk::be_u32;

use crate::error::{Result, corrupt, device};
use crate::fs::Xfs;
pub use recover::{RecoveryReport, needs_recovery, recover};

const RECORD_MAGIC: u32 = 0xfeed_babe;
/// Sector of the log: unit of all its addresses.
pub(crate) const BASIC_BLOCK: u64 = 512;
/// Sectors before the head that writes still under way may have left out: 8 buffers of 256 KiB.
const UNSETTLED: u64 = 8 * 512;

/// Place of the log on the device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogPlace {
    /// First byte.
    pub byte: u64,
    /// Length in sectors of 512 bytes.
    pub sectors: u64,
}

impl Xfs {
    /// Where the log lies.
    pub(crate) fn log_place(&self) -> Result<LogPlace> {
        let (start, blocks) = (self.superblock.log_start(), u64::from(self.superblock.u32(96)));
        if !self.geo.is_run(start, blocks) {
            return Err(corrupt("xfs.log", "log", format!("{blocks} blocks at {start}")));
        }
        let sectors = (blocks << self.geo.block_log) / BASIC_BLOCK;
        Ok(LogPlace { byte: self.geo.byte_of(start), sectors })
    }

    pub(crate) fn log_sectors(&self, place: LogPlace, sector: u64, count: u64) -> Result<Vec<u8>> {
        let mut raw = Vec::new();
        for step in 0..count {
            raw.extend(self.log_sector(place, sector + step)?);
        }
        Ok(raw)
    }

    fn log_sector(&self, place: LogPlace, sector: u64) -> Result<Vec<u8>> {
        let mut raw = vec![0; BASIC_BLOCK as usize];
        let at = place.byte + sector % place.sectors * BASIC_BLOCK;
        self.device.reader().read_exact_at(&mut raw, at).map_err(device)?;
        Ok(raw)
    }

    fn log_cycle(&self, place: LogPlace, sector: u64) -> Result<u32> {
        Ok(cycle_of(&self.log_sector(place, sector)?))
    }
}

/// The cycle that a sector was written in: a record's header names it, other sectors begin with it.
fn cycle_of(sector: &[u8]) -> u32 {
    if be_u32(sector, 0) == RECORD_MAGIC { be_u32(sector, 4) } else { be_u32(sector, 0) }
}

/// True when the last record of the log is a single unmount operation that the head follows.
pub(crate) fn is_clean(fs: &Xfs) -> Result<bool> {
    Ok(head::find(fs)?.is_clean)
}
