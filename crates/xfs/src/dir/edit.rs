//! Adding, removing and redirecting single entries.
//!
//! Inline and one-block directories are put together anew. In larger ones one data block and one leaf of
//! the hash index change; only where a leaf overflows, or a data block comes or goes, are the indexes built
//! anew.

use super::Entry;
use super::data::DataBlock;
use super::index::NO_DATA;
use super::read::DirLeaf;
use crate::da::{DaPath, LEAF1_MAGIC};
use crate::error::{Result, corrupt, shown};
use crate::fs::Xfs;
use crate::inode::{Fork, Format, Inode};
use crate::map::Map;

impl Xfs {
    fn has_index(&self, map: &Map) -> bool {
        map.at(self.leaf_start()).is_some()
    }

    /// The entry with its type only where directories keep types.
    fn typed(&self, mut entry: Entry) -> Entry {
        if !self.superblock.features().has_ftype() {
            entry.file_type = 0;
        }
        entry
    }

    /// Adds a name that is not there. The caller writes the inode.
    pub(crate) fn add_entry(&mut self, dir: &mut Inode, entry: Entry) -> Result<()> {
        let entry = self.typed(entry);
        let map = match dir.format(Fork::Data) {
            Format::Local => Map::default(),
            _ => self.map(dir, Fork::Data)?,
        };
        if !self.has_index(&map) {
            let (parent, mut entries) = self.read_dir(dir)?;
            entries.push(entry);
            return self.store_dir(dir, parent, &entries);
        }
        self.add_indexed(dir, map, entry)
    }

    fn add_indexed(&mut self, dir: &mut Inode, mut map: Map, entry: Entry) -> Result<()> {
        let hash = self.name_hash(&entry.name);
        let len = self.entry_len(entry.name.len());
        let step = u64::from(self.geo.dir_blocks);
        let mut bests = self.bests(dir, &map)?;
        let fitting = bests.iter().position(|best| *best != NO_DATA && usize::from(*best) >= len);
        let is_new_block = fitting.is_none();
        let index = fitting.or_else(|| bests.iter().position(|best| *best == NO_DATA)).unwrap_or(bests.len());
        let block = index as u64 * step;
        if block + step > self.leaf_start() {
            return Err(vfs::VfsError::Limit {
                path: shown(&entry.name),
                limit: "a directory has 32 GiB of names at most".into(),
            });
        }
        let mut data = if is_new_block {
            self.fill_holes(dir, &mut map, block, block + step)?;
            dir.set_len(dir.len().max((block + step) << self.geo.block_log));
            DataBlock::empty(self.data_header(), self.geo.dir_block_size())
        } else {
            self.data_block(dir, &map, block)?
        };
        let name = shown(&entry.name);
        let Some(at) = data.insert(entry, len) else {
            return Err(corrupt(
                "xfs.dir.free",
                format!("directory of inode {}", dir.number()),
                format!("block {block} has no room for {name}, as its index says"),
            ));
        };
        self.put_data_block(dir, &map, block, &data)?;
        if index == bests.len() {
            bests.push(0);
        }
        bests[index] = data.largest_hole() as u16;
        let new = (hash, self.address_of((block, at)));
        let path = self.da_descend(dir, Fork::Data, &map, self.leaf_start(), hash)?;
        let mut leaf = self.dir_leaf(dir, path.magic, &path.raw)?;
        leaf.entries.retain(|(_, address)| *address != 0);
        leaf.stale = 0;
        let position = leaf.entries.partition_point(|other| *other < new);
        leaf.entries.insert(position, new);
        let room = self.geo.dir_block_size() - self.da_header();
        if path.magic == self.da_magic(LEAF1_MAGIC) {
            let entries = std::mem::take(&mut leaf.entries);
            self.store_index(dir, &mut map, entries, bests)?;
        } else if 8 * leaf.entries.len() > room || !self.is_described(&map, index) {
            let mut all = self.all_hashes(dir, &map)?;
            all.push(new);
            all.sort_unstable();
            self.store_index(dir, &mut map, all, bests)?;
        } else {
            self.put_dir_leaf(dir, &map, path.block, &leaf)?;
            self.settle_hashes(dir, &map, &path, &leaf)?;
            self.put_best(dir, &map, index, &bests)?;
        }
        self.store_map(dir, Fork::Data, &mut map)
    }

    /// Removes a name. The caller writes the inode.
    pub(crate) fn remove_entry(&mut self, dir: &mut Inode, name: &[u8]) -> Result<()> {
        let missing = || vfs::VfsError::NotFound { path: shown(name) };
        let map = match dir.format(Fork::Data) {
            Format::Local => Map::default(),
            _ => self.map(dir, Fork::Data)?,
        };
        if !self.has_index(&map) {
            let (parent, mut entries) = self.read_dir(dir)?;
            let index = entries.iter().position(|entry| entry.name == name).ok_or_else(missing)?;
            entries.remove(index);
            return self.store_dir(dir, parent, &entries);
        }
        self.remove_indexed(dir, map, name)
    }

    fn remove_indexed(&mut self, dir: &mut Inode, mut map: Map, name: &[u8]) -> Result<()> {
        let found = self.find_in_blocks(dir, &map, name)?;
        let Some(((block, at), _)) = found else {
            return Err(vfs::VfsError::NotFound { path: shown(name) });
        };
        let step = u64::from(self.geo.dir_blocks);
        let mut bests = self.bests(dir, &map)?;
        let mut data = self.data_block(dir, &map, block)?;
        data.remove(at, self.entry_len(name.len()));
        let index = (block / step) as usize;
        if self.data_places(&map) == [0] {
            // Down to one block: perhaps all of it fits there again.
            let names: usize = data.entries.len();
            let total: usize = data.entries.iter().map(|(_, entry)| self.entry_len(entry.name.len())).sum();
            if self.data_header() + total + 8 * names + 8 <= self.geo.dir_block_size() {
                let (parent, mut entries) = self.read_dir(dir)?;
                entries.retain(|entry| entry.name != name);
                return self.store_dir(dir, parent, &entries);
            }
        }
        let gone = (self.name_hash(name), self.address_of((block, at)));
        if data.entries.is_empty() && block > 0 {
            let mut all = self.all_hashes(dir, &map)?;
            all.retain(|other| *other != gone);
            self.remove_blocks(dir, Fork::Data, &mut map, block, block + step)?;
            let last = self.data_places(&map).last().copied().unwrap_or(0);
            if let Some(best) = bests.get_mut(index) {
                *best = NO_DATA;
            }
            bests.truncate((last / step) as usize + 1);
            dir.set_len((last + step) << self.geo.block_log);
            self.store_index(dir, &mut map, all, bests)?;
            return self.store_map(dir, Fork::Data, &mut map);
        }
        self.put_data_block(dir, &map, block, &data)?;
        if let Some(best) = bests.get_mut(index) {
            *best = data.largest_hole() as u16;
        }
        self.drop_hash(dir, &mut map, gone, index, bests)?;
        self.store_map(dir, Fork::Data, &mut map)
    }

    /// Marks a name as stale in the hash index, and keeps the free index.
    fn drop_hash(
        &mut self,
        dir: &mut Inode,
        map: &mut Map,
        gone: (u32, u32),
        index: usize,
        bests: Vec<u16>,
    ) -> Result<()> {
        let mut path = self.da_descend(dir, Fork::Data, map, self.leaf_start(), gone.0)?;
        let mut budget = map.total();
        loop {
            let mut leaf = self.dir_leaf(dir, path.magic, &path.raw)?;
            if let Some(slot) = leaf.entries.iter_mut().find(|entry| **entry == gone) {
                slot.1 = 0;
                leaf.stale += 1;
                if leaf.bests.is_some() {
                    leaf.bests = Some(bests);
                    return self.put_dir_leaf(dir, map, path.block, &leaf);
                }
                if usize::from(leaf.stale) >= leaf.entries.len() {
                    let mut all = self.all_hashes(dir, map)?;
                    all.retain(|other| *other != gone);
                    return self.store_index(dir, map, all, bests);
                }
                self.put_dir_leaf(dir, map, path.block, &leaf)?;
                return self.put_best(dir, map, index, &bests);
            }
            if leaf.forward == 0 || budget == 0 {
                return Err(corrupt(
                    "xfs.dir",
                    format!("directory of inode {}", dir.number()),
                    "a name is not in its index",
                ));
            }
            budget -= 1;
            let block = u64::from(leaf.forward);
            let (magic, raw) = self.da_block(dir, Fork::Data, map, block)?;
            path = DaPath { nodes: Vec::new(), block, magic, raw };
        }
    }

    /// Lets an existing name, `..` included, stand for another inode. The caller writes the inode.
    pub(crate) fn redirect_entry(&mut self, dir: &mut Inode, to: &Entry) -> Result<()> {
        let to = self.typed(to.clone());
        let missing = || vfs::VfsError::NotFound { path: shown(&to.name) };
        if dir.format(Fork::Data) == Format::Local {
            let (mut parent, mut entries) = self.read_dir(dir)?;
            if to.name == b".." {
                parent = to.inode;
            } else {
                let entry = entries.iter_mut().find(|entry| entry.name == to.name).ok_or_else(missing)?;
                *entry = to.clone();
            }
            return self.store_dir(dir, parent, &entries);
        }
        let map = self.map(dir, Fork::Data)?;
        let ((block, at), _) = self.find_in_blocks(dir, &map, &to.name)?.ok_or_else(missing)?;
        let mut data = self.data_block(dir, &map, block)?;
        for (place, entry) in &mut data.entries {
            if *place == at {
                entry.inode = to.inode;
                entry.file_type = to.file_type;
            }
        }
        self.put_data_block(dir, &map, block, &data)
    }

    /// Largest holes of all data blocks.
    pub(crate) fn bests(&self, dir: &Inode, map: &Map) -> Result<Vec<u16>> {
        let (magic, raw) = self.da_block(dir, Fork::Data, map, self.leaf_start())?;
        if magic == self.da_magic(LEAF1_MAGIC) {
            return Ok(self.dir_leaf(dir, magic, &raw)?.bests.unwrap_or_default());
        }
        self.free_bests(dir, map)
    }

    /// True when the free index has a block for data block `index`.
    fn is_described(&self, map: &Map, index: usize) -> bool {
        let block = (index / self.bests_per_block()) as u64 * u64::from(self.geo.dir_blocks);
        map.block(self.free_start() + block).is_some()
    }

    /// Writes the block of the free index that describes data block `index`.
    fn put_best(&mut self, dir: &Inode, map: &Map, index: usize, bests: &[u16]) -> Result<()> {
        let per_block = self.bests_per_block();
        let chunk = bests.chunks(per_block).nth(index / per_block).unwrap_or_default();
        self.put_free_block(dir, map, index / per_block, chunk)
    }

    /// All hashes with addresses, stale ones left out.
    fn all_hashes(&self, dir: &Inode, map: &Map) -> Result<Vec<(u32, u32)>> {
        let path = self.da_descend(dir, Fork::Data, map, self.leaf_start(), 0)?;
        let mut leaf = self.dir_leaf(dir, path.magic, &path.raw)?;
        let mut all = Vec::new();
        let mut budget = map.total();
        loop {
            all.extend(leaf.entries.iter().filter(|(_, address)| *address != 0));
            if leaf.forward == 0 || budget == 0 {
                return Ok(all);
            }
            budget -= 1;
            let (magic, raw) = self.da_block(dir, Fork::Data, map, leaf.forward.into())?;
            leaf = self.dir_leaf(dir, magic, &raw)?;
        }
    }

    /// Tells the nodes above a leaf its highest hash, which may have grown, or shrunk with stale names.
    fn settle_hashes(&mut self, dir: &Inode, map: &Map, path: &DaPath, leaf: &DirLeaf) -> Result<()> {
        let Some((mut highest, _)) = leaf.entries.last().copied() else { return Ok(()) };
        for (block, node, index) in path.nodes.iter().rev() {
            let mut node = node.clone();
            if node.entries[*index].hash == highest {
                return Ok(());
            }
            node.entries[*index].hash = highest;
            let links = [node.forward, node.back];
            self.put_da_node(dir, Fork::Data, map, *block, node.level, links, &node.entries)?;
            highest = node.entries.last().map_or(highest, |entry| entry.hash);
        }
        Ok(())
    }
}
