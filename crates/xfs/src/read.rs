//! The reading side of the `vfs` interface.

use ondisk::be_u32;
use vfs::{
    DirEntry, FileKind, Filesystem, FilesystemInfo, FreeRanges, Metadata, NodeId, SpaceInfo, VfsError,
    WritableFilesystem, Xattr,
};

use crate::attr::{acl, name};
use crate::buffer::Stamp;
use crate::dir::kind_of_type;
use crate::error::{Result, corrupt, device};
use crate::fs::{Device, Xfs};
use crate::inode::{Fork, Format, Inode, InodeFlags};

/// Longest target of a symbolic link (`XFS_SYMLINK_MAXLEN`).
pub(crate) const MAX_SYMLINK: u64 = 1024;
const SYMLINK_MAGIC: u32 = u32::from_be_bytes(*b"XSLM");

impl Xfs {
    /// Reads content of a regular file; short only at its end.
    pub(crate) fn read_file(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let Some(left) = inode.len().checked_sub(offset) else { return Ok(0) };
        let wanted = (buf.len() as u64).min(left) as usize;
        let buf = &mut buf[..wanted];
        let map = self.map(inode, Fork::Data)?;
        let bs = self.geo.block_size as u64;
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let (block, skip) = (at / bs, at % bs);
            let (blocks, from) = match map.at(block) {
                None => (u64::MAX, None),
                Some(extent) if extent.offset > block => (extent.offset - block, None),
                Some(extent) => {
                    let from = self.geo.byte_of(extent.block + (block - extent.offset)) + skip;
                    (extent.end() - block, (!extent.is_unwritten).then_some(from))
                }
            };
            let step = blocks.saturating_mul(bs).saturating_sub(skip).min((wanted - done) as u64) as usize;
            let target = &mut buf[done..done + step];
            match from {
                Some(byte) => self.device.reader().read_exact_at(target, byte).map_err(device)?,
                None => target.fill(0),
            }
            done += step;
        }
        Ok(wanted)
    }

    /// Target of a symlink.
    pub(crate) fn symlink_target(&self, inode: &Inode) -> Result<Vec<u8>> {
        let bad = |detail: String| corrupt("xfs.symlink", format!("inode {}", inode.number()), detail);
        if inode.kind() != Some(FileKind::Symlink) {
            return Err(VfsError::WrongKind {
                path: format!("inode {}", inode.number()),
                detail: "not a symbolic link".into(),
            });
        }
        if inode.is_empty() || inode.len() > MAX_SYMLINK {
            return Err(bad(format!("a target of {} bytes", inode.len())));
        }
        let len = inode.len() as usize;
        let target = if inode.format(Fork::Data) == Format::Local {
            let fork = inode.fork(Fork::Data);
            fork.get(..len).ok_or_else(|| bad(format!("{len} bytes in a fork of {}", fork.len())))?.to_vec()
        } else {
            self.remote_target(inode, len)?
        };
        if target.contains(&0) {
            return Err(bad("the target holds a NUL byte".into()));
        }
        Ok(target)
    }

    fn remote_target(&self, inode: &Inode, len: usize) -> Result<Vec<u8>> {
        let map = self.map(inode, Fork::Data)?;
        let header = self.remote_header();
        let mut target: Vec<u8> = Vec::with_capacity(len);
        let mut block = 0;
        // A buffer is one extent, and has one header.
        while target.len() < len {
            let run = map.at(block).filter(|extent| extent.offset == block).map_or(1, |extent| extent.len);
            let left = len - target.len();
            let blocks = (left as u64).div_ceil((self.geo.block_size - header) as u64).min(run);
            let (byte, raw) = self.read_mapped(inode, &map, block, blocks)?;
            let part = left.min(raw.len() - header);
            if self.geo.is_v5 {
                let what = || format!("target of the symbolic link of inode {}", inode.number());
                if be_u32(&raw, 0) != SYMLINK_MAGIC
                    || be_u32(&raw, 4) as usize != target.len()
                    || be_u32(&raw, 8) as usize != part
                {
                    return Err(corrupt("xfs.symlink", what(), "magic, offset or length is wrong"));
                }
                self.verify(&Stamp::SYMLINK, &raw, byte, inode.number(), &what)?;
            }
            target.extend_from_slice(&raw[header..header + part]);
            block += blocks;
        }
        Ok(target)
    }

    fn metadata(&self, inode: &Inode) -> Result<Metadata> {
        Ok(Metadata {
            node: NodeId(inode.number()),
            kind: inode.require_kind()?,
            mode: inode.mode() & 0o7777,
            uid: inode.uid(),
            gid: inode.gid(),
            len: inode.len(),
            links: inode.links().into(),
            allocated: inode.blocks().saturating_mul(self.geo.block_size as u64),
            atime: inode.atime(),
            mtime: inode.mtime(),
            ctime: inode.ctime(),
            crtime: inode.crtime(),
            device: inode.device(),
            is_immutable: inode.flags().contains(InodeFlags::IMMUTABLE),
            is_append_only: inode.flags().contains(InodeFlags::APPEND),
        })
    }
}

impl Filesystem for Xfs {
    fn info(&self) -> FilesystemInfo {
        FilesystemInfo {
            kind: "xfs",
            uuid: Some(self.superblock.uuid()),
            label: self.superblock.label(),
            block_size: self.geo.block_size as u32,
            features: self.superblock.features().names(),
        }
    }

    fn root(&self) -> NodeId {
        NodeId(self.superblock.root_inode())
    }

    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        let dir = self.file_node(dir)?;
        self.require_dir(&dir)?;
        match name {
            b"." => Ok(Some(NodeId(dir.number()))),
            b".." => Ok(Some(NodeId(self.parent_of(&dir)?))),
            _ => Ok(self.find_entry(&dir, name)?.map(|entry| NodeId(entry.inode))),
        }
    }

    fn stat(&self, node: NodeId) -> Result<Metadata> {
        self.metadata(&self.file_node(node)?)
    }

    fn list(&self, dir: NodeId) -> Result<Vec<DirEntry>> {
        let dir = self.file_node(dir)?;
        self.require_dir(&dir)?;
        let (_, entries) = self.read_dir(&dir)?;
        let entries = entries.into_iter().map(|entry| DirEntry {
            kind: kind_of_type(entry.file_type),
            name: entry.name,
            node: NodeId(entry.inode),
        });
        Ok(entries.collect())
    }

    fn read_link(&self, node: NodeId) -> Result<Vec<u8>> {
        self.symlink_target(&self.file_node(node)?)
    }

    fn read_at(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let inode = self.file_node(node)?;
        let path = || format!("inode {}", inode.number());
        match inode.require_kind()? {
            FileKind::Regular => self.read_file(&inode, offset, buf),
            FileKind::Directory => Err(VfsError::IsADirectory { path: path() }),
            _ => Err(VfsError::WrongKind { path: path(), detail: "not a regular file".into() }),
        }
    }

    fn xattrs(&self, node: NodeId) -> Result<Vec<Xattr>> {
        let inode = self.file_node(node)?;
        let mut all = Vec::new();
        for attr in self.read_attrs(&inode)? {
            let Some(full) = name::full_name(attr.space, &attr.name) else { continue };
            let value = if name::is_acl(attr.space, &attr.name) {
                acl::to_syscall(&attr.value).ok_or_else(|| {
                    corrupt("xfs.attr.acl", format!("inode {}", inode.number()), "not a POSIX ACL")
                })?
            } else {
                attr.value
            };
            all.push(Xattr { name: full, value });
        }
        Ok(all)
    }

    fn space(&self) -> Result<SpaceInfo> {
        let bs = self.geo.block_size as u64;
        let sb = &self.superblock;
        let total = self.geo.data_blocks.saturating_sub(sb.u32(96).into());
        let free = sb.free_blocks().min(total);
        let available = free.saturating_sub(self.reserved_blocks());
        // Inodes are made where there is room; what a chunk needs, free blocks can give.
        let more = (available << self.geo.inodes_per_block_log).min(u64::from(u32::MAX));
        Ok(SpaceInfo {
            total_bytes: total * bs,
            free_bytes: free * bs,
            available_bytes: available * bs,
            inodes: sb.inode_count().saturating_add(more),
            free_inodes: sb.free_inodes().saturating_add(more),
        })
    }

    fn free_ranges(&self) -> Result<FreeRanges> {
        let mut free = FreeRanges::new();
        for group in 0..self.geo.groups {
            for (start, len) in self.free_runs(group)? {
                let end = u64::from(start) + u64::from(len);
                if start == 0 || end > self.geo.blocks_of(group).into() {
                    return Err(corrupt(
                        "xfs.free-space",
                        format!("group {group}"),
                        format!("{len} free blocks at {start}"),
                    ));
                }
                let byte = self.geo.byte(group, start);
                free.push(byte..byte + (u64::from(len) << self.geo.block_log));
            }
        }
        Ok(free)
    }

    fn writable(&mut self) -> Result<&mut dyn WritableFilesystem> {
        match self.device {
            Device::Write(_) => Ok(self),
            Device::Read(_) => Err(self.read_only()),
        }
    }
}
