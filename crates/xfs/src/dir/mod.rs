//! Directories: inline, one block, leaf, node (`xfs_dir2_*.c`; XFS Algorithms & Data Structures,
//! "Directories").

pub(crate) mod data;
mod edit;
pub(crate) mod index;
pub(crate) mod read;
pub(crate) mod short;
mod store;

use vfs::{FileKind, VfsError};

use crate::error::{Result, shown};
use crate::fs::Xfs;
use crate::inode::Inode;

/// Byte of a directory file where the hash index begins, and the index of free space behind it.
pub(crate) const LEAF_BYTE: u64 = 1 << 35;
pub(crate) const FREE_BYTE: u64 = 1 << 36;

/// One name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub name: Vec<u8>,
    pub inode: u64,
    /// Type as the directory keeps it; 0 for unknown.
    pub file_type: u8,
}

/// Type of a directory entry as a kind.
pub(crate) fn kind_of_type(file_type: u8) -> Option<FileKind> {
    Some(match file_type {
        1 => FileKind::Regular,
        2 => FileKind::Directory,
        3 => FileKind::CharDevice,
        4 => FileKind::BlockDevice,
        5 => FileKind::Fifo,
        6 => FileKind::Socket,
        7 => FileKind::Symlink,
        _ => return None,
    })
}

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

/// True for a name that a directory may hold beside `.` and `..`.
pub(crate) fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= 255 && !name.contains(&b'/') && !name.contains(&0)
}

/// Refuses names that no directory holds.
pub(crate) fn check_name(name: &[u8]) -> Result<()> {
    let detail = match name {
        b"" => "empty",
        b"." | b".." => "stands for a directory itself",
        _ if name.len() > 255 => "longer than 255 bytes",
        _ if name.contains(&b'/') => "holds a slash",
        _ if name.contains(&0) => "holds a NUL byte",
        _ => return Ok(()),
    };
    Err(VfsError::BadName { name: shown(name), detail })
}

impl Xfs {
    /// Refuses inodes that are no directories.
    pub(crate) fn require_dir(&self, inode: &Inode) -> Result<()> {
        match inode.require_kind()? {
            FileKind::Directory => Ok(()),
            _ => Err(VfsError::NotADirectory { path: format!("inode {}", inode.number()) }),
        }
    }

    /// First file block of the hash index.
    pub(crate) fn leaf_start(&self) -> u64 {
        LEAF_BYTE >> self.geo.block_log
    }

    /// First file block of the index of free space.
    pub(crate) fn free_start(&self) -> u64 {
        FREE_BYTE >> self.geo.block_log
    }

    /// A name as it is hashed and compared here.
    fn folded(&self, name: &[u8]) -> Vec<u8> {
        if !self.superblock.features().is_case_insensitive() {
            return name.to_vec();
        }
        name.iter()
            .map(|byte| match byte {
                0x41..=0x5a | 0xc0..=0xd6 | 0xd8..=0xde => byte + 0x20,
                _ => *byte,
            })
            .collect()
    }

    /// Hash of a name in a directory.
    pub(crate) fn name_hash(&self, name: &[u8]) -> u32 {
        crate::da::hash(&self.folded(name))
    }
}
