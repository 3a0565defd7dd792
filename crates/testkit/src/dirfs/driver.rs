//! The traits of a filesystem, over nodes in memory.

use std::collections::BTreeMap;

use vfs::{
    DirEntry, FileKind, Filesystem, FilesystemInfo, Metadata, MetadataChange, NewNode, NodeId, SpaceInfo,
    Timestamp, VfsError, WritableFilesystem, Xattr,
};

use super::{BLOCK_SIZE, Content, DirFs, ROOT, check_name, lossy};

impl Filesystem for DirFs {
    fn info(&self) -> FilesystemInfo {
        FilesystemInfo {
            kind: "ext4",
            uuid: Some(self.uuid.clone()),
            label: None,
            block_size: BLOCK_SIZE as u32,
            features: Vec::new(),
        }
    }

    fn root(&self) -> NodeId {
        ROOT
    }

    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>, VfsError> {
        Ok(self.entries(dir)?.get(name).copied())
    }

    fn stat(&self, id: NodeId) -> Result<Metadata, VfsError> {
        let node = self.node(id)?;
        Ok(Metadata {
            node: id,
            kind: node.kind(),
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            len: node.len(),
            links: node.links,
            allocated: node.allocated(),
            atime: node.times[0],
            mtime: node.times[1],
            ctime: node.times[2],
            crtime: Some(node.crtime),
            device: match node.content {
                Content::Special(FileKind::BlockDevice | FileKind::CharDevice, major, minor) => {
                    Some((major, minor))
                }
                _ => None,
            },
            is_immutable: node.is_immutable,
            is_append_only: false,
        })
    }

    fn list(&self, dir: NodeId) -> Result<Vec<DirEntry>, VfsError> {
        let entry = |(name, id): (&Vec<u8>, &NodeId)| {
            Ok(DirEntry { name: name.clone(), node: *id, kind: Some(self.node(*id)?.kind()) })
        };
        self.entries(dir)?.iter().map(entry).collect()
    }

    fn read_link(&self, id: NodeId) -> Result<Vec<u8>, VfsError> {
        match &self.node(id)?.content {
            Content::Target(target) => Ok(target.clone()),
            _ => Err(VfsError::WrongKind { path: format!("inode {}", id.0), detail: "not a symlink".into() }),
        }
    }

    fn read_at(&self, id: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize, VfsError> {
        match &self.node(id)?.content {
            Content::Bytes(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|start| bytes.get(start..)).unwrap_or(&[]);
                let len = rest.len().min(buf.len());
                buf[..len].copy_from_slice(&rest[..len]);
                Ok(len)
            }
            _ => Err(VfsError::WrongKind {
                path: format!("inode {}", id.0),
                detail: "not a regular file".into(),
            }),
        }
    }

    fn xattrs(&self, id: NodeId) -> Result<Vec<Xattr>, VfsError> {
        let xattrs = &self.node(id)?.xattrs;
        Ok(xattrs.iter().map(|(name, value)| Xattr { name: name.clone(), value: value.clone() }).collect())
    }

    fn space(&self) -> Result<SpaceInfo, VfsError> {
        let free_bytes = self.total_bytes.saturating_sub(self.used_bytes());
        Ok(SpaceInfo {
            total_bytes: self.total_bytes,
            free_bytes,
            available_bytes: free_bytes,
            inodes: 1 << 20,
            free_inodes: (1 << 20) - self.nodes.len() as u64,
        })
    }

    fn writable(&mut self) -> Result<&mut dyn WritableFilesystem, VfsError> {
        match self.is_writable {
            true => Ok(self),
            false => Err(VfsError::ReadOnly {
                filesystem: "test directory".into(),
                reason: "the test asked for it".into(),
            }),
        }
    }
}

impl WritableFilesystem for DirFs {
    fn set_clock(&mut self, now: Timestamp) {
        self.now = now;
    }

    fn create(
        &mut self,
        dir: NodeId,
        name: &[u8],
        node: NewNode<'_>,
        mode: u16,
        uid: u32,
        gid: u32,
    ) -> Result<NodeId, VfsError> {
        check_name(name)?;
        if self.entries(dir)?.contains_key(name) {
            return Err(VfsError::Exists { path: lossy(name) });
        }
        self.changeable(dir)?;
        let content = match node {
            NewNode::Regular(bytes) => {
                self.need_room(0, bytes.len() as u64)?;
                Content::Bytes(bytes.to_vec())
            }
            NewNode::Directory => {
                self.need_room(0, BLOCK_SIZE)?;
                Content::Directory(BTreeMap::new())
            }
            NewNode::Symlink(target) => Content::Target(target.to_vec()),
            NewNode::Special(kind, major, minor) => Content::Special(kind, major, minor),
        };
        let is_dir = matches!(content, Content::Directory(_));
        let id = self.add_node(content, mode, uid, gid);
        self.entries_mut(dir)?.insert(name.to_vec(), id);
        if is_dir {
            self.node_mut(id)?.links = 2;
            self.node_mut(dir)?.links += 1;
        }
        Ok(id)
    }

    fn replace_content(&mut self, id: NodeId, content: &[u8]) -> Result<(), VfsError> {
        self.need_room(self.node(id)?.len(), content.len() as u64)?;
        *self.bytes_mut(id)? = content.to_vec();
        Ok(())
    }

    fn write_at(&mut self, id: NodeId, offset: u64, data: &[u8]) -> Result<(), VfsError> {
        let old = self.node(id)?.len();
        let end = offset + data.len() as u64;
        self.need_room(old, old.max(end))?;
        let bytes = self.bytes_mut(id)?;
        bytes.resize(old.max(end) as usize, 0);
        bytes[offset as usize..end as usize].copy_from_slice(data);
        Ok(())
    }

    fn truncate(&mut self, id: NodeId, len: u64) -> Result<(), VfsError> {
        self.need_room(self.node(id)?.len(), len)?;
        self.bytes_mut(id)?.resize(len as usize, 0);
        Ok(())
    }

    fn link(&mut self, id: NodeId, dir: NodeId, name: &[u8]) -> Result<(), VfsError> {
        check_name(name)?;
        if self.entries(dir)?.contains_key(name) {
            return Err(VfsError::Exists { path: lossy(name) });
        }
        if self.node(id)?.kind() == FileKind::Directory {
            return Err(VfsError::IsADirectory { path: lossy(name) });
        }
        let now = self.now;
        let node = self.changeable(id)?;
        node.links += 1;
        node.times[2] = now;
        self.entries_mut(dir)?.insert(name.to_vec(), id);
        Ok(())
    }

    fn unlink(&mut self, dir: NodeId, name: &[u8]) -> Result<(), VfsError> {
        let id = self.lookup(dir, name)?.ok_or_else(|| VfsError::NotFound { path: lossy(name) })?;
        if self.changeable(id)?.kind() == FileKind::Directory {
            return Err(VfsError::IsADirectory { path: lossy(name) });
        }
        self.entries_mut(dir)?.remove(name);
        self.drop_link(id)
    }

    fn remove_dir(&mut self, dir: NodeId, name: &[u8]) -> Result<(), VfsError> {
        let id = self.lookup(dir, name)?.ok_or_else(|| VfsError::NotFound { path: lossy(name) })?;
        if !self.entries(id)?.is_empty() {
            return Err(VfsError::NotEmpty { path: lossy(name) });
        }
        self.changeable(id)?;
        self.entries_mut(dir)?.remove(name);
        self.node_mut(dir)?.links -= 1;
        self.nodes.remove(&id);
        Ok(())
    }

    fn rename(&mut self, from_dir: NodeId, from: &[u8], to_dir: NodeId, to: &[u8]) -> Result<(), VfsError> {
        check_name(to)?;
        let id = self.lookup(from_dir, from)?.ok_or_else(|| VfsError::NotFound { path: lossy(from) })?;
        let is_dir = self.changeable(id)?.kind() == FileKind::Directory;
        if is_dir && self.lies_below(id, to_dir) {
            return Err(VfsError::WrongKind { path: lossy(to), detail: "lies below what is moved".into() });
        }
        match self.lookup(to_dir, to)? {
            Some(target) if target == id => return Ok(()),
            Some(target) => match (is_dir, self.node(target)?.kind() == FileKind::Directory) {
                (true, true) => self.remove_dir(to_dir, to)?,
                (false, false) => self.unlink(to_dir, to)?,
                (true, false) => return Err(VfsError::NotADirectory { path: lossy(to) }),
                (false, true) => return Err(VfsError::IsADirectory { path: lossy(to) }),
            },
            None => {}
        }
        self.changeable(to_dir)?;
        self.entries_mut(from_dir)?.remove(from);
        self.entries_mut(to_dir)?.insert(to.to_vec(), id);
        if is_dir {
            self.node_mut(from_dir)?.links -= 1;
            self.node_mut(to_dir)?.links += 1;
        }
        Ok(())
    }

    fn set_metadata(&mut self, id: NodeId, change: MetadataChange) -> Result<(), VfsError> {
        let now = self.now;
        let node = self.changeable(id)?;
        node.mode = change.mode.map_or(node.mode, |mode| mode & 0o7777);
        node.uid = change.uid.unwrap_or(node.uid);
        node.gid = change.gid.unwrap_or(node.gid);
        node.times = [change.atime.unwrap_or(node.times[0]), change.mtime.unwrap_or(node.times[1]), now];
        Ok(())
    }

    fn set_xattr(&mut self, id: NodeId, name: &[u8], value: &[u8]) -> Result<(), VfsError> {
        let now = self.now;
        let node = self.changeable(id)?;
        node.xattrs.insert(name.to_vec(), value.to_vec());
        node.times[2] = now;
        Ok(())
    }

    fn remove_xattr(&mut self, id: NodeId, name: &[u8]) -> Result<(), VfsError> {
        let now = self.now;
        let node = self.changeable(id)?;
        node.xattrs.remove(name).ok_or_else(|| VfsError::NotFound { path: lossy(name) })?;
        node.times[2] = now;
        Ok(())
    }

    fn set_immutable(&mut self, id: NodeId, immutable: bool) -> Result<(), VfsError> {
        self.node_mut(id)?.is_immutable = immutable;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), VfsError> {
        Ok(())
    }
}
