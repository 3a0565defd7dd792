//! Inodes in the log: the core in the host's byte order, forks as on disk (`xfs_inode_item_recover.c`,
//! `xfs_log_dinode`).

use ondisk::{be_u16, be_u64, le_u16, le_u32, le_u64, put_be_u16, put_be_u64};

use super::transaction::Item;
use crate::buffer::{Stamp, reseal};
use crate::error::{Result, corrupt};
use crate::fs::Xfs;

const DATA_LOCAL: u32 = 2;
const DATA_EXTENTS: u32 = 4;
const DATA_ROOT: u32 = 8;
const DEVICE: u32 = 0x10;
const ATTR_LOCAL: u32 = 0x40;
const ATTR_EXTENTS: u32 = 0x80;
const ATTR_ROOT: u32 = 0x100;
/// Blocks of a map change their owner: left by extent swaps alone.
const OWNER_CHANGES: u32 = 0x200 | 0x400;
const DATA: u32 = DATA_LOCAL | DATA_EXTENTS | DATA_ROOT;
const ATTR: u32 = ATTR_LOCAL | ATTR_EXTENTS | ATTR_ROOT;

/// Fields of the core of version 3 that are in the log as on disk but for the byte order: place and width. Links of
/// unlinked lists (96), checksum (100), number (112) and what follows the core are not taken.
const CORE: &[(usize, usize)] = &[
    (0, 2),
    (2, 2),
    (6, 2),
    (8, 4),
    (12, 4),
    (16, 4),
    (20, 2),
    (22, 2),
    (56, 8),
    (64, 8),
    (72, 4),
    (84, 4),
    (88, 2),
    (90, 2),
    (92, 4),
];
const CORE_V3: &[(usize, usize)] = &[(104, 8), (120, 8), (128, 4)];
const BIGTIME: u64 = 8;
const NREXT64: u64 = 0x10;

/// The format region of an inode item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    pub fields: u32,
    pub inode: u64,
    pub sector: u64,
    pub sectors: u32,
    offset: u32,
    device: u32,
}

impl Format {
    /// 56 bytes, or 52 where a 32-bit host did not align the inode's number.
    pub fn parse(item: &Item) -> Result<Self> {
        let raw = item.format();
        let shift = match raw.len() {
            56 => 0,
            52 => 4,
            other => {
                return Err(corrupt("xfs.log.inode", "log", format!("an inode format of {other} bytes")));
            }
        };
        Ok(Self {
            fields: le_u32(raw, 4),
            inode: le_u64(raw, 16 - shift),
            device: le_u32(raw, 24 - shift),
            sector: le_u64(raw, 40 - shift),
            sectors: le_u32(raw, 48 - shift),
            offset: le_u32(raw, 52 - shift),
        })
    }
}

/// Writes an inode back. `true` when it was not newer on disk.
pub(crate) fn replay(fs: &mut Xfs, item: &Item, format: Format, lsn: u64) -> Result<bool> {
    let subject = || format!("inode {} in the log", format.inode);
    let wrong = |detail: String| corrupt("xfs.log.inode", subject(), detail);
    let (size, is_v5) = (fs.geo.inode_size, fs.geo.is_v5);
    let own = fs.geo.split_inode(format.inode).map(|(group, agino)| fs.geo.inode_byte(group, agino));
    let said = format.sector.checked_mul(512).and_then(|byte| byte.checked_add(format.offset.into()));
    let byte = match (own, said) {
        (Some(own), Some(said)) if own == said => own,
        _ => {
            return Err(wrong(format!(
                "its place, sector {} and {}, is not its own",
                format.sector, format.offset
            )));
        }
    };
    if format.fields & OWNER_CHANGES != 0 {
        return Err(crate::error::unsupported("xfs.log.owner-change", "replay of a swap of extents", ""));
    }
    let mut raw = fs.read_unit(byte, size)?;
    if raw.get(..2) != Some(b"IN") {
        return Err(wrong("there is no inode on disk".into()));
    }
    let core = item.regions.get(1).map_or(&[][..], |core| core);
    let core_len = if core.get(4).is_some_and(|version| *version >= 3) { 176 } else { 96 };
    if core.len() < core_len || le_u16(core, 0) != 0x494e || (core_len == 176) != is_v5 {
        return Err(wrong(format!("its core of {} bytes is none", core.len())));
    }
    if is_v5 {
        let on_disk = be_u64(&raw, 112);
        if on_disk != 0 && on_disk != u64::MAX && on_disk > lsn {
            return Ok(false);
        }
    } else {
        let (logged, on_disk) = (le_u16(core, 30), be_u16(&raw, 30));
        // The counter of flushes wraps.
        if logged < on_disk && !(on_disk == u16::MAX && logged < u16::MAX / 2) {
            return Ok(false);
        }
    }
    put_core(&mut raw, core, is_v5);
    put_forks(fs, &mut raw, item, format).map_err(wrong)?;
    if is_v5 {
        put_be_u64(&mut raw, 112, lsn);
        reseal(&Stamp::INODE, &mut raw);
    } else {
        put_be_u16(&mut raw, 30, 0);
    }
    fs.write_replayed(byte, &raw)?;
    Ok(true)
}

fn turn(raw: &mut [u8], core: &[u8], at: usize, width: usize) {
    let mut field = [0; 8];
    field[..width].copy_from_slice(&core[at..at + width]);
    field[..width].reverse();
    raw[at..at + width].copy_from_slice(&field[..width]);
}

fn put_core(raw: &mut [u8], core: &[u8], is_v5: bool) {
    for (at, width) in CORE.iter().chain(if is_v5 { CORE_V3 } else { &[] }) {
        turn(raw, core, *at, *width);
    }
    for at in [4, 5, 82, 83] {
        raw[at] = core[at];
    }
    let flags2 = if is_v5 { le_u64(core, 120) } else { 0 };
    let times: &[usize] = if is_v5 { &[32, 40, 48, 144] } else { &[32, 40, 48] };
    for at in times {
        if flags2 & BIGTIME != 0 {
            turn(raw, core, *at, 8);
        } else {
            turn(raw, core, *at, 4);
            turn(raw, core, *at + 4, 4);
        }
    }
    if flags2 & NREXT64 != 0 {
        turn(raw, core, 24, 8);
        turn(raw, core, 76, 4);
        raw[80..82].fill(0);
    } else {
        raw[24..32].copy_from_slice(&core[24..32]);
        turn(raw, core, 30, 2);
        turn(raw, core, 76, 4);
        turn(raw, core, 80, 2);
    }
    if is_v5 {
        raw[132..144].copy_from_slice(&core[132..144]);
    }
}

fn put_forks(fs: &Xfs, raw: &mut [u8], item: &Item, format: Format) -> std::result::Result<(), String> {
    let core = if fs.geo.is_v5 { 176 } else { 100 };
    let size = raw.len();
    let split = match usize::from(raw[82]) * 8 {
        0 => size,
        offset if core + offset < size => core + offset,
        other => return Err(format!("its attribute fork begins at byte {other}")),
    };
    if format.fields & DEVICE != 0 {
        raw[core..core + 4].copy_from_slice(&format.device.to_be_bytes());
    }
    let mut regions = item.regions.iter().skip(2);
    for (mask, root, range) in [(DATA, DATA_ROOT, core..split), (ATTR, ATTR_ROOT, split..size)] {
        if format.fields & mask == 0 {
            continue;
        }
        let Some(region) = regions.next() else { return Err("a fork is not in its item".into()) };
        let fork = &mut raw[range];
        if format.fields & mask == root {
            put_root(fs, fork, region)?;
        } else {
            let Some(part) = fork.get_mut(..region.len()) else {
                return Err(format!("a fork of {} bytes does not fit {}", region.len(), fork.len()));
            };
            part.copy_from_slice(region);
        }
    }
    Ok(())
}

/// The root of a fork's tree is logged as a block in memory: with a block's header, its pointers behind all keys that
/// have room.
fn put_root(fs: &Xfs, fork: &mut [u8], block: &[u8]) -> std::result::Result<(), String> {
    let header = fs.bmbt_header();
    let records = if block.len() >= header { usize::from(be_u16(block, 6)) } else { usize::MAX };
    let most_in_block = block.len().saturating_sub(header) / 16;
    let most = fork.len().saturating_sub(4) / 16;
    if records > most_in_block || records > most {
        return Err(format!("a root of {} bytes with {records} records does not fit", block.len()));
    }
    fork[..4].copy_from_slice(&block[4..8]);
    let len = records * 8;
    fork[4..4 + len].copy_from_slice(&block[header..header + len]);
    let (from, to) = (header + most_in_block * 8, 4 + most * 8);
    fork[to..to + len].copy_from_slice(&block[from..from + len]);
    Ok(())
}
