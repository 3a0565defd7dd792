//! After the replay: inodes without a name, unfinished copies on write, counters, and a log that is clean.

use ondisk::{be_u32, crc32c_raw, put_be_u32, put_be_u64, put_le_u32};

use super::head::Ends;
use super::recover::RecoveryReport;
use super::{BASIC_BLOCK, LogPlace, RECORD_MAGIC, UNSETTLED};
use crate::alloc::rmap::Owner;
use crate::btree::Tree;
use crate::error::{Result, corrupt};
use crate::fs::Xfs;

/// Buckets of each group's lists of unlinked inodes.
const BUCKETS: usize = 64;
const NONE: u32 = u32::MAX;
/// Bit of the start of a refcount record: staging blocks of a copy on write.
const STAGING: u32 = 1 << 31;
/// Usage that the kernel counts anew when this is clear.
const QUOTA_CHECKED: u16 = 0x4 | 0x20 | 0x100 | 0x400;

impl Xfs {
    pub(crate) fn finish_recovery(
        &mut self,
        place: LogPlace,
        ends: &Ends,
        has_quota: bool,
        report: &mut RecoveryReport,
    ) -> Result<()> {
        self.recount()?;
        for group in 0..self.geo.groups {
            report.unlinked += self.free_unlinked(group)?;
        }
        if self.has_reflink() {
            for group in 0..self.geo.groups {
                report.staging_blocks += self.free_staging(group)?;
            }
        }
        self.recount()?;
        self.operate(&[], |fs, _| {
            if fs.superblock.log_incompat() != 0 {
                fs.superblock.clear_log_incompat();
            }
            if has_quota {
                let flags = fs.superblock.quota_flags() & !QUOTA_CHECKED;
                fs.superblock.set_quota_flags(flags);
            }
            Ok(())
        })?;
        self.end_log(place, ends)
    }

    /// The superblock's counters are written lazily: after a crash the groups' own count.
    fn recount(&mut self) -> Result<()> {
        let (mut inodes, mut free_inodes, mut blocks) = (0u64, 0u64, 0u64);
        for group in 0..self.geo.groups {
            let (agf, agi) = (self.agf(group)?, self.agi(group)?);
            inodes += u64::from(agi.count());
            free_inodes += u64::from(agi.free_count());
            blocks +=
                u64::from(agf.free_blocks()) + u64::from(agf.list_count()) + u64::from(agf.btree_blocks());
        }
        self.operate(&[], |fs, _| {
            fs.superblock.set_counters(inodes, free_inodes, blocks);
            Ok(())
        })
    }

    /// Frees the inodes that programs still had open, or whose removal was under way.
    fn free_unlinked(&mut self, group: u32) -> Result<u64> {
        let mut freed = 0;
        for bucket in 0..BUCKETS {
            // A list cannot be longer than the group has inodes.
            let mut left = self.agi(group)?.count();
            loop {
                let agino = self.agi(group)?.unlinked(bucket);
                if agino == NONE {
                    break;
                }
                let Some(rest) = left.checked_sub(1) else {
                    let detail = format!("bucket {bucket} of group {group} does not end");
                    return Err(corrupt("xfs.unlinked", "unlinked inodes", detail));
                };
                left = rest;
                freed += u64::from(self.free_first_unlinked(group, bucket, agino)?);
            }
        }
        Ok(freed)
    }

    /// Takes the first inode off its list; `true` when it had no name left and was freed.
    fn free_first_unlinked(&mut self, group: u32, bucket: usize, agino: u32) -> Result<bool> {
        let number = self.geo.inode(group, agino);
        self.operate(&[], |fs, _| {
            let mut inode = fs.read_inode(number)?;
            let next = inode.next_unlinked();
            if inode.mode() == 0 || next == agino {
                let detail =
                    format!("inode {number} in bucket {bucket} of group {group} is free or leads to itself");
                return Err(corrupt("xfs.unlinked", "unlinked inodes", detail));
            }
            let mut agi = fs.agi(group)?;
            agi.set_unlinked(bucket, next);
            fs.put_agi(&agi)?;
            inode.set_next_unlinked(NONE);
            let has_no_name = inode.links() == 0;
            match has_no_name {
                true => fs.release_inode(&mut inode)?,
                false => fs.put_inode(&inode)?,
            }
            Ok(has_no_name)
        })
    }

    /// Frees blocks that copies on write had set aside.
    fn free_staging(&mut self, group: u32) -> Result<u64> {
        let records = self.all_records(group, Tree::Refcount)?;
        let mut freed = 0;
        for record in records.iter().filter(|record| be_u32(*record, 0) & STAGING != 0) {
            let (start, len) = (be_u32(record, 0) & !STAGING, be_u32(record, 4));
            self.operate(&[], |fs, _| {
                fs.delete_record(group, Tree::Refcount, record)?;
                fs.release_run(group, start, len, Owner::COW)
            })?;
            freed += u64::from(len);
        }
        Ok(freed)
    }

    /// An unmount record at the head, and behind it nothing that looks as if it were of this cycle.
    fn end_log(&self, place: LogPlace, ends: &Ends) -> Result<()> {
        let unit = u64::from(self.superblock.u32(196)).max(BASIC_BLOCK);
        let total = unit.max(2 * BASIC_BLOCK) / BASIC_BLOCK;
        let h_size = unit.max(32768);
        // A header for every 32 KiB of a buffer, in version 2 of the log.
        let headers = if self.superblock.u16(100) & 0x400 != 0 { h_size.div_ceil(32768) } else { 1 };
        let total = total.max(headers + 1);
        if total >= place.sectors {
            return Err(corrupt("xfs.log", "log", format!("{} sectors", place.sectors)));
        }
        let lsn = u64::from(ends.cycle) << 32 | ends.head;
        let mut record = vec![0; (total * BASIC_BLOCK) as usize];
        let data_at = (headers * BASIC_BLOCK) as usize;
        let operation = &mut record[data_at..];
        operation[..4].copy_from_slice(&[0xb0, 0xc0, 0xd0, 0xd0]);
        put_be_u32(operation, 4, 8);
        operation[8] = 0xaa;
        operation[9] = 0x20;
        // The payload is in the byte order of the host: "UN".
        operation[12..14].copy_from_slice(&0x556e_u16.to_le_bytes());
        let version = if self.superblock.u16(100) & 0x400 != 0 { 2 } else { 1 };
        let len = record.len() - data_at;
        for (at, value) in [
            (0, RECORD_MAGIC),
            (4, ends.cycle),
            (8, version),
            (12, len as u32),
            (36, ends.last as u32),
            (40, 1),
            (300, 1),
            (320, if version == 2 { h_size as u32 } else { 0 }),
        ] {
            put_be_u32(&mut record, at, value);
        }
        put_be_u64(&mut record, 16, lsn);
        put_be_u64(&mut record, 24, lsn);
        record[304..320].copy_from_slice(&self.superblock.user_uuid());
        // Each sector of data begins with the cycle; the words that were there go to the headers.
        for index in 0..len / BASIC_BLOCK as usize {
            let sector = data_at + index * BASIC_BLOCK as usize;
            let header = index / 64 * BASIC_BLOCK as usize;
            let word = header + if header == 0 { 44 } else { 4 } + index % 64 * 4;
            record.copy_within(sector..sector + 4, word);
            put_be_u32(&mut record, sector, self.cycle_at(place, ends, headers + index as u64));
        }
        for header in 1..headers {
            let cycle = self.cycle_at(place, ends, header);
            put_be_u32(&mut record, (header * BASIC_BLOCK) as usize, cycle);
        }
        let sum = checksum(&record, len, data_at);
        put_le_u32(&mut record, 32, sum);
        self.clear_ahead(place, ends, total)?;
        self.write_log(place, ends.head, &record)
    }

    /// Cycle of the sector `step` behind the head; those past the end of the log are one further.
    fn cycle_at(&self, place: LogPlace, ends: &Ends, step: u64) -> u32 {
        ends.cycle + u32::from(ends.head + step >= place.sectors)
    }

    /// Everything within reach of buffers that were under way gets the cycle before: kernels would take a later sector
    /// of this cycle for the head (`xlog_clear_stale_blocks`).
    fn clear_ahead(&self, place: LogPlace, ends: &Ends, from: u64) -> Result<()> {
        let reach = UNSETTLED.min(place.sectors - from);
        for step in from..from + reach {
            let cycle = self.cycle_at(place, ends, step).wrapping_sub(1);
            if self.log_cycle(place, ends.head + step)? == cycle {
                continue;
            }
            let mut sector = vec![0; BASIC_BLOCK as usize];
            let at = (ends.head + step) % place.sectors;
            for (field, value) in [(0, RECORD_MAGIC), (4, cycle), (8, 2), (300, 1)] {
                put_be_u32(&mut sector, field, value);
            }
            put_be_u64(&mut sector, 16, u64::from(cycle) << 32 | at);
            put_be_u64(&mut sector, 24, u64::from(ends.cycle) << 32 | ends.head);
            sector[304..320].copy_from_slice(&self.superblock.user_uuid());
            self.write_log(place, at, &sector)?;
        }
        Ok(())
    }

    fn write_log(&self, place: LogPlace, sector: u64, bytes: &[u8]) -> Result<()> {
        for (step, piece) in (0..).zip(bytes.chunks(BASIC_BLOCK as usize)) {
            self.write_replayed(place.byte + (sector + step) % place.sectors * BASIC_BLOCK, piece)?;
        }
        Ok(())
    }
}

fn checksum(record: &[u8], len: usize, data_at: usize) -> u32 {
    let mut state = crc32c_raw(!0, &record[..328]);
    for header in 1..len.div_ceil(32768) {
        state = crc32c_raw(state, &record[header * 512..header * 512 + 260]);
    }
    !crc32c_raw(state, &record[data_at..data_at + len])
}
