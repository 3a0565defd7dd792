//! The writing side, and what FAT cannot hold.

use hadris_fs::{FileType, Name, RenameMode, SetAttr};
use vfs::{FileKind, Filesystem, MetadataChange, NewNode, NodeId, Timestamp, VfsError, WritableFilesystem};

use crate::error::{self, unsupported};
use crate::fs::{Fat, MODE, date_time};

/// The longest file: its length is stored in 32 bits.
const MAX_FILE_BYTES: u64 = u32::MAX as u64;

fn too_long(path: String) -> VfsError {
    VfsError::Limit { path, limit: "FAT files end below 4 GiB".into() }
}

fn no_owner(uid: u32, gid: u32) -> Result<(), VfsError> {
    match (uid, gid) {
        (0, 0) => Ok(()),
        _ => Err(unsupported("fat.owner", format!("an owner ({uid}:{gid}) on FAT, which stores none"))),
    }
}

impl Fat {
    /// Fails when `content` more bytes than `freed` do not fit: before anything is changed.
    fn require_room(&self, content: u64, freed: u64) -> Result<(), VfsError> {
        let space = self.space()?;
        let cluster = u64::from(self.info().block_size.max(1));
        // One more cluster for a directory that has to grow.
        let needed = content.div_ceil(cluster).saturating_add(1).saturating_mul(cluster);
        if needed <= space.free_bytes.saturating_add(freed) {
            return Ok(());
        }
        Err(VfsError::NoSpace {
            filesystem: self.info().uuid.unwrap_or_else(|| "vfat".into()),
            needed_bytes: needed,
            free_bytes: space.free_bytes.saturating_add(freed),
        })
    }

    fn write_all(&mut self, node: NodeId, offset: u64, data: &[u8]) -> Result<(), VfsError> {
        let fat_node = Self::node(node)?;
        let mut driver = self.driver();
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let written = driver.write(fat_node, offset + done as u64, rest);
            match written.map_err(|failed| error::of(failed, b"content"))? {
                0 => return Err(VfsError::Limit { path: "content".into(), limit: "no room left".into() }),
                written => done += written,
            }
        }
        driver.fsync(fat_node).map_err(|failed| error::of(failed, b"content"))
    }

    fn require_regular(&self, node: NodeId) -> Result<u64, VfsError> {
        let metadata = self.stat(node)?;
        match metadata.kind {
            FileKind::Regular => Ok(metadata.allocated),
            _ => Err(VfsError::IsADirectory { path: format!("node {}", node.0) }),
        }
    }
}

impl WritableFilesystem for Fat {
    fn set_clock(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// The mode is not stored, as in Linux's driver: everything has the same.
    fn create(
        &mut self,
        dir: NodeId,
        name: &[u8],
        node: NewNode<'_>,
        _mode: u16,
        uid: u32,
        gid: u32,
    ) -> Result<NodeId, VfsError> {
        let path = || String::from_utf8_lossy(name).into_owned();
        let content = match node {
            NewNode::Regular(content) => Some(content),
            NewNode::Directory => None,
            NewNode::Symlink(_) => {
                return Err(unsupported("fat.symlink", format!("{}: a symbolic link on FAT", path())));
            }
            NewNode::Special(..) => {
                return Err(unsupported(
                    "fat.special",
                    format!("{}: a device node, FIFO or socket on FAT", path()),
                ));
            }
        };
        no_owner(uid, gid)?;
        if content.is_some_and(|content| content.len() as u64 > MAX_FILE_BYTES) {
            return Err(too_long(path()));
        }
        let cluster = u64::from(self.info().block_size);
        self.require_room(content.map_or(cluster, |content| content.len() as u64), 0)?;
        let dir = Self::node(dir)?;
        let made = {
            let mut driver = self.driver();
            if Self::find(&mut driver, dir, name)?.is_some() {
                return Err(VfsError::Exists { path: path() });
            }
            let made = match content {
                Some(_) => driver.create(dir, Name::new(name), &SetAttr::new()),
                None => driver.mkdir(dir, Name::new(name), &SetAttr::new()),
            };
            let made = made.map_err(|failed| error::of(failed, name))?;
            driver.forget(made, 1);
            NodeId(made.get())
        };
        if let Some(content) = content {
            self.write_all(made, 0, content)?;
        }
        Ok(made)
    }

    fn replace_content(&mut self, node: NodeId, content: &[u8]) -> Result<(), VfsError> {
        let allocated = self.require_regular(node)?;
        if content.len() as u64 > MAX_FILE_BYTES {
            return Err(too_long(format!("node {}", node.0)));
        }
        self.require_room(content.len() as u64, allocated)?;
        self.truncate(node, 0)?;
        self.write_all(node, 0, content)
    }

    fn write_at(&mut self, node: NodeId, offset: u64, data: &[u8]) -> Result<(), VfsError> {
        let allocated = self.require_regular(node)?;
        let end = offset.saturating_add(data.len() as u64);
        if end > MAX_FILE_BYTES {
            return Err(too_long(format!("node {}", node.0)));
        }
        self.require_room(end, allocated)?;
        // The driver writes behind the end only where the file reaches.
        if offset > self.stat(node)?.len {
            self.truncate(node, offset)?;
        }
        self.write_all(node, offset, data)
    }

    fn truncate(&mut self, node: NodeId, len: u64) -> Result<(), VfsError> {
        let allocated = self.require_regular(node)?;
        if len > MAX_FILE_BYTES {
            return Err(too_long(format!("node {}", node.0)));
        }
        if len > allocated {
            self.require_room(len, allocated)?;
        }
        let fat_node = Self::node(node)?;
        let mut driver = self.driver();
        driver.truncate(fat_node, len).map_err(|failed| error::of(failed, b"content"))
    }

    fn link(&mut self, _node: NodeId, _dir: NodeId, name: &[u8]) -> Result<(), VfsError> {
        Err(unsupported("fat.link", format!("{}: a hard link on FAT", String::from_utf8_lossy(name))))
    }

    fn unlink(&mut self, dir: NodeId, name: &[u8]) -> Result<(), VfsError> {
        let dir = Self::node(dir)?;
        self.driver().unlink(dir, Name::new(name)).map_err(|failed| error::of(failed, name))
    }

    fn remove_dir(&mut self, dir: NodeId, name: &[u8]) -> Result<(), VfsError> {
        let dir = Self::node(dir)?;
        self.driver().rmdir(dir, Name::new(name)).map_err(|failed| error::of(failed, name))
    }

    fn rename(&mut self, from_dir: NodeId, from: &[u8], to_dir: NodeId, to: &[u8]) -> Result<(), VfsError> {
        let (from_dir, to_dir) = (Self::node(from_dir)?, Self::node(to_dir)?);
        let (from_name, to_name) = (Name::new(from), Name::new(to));
        self.driver()
            .rename(from_dir, from_name, to_dir, to_name, RenameMode::Replace)
            .map_err(|failed| error::of(failed, from))
    }

    fn set_metadata(&mut self, node: NodeId, change: MetadataChange) -> Result<(), VfsError> {
        no_owner(change.uid.unwrap_or(0), change.gid.unwrap_or(0))?;
        if let Some(mode) = change.mode.filter(|mode| *mode != MODE) {
            return Err(unsupported("fat.mode", format!("mode {mode:04o} on FAT, which stores none")));
        }
        let mut attributes = SetAttr::new();
        if let Some(time) = change.atime.and_then(date_time) {
            attributes = attributes.with_accessed(time);
        }
        if let Some(time) = change.mtime.and_then(date_time) {
            attributes = attributes.with_modified(time);
        }
        let fat_node = Self::node(node)?;
        let mut driver = self.driver();
        let found = driver.stat(fat_node).map_err(|failed| error::of(failed, b"times"))?;
        let is_root = fat_node == driver.root();
        if attributes.is_empty() || (is_root && found.file_type() == FileType::Dir) {
            return Ok(());
        }
        driver.setattr(fat_node, &attributes).map_err(|failed| error::of(failed, b"times"))
    }

    fn set_xattr(&mut self, _node: NodeId, name: &[u8], _value: &[u8]) -> Result<(), VfsError> {
        let name = String::from_utf8_lossy(name);
        Err(unsupported("fat.xattr", format!("the extended attribute {name} on FAT, which stores none")))
    }

    fn remove_xattr(&mut self, _node: NodeId, name: &[u8]) -> Result<(), VfsError> {
        Err(VfsError::NotFound { path: String::from_utf8_lossy(name).into_owned() })
    }

    fn set_immutable(&mut self, _node: NodeId, immutable: bool) -> Result<(), VfsError> {
        match immutable {
            true => Err(unsupported("fat.immutable", "chattr +i on FAT")),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), VfsError> {
        self.driver().sync().map_err(|failed| error::of(failed, b"/"))
    }
}
