//! Directories: entries against inodes, indexes against entries.

use super::Check;
use super::inodes::pointer_sum;
use crate::da::LEAF1_MAGIC;
use crate::dir::data::best_of;
use crate::dir::index::NO_DATA;
use crate::dir::{Entry, type_of_kind};
use crate::error::Result;
use crate::inode::{Fork, Format, Inode, kind_of_mode};
use crate::map::Map;

impl Check<'_> {
    pub(super) fn directories(&mut self) {
        let all: Vec<u64> = self
            .notes
            .iter()
            .filter(|(_, note)| kind_of_mode(note.mode) == Some(vfs::FileKind::Directory))
            .map(|(number, _)| *number)
            .collect();
        for number in all {
            let place = format!("directory of inode {number}");
            let Some(inode) = self.take(&place, self.fs.read_inode(number)) else { continue };
            let Some((parent, entries)) = self.take(&place, self.fs.read_dir(&inode)) else { continue };
            if let Some(note) = self.notes.get_mut(&number) {
                note.dotdot = parent;
                note.found += if number == self.fs.superblock().root_inode() { 2 } else { 1 };
            }
            for entry in &entries {
                self.entry(&place, &inode, entry);
            }
            if inode.format(Fork::Data) != Format::Local {
                let result = self.index(&place, &inode);
                self.take(&place, result);
            }
        }
    }

    fn entry(&mut self, place: &str, dir: &Inode, entry: &Entry) {
        let name = crate::error::shown(&entry.name);
        let has_types = self.fs.superblock().features().has_ftype();
        let Some(note) = self.notes.get_mut(&entry.inode) else {
            let inode = entry.inode;
            return self.report.add(
                "xfs.check.entry",
                place,
                format_args!("{name} names unused inode {inode}"),
            );
        };
        note.found += 1;
        let sum = pointer_sum(dir.number(), dir.generation(), &entry.name);
        note.pointers.1 = note.pointers.1.wrapping_add(sum);
        let kind = kind_of_mode(note.mode);
        let is_dir = kind == Some(vfs::FileKind::Directory);
        if is_dir {
            note.parent = dir.number();
        }
        if has_types && kind.map(type_of_kind) != Some(entry.file_type) {
            let file_type = entry.file_type;
            self.report.add("xfs.check.type", place, format_args!("{name} has type {file_type}"));
        }
        if is_dir && let Some(note) = self.notes.get_mut(&dir.number()) {
            // The child's `..`.
            note.found += 1;
        }
    }

    /// Holes, hashes and the index of free space.
    fn index(&mut self, place: &str, dir: &Inode) -> Result<()> {
        let map = self.fs.map(dir, Fork::Data)?;
        let step = u64::from(self.fs.geo.dir_blocks);
        let mut expected = Vec::new();
        let mut bests: Vec<u16> = Vec::new();
        let mut block_leaf = None;
        let mut end = 0;
        for block in self.fs.data_places(&map) {
            let data = self.fs.data_block(dir, &map, block)?;
            if data.best != best_of_like(&data.holes, &data.best) {
                self.report.add("xfs.check.dir-best", place, format_args!("best holes of block {block}"));
            }
            if data.holes.windows(2).any(|pair| pair[0].0 + pair[0].1 == pair[1].0) {
                self.report.add(
                    "xfs.check.dir-holes",
                    place,
                    format_args!("holes of block {block} not joined"),
                );
            }
            for (at, entry) in &data.entries {
                expected.push((self.fs.name_hash(&entry.name), self.fs.address_of((block, *at))));
            }
            bests.resize((block / step) as usize, NO_DATA);
            bests.push(data.largest_hole() as u16);
            block_leaf = data.leaf;
            end = (block + step) << self.fs.geo.block_log;
        }
        if dir.len() != end {
            self.report.add("xfs.check.dir-size", place, format_args!("{} bytes, {end} found", dir.len()));
        }
        let mut found = match block_leaf {
            Some(leaf) => leaf,
            None => {
                self.free_index(place, dir, &map, &bests)?;
                self.hashes(place, dir, &map)?
            }
        };
        if !found.is_sorted_by_key(|(hash, _)| *hash) {
            self.report.add("xfs.check.dir-index", place, "hashes out of order");
        }
        found.retain(|(_, address)| *address != 0);
        found.sort_unstable();
        expected.sort_unstable();
        if found != expected {
            self.report.add(
                "xfs.check.dir-index",
                place,
                format_args!("{} names, {} in its index, or other ones", expected.len(), found.len()),
            );
        }
        Ok(())
    }

    fn free_index(&mut self, place: &str, dir: &Inode, map: &Map, bests: &[u16]) -> Result<()> {
        let mut stored = self.fs.bests(dir, map)?;
        while stored.len() > bests.len() && stored.last() == Some(&NO_DATA) {
            stored.pop();
        }
        if stored != bests {
            self.report.add("xfs.check.dir-free", place, "the index of free space is wrong");
        }
        Ok(())
    }

    /// All hashes of the index in the order of its leaves, stale ones included.
    fn hashes(&mut self, place: &str, dir: &Inode, map: &Map) -> Result<Vec<(u32, u32)>> {
        let fs = self.fs;
        let path = fs.da_descend(dir, Fork::Data, map, fs.leaf_start(), 0)?;
        let mut leaf = fs.dir_leaf(dir, path.magic, &path.raw)?;
        let mut all = Vec::new();
        let mut budget = map.total();
        let mut magic = path.magic;
        loop {
            let stale = leaf.entries.iter().filter(|(_, address)| *address == 0).count();
            if usize::from(leaf.stale) != stale {
                self.report.add(
                    "xfs.check.dir-stale",
                    place,
                    format_args!("{} stale, {stale} found", leaf.stale),
                );
            }
            all.append(&mut leaf.entries);
            if leaf.forward == 0 || budget == 0 || magic == fs.da_magic(LEAF1_MAGIC) {
                return Ok(all);
            }
            budget -= 1;
            let (next, raw) = fs.da_block(dir, Fork::Data, map, leaf.forward.into())?;
            magic = next;
            leaf = fs.dir_leaf(dir, magic, &raw)?;
        }
    }
}

/// The best holes, with equal ones in the order in which the block has them: the format leaves that open.
fn best_of_like(holes: &[(usize, usize)], stored: &[(usize, usize); 3]) -> [(usize, usize); 3] {
    let want = best_of(holes);
    let lengths = |best: &[(usize, usize); 3]| best.map(|(_, len)| len);
    let all_are_holes = stored.iter().all(|best| *best == (0, 0) || holes.contains(best));
    if lengths(&want) == lengths(stored) && all_are_holes { *stored } else { want }
}
