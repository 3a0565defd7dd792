//! One guest tree out of several filesystems.

use crate::{FileKind, Filesystem, GuestPath, Metadata, NodeId, VfsError, WritableFilesystem, Xattr};

/// Symlinks followed in one walk at most; the kernel's limit (`MAXSYMLINKS`).
pub const MAX_SYMLINKS: usize = 40;

/// Where the EFI system partition is when the guest's own fstab does not mount it: a place beside the guest's names,
/// which no directory lists.
pub const DETACHED_ESP: &str = "/efi-system-partition";

/// A filesystem at its place.
pub struct Mount {
    /// Mount point with all symlinks resolved.
    pub at: GuestPath,
    /// The driver.
    pub filesystem: Box<dyn Filesystem>,
    /// How reports name the device, for example `partition 1`.
    pub device: String,
}

/// A node of the tree: which mount, which node, and the real path to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Index of the mount.
    pub mount: usize,
    /// Node within that filesystem.
    pub node: NodeId,
    /// Path with all symlinks resolved.
    pub path: GuestPath,
}

/// The guest's files as the guest itself sees them.
pub struct GuestTree {
    mounts: Vec<Mount>,
}

impl GuestTree {
    /// A tree with `root` at `/`.
    pub fn new(root: Box<dyn Filesystem>, device: impl Into<String>) -> Self {
        Self { mounts: vec![Mount { at: GuestPath::root(), filesystem: root, device: device.into() }] }
    }

    /// Puts `filesystem` over the directory `at`, which must exist.
    pub fn mount(
        &mut self,
        at: &GuestPath,
        filesystem: Box<dyn Filesystem>,
        device: impl Into<String>,
    ) -> Result<(), VfsError> {
        let location = self.resolve(at)?;
        if self.stat_at(&location)?.kind != FileKind::Directory {
            return Err(VfsError::NotADirectory { path: at.to_string() });
        }
        self.mounts.push(Mount { at: location.path, filesystem, device: device.into() });
        Ok(())
    }

    /// Puts `filesystem` at a path that nothing has: it is found by that path and listed nowhere. Where the guest has
    /// something of that name, this fails.
    pub fn attach(
        &mut self,
        at: &GuestPath,
        filesystem: Box<dyn Filesystem>,
        device: impl Into<String>,
    ) -> Result<(), VfsError> {
        if self.exists(at)? {
            let detail = "something of that name is there".to_owned();
            return Err(VfsError::WrongKind { path: at.to_string(), detail });
        }
        self.mounts.push(Mount { at: at.clone(), filesystem, device: device.into() });
        Ok(())
    }

    /// All mounts; the first is the root.
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// All mounts, for flushing.
    pub fn mounts_mut(&mut self) -> &mut [Mount] {
        &mut self.mounts
    }

    /// Follows every symlink, the last one included.
    pub fn resolve(&self, path: &GuestPath) -> Result<Location, VfsError> {
        self.walk(path, true)
    }

    /// Follows symlinks in all components but the last.
    pub fn resolve_no_follow(&self, path: &GuestPath) -> Result<Location, VfsError> {
        self.walk(path, false)
    }

    /// True when the path leads to something.
    pub fn exists(&self, path: &GuestPath) -> Result<bool, VfsError> {
        match self.resolve(path) {
            Ok(_) => Ok(true),
            Err(VfsError::NotFound { .. } | VfsError::NotADirectory { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Metadata of what the path leads to.
    pub fn stat(&self, path: &GuestPath) -> Result<Metadata, VfsError> {
        self.stat_at(&self.resolve(path)?)
    }

    /// Metadata of the last component itself.
    pub fn stat_no_follow(&self, path: &GuestPath) -> Result<Metadata, VfsError> {
        self.stat_at(&self.resolve_no_follow(path)?)
    }

    /// Metadata of a known location.
    pub fn stat_at(&self, location: &Location) -> Result<Metadata, VfsError> {
        self.mounts[location.mount].filesystem.stat(location.node)
    }

    /// Names in a directory, sorted.
    pub fn list(&self, path: &GuestPath) -> Result<Vec<Vec<u8>>, VfsError> {
        let location = self.resolve(path)?;
        let entries = self.mounts[location.mount].filesystem.list(location.node)?;
        let mut names: Vec<Vec<u8>> = entries.into_iter().map(|entry| entry.name).collect();
        names.sort();
        Ok(names)
    }

    /// Target of the symlink at `path`.
    pub fn read_link(&self, path: &GuestPath) -> Result<Vec<u8>, VfsError> {
        let location = self.resolve_no_follow(path)?;
        self.mounts[location.mount].filesystem.read_link(location.node)
    }

    /// Extended attributes of what the path leads to.
    pub fn xattrs(&self, path: &GuestPath) -> Result<Vec<Xattr>, VfsError> {
        let location = self.resolve(path)?;
        self.mounts[location.mount].filesystem.xattrs(location.node)
    }

    /// The whole content of a regular file of at most `limit` bytes.
    pub fn read(&self, path: &GuestPath, limit: u64) -> Result<Vec<u8>, VfsError> {
        let location = self.resolve(path)?;
        let metadata = self.stat_at(&location)?;
        match metadata.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Err(VfsError::IsADirectory { path: path.to_string() }),
            _ => {
                return Err(VfsError::WrongKind {
                    path: path.to_string(),
                    detail: "not a regular file".into(),
                });
            }
        }
        if metadata.len > limit {
            return Err(VfsError::Limit {
                path: path.to_string(),
                limit: format!("{} bytes, more than the {limit} read at most", metadata.len),
            });
        }
        let mut content = vec![0; metadata.len as usize];
        let got = self.mounts[location.mount].filesystem.read_at(location.node, 0, &mut content)?;
        content.truncate(got);
        Ok(content)
    }

    /// Content of a regular file, or `None` when there is none at `path`.
    pub fn read_if_exists(&self, path: &GuestPath, limit: u64) -> Result<Option<Vec<u8>>, VfsError> {
        match self.read(path, limit) {
            Ok(content) => Ok(Some(content)),
            Err(VfsError::NotFound { .. } | VfsError::NotADirectory { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The directory that holds (or would hold) the last component, and that component's name.
    pub fn resolve_parent(&self, path: &GuestPath) -> Result<(Location, Vec<u8>), VfsError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(VfsError::IsADirectory { path: "/".into() });
        };
        if name == b".." {
            return Err(VfsError::BadName { name: "..".into(), detail: "not a name of its own" });
        }
        Ok((self.resolve(&parent)?, name.to_vec()))
    }

    /// The writing side of the filesystem at a location.
    pub fn writable(&mut self, mount: usize) -> Result<&mut dyn WritableFilesystem, VfsError> {
        self.mounts[mount].filesystem.writable()
    }

    /// Replaces the content of the file that `path` leads to, or creates it with `mode` as root:root.
    pub fn write(&mut self, path: &GuestPath, content: &[u8], mode: u16) -> Result<(), VfsError> {
        match self.resolve(path) {
            Ok(location) => self.writable(location.mount)?.replace_content(location.node, content),
            Err(VfsError::NotFound { .. }) => {
                let (dir, name) = self.resolve_parent(path)?;
                let filesystem = self.writable(dir.mount)?;
                filesystem.create(dir.node, &name, crate::NewNode::Regular(content), mode, 0, 0).map(drop)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes back everything that any filesystem that was opened for writing holds.
    pub fn flush(&mut self) -> Result<(), VfsError> {
        for mount in &mut self.mounts {
            match mount.filesystem.writable() {
                Ok(filesystem) => filesystem.flush()?,
                Err(VfsError::ReadOnly { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The mount that covers exactly `path`, newest first.
    fn mount_at(&self, path: &GuestPath) -> Option<usize> {
        self.mounts.iter().rposition(|mount| mount.at == *path)
    }

    fn walk(&self, path: &GuestPath, follow_last: bool) -> Result<Location, VfsError> {
        let missing = || VfsError::NotFound { path: path.to_string() };
        let root = || {
            let mount = self.mount_at(&GuestPath::root()).unwrap_or(0);
            Location { mount, node: self.mounts[mount].filesystem.root(), path: GuestPath::root() }
        };
        let mut here = vec![root()];
        // Components still to walk, the next one last.
        let mut todo: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                if here.len() > 1 {
                    here.pop();
                }
                continue;
            }
            let dir = here.last().cloned().unwrap_or_else(root);
            let filesystem = &self.mounts[dir.mount].filesystem;
            if filesystem.stat(dir.node)?.kind != FileKind::Directory {
                return Err(VfsError::NotADirectory { path: dir.path.to_string() });
            }
            let real = dir.path.join(&name);
            let Some(node) = filesystem.lookup(dir.node, &name)? else {
                let mount = self.mount_at(&real).ok_or_else(missing)?;
                here.push(Location { mount, node: self.mounts[mount].filesystem.root(), path: real });
                continue;
            };
            let is_last = todo.is_empty();
            if filesystem.stat(node)?.kind == FileKind::Symlink && (follow_last || !is_last) {
                links += 1;
                if links > MAX_SYMLINKS {
                    return Err(VfsError::SymlinkLoop { path: path.to_string() });
                }
                let target = filesystem.read_link(node)?;
                if target.first() == Some(&b'/') {
                    here.truncate(1);
                }
                let parts =
                    target.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
                todo.extend(parts.rev().map(<[u8]>::to_vec));
                continue;
            }
            let location = match self.mount_at(&real) {
                Some(mount) => Location { mount, node: self.mounts[mount].filesystem.root(), path: real },
                None => Location { mount: dir.mount, node, path: real },
            };
            here.push(location);
        }
        here.pop().ok_or_else(missing)
    }
}
