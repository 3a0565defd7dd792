//! Writing a whole directory in its smallest form.

use super::data::DataBlock;
use super::{Entry, type_of_kind};
use crate::error::Result;
use crate::fs::Xfs;
use crate::inode::{Fork, Format, Inode};
use crate::map::Map;

impl Xfs {
    /// Gives a directory exactly these entries, `.` and `..` aside. The caller writes the inode.
    pub(crate) fn store_dir(&mut self, dir: &mut Inode, parent: u64, entries: &[Entry]) -> Result<()> {
        if self.fits_short(parent, entries, dir.fork(Fork::Data).len()) {
            return self.store_short(dir, parent, entries);
        }
        self.store_dir_blocks(dir, parent, entries)
    }

    /// The same, never inline.
    pub(crate) fn store_dir_blocks(&mut self, dir: &mut Inode, parent: u64, entries: &[Entry]) -> Result<()> {
        let kind = type_of_kind(vfs::FileKind::Directory);
        let file_type = if self.superblock.features().has_ftype() { kind } else { 0 };
        let mut all = vec![
            Entry { name: b".".to_vec(), inode: dir.number(), file_type },
            Entry { name: b"..".to_vec(), inode: parent, file_type },
        ];
        all.extend_from_slice(entries);
        let (header, size) = (self.data_header(), self.geo.dir_block_size());
        let total: usize = all.iter().map(|entry| self.entry_len(entry.name.len())).sum();
        let tail = 8 + 8 * all.len();
        let is_block = header + total + tail <= size;
        let mut blocks: Vec<DataBlock> = Vec::new();
        let mut leaf = Vec::with_capacity(all.len());
        for entry in all {
            let len = self.entry_len(entry.name.len());
            let hash = self.name_hash(&entry.name);
            if blocks.last().is_none_or(|block| block.largest_hole() < len) {
                blocks.push(DataBlock::empty(header, if is_block { size - tail } else { size }));
            }
            let index = blocks.len() - 1;
            if let Some(at) = blocks[index].insert(entry, len) {
                leaf.push((hash, self.address_of((index as u64 * u64::from(self.geo.dir_blocks), at))));
            }
        }
        leaf.sort_unstable();
        let mut map = match dir.format(Fork::Data) {
            Format::Local => Map::default(),
            _ => self.map(dir, Fork::Data)?,
        };
        dir.set_format(Fork::Data, Format::Extents);
        let end = blocks.len() as u64 * u64::from(self.geo.dir_blocks);
        let behind = if is_block { u64::MAX } else { self.leaf_start() };
        self.remove_blocks(dir, Fork::Data, &mut map, end, behind)?;
        self.fill_holes(dir, &mut map, 0, end)?;
        let bests = blocks.iter().map(|block| block.largest_hole() as u16).collect();
        if is_block && let Some(block) = blocks.first_mut() {
            block.leaf = Some(std::mem::take(&mut leaf));
        }
        for (index, block) in blocks.iter().enumerate() {
            self.put_data_block(dir, &map, index as u64 * u64::from(self.geo.dir_blocks), block)?;
        }
        dir.set_len((blocks.len() * size) as u64);
        if !is_block {
            self.store_index(dir, &mut map, leaf, bests)?;
        }
        self.store_map(dir, Fork::Data, &mut map)
    }

    fn store_short(&mut self, dir: &mut Inode, parent: u64, entries: &[Entry]) -> Result<()> {
        let raw = self.encode_short(parent, entries);
        self.clear_fork(dir, Fork::Data)?;
        dir.set_format(Fork::Data, Format::Local);
        dir.set_len(raw.len() as u64);
        if let Some(slot) = dir.fork_mut(Fork::Data).get_mut(..raw.len()) {
            slot.copy_from_slice(&raw);
        }
        Ok(())
    }

    /// Maps what is not mapped of `start..end`.
    pub(crate) fn fill_holes(&mut self, dir: &mut Inode, map: &mut Map, start: u64, end: u64) -> Result<()> {
        let mut at = start;
        while at < end {
            match map.at(at).copied() {
                Some(extent) if extent.offset <= at => at = extent.end(),
                next => {
                    let stop = next.map_or(end, |extent| extent.offset.min(end));
                    self.add_blocks(dir, Fork::Data, map, at, stop - at)?;
                    at = stop;
                }
            }
        }
        Ok(())
    }
}
