//! Adding, removing and changing entries; directories without an index.

use ondisk::{put_le_u16, put_le_u32};
use vfs::{FileKind, VfsError};

use super::block::{BlockRole, ENTRY_HEAD, NODE_ENTRIES_AT, ROOT_ENTRIES_AT, RawEntry, entry_bytes};
use super::hash::HashKind;
use super::{EntryPlace, type_of_kind};
use crate::error::{Result, corrupt};
use crate::feature::{Compat, Incompat};
use crate::fs::Ext4;
use crate::inode::{Inode, InodeFlags};

/// Bytes of `.` and of the smallest `..`.
const DOT_BYTES: usize = 12;

/// A new entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewEntry<'a> {
    pub name: &'a [u8],
    pub inode: u32,
    pub kind: FileKind,
}

/// An entry that moves from one block to another.
#[derive(Debug, Clone)]
pub(super) struct MovedEntry {
    pub name: Vec<u8>,
    pub inode: u32,
    pub file_type: u8,
}

impl MovedEntry {
    /// Takes an entry over from the block that holds it.
    pub(super) fn of(entry: &RawEntry, raw: &[u8]) -> Self {
        Self { name: entry.name(raw).to_vec(), inode: entry.inode, file_type: entry.file_type }
    }
}

impl Ext4 {
    /// The first block of a directory with nothing but `.` and `..` in it.
    pub(crate) fn empty_dir_block(&self, dir: &Inode, parent: u32) -> Vec<u8> {
        let mut raw = vec![0; self.block_size()];
        self.put_dots(&mut raw, dir.number(), parent, self.leaf_bytes());
        self.seal_dir_block(dir, &mut raw, BlockRole::Leaf);
        raw
    }

    /// `.` and a `..` that reaches to byte `end`.
    fn put_dots(&self, raw: &mut [u8], own: u32, parent: u32, end: usize) {
        let kind = type_of_kind(FileKind::Directory);
        self.put_entry(raw, 0, DOT_BYTES, own, b".", kind);
        self.put_entry(raw, DOT_BYTES, end - DOT_BYTES, parent, b"..", kind);
    }

    /// Adds a name, which must not be there yet; the inode of the directory is changed but not written.
    pub(crate) fn insert_entry(&mut self, dir: &mut Inode, entry: NewEntry<'_>) -> Result<()> {
        self.convert_inline_dir(dir)?;
        if dir.has(InodeFlags::INDEX) {
            return self.htree_insert(dir, entry);
        }
        for run in self.dir_runs(dir)? {
            for step in 0..run.len {
                if self.insert_into_block(dir, run.logical + step, run.physical + step, entry)? {
                    return Ok(());
                }
            }
        }
        if self.wants_index(dir) {
            self.make_index(dir)?;
            return self.htree_insert(dir, entry);
        }
        let (_, physical) = self.append_dir_block(dir)?;
        let mut raw = vec![0; self.block_size()];
        let end = self.leaf_bytes();
        self.put_entry(&mut raw, 0, end, entry.inode, entry.name, type_of_kind(entry.kind));
        self.seal_dir_block(dir, &mut raw, BlockRole::Leaf);
        self.put_block(physical, raw, true)
    }

    /// Adds an entry to a leaf when it has room.
    pub(super) fn insert_into_block(
        &mut self,
        dir: &Inode,
        logical: u64,
        physical: u64,
        entry: NewEntry<'_>,
    ) -> Result<bool> {
        let (mut raw, role) = self.read_dir_block(dir, logical, physical)?;
        if role != BlockRole::Leaf {
            return Ok(false);
        }
        let needed = entry_bytes(entry.name.len());
        let entries = self.parse_entries(dir, Some(logical), self.entry_area(&raw, role))?;
        let Some(host) = entries.iter().find(|host| host.rec_len - host.used() >= needed) else {
            return Ok(false);
        };
        let used = host.used();
        if used > 0 {
            self.put_rec_len(&mut raw, host.at, used);
        }
        let file_type = type_of_kind(entry.kind);
        self.put_entry(&mut raw, host.at + used, host.rec_len - used, entry.inode, entry.name, file_type);
        self.seal_dir_block(dir, &mut raw, role);
        self.put_block(physical, raw, false)?;
        Ok(true)
    }

    /// Adds a block to the end of a directory; its content is the caller's to write.
    pub(super) fn append_dir_block(&mut self, dir: &mut Inode) -> Result<(u64, u64)> {
        let size = dir.size(&self.superblock);
        let bs = self.block_size() as u64;
        let has_large = self.superblock.features().incompat.contains(Incompat::LARGEDIR);
        if size + bs > i32::MAX as u64 && !has_large {
            return Err(VfsError::Limit {
                path: format!("inode {}", dir.number()),
                limit: "a directory of 2 GiB".into(),
            });
        }
        let logical = size / bs;
        let filled = self.fill_map(dir, logical, logical + 1)?;
        dir.set_size(size + bs);
        let physical = filled.first().map_or(0, |part| part.run.physical);
        Ok((logical, physical))
    }

    /// Removes the entry at a place by joining it with the one before it.
    pub(crate) fn remove_entry(&mut self, dir: &mut Inode, name: &[u8]) -> Result<()> {
        self.convert_inline_dir(dir)?;
        let Some((_, EntryPlace::Block { logical, physical, at })) = self.find_entry(dir, name)? else {
            return Err(self.entry_gone(dir, name));
        };
        let (mut raw, role) = self.read_dir_block(dir, logical, physical)?;
        let entries = self.parse_entries(dir, Some(logical), self.entry_area(&raw, role))?;
        let Some(index) = entries.iter().position(|entry| entry.at == at) else {
            return Err(self.entry_gone(dir, name));
        };
        match index.checked_sub(1).and_then(|before| entries.get(before)) {
            Some(before) => self.put_rec_len(&mut raw, before.at, before.rec_len + entries[index].rec_len),
            None => put_le_u32(&mut raw, at, 0),
        }
        self.seal_dir_block(dir, &mut raw, role);
        self.put_block(physical, raw, false)
    }

    fn entry_gone(&self, dir: &Inode, name: &[u8]) -> VfsError {
        corrupt(
            "ext4.dir.entry",
            format!("directory of inode {}", dir.number()),
            format!("{:?} is gone", crate::error::shown(name)),
        )
    }

    /// Lets an existing entry name another inode.
    pub(crate) fn redirect_entry(&mut self, dir: &mut Inode, entry: NewEntry<'_>) -> Result<()> {
        if entry.name == b".." && dir.has(InodeFlags::INLINE_DATA) {
            put_le_u32(dir.i_block_mut(), 0, entry.inode);
            return Ok(());
        }
        self.convert_inline_dir(dir)?;
        let Some((_, EntryPlace::Block { logical, physical, at })) = self.find_entry(dir, entry.name)? else {
            return Err(self.entry_gone(dir, entry.name));
        };
        let (mut raw, role) = self.read_dir_block(dir, logical, physical)?;
        put_le_u32(&mut raw, at, entry.inode);
        if self.superblock.features().incompat.contains(Incompat::FILETYPE) {
            raw[at + ENTRY_HEAD - 1] = type_of_kind(entry.kind);
        }
        self.seal_dir_block(dir, &mut raw, role);
        self.put_block(physical, raw, false)
    }

    /// True when nothing but `.` and `..` is in a directory.
    pub(crate) fn is_empty_dir(&self, dir: &Inode) -> Result<bool> {
        let found = self.scan_dir(dir, |_, name| Ok(name != b"." && name != b".."))?;
        Ok(found.is_none())
    }

    /// Moves an inline directory into blocks.
    pub(crate) fn convert_inline_dir(&mut self, dir: &mut Inode) -> Result<()> {
        if !dir.has(InodeFlags::INLINE_DATA) {
            return Ok(());
        }
        let parent = ondisk::le_u32(dir.i_block(), 0);
        let content = self.inline_dir_entries(dir)?;
        let mut entries: Vec<MovedEntry> = Vec::new();
        for part in content.parts() {
            for entry in self.parse_entries(dir, None, part.bytes)? {
                if entry.inode != 0 {
                    entries.push(MovedEntry::of(&entry, part.bytes));
                }
            }
        }
        self.remove_inline_attribute(dir)?;
        dir.set_flags(dir.flags() - InodeFlags::INLINE_DATA);
        self.init_map(dir);
        dir.set_size(0);
        let (_, physical) = self.append_dir_block(dir)?;
        let raw = self.empty_dir_block(dir, parent);
        self.put_block(physical, raw, true)?;
        for MovedEntry { name, inode, file_type } in entries {
            let kind = match super::kind_of_type(file_type) {
                Some(kind) => kind,
                None => self.live_inode(inode)?.require_kind()?,
            };
            self.insert_entry(dir, NewEntry { name: &name, inode, kind })?;
        }
        Ok(())
    }

    fn wants_index(&self, dir: &Inode) -> bool {
        self.superblock.features().compat.contains(Compat::DIR_INDEX)
            && dir.size(&self.superblock) == self.block_size() as u64
            && HashKind::from_version(self.superblock.default_hash_version()).is_some()
    }

    /// Gives a directory of one block an htree: the entries move to a second block.
    fn make_index(&mut self, dir: &mut Inode) -> Result<()> {
        let first = self.dir_block(dir, 0)?;
        let (raw, role) = self.read_dir_block(dir, 0, first)?;
        let entries = self.parse_entries(dir, Some(0), self.entry_area(&raw, role))?;
        let parent = entries
            .iter()
            .find(|entry| entry.inode != 0 && entry.name(&raw) == b"..")
            .map(|entry| entry.inode);
        let Some(parent) = parent else { return Err(self.entry_gone(dir, b"..")) };
        let moved: Vec<MovedEntry> = entries
            .iter()
            .filter(|entry| entry.inode != 0 && entry.name(&raw) != b"." && entry.name(&raw) != b"..")
            .map(|entry| MovedEntry::of(entry, &raw))
            .collect();
        let (logical, physical) = self.append_dir_block(dir)?;
        let leaf = self.build_leaf(dir, &moved);
        self.put_block(physical, leaf, true)?;
        let mut root = vec![0; self.block_size()];
        let end = root.len();
        self.put_dots(&mut root, dir.number(), parent, end);
        root[0x1c] = self.superblock.default_hash_version();
        root[0x1d] = 8;
        put_le_u16(&mut root, ROOT_ENTRIES_AT, self.node_limit(ROOT_ENTRIES_AT) as u16);
        put_le_u16(&mut root, ROOT_ENTRIES_AT + 2, 1);
        put_le_u32(&mut root, ROOT_ENTRIES_AT + 4, logical as u32);
        dir.set_flags(dir.flags() | InodeFlags::INDEX);
        self.seal_dir_block(dir, &mut root, BlockRole::Root);
        self.put_block(first, root, false)
    }

    /// A leaf with these entries packed from its start, the last one reaching to the end.
    pub(super) fn build_leaf(&self, dir: &Inode, entries: &[MovedEntry]) -> Vec<u8> {
        let mut raw = vec![0; self.block_size()];
        let end = self.leaf_bytes();
        if entries.is_empty() {
            self.put_rec_len(&mut raw, 0, end);
        }
        let mut at = 0;
        for (index, MovedEntry { name, inode, file_type }) in entries.iter().enumerate() {
            let is_last = index + 1 == entries.len();
            let rec_len = if is_last { end - at } else { entry_bytes(name.len()) };
            self.put_entry(&mut raw, at, rec_len, *inode, name, *file_type);
            at += rec_len;
        }
        self.seal_dir_block(dir, &mut raw, BlockRole::Leaf);
        raw
    }

    /// Byte at which the `{limit, count}` of an htree block stands.
    pub(super) fn htree_entries_at(role: BlockRole) -> usize {
        if role == BlockRole::Root { ROOT_ENTRIES_AT } else { NODE_ENTRIES_AT }
    }
}
