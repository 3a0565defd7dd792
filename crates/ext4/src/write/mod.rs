//! The writing side: operations that are complete or leave no trace.
//!
//! An operation runs in [`Ext4::operate`]. It changes metadata blocks in `pending`, bitmaps and
//! descriptors in memory, and says which bytes of file content go where; only when all of that has
//! succeeded is anything written.

mod content;
mod create;
mod interface;
mod metadata;
mod names;
mod release;

use std::ops::Range;

use vfs::VfsError;

use crate::error::{Result, device, unsupported};
use crate::fs::{Device, Ext4};
use crate::inode::{Inode, InodeFlags, ROOT_INODE};

/// Bytes of file content and where they go on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// This range of the operation's content, at this byte of the device.
    Data(u64, Range<usize>),
    /// Zeroes: byte of the device, length.
    Zero(u64, u64),
}

impl Ext4 {
    /// Runs one operation; on any error everything is as before.
    pub(crate) fn operate<T>(
        &mut self,
        content: &[u8],
        operation: impl FnOnce(&mut Self, &mut Vec<Piece>) -> Result<T>,
    ) -> Result<T> {
        self.require_write_side()?;
        self.begin_operation();
        let mut pieces = Vec::new();
        let result = operation(self, &mut pieces);
        let result = match self.overdraft() {
            Some(no_space) => Err(no_space),
            None => result,
        };
        match result {
            Ok(value) => {
                // Metadata first: a block that held inline content is filled up by the pieces.
                let pending = std::mem::take(&mut self.pending);
                for (block, raw) in &pending {
                    self.write_device_block(*block, raw)?;
                }
                self.write_pieces(content, &pieces)?;
                self.keep_operation();
                Ok(value)
            }
            Err(error) => {
                self.undo_operation();
                Err(error)
            }
        }
    }

    fn write_pieces(&mut self, content: &[u8], pieces: &[Piece]) -> Result<()> {
        for piece in pieces {
            match piece {
                Piece::Data(at, range) => {
                    self.write_device(*at, content.get(range.clone()).unwrap_or(&[]))?
                }
                Piece::Zero(at, len) => {
                    let Device::Write(dev) = &self.device else { return self.require_write_side() };
                    dev.write_zeroes(*at, *len).map_err(device)?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn require_write_side(&self) -> Result<()> {
        match self.device {
            Device::Write(_) => Ok(()),
            Device::Read(_) => Err(VfsError::ReadOnly {
                filesystem: self.superblock.name(),
                reason: "it was opened without the writing side".into(),
            }),
        }
    }

    pub(crate) fn write_device(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        match &self.device {
            Device::Write(dev) => dev.write_all_at(bytes, offset).map_err(device),
            Device::Read(_) => self.require_write_side(),
        }
    }

    pub(crate) fn write_device_block(&self, block: u64, raw: &[u8]) -> Result<()> {
        self.write_device(block * self.block_size() as u64, raw)
    }

    /// Changes a metadata block; a block that keeps its content is not written.
    pub(crate) fn put_block(&mut self, block: u64, raw: Vec<u8>, is_new: bool) -> Result<()> {
        if is_new || self.read_block(block)? != raw {
            self.pending.insert(block, raw);
        }
        Ok(())
    }

    /// Changes a metadata block in place.
    pub(crate) fn change_block(&mut self, block: u64, change: impl FnOnce(&mut [u8])) -> Result<()> {
        if let Some(raw) = self.pending.get_mut(&block) {
            change(raw);
            return Ok(());
        }
        let old = self.read_block(block)?;
        let mut raw = old.clone();
        change(&mut raw);
        if raw != old {
            self.pending.insert(block, raw);
        }
        Ok(())
    }

    /// Writes an inode with a fresh checksum.
    pub(crate) fn put_inode(&mut self, inode: &Inode) -> Result<()> {
        let (block, at) = self.inode_place(inode.number())?;
        let raw = inode.encode(&self.superblock);
        self.change_block(block, |table| {
            if let Some(slot) = table.get_mut(at..at + raw.len()) {
                slot.copy_from_slice(&raw);
            }
        })
    }

    /// An inode that may be changed: no reserved one, not immutable, not append-only, no special owner.
    pub(crate) fn editable(&self, node: vfs::NodeId) -> Result<Inode> {
        let inode = self.node(node)?;
        self.require_not_reserved(&inode)?;
        let path = || format!("inode {}", inode.number());
        for (flag, word) in [
            (InodeFlags::IMMUTABLE, "immutable (chattr +i)"),
            (InodeFlags::APPEND, "append-only (chattr +a)"),
        ] {
            if inode.has(flag) {
                return Err(VfsError::WrongKind { path: path(), detail: format!("marked as {word}") });
            }
        }
        Ok(inode)
    }

    /// Refuses inodes that belong to the filesystem itself.
    pub(crate) fn require_not_reserved(&self, inode: &Inode) -> Result<()> {
        let number = inode.number();
        let is_reserved = number < self.superblock.first_inode() && number != ROOT_INODE;
        if is_reserved || number == self.superblock.orphan_file_inode() || inode.has(InodeFlags::EA_INODE) {
            return Err(VfsError::WrongKind {
                path: format!("inode {number}"),
                detail: "belongs to the filesystem itself".into(),
            });
        }
        for (flag, name) in [
            (InodeFlags::VERITY, "verity"),
            (InodeFlags::ENCRYPT, "encrypt"),
            (InodeFlags::CASEFOLD, "casefold"),
        ] {
            if inode.has(flag) {
                return Err(unsupported(
                    "ext4.feature.unsupported",
                    format!("feature {name} on inode {number}"),
                    " for writing",
                ));
            }
        }
        Ok(())
    }
}
