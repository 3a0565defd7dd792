//! The reading side of the `vfs` interface.

use vfs::{
    DirEntry, FileKind, Filesystem, FilesystemInfo, FreeRanges, Metadata, NodeId, SpaceInfo, VfsError,
    WritableFilesystem, Xattr,
};

use crate::error::{Result, corrupt, unsupported};
use crate::fs::{Device, Ext4};
use crate::inode::{I_BLOCK_BYTES, Inode, InodeFlags, ROOT_INODE};
use crate::map::Mapped;

impl Ext4 {
    /// Reads content of an inode that has some; short only at its end.
    pub(crate) fn read_file(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let size = inode.size(&self.superblock);
        let Some(left) = size.checked_sub(offset) else { return Ok(0) };
        let wanted = (buf.len() as u64).min(left) as usize;
        let buf = &mut buf[..wanted];
        if inode.has(InodeFlags::INLINE_DATA) {
            let content = self.inline_file(inode)?;
            let start = offset as usize;
            buf.copy_from_slice(content.get(start..start + wanted).unwrap_or(&[]));
            return Ok(wanted);
        }
        let bs = self.block_size() as u64;
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let skip = at % bs;
            let mapped = self.map_block(inode, at / bs)?;
            let blocks = match mapped {
                Mapped::Blocks(run) => run.len,
                Mapped::Hole(len) => len,
            };
            let step = blocks.saturating_mul(bs).saturating_sub(skip).min((wanted - done) as u64) as usize;
            if step == 0 {
                return Err(corrupt(
                    "ext4.file.map",
                    format!("inode {}", inode.number()),
                    format!("nothing is mapped at byte {at}"),
                ));
            }
            let target = &mut buf[done..done + step];
            match mapped {
                Mapped::Blocks(run) if run.is_written => self.read_bytes(run.physical, skip, target)?,
                _ => target.fill(0),
            }
            done += step;
        }
        Ok(wanted)
    }

    /// Target of a symlink.
    pub(crate) fn symlink_target(&self, inode: &Inode) -> Result<Vec<u8>> {
        if inode.kind() != Some(FileKind::Symlink) {
            return Err(VfsError::WrongKind {
                path: format!("inode {}", inode.number()),
                detail: "not a symbolic link".into(),
            });
        }
        if inode.has(InodeFlags::ENCRYPT) {
            return Err(unsupported(
                "ext4.feature.unsupported",
                format!("the encrypted symbolic link of inode {}", inode.number()),
                "",
            ));
        }
        let size = inode.size(&self.superblock);
        if size == 0 || size >= self.block_size() as u64 {
            return Err(corrupt(
                "ext4.symlink.size",
                format!("inode {}", inode.number()),
                format!("a target of {size} bytes"),
            ));
        }
        let mut target = vec![0; size as usize];
        if self.is_fast_symlink(inode) {
            target.copy_from_slice(inode.i_block().get(..size as usize).unwrap_or(&[]));
        } else {
            self.read_file(inode, 0, &mut target)?;
        }
        if target.contains(&0) {
            return Err(corrupt(
                "ext4.symlink.target",
                format!("inode {}", inode.number()),
                "the target holds a NUL byte",
            ));
        }
        Ok(target)
    }

    /// True when the target lies in `i_block`.
    pub(crate) fn is_fast_symlink(&self, inode: &Inode) -> bool {
        inode.kind() == Some(FileKind::Symlink)
            && !inode.has(InodeFlags::EXTENTS)
            && !inode.has(InodeFlags::INLINE_DATA)
            && inode.size(&self.superblock) < I_BLOCK_BYTES as u64
    }

    fn metadata(&self, inode: &Inode) -> Result<Metadata> {
        Ok(Metadata {
            node: NodeId(inode.number().into()),
            kind: inode.require_kind()?,
            mode: inode.mode() & 0o7777,
            uid: inode.uid(),
            gid: inode.gid(),
            len: inode.size(&self.superblock),
            links: inode.links().into(),
            allocated: inode.sectors(&self.superblock).saturating_mul(512),
            atime: inode.atime(),
            mtime: inode.mtime(),
            ctime: inode.ctime(),
            crtime: inode.crtime(),
            device: inode.device(),
            is_immutable: inode.has(InodeFlags::IMMUTABLE),
            is_append_only: inode.has(InodeFlags::APPEND),
        })
    }
}

impl Filesystem for Ext4 {
    fn info(&self) -> FilesystemInfo {
        FilesystemInfo {
            kind: self.superblock.features().kind(),
            uuid: self.superblock.uuid(),
            label: self.superblock.label(),
            block_size: self.superblock.block_size(),
            features: self.superblock.features().names(),
        }
    }

    fn root(&self) -> NodeId {
        NodeId(ROOT_INODE.into())
    }

    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        let dir = self.node(dir)?;
        Ok(self.lookup_name(&dir, name)?.map(|inode| NodeId(inode.into())))
    }

    fn stat(&self, node: NodeId) -> Result<Metadata> {
        self.metadata(&self.node(node)?)
    }

    fn list(&self, dir: NodeId) -> Result<Vec<DirEntry>> {
        let dir = self.node(dir)?;
        let entries = self.list_dir(&dir)?.into_iter();
        Ok(entries
            .map(|entry| DirEntry { name: entry.name, node: NodeId(entry.inode.into()), kind: entry.kind })
            .collect())
    }

    fn read_link(&self, node: NodeId) -> Result<Vec<u8>> {
        self.symlink_target(&self.node(node)?)
    }

    fn read_at(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let inode = self.node(node)?;
        let path = || format!("inode {}", inode.number());
        match inode.require_kind()? {
            FileKind::Regular => {}
            FileKind::Directory => return Err(VfsError::IsADirectory { path: path() }),
            _ => return Err(VfsError::WrongKind { path: path(), detail: "not a regular file".into() }),
        }
        if inode.has(InodeFlags::ENCRYPT) {
            let feature = format!("the encrypted file of inode {}", inode.number());
            return Err(unsupported("ext4.feature.unsupported", feature, ""));
        }
        self.read_file(&inode, offset, buf)
    }

    fn xattrs(&self, node: NodeId) -> Result<Vec<Xattr>> {
        self.all_xattrs(&self.node(node)?)
    }

    fn space(&self) -> Result<SpaceInfo> {
        let superblock = &self.superblock;
        let bs = u64::from(superblock.block_size());
        // The kernel leaves the superblock's totals stale; the descriptors count.
        let (clusters, inodes) = self.descriptor_totals();
        let free = (clusters * u64::from(superblock.cluster_ratio())).min(superblock.blocks());
        Ok(SpaceInfo {
            total_bytes: superblock.blocks() * bs,
            free_bytes: free * bs,
            available_bytes: free.saturating_sub(superblock.reserved_blocks()) * bs,
            inodes: superblock.inodes().into(),
            free_inodes: inodes.min(superblock.inodes().into()),
        })
    }

    fn free_ranges(&self) -> Result<FreeRanges> {
        self.free_bytes()
    }

    fn writable(&mut self) -> Result<&mut dyn WritableFilesystem> {
        match self.device {
            Device::Write(_) => Ok(self),
            Device::Read(_) => Err(VfsError::ReadOnly {
                filesystem: self.superblock.name(),
                reason: "it was opened without the writing side".into(),
            }),
        }
    }
}
