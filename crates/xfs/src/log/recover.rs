//! Replay of a dirty log into the device below, and a clean log afterwards (`xlog_recover`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use block::{ReadAt, WriteAt};
use ondisk::{be_u32, le_u16, le_u64, put_be_u16, put_be_u32, put_be_u64};

use super::buffer::{self, CANCEL, DQUOTS, INODES};
use super::record::Record;
use super::transaction::{Item, Transaction, Transactions};
use super::{LogPlace, head, inode};
use crate::buffer::{Stamp, reseal};
use crate::error::{Result, corrupt, device, unsupported};
use crate::fs::{Device, Xfs};

const BUFFER: u16 = 0x123c;
const INODE: u16 = 0x123b;
const ICREATE: u16 = 0x123f;
const DQUOT: u16 = 0x123d;
const QUOTAOFF: u16 = 0x123e;
/// Intents, what says that they were done, and their names; the number of the intent stands at byte 8 of both.
const INTENTS: &[(u16, u16, &str)] = &[
    (0x1236, 0x1237, "extents to be freed (EFI)"),
    (0x1240, 0x1241, "reverse mappings to be changed (RUI)"),
    (0x1242, 0x1243, "shared extents to be counted (CUI)"),
    (0x1244, 0x1245, "file mappings to be changed (BUI)"),
    (0x1246, 0x1247, "attributes to be changed (ATTRI)"),
    (0x1248, 0x1249, "mappings to be exchanged (XMI)"),
];
/// Intents that are open at the end, or cancelled buffers, at most.
const MOST_OPEN: usize = 1 << 20;

/// What a replay did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Committed transactions in the log.
    pub transactions: u32,
    /// Buffers and inodes written to their places.
    pub blocks: u64,
    /// Buffers kept from being written because they were freed later.
    pub cancelled: u64,
    /// Buffers and inodes that were newer on disk.
    pub newer: u64,
    /// Inodes without a name that were freed.
    pub unlinked: u64,
    /// Blocks of unfinished copies on write that were freed.
    pub staging_blocks: u64,
    /// Records at the end that were torn while they were written.
    pub torn_records: u32,
}

/// True when the log must be replayed before anything is read.
pub fn needs_recovery(dev: Arc<dyn ReadAt>) -> Result<bool> {
    Ok(!head::find(&Xfs::load(Device::Read(dev))?)?.is_clean)
}

/// Replays the log and leaves it clean. A clean log is left alone. After an error `dev` is to be dropped.
pub fn recover(dev: &Arc<dyn WriteAt>) -> Result<RecoveryReport> {
    let mut fs = Xfs::load_writable(Arc::clone(dev))?;
    let ends = head::find(&fs)?;
    let mut report = RecoveryReport { torn_records: ends.torn as u32, ..RecoveryReport::default() };
    if ends.is_clean {
        return Ok(report);
    }
    let place = fs.log_place()?;
    let mut cancels = BTreeMap::new();
    each_transaction(&mut fs, place, &ends, &mut |_, transaction| {
        collect_cancels(&transaction, &mut cancels)
    })?;
    let mut replay = Replay { cancels, open: BTreeSet::new(), report, has_quota: false };
    each_transaction(&mut fs, place, &ends, &mut |fs, transaction| replay.transaction(fs, transaction))?;
    if let Some((kind, _)) = replay.open.first() {
        let name =
            INTENTS.iter().find(|(intent, ..)| intent == kind).map_or("an intent", |(_, _, name)| name);
        let detail = format!(": {} unfinished", replay.open.len());
        return Err(unsupported("xfs.log.intent", format!("replay of a log with {name}"), detail));
    }
    report = replay.report;
    // What was replayed may have changed the sizes.
    let mut fs = Xfs::load_writable(Arc::clone(dev))?;
    fs.finish_recovery(place, &ends, replay.has_quota, &mut report)?;
    Ok(report)
}

fn each_transaction(
    fs: &mut Xfs,
    place: LogPlace,
    ends: &head::Ends,
    work: &mut dyn FnMut(&mut Xfs, Transaction) -> Result<()>,
) -> Result<()> {
    let mut transactions = Transactions::default();
    let mut at = ends.tail;
    let mut walked = 0;
    while at != ends.head {
        let record = Record::read(fs, place, at)?;
        if record.is_torn && fs.geo.is_v5 {
            return Err(corrupt("xfs.log.checksum", format!("log sector {at}"), "the checksum is wrong"));
        }
        let next = record.end(place);
        walked += (place.sectors + next - at) % place.sectors;
        if walked > place.sectors {
            return Err(corrupt(
                "xfs.log.record",
                format!("log sector {at}"),
                "records do not end at the head",
            ));
        }
        transactions.take(&record, &mut |transaction| work(fs, transaction))?;
        at = next;
    }
    Ok(())
}

type Cancels = BTreeMap<(u64, u32), u32>;

fn collect_cancels(transaction: &Transaction, cancels: &mut Cancels) -> Result<()> {
    for item in transaction.items.iter().filter(|item| item.kind() == BUFFER) {
        let format = buffer::Format::parse(item)?;
        if format.flags & CANCEL != 0 {
            *cancels.entry((format.sector, format.sectors.into())).or_default() += 1;
            if cancels.len() > MOST_OPEN {
                return Err(corrupt("xfs.log.buffer", "log", "more than 1,048,576 cancelled buffers"));
            }
        }
    }
    Ok(())
}

struct Replay {
    cancels: Cancels,
    /// Type and number of intents that nothing finished so far.
    open: BTreeSet<(u16, u64)>,
    report: RecoveryReport,
    has_quota: bool,
}

impl Replay {
    /// Plain buffers and new inodes first, then inodes and intents, then buffers of inodes, cancels last.
    fn transaction(&mut self, fs: &mut Xfs, transaction: Transaction) -> Result<()> {
        self.report.transactions += 1;
        let lsn = transaction.lsn;
        let mut passes: [Vec<(&Item, Option<buffer::Format>)>; 4] = Default::default();
        for item in &transaction.items {
            let (pass, format) = match item.kind() {
                BUFFER => {
                    let format = buffer::Format::parse(item)?;
                    let pass = match format.flags {
                        flags if flags & CANCEL != 0 => 3,
                        flags if flags & INODES != 0 => 2,
                        _ => 0,
                    };
                    (pass, Some(format))
                }
                ICREATE => (0, None),
                _ => (1, None),
            };
            passes[pass].push((item, format));
        }
        for (item, format) in passes.iter().flatten() {
            match format {
                Some(format) => self.buffer(fs, item, *format, lsn)?,
                None => self.other(fs, item, lsn)?,
            }
        }
        Ok(())
    }

    fn buffer(&mut self, fs: &mut Xfs, item: &Item, format: buffer::Format, lsn: u64) -> Result<()> {
        let key = (format.sector, u32::from(format.sectors));
        if format.flags & CANCEL != 0 {
            if let Some(count) = self.cancels.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.cancels.remove(&key);
                }
            }
            return Ok(());
        }
        self.has_quota |= format.flags & DQUOTS != 0;
        if self.cancels.contains_key(&key) {
            self.report.cancelled += 1;
            return Ok(());
        }
        let was_written = buffer::replay(fs, item, format, lsn)?;
        self.count(was_written);
        // A superblock may tell of more groups.
        if format.sector == 0 && was_written {
            let dev = fs.device.clone();
            *fs = Xfs::load(dev)?;
        }
        Ok(())
    }

    fn count(&mut self, was_written: bool) {
        match was_written {
            true => self.report.blocks += 1,
            false => self.report.newer += 1,
        }
    }

    fn other(&mut self, fs: &mut Xfs, item: &Item, lsn: u64) -> Result<()> {
        let kind = item.kind();
        match kind {
            INODE => {
                let format = inode::Format::parse(item)?;
                if self.cancels.contains_key(&(format.sector, format.sectors)) {
                    self.report.cancelled += 1;
                    return Ok(());
                }
                let was_written = inode::replay(fs, item, format, lsn)?;
                self.count(was_written);
                Ok(())
            }
            ICREATE => self.new_inodes(fs, item),
            // Quota is counted anew by the kernel.
            DQUOT | QUOTAOFF => {
                self.has_quota = true;
                Ok(())
            }
            _ => self.intent(item),
        }
    }

    fn intent(&mut self, item: &Item) -> Result<()> {
        let (kind, raw) = (item.kind(), item.format());
        let Some((intent, _, _)) = INTENTS.iter().find(|(intent, done, _)| kind == *intent || kind == *done)
        else {
            return Err(unsupported("xfs.log.item", format!("replay of a log item of type {kind:#x}"), ""));
        };
        if raw.len() < 16 {
            return Err(corrupt("xfs.log.intent", "log", format!("an intent of {} bytes", raw.len())));
        }
        let key = (*intent, le_u64(raw, 8));
        if kind == *intent {
            self.open.insert(key);
        } else {
            self.open.remove(&key);
        }
        match self.open.len() > MOST_OPEN {
            true => Err(corrupt("xfs.log.intent", "log", "more than 1,048,576 open intents")),
            false => Ok(()),
        }
    }

    /// A chunk of new inodes, free and empty (`xfs_icreate_item_recover.c`). The item is big-endian.
    fn new_inodes(&mut self, fs: &mut Xfs, item: &Item) -> Result<()> {
        let raw = item.format();
        let wrong = |detail: String| corrupt("xfs.log.new-inodes", "log", detail);
        if raw.len() < 28 || le_u16(raw, 2) != 1 {
            return Err(wrong(format!("{} bytes", raw.len())));
        }
        let [group, block, count, size, length, generation] =
            [4, 8, 12, 16, 20, 24].map(|at| be_u32(raw, at));
        let (inode_size, per_block) = (fs.geo.inode_size, fs.geo.inodes_per_block());
        let is_whole = group < fs.geo.groups
            && u64::from(block) + u64::from(length) <= u64::from(fs.geo.blocks_of(group))
            && block != 0
            && size as usize == inode_size
            && length != 0
            && length <= 256
            && u64::from(count) == u64::from(length) * u64::from(per_block);
        if !is_whole {
            return Err(wrong(format!("{count} inodes of {size} bytes in {length} blocks at {block}")));
        }
        let byte = fs.geo.byte(group, block);
        let bytes = u64::from(length) * fs.geo.block_size as u64;
        // Inodes that were freed with their chunk later stay as they are: the chunk is cancelled in clusters.
        let (first, end) = (byte / 512, (byte + bytes) / 512);
        let cancelled: u64 = self
            .cancels
            .keys()
            .filter(|(sector, sectors)| *sector >= first && sector + u64::from(*sectors) <= end)
            .map(|(_, sectors)| u64::from(*sectors))
            .sum();
        if cancelled >= end - first {
            self.report.cancelled += 1;
            return Ok(());
        }
        let mut chunk = vec![0; bytes as usize];
        for (index, inode) in (0..).zip(chunk.chunks_exact_mut(inode_size)) {
            inode[..2].copy_from_slice(b"IN");
            inode[4] = if fs.geo.is_v5 { 3 } else { 2 };
            put_be_u32(inode, 92, generation);
            put_be_u32(inode, 96, u32::MAX);
            if fs.geo.is_v5 {
                let number = fs.geo.inode(group, block * per_block + index);
                put_be_u64(inode, 152, number);
                inode[160..176].copy_from_slice(&fs.geo.uuid);
                reseal(&Stamp::INODE, inode);
            } else {
                put_be_u16(inode, 30, 0);
            }
        }
        fs.write_replayed(byte, &chunk)?;
        self.count(true);
        Ok(())
    }
}

impl Xfs {
    /// Writes to the device at once: replay goes in the order of the log.
    pub(crate) fn write_replayed(&self, byte: u64, bytes: &[u8]) -> Result<()> {
        match &self.device {
            Device::Write(dev) => dev.write_all_at(bytes, byte).map_err(device),
            Device::Read(_) => Err(self.read_only()),
        }
    }
}
