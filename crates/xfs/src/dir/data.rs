//! Data blocks: entries and holes, with the three largest holes in the header.

use ondisk::{be_u16, be_u32, be_u64, put_be_u16, put_be_u32, put_be_u64, try_be_u16};

use super::Entry;
use crate::buffer::Stamp;
use crate::error::{Result, corrupt};
use crate::fs::Xfs;
use crate::inode::Inode;
use crate::map::Map;

const FREE_TAG: u16 = 0xffff;

/// A data block taken apart: one of the block form, or of the forms with an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DataBlock {
    /// All of `.` and `..`, too, by their byte in the block.
    pub entries: Vec<(usize, Entry)>,
    /// Holes: byte and length.
    pub holes: Vec<(usize, usize)>,
    /// The header's best holes.
    pub best: [(usize, usize); 3],
    /// Hashes and addresses of the block form, stale ones included; `None` in the others.
    pub leaf: Option<Vec<(u32, u32)>>,
    /// End of entries and holes.
    pub end: usize,
}

impl Xfs {
    pub(crate) fn data_header(&self) -> usize {
        if self.geo.is_v5 { 64 } else { 16 }
    }

    fn best_at(&self) -> usize {
        if self.geo.is_v5 { 48 } else { 4 }
    }

    /// Bytes of an entry with a name of `len` bytes.
    pub(crate) fn entry_len(&self, len: usize) -> usize {
        (11 + len + usize::from(self.superblock.features().has_ftype())).next_multiple_of(8)
    }

    fn data_magic(&self, is_block_form: bool) -> u32 {
        u32::from_be_bytes(match (is_block_form, self.geo.is_v5) {
            (true, true) => *b"XDB3",
            (true, false) => *b"XD2B",
            (false, true) => *b"XDD3",
            (false, false) => *b"XD2D",
        })
    }

    /// Reads and checks the data block at a file block.
    pub(crate) fn data_block(&self, inode: &Inode, map: &Map, block: u64) -> Result<DataBlock> {
        let (byte, raw) = self.read_mapped(inode, map, block, self.geo.dir_blocks.into())?;
        let what = || format!("directory block {block} of inode {}", inode.number());
        self.verify(&Stamp::DIR_DATA, &raw, byte, inode.number(), &what)?;
        let bad = |detail: String| corrupt("xfs.dir.block", what(), detail);
        let magic = be_u32(&raw, 0);
        let is_block_form = magic == self.data_magic(true);
        if !is_block_form && magic != self.data_magic(false) {
            return Err(bad(format!("magic {magic:#010x}")));
        }
        let mut block = DataBlock {
            entries: Vec::new(),
            holes: Vec::new(),
            best: [(0, 0); 3],
            leaf: None,
            end: raw.len(),
        };
        for (index, best) in block.best.iter_mut().enumerate() {
            let at = self.best_at() + 4 * index;
            *best = (be_u16(&raw, at).into(), be_u16(&raw, at + 2).into());
        }
        if is_block_form {
            let count = be_u32(&raw, raw.len() - 8) as usize;
            let start = count.checked_mul(8).and_then(|len| (raw.len() - 8).checked_sub(len));
            let Some(start) = start.filter(|start| *start >= self.data_header()) else {
                return Err(bad(format!("{count} names")));
            };
            let leaf = raw[start..raw.len() - 8].chunks_exact(8);
            block.leaf = Some(leaf.map(|raw| (be_u32(raw, 0), be_u32(raw, 4))).collect());
            block.end = start;
        }
        let has_type = self.superblock.features().has_ftype();
        let body = &raw[..block.end];
        let mut at = self.data_header();
        while at < body.len() {
            let broken = || bad(format!("what stands at byte {at} is neither entry nor hole"));
            if try_be_u16(body, at).ok_or_else(broken)? == FREE_TAG {
                let len = usize::from(try_be_u16(body, at + 2).ok_or_else(broken)?);
                let tag = (len >= 8).then(|| try_be_u16(body, at + len - 2)).flatten();
                if len % 8 != 0 || tag != Some(at as u16) {
                    return Err(broken());
                }
                block.holes.push((at, len));
                at += len;
                continue;
            }
            let name_len = body.get(at + 8).copied().map_or(0, usize::from);
            let len = self.entry_len(name_len);
            if name_len == 0 || try_be_u16(body, at + len - 2) != Some(at as u16) {
                return Err(broken());
            }
            let name = body[at + 9..at + 9 + name_len].to_vec();
            let file_type = if has_type { body[at + 9 + name_len] } else { 0 };
            block.entries.push((at, Entry { name, inode: be_u64(body, at), file_type }));
            at += len;
        }
        Ok(block)
    }

    /// Puts a data block together and writes it. Holes are laid out by the entries alone.
    pub(crate) fn put_data_block(
        &mut self,
        inode: &Inode,
        map: &Map,
        block: u64,
        content: &DataBlock,
    ) -> Result<()> {
        let mut raw = match map.block(block) {
            // What holes hold stays, so that less is written.
            Some(_) => self.read_mapped(inode, map, block, self.geo.dir_blocks.into())?.1,
            None => Vec::new(),
        };
        raw.resize(self.geo.dir_block_size(), 0);
        let header = self.data_header();
        put_be_u32(&mut raw, 0, self.data_magic(content.leaf.is_some()));
        raw[self.best_at()..header].fill(0);
        if self.geo.is_v5 {
            raw[4..48].fill(0);
        }
        for (index, (at, len)) in best_of(&content.holes).into_iter().enumerate() {
            put_be_u16(&mut raw, self.best_at() + 4 * index, at as u16);
            put_be_u16(&mut raw, self.best_at() + 4 * index + 2, len as u16);
        }
        let has_type = self.superblock.features().has_ftype();
        for (at, entry) in &content.entries {
            let (at, name) = (*at, &entry.name);
            let len = self.entry_len(name.len());
            let slot = &mut raw[at..at + len];
            slot[9 + name.len()..].fill(0);
            put_be_u64(slot, 0, entry.inode);
            slot[8] = name.len() as u8;
            slot[9..9 + name.len()].copy_from_slice(name);
            if has_type {
                slot[9 + name.len()] = entry.file_type;
            }
            put_be_u16(slot, len - 2, at as u16);
        }
        for (at, len) in &content.holes {
            put_be_u16(&mut raw, *at, FREE_TAG);
            put_be_u16(&mut raw, at + 2, *len as u16);
            put_be_u16(&mut raw, at + len - 2, *at as u16);
        }
        if let Some(leaf) = &content.leaf {
            let tail = raw.len() - 8;
            let start = tail - 8 * leaf.len();
            for (slot, (hash, address)) in raw[start..tail].chunks_exact_mut(8).zip(leaf) {
                put_be_u32(slot, 0, *hash);
                put_be_u32(slot, 4, *address);
            }
            put_be_u32(&mut raw, tail, leaf.len() as u32);
            put_be_u32(&mut raw, tail + 4, leaf.iter().filter(|(_, address)| *address == 0).count() as u32);
        }
        self.write_mapped(inode, map, block, &Stamp::DIR_DATA, raw)
    }
}

/// The three largest holes, largest first; of equal ones the first.
pub(crate) fn best_of(holes: &[(usize, usize)]) -> [(usize, usize); 3] {
    let mut sorted = holes.to_vec();
    sorted.sort_by_key(|(at, len)| (std::cmp::Reverse(*len), *at));
    sorted.truncate(3);
    sorted.resize(3, (0, 0));
    [sorted[0], sorted[1], sorted[2]]
}

impl DataBlock {
    /// An empty block with room from `start` to `end`.
    pub(crate) fn empty(start: usize, end: usize) -> Self {
        Self { entries: Vec::new(), holes: vec![(start, end - start)], best: [(0, 0); 3], leaf: None, end }
    }

    /// Length of the largest hole.
    pub(crate) fn largest_hole(&self) -> usize {
        self.holes.iter().map(|(_, len)| *len).max().unwrap_or(0)
    }

    /// Puts an entry of `len` bytes into the first hole that takes it; returns its byte.
    pub(crate) fn insert(&mut self, entry: Entry, len: usize) -> Option<usize> {
        let index = self.holes.iter().position(|(_, hole)| *hole >= len)?;
        let (at, hole) = self.holes[index];
        if hole == len {
            self.holes.remove(index);
        } else {
            self.holes[index] = (at + len, hole - len);
        }
        let position = self.entries.partition_point(|(other, _)| *other < at);
        self.entries.insert(position, (at, entry));
        Some(at)
    }

    /// Takes the entry at a byte out; its room joins the holes around it.
    pub(crate) fn remove(&mut self, at: usize, len: usize) -> Option<Entry> {
        let index = self.entries.iter().position(|(other, _)| *other == at)?;
        let (_, entry) = self.entries.remove(index);
        let position = self.holes.partition_point(|(other, _)| *other < at);
        self.holes.insert(position, (at, len));
        let mut joined: Vec<(usize, usize)> = Vec::with_capacity(self.holes.len());
        for (at, len) in self.holes.drain(..) {
            match joined.last_mut() {
                Some(last) if last.0 + last.1 == at => last.1 += len,
                _ => joined.push((at, len)),
            }
        }
        self.holes = joined;
        Some(entry)
    }
}
