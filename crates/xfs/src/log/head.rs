//! Where the log ends and where replay begins (kernel `xfs_log_recover.c`, `xlog_find_head`, `xlog_find_tail`).

use ondisk::{be_u32, be_u64};

use super::record::Record;
use super::{LogPlace, RECORD_MAGIC, UNSETTLED};
use crate::error::{Result, corrupt};
use crate::fs::Xfs;

/// Sectors of the longest record with its headers.
const LONGEST_RECORD: u64 = 512 + 8;
/// Buffers that can be under way at once: as many records may be torn.
const RECORDS_UNDER_WAY: usize = 8;
const OP_UNMOUNT: u8 = 0x20;

/// Both ends of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// Sector that the next record goes to.
    pub head: u64,
    /// Cycle of that record.
    pub cycle: u32,
    /// Sector of the first record to replay.
    pub tail: u64,
    /// Sector of the last record; 0 when there is none.
    pub last: u64,
    /// There is nothing to replay.
    pub is_clean: bool,
    /// Records at the end that were torn while they were written.
    pub torn: usize,
}

/// Finds both ends.
pub(crate) fn find(fs: &Xfs) -> Result<Ends> {
    let place = fs.log_place()?;
    let (first, last) = (fs.log_cycle(place, 0)?, fs.log_cycle(place, place.sectors - 1)?);
    if first == 0 {
        return Ok(Ends { head: 0, cycle: 1, tail: 0, last: 0, is_clean: true, torn: 0 });
    }
    let head = settled(fs, place, rough_head(fs, place, first, last)?, first, last)?;
    let Some(mut at) = record_before(fs, place, head, LONGEST_RECORD)? else {
        return Err(corrupt("xfs.log.head", "log", format!("no record ends before sector {head}")));
    };
    let mut head = head;
    if Record::header(fs, place, at)?.end(place) != head % place.sectors {
        // The last record is not whole.
        head = at;
        at = record_before(fs, place, head, LONGEST_RECORD)?
            .ok_or_else(|| corrupt("xfs.log.head", "log", format!("no record ends before sector {head}")))?;
    }
    let (head, at, torn) = without_torn(fs, place, head % place.sectors, at)?;
    let record = Record::header(fs, place, at)?;
    let cycle = record.cycle + u32::from(head == 0 || head < at);
    let operation = fs.log_sector(place, at + record.headers)?;
    let is_unmount = record.operations == 1 && operation[9] & OP_UNMOUNT != 0;
    let tail = record.tail & 0xffff_ffff;
    if tail >= place.sectors {
        return Err(corrupt("xfs.log.tail", "log", format!("the tail, sector {tail}, lies outside")));
    }
    let is_clean = is_unmount && record.end(place) == head;
    Ok(Ends { head, cycle, tail, last: at, is_clean, torn })
}

/// Cycles go down once, from `first` to `last`: the head is where they do.
fn rough_head(fs: &Xfs, place: LogPlace, first: u32, last: u32) -> Result<u64> {
    if first == last {
        return Ok(0);
    }
    let (mut low, mut high) = (0, place.sectors - 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fs.log_cycle(place, middle)? == first { low = middle } else { high = middle }
    }
    Ok(high)
}

/// The head before everything that writes under way may have left out.
fn settled(fs: &Xfs, place: LogPlace, head: u64, first: u32, last: u32) -> Result<u64> {
    let hole = if first == last { first.wrapping_sub(1) } else { last };
    for back in (1..=UNSETTLED.min(place.sectors)).rev() {
        // Before the first sector the hole is a cycle older.
        let (sector, wanted) = match head.checked_sub(back) {
            Some(sector) => (sector, hole),
            None => (place.sectors + head - back, hole.wrapping_sub(u32::from(first != last))),
        };
        if sector != head && fs.log_cycle(place, sector)? == wanted {
            return Ok(sector);
        }
    }
    Ok(head)
}

/// The nearest record that begins before `head`.
fn record_before(fs: &Xfs, place: LogPlace, head: u64, most: u64) -> Result<Option<u64>> {
    for back in 1..=most.min(place.sectors) {
        let sector = (place.sectors + head - back) % place.sectors;
        if be_u32(&fs.log_sector(place, sector)?, 0) == RECORD_MAGIC {
            return Ok(Some(sector));
        }
    }
    Ok(None)
}

/// Cuts the log at the first of the last records whose checksum is wrong.
fn without_torn(fs: &Xfs, place: LogPlace, head: u64, last: u64) -> Result<(u64, u64, usize)> {
    let tail_of = |at: u64| Ok::<_, vfs::VfsError>(be_u64(&fs.log_sector(place, at)?, 24) & 0xffff_ffff);
    let mut records = vec![last];
    while records.len() < RECORDS_UNDER_WAY {
        let at = records[records.len() - 1];
        if tail_of(last)? == at {
            break;
        }
        match record_before(fs, place, at, LONGEST_RECORD)? {
            Some(before) if Record::header(fs, place, before)?.end(place) == at => records.push(before),
            _ => break,
        }
    }
    records.reverse();
    for (index, at) in records.iter().enumerate() {
        if Record::read(fs, place, *at)?.is_torn {
            let before = match index.checked_sub(1).and_then(|before| records.get(before)) {
                Some(before) => *before,
                None => record_before(fs, place, *at, LONGEST_RECORD)?.unwrap_or(*at),
            };
            return Ok((*at, before, records.len() - index));
        }
    }
    Ok((head, last, 0))
}
