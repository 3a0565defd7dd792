//! Directories (the kernel's `Documentation/filesystems/ext4/directory.rst`).

pub(crate) mod block;
pub(crate) mod edit;
pub(crate) mod hash;
pub(crate) mod htree;
mod htree_edit;

use vfs::{FileKind, VfsError};

use crate::error::{Result, corrupt, shown, unsupported};
use crate::fs::Ext4;
use crate::inode::{Inode, InodeFlags};
use crate::map::Run;

use block::{BlockRole, RawEntry};

/// Longest name, bytes.
pub(crate) const MAX_NAME: usize = 255;
/// Most entries that a listing holds in memory.
const MAX_LISTED: usize = 3_000_000;

/// One entry with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub name: Vec<u8>,
    pub inode: u32,
    pub kind: Option<FileKind>,
}

/// Where an entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryPlace {
    /// In a directory block: logical number, block of the filesystem, byte.
    Block { logical: u64, physical: u64, at: usize },
    /// In the content of an inline directory, at this byte of the entries.
    Inline { at: usize },
}

/// Kind by the type byte of an entry; `None` for 0 and unknown values.
pub(crate) fn kind_of_type(file_type: u8) -> Option<FileKind> {
    match file_type {
        1 => Some(FileKind::Regular),
        2 => Some(FileKind::Directory),
        3 => Some(FileKind::CharDevice),
        4 => Some(FileKind::BlockDevice),
        5 => Some(FileKind::Fifo),
        6 => Some(FileKind::Socket),
        7 => Some(FileKind::Symlink),
        _ => None,
    }
}

/// Type byte of a kind.
pub(crate) fn type_of_kind(kind: FileKind) -> u8 {
    match kind {
        FileKind::Regular => 1,
        FileKind::Directory => 2,
        FileKind::CharDevice => 3,
        FileKind::BlockDevice => 4,
        FileKind::Fifo => 5,
        FileKind::Socket => 6,
        FileKind::Symlink => 7,
    }
}

/// An error unless `name` may stand in a directory.
pub(crate) fn check_name(name: &[u8]) -> Result<()> {
    let detail = match name {
        b"" => "empty",
        b"." | b".." => "reserved",
        _ if name.len() > MAX_NAME => "longer than 255 bytes",
        _ if name.contains(&b'/') => "holds a slash",
        _ if name.contains(&0) => "holds a NUL byte",
        _ => return Ok(()),
    };
    Err(VfsError::BadName { name: shown(name), detail })
}

impl Ext4 {
    /// The inode as a directory whose names can be told, or the error that says why not.
    pub(crate) fn require_dir(&self, inode: &Inode) -> Result<()> {
        if !inode.is_dir() {
            return Err(VfsError::NotADirectory { path: format!("inode {}", inode.number()) });
        }
        if inode.has(InodeFlags::ENCRYPT) {
            return Err(unsupported(
                "ext4.feature.unsupported",
                format!("the encrypted directory of inode {}", inode.number()),
                "",
            ));
        }
        Ok(())
    }

    /// Blocks of a directory in order, checked to cover it without a hole and each to be used once.
    pub(crate) fn dir_runs(&self, dir: &Inode) -> Result<Vec<Run>> {
        let size = dir.size(&self.superblock);
        let bs = self.block_size() as u64;
        let bad =
            |detail: String| corrupt("ext4.dir.size", format!("directory of inode {}", dir.number()), detail);
        if size == 0 || !size.is_multiple_of(bs) || size / bs > self.superblock.blocks() {
            return Err(bad(format!("{size} bytes with blocks of {bs} bytes")));
        }
        let (mut runs, _) = self.runs(dir)?;
        let mut next = 0;
        runs.retain(|run| run.logical < size / bs);
        for run in &mut runs {
            if run.logical != next || !run.is_written {
                return Err(bad(format!("logical block {next} of {} is a hole", size / bs)));
            }
            run.len = run.len.min(size / bs - run.logical);
            next = run.end();
        }
        if next != size / bs {
            return Err(bad(format!("logical block {next} of {} is a hole", size / bs)));
        }
        let mut by_place: Vec<(u64, u64)> = runs.iter().map(|run| (run.physical, run.len)).collect();
        by_place.sort_unstable();
        if by_place.windows(2).any(|pair| matches!(pair, [a, b] if a.0 + a.1 > b.0)) {
            return Err(bad("a block is used twice".into()));
        }
        Ok(runs)
    }

    /// Calls `visit` for every entry in use, `.` and `..` included where they are stored, until it
    /// returns true; says where that entry lies.
    pub(crate) fn scan_dir(
        &self,
        dir: &Inode,
        mut visit: impl FnMut(&RawEntry, &[u8]) -> Result<bool>,
    ) -> Result<Option<EntryPlace>> {
        if dir.has(InodeFlags::INLINE_DATA) {
            let content = self.inline_dir_entries(dir)?;
            for part in content.parts() {
                for entry in self.parse_entries(dir, None, part.bytes)? {
                    if entry.inode != 0 && visit(&entry, entry.name(part.bytes))? {
                        return Ok(Some(EntryPlace::Inline { at: part.start + entry.at }));
                    }
                }
            }
            return Ok(None);
        }
        for run in self.dir_runs(dir)? {
            for step in 0..run.len {
                let (logical, physical) = (run.logical + step, run.physical + step);
                let (raw, role) = self.read_dir_block(dir, logical, physical)?;
                if role == BlockRole::Node {
                    continue;
                }
                for entry in self.parse_entries(dir, Some(logical), self.entry_area(&raw, role))? {
                    if entry.inode != 0 && visit(&entry, entry.name(&raw))? {
                        return Ok(Some(EntryPlace::Block { logical, physical, at: entry.at }));
                    }
                }
            }
        }
        Ok(None)
    }

    /// All entries but `.` and `..`.
    pub(crate) fn list_dir(&self, dir: &Inode) -> Result<Vec<Entry>> {
        self.require_dir(dir)?;
        let mut entries = Vec::new();
        self.scan_dir(dir, |entry, name| {
            if name == b"." || name == b".." {
                return Ok(false);
            }
            if name.contains(&b'/') || name.contains(&0) || name.is_empty() {
                return Err(corrupt(
                    "ext4.dir.name",
                    format!("directory of inode {}", dir.number()),
                    format!("{:?} is no file name", shown(name)),
                ));
            }
            if entries.len() == MAX_LISTED {
                return Err(unsupported(
                    "ext4.limit.directory",
                    format!("a directory of more than {MAX_LISTED} names (inode {})", dir.number()),
                    "",
                ));
            }
            entries.push(Entry {
                name: name.to_vec(),
                inode: entry.inode,
                kind: kind_of_type(entry.file_type),
            });
            Ok(false)
        })?;
        Ok(entries)
    }

    /// Finds a name: the inode that it names and where the entry lies.
    pub(crate) fn find_entry(&self, dir: &Inode, name: &[u8]) -> Result<Option<(u32, EntryPlace)>> {
        self.require_dir(dir)?;
        if name.len() > MAX_NAME {
            return Ok(None);
        }
        let folds = dir.has(InodeFlags::CASEFOLD);
        if dir.has(InodeFlags::INDEX) && !dir.has(InodeFlags::INLINE_DATA) && !folds {
            return self.find_by_hash(dir, name);
        }
        let mut found = 0;
        let place = self.scan_dir(dir, |entry, have| {
            found = entry.inode;
            Ok(have == name)
        })?;
        Ok(place.map(|place| (found, place)))
    }

    /// The inode that `name` names.
    pub(crate) fn lookup_name(&self, dir: &Inode, name: &[u8]) -> Result<Option<u32>> {
        self.require_dir(dir)?;
        if dir.has(InodeFlags::INLINE_DATA) && (name == b"." || name == b"..") {
            let parent = if name == b"." { dir.number() } else { ondisk::le_u32(dir.i_block(), 0) };
            return Ok(Some(parent));
        }
        Ok(self.find_entry(dir, name)?.map(|(inode, _)| inode))
    }
}
