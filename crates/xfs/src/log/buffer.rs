//! Buffers in the log: parts of blocks, written back in chunks of 128 bytes (`xfs_buf_item_recover.c`).

use ondisk::{be_u16, be_u32, be_u64, le_u16, le_u32, le_u64, put_be_u64};

use super::transaction::Item;
use crate::buffer::{Stamp, reseal};
use crate::error::{Result, corrupt, unsupported};
use crate::fs::Xfs;

pub(crate) const INODES: u16 = 1;
pub(crate) const CANCEL: u16 = 2;
pub(crate) const DQUOTS: u16 = 0x1c;
const CHUNK: usize = 128;
/// Sectors of a buffer at most: 64 KiB blocks.
const MOST_SECTORS: u16 = 128;

/// The format region of a buffer item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    pub flags: u16,
    pub sectors: u16,
    pub sector: u64,
}

impl Format {
    pub fn parse(item: &Item) -> Result<Self> {
        let raw = item.format();
        let wrong = |detail: String| corrupt("xfs.log.buffer", "log", detail);
        if raw.len() < 24 {
            return Err(wrong(format!("a buffer format of {} bytes", raw.len())));
        }
        let format = Self { flags: le_u16(raw, 4), sectors: le_u16(raw, 6), sector: le_u64(raw, 8) };
        match format.sectors {
            1..=MOST_SECTORS => Ok(format),
            other => Err(wrong(format!("a buffer of {other} sectors"))),
        }
    }

    fn len(&self) -> usize {
        usize::from(self.sectors) * 512
    }
}

/// Where the number of the log is and whose unit it is, by magic; only units of version 5.
fn stamp_of(raw: &[u8]) -> Option<Stamp> {
    Some(match raw.get(..4)? {
        b"AB3B" | b"AB3C" | b"IAB3" | b"FIB3" | b"RMB3" | b"R3FC" => Stamp::AG_BTREE,
        b"BMA3" => Stamp::BMBT,
        b"XAGF" => Stamp::AGF,
        b"XAGI" => Stamp::AGI,
        b"XAFL" => Stamp::AGFL,
        b"XDB3" | b"XDD3" | b"XDF3" => Stamp::DIR_DATA,
        b"XSLM" => Stamp::SYMLINK,
        b"XARM" => return None,
        _ => match be_u16(raw, 8) {
            0x3df1 | 0x3dff | 0x3ebe | 0x3bee => Stamp::DA,
            _ => return None,
        },
    })
}

/// Byte of the number of the log in a superblock.
const SUPERBLOCK_LSN: usize = 240;

/// Number of the log on disk; `None` where it does not count.
fn lsn_on_disk(fs: &Xfs, raw: &[u8]) -> Option<u64> {
    if raw.get(..4) == Some(b"XFSB") {
        let is_own = raw[32..48] == fs.superblock.user_uuid();
        return is_own.then(|| be_u64(raw, SUPERBLOCK_LSN));
    }
    let stamp = stamp_of(raw)?;
    let is_own = raw[stamp.uuid_at()..stamp.uuid_at() + 16] == fs.geo.uuid;
    is_own.then(|| be_u64(raw, stamp.lsn_at()))
}

/// Writes a buffer back. `true` when it was not newer on disk.
pub(crate) fn replay(fs: &mut Xfs, item: &Item, format: Format, lsn: u64) -> Result<bool> {
    let byte = format.sector.checked_mul(512).filter(|byte| {
        byte.checked_add(format.len() as u64).is_some_and(|end| end <= fs.device.reader().len())
    });
    let Some(byte) = byte else {
        let detail = format!("{} sectors at {}", format.sectors, format.sector);
        return Err(corrupt("xfs.log.buffer", "log", format!("{detail} lie outside the device")));
    };
    let mut raw = fs.read_unit(byte, format.len())?;
    if format.flags & INODES != 0 {
        replay_unlinked(fs, item, byte, &mut raw)?;
        fs.write_replayed(byte, &raw)?;
        return Ok(true);
    }
    if fs.geo.is_v5
        && let Some(on_disk) = lsn_on_disk(fs, &raw)
        && on_disk != 0
        && on_disk != u64::MAX
        && on_disk >= lsn
    {
        return Ok(false);
    }
    apply(item, &mut raw)?;
    if fs.geo.is_v5 {
        if raw.get(..4) == Some(b"XFSB") && byte == 0 {
            put_be_u64(&mut raw, SUPERBLOCK_LSN, lsn);
            let sum = crate::superblock::checksum(&raw, 224);
            raw[224..228].copy_from_slice(&sum.to_le_bytes());
        } else if let Some(stamp) = stamp_of(&raw) {
            let is_directory = matches!(raw.get(..4), Some(b"XDB3" | b"XDD3" | b"XDF3"))
                || matches!(be_u16(&raw, 8), 0x3df1 | 0x3dff);
            if is_directory && format.len() != fs.geo.dir_block_size() {
                let detail = ": a directory block in several pieces";
                return Err(unsupported("xfs.log.scattered-directory", "replay of a log", detail));
            }
            put_be_u64(&mut raw, stamp.lsn_at(), lsn);
            reseal(&stamp, &mut raw);
        }
    }
    fs.write_replayed(byte, &raw)?;
    Ok(true)
}

/// Calls `work` with the place in the buffer and the bytes of each run of chunks.
fn runs(item: &Item, mut work: impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
    let format = item.format();
    let words = le_u32(format, 16) as usize;
    let map = format.get(20..).unwrap_or_default();
    let wrong = |detail: &str| Err(corrupt("xfs.log.buffer", "log", detail));
    if words * 4 > map.len() {
        return wrong("the map of a buffer does not lie in its format");
    }
    let is_set =
        |bit: usize| map.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 != 0) && bit < words * 32;
    let mut bit = 0;
    for region in item.regions.iter().skip(1) {
        while bit < words * 32 && !is_set(bit) {
            bit += 1;
        }
        let mut run = 0;
        while is_set(bit + run) {
            run += 1;
        }
        // A region may be shorter than its run of bits: its length counts.
        let run = run.min(region.len() / CHUNK);
        if run == 0 {
            return wrong("a region of a buffer without its bits");
        }
        work(bit * CHUNK, &region[..run * CHUNK])?;
        bit += run;
    }
    Ok(())
}

fn apply(item: &Item, raw: &mut [u8]) -> Result<()> {
    runs(item, |at, bytes| match raw.get_mut(at..at + bytes.len()) {
        Some(part) => {
            part.copy_from_slice(bytes);
            Ok(())
        }
        None => Err(corrupt("xfs.log.buffer", "log", "a region lies outside its buffer")),
    })
}

/// Of buffers with inodes only the links of the unlinked lists are taken.
fn replay_unlinked(fs: &Xfs, item: &Item, byte: u64, raw: &mut [u8]) -> Result<()> {
    let (size, is_v5) = (fs.geo.inode_size, fs.geo.is_v5);
    if !raw.len().is_multiple_of(size) {
        return Err(corrupt("xfs.log.buffer", "log", format!("inodes at byte {byte} are not whole")));
    }
    runs(item, |at, bytes| {
        for link in (0..raw.len() / size).map(|index| index * size + 96) {
            let Some(new) = link.checked_sub(at).and_then(|from| bytes.get(from..from + 4)) else { continue };
            if be_u32(new, 0) == 0 {
                let detail = format!("an unlinked list at byte {} leads to inode 0", byte + link as u64);
                return Err(corrupt("xfs.log.unlinked", "log", detail));
            }
            raw[link..link + 4].copy_from_slice(new);
            if is_v5 {
                reseal(&Stamp::INODE, &mut raw[link - 96..link - 96 + size]);
            }
        }
        Ok(())
    })
}
