//! The writing side: operations that are complete or leave no trace.
//!
//! An operation runs in [`Xfs::operate`]. It changes units of metadata in `pending`, counters in memory,
//! and says which bytes of file content go where; only when all of that has succeeded is anything written.

mod content;
mod create;
mod interface;
mod label;
mod metadata;
mod names;
mod parent;
mod release;
mod symlink;

use std::ops::Range;

use vfs::{NodeId, VfsError};

use crate::error::{Result, device};
use crate::fs::{Device, Xfs};
use crate::inode::{Inode, InodeFlags};

/// `sb_qflags`: usage of users, projects (version 4), groups, projects is known to be right.
const QUOTA_CHECKED: u16 = 0x4 | 0x20 | 0x100 | 0x400;

/// Bytes of file content and where they go on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// This range of the operation's content, at this byte of the device.
    Data(u64, Range<usize>),
    /// These bytes.
    Bytes(u64, Vec<u8>),
    /// Zeroes: byte of the device, length.
    Zero(u64, u64),
}

impl Xfs {
    /// Runs one operation; on any error everything is as before.
    pub(crate) fn operate<T>(
        &mut self,
        content: &[u8],
        operation: impl FnOnce(&mut Self, &mut Vec<Piece>) -> Result<T>,
    ) -> Result<T> {
        self.require_write_side()?;
        let superblock = self.superblock.clone();
        self.pending.clear();
        self.accounting_changed = false;
        let mut pieces = Vec::new();
        let result = operation(self, &mut pieces).and_then(|value| {
            self.settle_superblock(&superblock)?;
            Ok(value)
        });
        let pending = std::mem::take(&mut self.pending);
        if result.is_err() {
            self.superblock = superblock;
            return result;
        }
        for (byte, raw) in &pending {
            self.write_device(*byte, raw)?;
        }
        for piece in &pieces {
            match piece {
                Piece::Data(byte, range) => {
                    self.write_device(*byte, content.get(range.clone()).unwrap_or_default())?;
                }
                Piece::Bytes(byte, bytes) => self.write_device(*byte, bytes)?,
                Piece::Zero(byte, len) => {
                    let Device::Write(dev) = &self.device else { return Err(self.read_only()) };
                    dev.write_zeroes(*byte, *len).map_err(device)?;
                }
            }
        }
        result
    }

    /// Puts the changed superblock among the units to be written. What quota counts is to be counted anew
    /// by the kernel, since its files are left alone.
    fn settle_superblock(&mut self, before: &crate::superblock::Superblock) -> Result<()> {
        if self.accounting_changed {
            let flags = self.superblock.quota_flags() & !QUOTA_CHECKED;
            self.superblock.set_quota_flags(flags);
        }
        if self.superblock != *before {
            let raw = self.superblock.encode();
            self.put_unit(0, raw)?;
        }
        Ok(())
    }

    pub(crate) fn read_only(&self) -> VfsError {
        VfsError::ReadOnly {
            filesystem: self.superblock.name(),
            reason: "it was opened without the writing side".into(),
        }
    }

    fn require_write_side(&self) -> Result<()> {
        match self.device {
            Device::Write(_) => Ok(()),
            Device::Read(_) => Err(self.read_only()),
        }
    }

    fn write_device(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        match &self.device {
            Device::Write(dev) => dev.write_all_at(bytes, offset).map_err(device),
            Device::Read(_) => Err(self.read_only()),
        }
    }

    /// Writes an inode.
    pub(crate) fn put_inode(&mut self, inode: &Inode) -> Result<()> {
        let raw = inode.encode(self);
        self.put_unit(inode.byte(), raw)
    }

    /// Stamps the change time and writes an inode that was changed.
    pub(crate) fn put_changed(&mut self, inode: &mut Inode) -> Result<()> {
        if self.superblock.features().has(crate::feature::Incompat::BIGTIME) {
            inode.upgrade_to_bigtime();
        }
        inode.set_ctime(self.now);
        inode.count_change();
        self.put_inode(inode)
    }

    /// An inode that may be changed: no internal one, not immutable, not append-only.
    pub(crate) fn editable(&self, node: NodeId) -> Result<Inode> {
        let inode = self.file_node(node)?;
        self.require_not_internal(&inode)?;
        let path = || format!("inode {}", inode.number());
        for (flag, word) in [
            (InodeFlags::IMMUTABLE, "immutable (chattr +i)"),
            (InodeFlags::APPEND, "append-only (chattr +a)"),
        ] {
            if inode.flags().contains(flag) {
                return Err(VfsError::WrongKind { path: path(), detail: format!("marked as {word}") });
            }
        }
        Ok(inode)
    }

    /// Refuses inodes that belong to the filesystem itself.
    pub(crate) fn require_not_internal(&self, inode: &Inode) -> Result<()> {
        if self.superblock.is_internal_inode(inode.number()) {
            return Err(VfsError::WrongKind {
                path: format!("inode {}", inode.number()),
                detail: "belongs to the filesystem itself".into(),
            });
        }
        Ok(())
    }
}
