//! The log: whether it is clean (`xfs_log_format.h`; XFS Algorithms & Data Structures, "Journaling Log").

use ondisk::be_u32;

use crate::error::{Result, corrupt, device};
use crate::fs::Xfs;

const RECORD_MAGIC: u32 = 0xfeed_babe;
/// Sector of the log: unit of all its addresses.
pub(crate) const BASIC_BLOCK: u64 = 512;
/// Sectors before the head that writes still under way may have left out: 8 buffers of 256 KiB.
const UNSETTLED: u64 = 8 * 512;
/// Sectors of the longest record with its headers.
const LONGEST_RECORD: u64 = 512 + 8;
const OP_UNMOUNT: u8 = 0x20;

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
    let place = fs.log_place()?;
    let (first, last) = (fs.log_cycle(place, 0)?, fs.log_cycle(place, place.sectors - 1)?);
    if first == 0 {
        return Ok(true);
    }
    let (head, hole) = if first == last {
        (0, first.wrapping_sub(1))
    } else {
        // Cycles go down once, from `first` to `last`: the head is where they do.
        let (mut low, mut high) = (0, place.sectors - 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fs.log_cycle(place, middle)? == first { low = middle } else { high = middle }
        }
        (high, last)
    };
    for back in (1..=UNSETTLED.min(place.sectors)).rev() {
        // Before the first sector the hole is a cycle older.
        let (sector, wanted) = match head.checked_sub(back) {
            Some(sector) => (sector, hole),
            None => (place.sectors + head - back, hole.wrapping_sub(u32::from(first != last))),
        };
        if sector != head && fs.log_cycle(place, sector)? == wanted && wanted != 0 {
            return Ok(false);
        }
    }
    for back in 1..=LONGEST_RECORD.min(place.sectors) {
        let start = (place.sectors + head - back) % place.sectors;
        let raw = fs.log_sector(place, start)?;
        if be_u32(&raw, 0) == RECORD_MAGIC {
            return is_unmount(fs, place, start, &raw, head);
        }
    }
    Ok(false)
}

fn is_unmount(fs: &Xfs, place: LogPlace, start: u64, header: &[u8], head: u64) -> Result<bool> {
    let headers =
        if be_u32(header, 8) == 2 { u64::from(be_u32(header, 320)).div_ceil(32768).max(1) } else { 1 };
    let end = start + headers + u64::from(be_u32(header, 12)).div_ceil(BASIC_BLOCK);
    let operation = fs.log_sector(place, start + headers)?;
    Ok(be_u32(header, 40) == 1
        && operation[9] & OP_UNMOUNT != 0
        && end % place.sectors == head % place.sectors)
}
