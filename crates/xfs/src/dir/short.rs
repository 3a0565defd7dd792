//! The inline form: entries in the inode's data fork.

use ondisk::{try_be_u16, try_be_u32, try_be_u64};

use super::{Entry, is_name};
use crate::error::{Result, corrupt};
use crate::fs::Xfs;
use crate::inode::{Fork, Inode};

/// Largest inode number that takes four bytes.
pub(crate) const SHORT_INODE: u64 = u32::MAX as u64;

/// A whole inline directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShortDir {
    pub parent: u64,
    pub entries: Vec<Entry>,
    /// Place that each entry would have in block form, in bytes.
    pub offsets: Vec<u16>,
}

impl Xfs {
    /// Takes an inline directory apart.
    pub(crate) fn read_short(&self, inode: &Inode) -> Result<ShortDir> {
        let bad = |detail: String| corrupt("xfs.dir.short", format!("inode {}", inode.number()), detail);
        let fork = inode.fork(Fork::Data);
        let raw = usize::try_from(inode.len()).ok().and_then(|len| fork.get(..len));
        let Some(raw) = raw.filter(|raw| raw.len() >= 6) else {
            return Err(bad(format!("{} bytes in a fork of {}", inode.len(), fork.len())));
        };
        let (count, wide) = (usize::from(raw[0].max(raw[1])), raw[1] != 0);
        let width = if wide { 8 } else { 4 };
        let number = |at: usize| if wide { try_be_u64(raw, at) } else { try_be_u32(raw, at).map(u64::from) };
        let Some(parent) = number(2) else { return Err(bad("cut off".into())) };
        let count = if wide { usize::from(raw[0]) } else { count };
        let has_type = self.superblock.features().has_ftype();
        let mut dir = ShortDir { parent, entries: Vec::new(), offsets: Vec::new() };
        let mut at = 2 + width;
        for _ in 0..count {
            let len = raw.get(at).copied().map_or(0, usize::from);
            let name = raw.get(at + 3..at + 3 + len).unwrap_or_default();
            let behind = at + 3 + len;
            let (Some(offset), Some(target)) =
                (try_be_u16(raw, at + 1), number(behind + usize::from(has_type)))
            else {
                return Err(bad("cut off".into()));
            };
            if !is_name(name) {
                return Err(bad(format!("the name {:?}", String::from_utf8_lossy(name))));
            }
            let file_type = if has_type { raw[behind] } else { 0 };
            dir.entries.push(Entry { name: name.to_vec(), inode: target, file_type });
            dir.offsets.push(offset);
            at = behind + usize::from(has_type) + width;
        }
        if at != raw.len() {
            return Err(bad(format!("{} bytes, entries end at {at}", raw.len())));
        }
        Ok(dir)
    }

    /// Bytes of the inline form.
    pub(crate) fn short_len(&self, parent: u64, entries: &[Entry]) -> usize {
        let wide = parent > SHORT_INODE || entries.iter().any(|entry| entry.inode > SHORT_INODE);
        let width = if wide { 8 } else { 4 };
        let per_entry = 3 + usize::from(self.superblock.features().has_ftype()) + width;
        2 + width + entries.iter().map(|entry| per_entry + entry.name.len()).sum::<usize>()
    }

    /// True when a directory can be inline in `room` bytes: it fits, and its block form would fit a block.
    pub(crate) fn fits_short(&self, parent: u64, entries: &[Entry], room: usize) -> bool {
        let block = self.data_header()
            + 2 * self.entry_len(2)
            + entries.iter().map(|entry| self.entry_len(entry.name.len())).sum::<usize>()
            + (entries.len() + 2) * 8
            + 8;
        entries.len() <= 255 && self.short_len(parent, entries) <= room && block <= self.geo.dir_block_size()
    }

    /// Puts an inline directory together.
    pub(crate) fn encode_short(&self, parent: u64, entries: &[Entry]) -> Vec<u8> {
        let wide_count = entries.iter().map(|entry| entry.inode).chain([parent]);
        let wide_count = wide_count.filter(|inode| *inode > SHORT_INODE).count();
        let has_type = self.superblock.features().has_ftype();
        let mut raw = vec![entries.len() as u8, wide_count as u8];
        let put = |raw: &mut Vec<u8>, inode: u64| {
            if wide_count > 0 {
                raw.extend_from_slice(&inode.to_be_bytes());
            } else {
                raw.extend_from_slice(&(inode as u32).to_be_bytes());
            }
        };
        put(&mut raw, parent);
        let mut offset = self.data_header() + self.entry_len(1) + self.entry_len(2);
        for entry in entries {
            raw.push(entry.name.len() as u8);
            raw.extend_from_slice(&(offset as u16).to_be_bytes());
            raw.extend_from_slice(&entry.name);
            if has_type {
                raw.push(entry.file_type);
            }
            put(&mut raw, entry.inode);
            offset += self.entry_len(entry.name.len());
        }
        raw
    }
}
