//! Every block of every directory.

use std::collections::{BTreeMap, HashSet};

use ondisk::{le_u16, le_u32};
use vfs::FileKind;

use super::htree::{Htree, Role};
use super::notes::State;
use super::{Checker, MapPiece, walk_map};
use crate::dir::kind_of_type;
use crate::error::{Result, device};
use crate::feature::Incompat;
use crate::inode::{Inode, InodeFlags, ROOT_INODE};

const ENTRY_HEADER_BYTES: usize = 8;
/// Bytes of the checksum at the end of a leaf.
const TAIL_BYTES: usize = 12;
const TAIL_TYPE: u8 = 0xde;
const TYPE_DIRECTORY: u8 = 2;
/// Bytes of the parent's number at the start of an inline directory.
const INLINE_PARENT_BYTES: usize = 4;

/// A directory while its blocks are read.
struct Reading<'a> {
    inode: &'a Inode,
    names: HashSet<Vec<u8>>,
    tree: Option<Htree>,
}

/// One entry in use.
struct Named<'a> {
    inode: u32,
    file_type: u8,
    name: &'a [u8],
}

impl Checker<'_> {
    pub(super) fn check_directories(&mut self) -> Result<()> {
        for number in self.directories.numbers() {
            let Some(inode) = self.read_inode(number)? else { continue };
            if inode.has(InodeFlags::INLINE_DATA) {
                self.check_inline_directory(&inode);
            } else {
                self.check_directory(&inode)?;
            }
        }
        Ok(())
    }

    fn read_inode(&self, number: u32) -> Result<Option<Inode>> {
        let Some((group, index)) = self.superblock.group_of_inode(number) else { return Ok(None) };
        let Some(descriptor) = self.groups.get(group as usize) else { return Ok(None) };
        let size = u64::from(self.superblock.inode_size());
        let mut raw = vec![0; size as usize];
        let at = descriptor.inode_table() * u64::from(self.superblock.block_size()) + u64::from(index) * size;
        self.dev.read_exact_at(&mut raw, at).map_err(device)?;
        Ok(Inode::parse(&self.superblock, number, raw).ok())
    }

    /// Blocks of an inode's content: logical and physical numbers. Problems were reported before.
    pub(super) fn content_blocks(&self, inode: &Inode) -> Result<BTreeMap<u64, u64>> {
        let limit = inode.size(&self.superblock).div_ceil(self.superblock.block_size().into());
        let mut blocks = BTreeMap::new();
        walk_map(
            self.dev,
            &self.superblock,
            inode,
            &mut |piece| {
                if let MapPiece::Data { logical, physical, len, is_written: true } = piece {
                    let len = len.min(limit.saturating_sub(logical));
                    blocks.extend((0..len).map(|index| (logical + index, physical + index)));
                }
            },
            &mut |_| {},
        )?;
        Ok(blocks)
    }

    fn check_directory(&mut self, inode: &Inode) -> Result<()> {
        let blocks = self.content_blocks(inode)?;
        let tree = if inode.has(InodeFlags::INDEX) { self.read_htree(inode, &blocks)? } else { None };
        let is_broken_tree = inode.has(InodeFlags::INDEX) && tree.is_none();
        let mut reading = Reading { inode, names: HashSet::new(), tree };
        let mut raw = vec![0; self.block_bytes()];
        for (logical, physical) in &blocks {
            self.read_block(*physical, &mut raw)?;
            let role = match &reading.tree {
                Some(tree) => tree.roles.get(logical).copied(),
                None if is_broken_tree && *logical == 0 => Some(Role::Root),
                None => None,
            };
            match role {
                Some(Role::Node) => {}
                Some(Role::Root) => self.check_root_dots(inode, &raw),
                Some(Role::Leaf(low, high)) => {
                    self.check_leaf(&mut reading, *logical, *physical, &raw, Some((low, high)));
                }
                None => self.check_leaf(&mut reading, *logical, *physical, &raw, None),
            }
        }
        Ok(())
    }

    fn directory_problem(&mut self, dir: &Inode, code: &'static str, detail: impl std::fmt::Display) {
        self.report.add(code, format_args!("directory {}", dir.number()), detail);
    }

    /// `.` and `..` of an htree root; the entries behind them are hidden in the second's length.
    fn check_root_dots(&mut self, inode: &Inode, raw: &[u8]) {
        let is_right = le_u32(raw, 0) == inode.number()
            && le_u16(raw, 4) == 12
            && raw[6] == 1
            && raw[8..10] == *b".\0"
            && self.record_length(le_u16(raw, 16)) == raw.len() - 12
            && raw[18] == 2
            && raw[20..23] == *b"..\0"
            && (!self.has_incompat(Incompat::FILETYPE)
                || raw[7] == TYPE_DIRECTORY && raw[19] == TYPE_DIRECTORY);
        if !is_right {
            self.directory_problem(
                inode,
                "ext4.check.directory.dots",
                "the htree root does not start with . and ..",
            );
            return;
        }
        let parent = le_u32(raw, 12);
        self.inodes.add_name(inode.number());
        self.inodes.add_name(parent);
        self.directories.set_dot_dot(inode.number(), parent);
    }

    /// Length of a record from its field, which has 18 bits in 64 KiB blocks.
    pub(super) fn record_length(&self, field: u16) -> usize {
        let field = usize::from(field);
        match self.block_bytes() {
            65_536 if field == 0 || field == 0xffff => 65_536,
            65_536 => field & 0xfffc | (field & 3) << 16,
            _ => field,
        }
    }

    fn check_leaf(
        &mut self,
        reading: &mut Reading<'_>,
        logical: u64,
        physical: u64,
        raw: &[u8],
        range: Option<(u32, u32)>,
    ) {
        let inode = reading.inode;
        let mut end = raw.len();
        if self.has_metadata_csum() {
            end -= TAIL_BYTES;
            let tail = &raw[end..];
            let is_tail =
                le_u32(tail, 0) == 0 && le_u16(tail, 4) == 12 && tail[6] == 0 && tail[7] == TAIL_TYPE;
            let expected = inode.seed(&self.superblock).bytes(&raw[..end]);
            if !is_tail || le_u32(tail, 8) != expected {
                self.directory_problem(
                    inode,
                    "ext4.check.directory.checksum",
                    format_args!(
                        "block {logical} (at {physical}): checksum {expected:#010x} expected at its end"
                    ),
                );
            }
        }
        let has_dots = logical == 0;
        self.check_chain(reading, &raw[..end], logical, has_dots, range);
    }

    /// One chain of entries that must fill `raw` exactly.
    fn check_chain(
        &mut self,
        reading: &mut Reading<'_>,
        raw: &[u8],
        logical: u64,
        has_dots: bool,
        range: Option<(u32, u32)>,
    ) {
        let inode = reading.inode;
        let has_type = self.has_incompat(Incompat::FILETYPE);
        let mut at = 0;
        let mut index = 0;
        while at < raw.len() {
            let header = raw.get(at..at + ENTRY_HEADER_BYTES);
            let length = header.map_or(0, |header| self.record_length(le_u16(header, 4)));
            let name_len = header.map_or(0, |header| {
                if has_type { usize::from(header[6]) } else { usize::from(le_u16(header, 6)) }
            });
            let needed = ENTRY_HEADER_BYTES + name_len;
            let Some(header) = header.filter(|_| {
                length >= needed.max(12) && length % 4 == 0 && length <= raw.len() - at && name_len <= 255
            }) else {
                self.directory_problem(
                    inode,
                    "ext4.check.directory.chain",
                    format_args!(
                        "entry at byte {at} of block {logical}: length {length}, name of {name_len} bytes"
                    ),
                );
                return;
            };
            let entry = Named {
                inode: le_u32(header, 0),
                file_type: if has_type { header[7] } else { 0 },
                name: &raw[at + ENTRY_HEADER_BYTES..at + needed],
            };
            match index {
                0 | 1 if has_dots => {
                    let is_ended = raw.get(at + needed) == Some(&0);
                    self.check_dot(inode, &entry, index, is_ended);
                }
                _ if entry.inode != 0 => {
                    self.check_entry(reading, &entry);
                    if let Some(range) = range {
                        self.check_hash(reading, &entry, logical, range);
                    }
                }
                _ => {}
            }
            at += length;
            index += 1;
        }
        if has_dots && index < 2 {
            self.directory_problem(inode, "ext4.check.directory.dots", "does not start with . and ..");
        }
    }

    fn check_dot(&mut self, dir: &Inode, entry: &Named<'_>, index: usize, is_ended: bool) {
        let expected: &[u8] = if index == 0 { b"." } else { b".." };
        let is_self = index == 1 || entry.inode == dir.number();
        let is_typed = !self.has_incompat(Incompat::FILETYPE) || entry.file_type == TYPE_DIRECTORY;
        if entry.name != expected || !is_self || entry.inode == 0 || !is_typed || !is_ended {
            self.directory_problem(
                dir,
                "ext4.check.directory.dots",
                format_args!(
                    "entry {index} is {} to inode {}",
                    String::from_utf8_lossy(entry.name),
                    entry.inode
                ),
            );
            return;
        }
        self.inodes.add_name(entry.inode);
        if index == 1 {
            self.directories.set_dot_dot(dir.number(), entry.inode);
        }
    }

    fn check_entry(&mut self, reading: &mut Reading<'_>, entry: &Named<'_>) {
        let dir = reading.inode;
        let shown = String::from_utf8_lossy(entry.name).into_owned();
        let is_encrypted = dir.has(InodeFlags::ENCRYPT);
        let is_bad_name = entry.name.is_empty()
            || entry.name == b"."
            || entry.name == b".."
            || !is_encrypted && entry.name.iter().any(|byte| matches!(byte, 0 | b'/'));
        if is_bad_name {
            self.directory_problem(dir, "ext4.check.directory.name", format_args!("{shown:?} is no name"));
        }
        if !reading.names.insert(entry.name.to_vec()) {
            self.directory_problem(
                dir,
                "ext4.check.directory.duplicate",
                format_args!("{shown:?} stands twice"),
            );
        }
        let note = self.inodes.get(entry.inode);
        let State::Used(kind) = note.state else {
            self.directory_problem(
                dir,
                "ext4.check.directory.inode",
                format_args!("{shown:?} names inode {}, which is not in use or has no name", entry.inode),
            );
            return;
        };
        if entry.inode == ROOT_INODE {
            self.directory_problem(
                dir,
                "ext4.check.directory.inode",
                format_args!("{shown:?} names the root"),
            );
            return;
        }
        let is_right_type = !self.has_incompat(Incompat::FILETYPE) || kind_of_type(entry.file_type) == kind;
        if !is_right_type {
            self.directory_problem(
                dir,
                "ext4.check.directory.type",
                format_args!("{shown:?} has type {}, but inode {} is {kind:?}", entry.file_type, entry.inode),
            );
        }
        self.inodes.add_name(entry.inode);
        if kind == Some(FileKind::Directory) && !self.directories.set_parent(entry.inode, dir.number()) {
            self.directory_problem(
                dir,
                "ext4.check.directory.link",
                format_args!("{shown:?} is a second name of the directory {}", entry.inode),
            );
        }
    }

    fn check_hash(
        &mut self,
        reading: &Reading<'_>,
        entry: &Named<'_>,
        logical: u64,
        (low, high): (u32, u32),
    ) {
        let Some(hasher) = reading.tree.as_ref().and_then(|tree| tree.hash.as_ref()) else { return };
        let hash = hasher.of(entry.name);
        if !(low..=high).contains(&hash) {
            let detail = format!(
                "hash {hash:#010x} of {:?} is not within {low:#010x}..={high:#010x}",
                String::from_utf8_lossy(entry.name)
            );
            self.htree_problem(reading.inode, logical, detail);
        }
    }

    /// An inline directory: parent, then a chain in the inode and one in the attribute.
    fn check_inline_directory(&mut self, inode: &Inode) {
        let parent = le_u32(inode.i_block(), 0);
        self.inodes.add_name(inode.number());
        self.inodes.add_name(parent);
        self.directories.set_dot_dot(inode.number(), parent);
        let mut reading = Reading { inode, names: HashSet::new(), tree: None };
        self.check_chain(&mut reading, &inode.i_block()[INLINE_PARENT_BYTES..], 0, false, None);
        let rest = self.inline_rest(inode);
        self.check_chain(&mut reading, &rest, 0, false, None);
        let expected = inode.i_block().len() + rest.len();
        if inode.size(&self.superblock) != expected as u64 {
            self.directory_problem(
                inode,
                "ext4.check.directory.size",
                format_args!("size {}, expected {expected}", inode.size(&self.superblock)),
            );
        }
    }
}
