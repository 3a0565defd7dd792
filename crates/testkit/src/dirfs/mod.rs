//! A filesystem in memory, so that everything above `vfs` is tested without a disk image.

#![allow(clippy::panic, reason = "a test tree that contradicts itself is a bug of the test")]

mod driver;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use vfs::{
    FileKind, Filesystem, GuestPath, GuestTree, NewNode, NodeId, Timestamp, VfsError, WritableFilesystem,
};

/// Unit of [`DirFs`]'s account of space.
const BLOCK_SIZE: u64 = 4096;
/// Name length limit, as Linux has it.
const NAME_MAX: usize = 255;
const ROOT: NodeId = NodeId(2);

#[derive(Debug, Clone)]
enum Content {
    Bytes(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, NodeId>),
    Target(Vec<u8>),
    Special(FileKind, u32, u32),
}

#[derive(Debug, Clone)]
struct Node {
    content: Content,
    mode: u16,
    uid: u32,
    gid: u32,
    links: u64,
    times: [Timestamp; 3],
    crtime: Timestamp,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    is_immutable: bool,
}

impl Node {
    fn kind(&self) -> FileKind {
        match &self.content {
            Content::Bytes(_) => FileKind::Regular,
            Content::Directory(_) => FileKind::Directory,
            Content::Target(_) => FileKind::Symlink,
            Content::Special(kind, _, _) => *kind,
        }
    }

    fn len(&self) -> u64 {
        match &self.content {
            Content::Bytes(bytes) | Content::Target(bytes) => bytes.len() as u64,
            Content::Directory(_) => BLOCK_SIZE,
            Content::Special(..) => 0,
        }
    }

    fn allocated(&self) -> u64 {
        match &self.content {
            Content::Bytes(bytes) => (bytes.len() as u64).next_multiple_of(BLOCK_SIZE),
            Content::Directory(_) => BLOCK_SIZE,
            _ => 0,
        }
    }
}

/// A guest filesystem in memory: a tree made from (path, content) pairs or from a host directory.
///
/// Behaves as a driver does, refusals included: names are checked, immutable nodes are not changed,
/// and a limit on space makes [`VfsError::NoSpace`].
#[derive(Debug, Clone)]
pub struct DirFs {
    nodes: BTreeMap<NodeId, Node>,
    next: u64,
    now: Timestamp,
    total_bytes: u64,
    is_writable: bool,
    uuid: String,
}

impl Default for DirFs {
    fn default() -> Self {
        Self::new()
    }
}

impl DirFs {
    /// An empty root directory, writable, with 1 GiB of room.
    pub fn new() -> Self {
        let mut filesystem = Self {
            nodes: BTreeMap::new(),
            next: ROOT.0,
            now: Timestamp { seconds: 1_700_000_000, nanoseconds: 0 },
            total_bytes: 1 << 30,
            is_writable: true,
            uuid: "00000000-0000-4000-8000-00000000d1f5".into(),
        };
        let root = filesystem.add_node(Content::Directory(BTreeMap::new()), 0o755, 0, 0);
        filesystem.node_mut(root).expect("the root is there").links = 2;
        filesystem
    }

    /// Files with mode 0644, owned by root; directories above them are made.
    pub fn from_files<P: AsRef<[u8]>, C: AsRef<[u8]>>(files: impl IntoIterator<Item = (P, C)>) -> Self {
        let mut filesystem = Self::new();
        for (path, content) in files {
            filesystem.add_file(path, content);
        }
        filesystem
    }

    /// A copy of a host directory: content, kinds, modes, owners, times, hard links, readable xattrs.
    pub fn from_host_dir(dir: &Path) -> io::Result<Self> {
        let mut filesystem = Self::new();
        let mut seen = BTreeMap::new();
        filesystem.copy_host_metadata(ROOT, dir)?;
        filesystem.copy_host_children(ROOT, dir, &mut seen)?;
        Ok(filesystem)
    }

    /// Adds or replaces a file (mode 0644, root:root); directories above it are made.
    pub fn add_file(&mut self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> &mut Self {
        self.add(path.as_ref(), Content::Bytes(content.as_ref().to_vec()), 0o644);
        self
    }

    /// Adds a directory (mode 0755, root:root) unless it is there.
    pub fn add_dir(&mut self, path: impl AsRef<[u8]>) -> &mut Self {
        let path = guest_path(path.as_ref());
        self.make_dirs(&path);
        self
    }

    /// Adds or replaces a symlink; directories above it are made.
    pub fn add_symlink(&mut self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> &mut Self {
        self.add(path.as_ref(), Content::Target(target.as_ref().to_vec()), 0o777);
        self
    }

    /// Adds or replaces a device node, FIFO or socket.
    pub fn add_special(
        &mut self,
        path: impl AsRef<[u8]>,
        kind: FileKind,
        major: u32,
        minor: u32,
    ) -> &mut Self {
        self.add(path.as_ref(), Content::Special(kind, major, minor), 0o600);
        self
    }

    /// Sets the mode of what is at `path` (no symlink is followed).
    pub fn set_mode(&mut self, path: impl AsRef<[u8]>, mode: u16) -> &mut Self {
        self.at(path.as_ref()).mode = mode;
        self
    }

    /// Sets the owner of what is at `path` (no symlink is followed).
    pub fn set_owner(&mut self, path: impl AsRef<[u8]>, uid: u32, gid: u32) -> &mut Self {
        let node = self.at(path.as_ref());
        (node.uid, node.gid) = (uid, gid);
        self
    }

    /// Sets an xattr of what is at `path` (no symlink is followed).
    pub fn add_xattr(&mut self, path: impl AsRef<[u8]>, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        let node = self.at(path.as_ref());
        node.xattrs.insert(name.as_bytes().to_vec(), value.as_ref().to_vec());
        self
    }

    /// Makes what is at `path` immutable.
    pub fn add_immutable(&mut self, path: impl AsRef<[u8]>) -> &mut Self {
        self.at(path.as_ref()).is_immutable = true;
        self
    }

    /// Leaves `free_bytes` of room.
    pub fn limit_free_bytes(&mut self, free_bytes: u64) -> &mut Self {
        self.total_bytes = self.used_bytes() + free_bytes / BLOCK_SIZE * BLOCK_SIZE;
        self
    }

    /// Gives the filesystem this UUID.
    pub fn set_uuid(&mut self, uuid: &str) -> &mut Self {
        self.uuid = uuid.to_owned();
        self
    }

    /// Refuses every write from now on.
    pub fn read_only(&mut self) -> &mut Self {
        self.is_writable = false;
        self
    }

    /// This filesystem as the root of a guest tree.
    pub fn into_tree(self) -> GuestTree {
        GuestTree::new(Box::new(self), "test directory")
    }

    /// Every path with what is there, for comparing two states: kind, mode, owner, xattrs, content.
    pub fn listing(&self) -> BTreeMap<GuestPath, String> {
        let mut listing = BTreeMap::new();
        let mut todo = vec![(GuestPath::root(), ROOT)];
        while let Some((path, id)) = todo.pop() {
            let Some(node) = self.nodes.get(&id) else { continue };
            let content = match &node.content {
                Content::Bytes(bytes) => {
                    format!("{} bytes {:?}", bytes.len(), String::from_utf8_lossy(bytes))
                }
                Content::Target(target) => format!("-> {}", String::from_utf8_lossy(target)),
                Content::Special(_, major, minor) => format!("{major}:{minor}"),
                Content::Directory(entries) => {
                    todo.extend(entries.iter().map(|(name, id)| (path.join(name), *id)));
                    String::new()
                }
            };
            let line = format!(
                "{:?} {:o} {}:{} links {} {:?} {content}",
                node.kind(),
                node.mode,
                node.uid,
                node.gid,
                node.links,
                node.xattrs
            );
            listing.insert(path, line);
        }
        listing
    }

    fn add_node(&mut self, content: Content, mode: u16, uid: u32, gid: u32) -> NodeId {
        let id = NodeId(self.next);
        // As in ext4, number 2 is the root and the next free one is 11.
        self.next = (self.next + 1).max(11);
        let node = Node {
            content,
            mode,
            uid,
            gid,
            links: 1,
            times: [self.now; 3],
            crtime: self.now,
            xattrs: BTreeMap::new(),
            is_immutable: false,
        };
        self.nodes.insert(id, node);
        id
    }

    fn add(&mut self, path: &[u8], content: Content, mode: u16) {
        let path = guest_path(path);
        let dir = self.make_dirs(&path.parent().expect("a file is not the root"));
        let name = path.file_name().expect("a file has a name").to_vec();
        let id = self.add_node(content, mode, 0, 0);
        if let Some(old) = self.entries_mut(dir).expect("made as a directory").insert(name, id) {
            self.nodes.remove(&old);
        }
    }

    fn make_dirs(&mut self, path: &GuestPath) -> NodeId {
        let mut here = ROOT;
        for name in path.components() {
            let known = self.entries_mut(here).expect("a directory above").get(name).copied();
            here = known.unwrap_or_else(|| {
                self.create(here, name, NewNode::Directory, 0o755, 0, 0).expect("a directory can be made")
            });
        }
        here
    }

    fn at(&mut self, path: &[u8]) -> &mut Node {
        let path = guest_path(path);
        let mut here = ROOT;
        for name in path.components() {
            here = self
                .lookup(here, name)
                .ok()
                .flatten()
                .unwrap_or_else(|| panic!("{path} is not in the test tree"));
        }
        self.node_mut(here).expect("just found")
    }

    fn copy_host_children(
        &mut self,
        dir: NodeId,
        host_dir: &Path,
        seen: &mut BTreeMap<(u64, u64), NodeId>,
    ) -> io::Result<()> {
        for entry in std::fs::read_dir(host_dir)? {
            let entry = entry?;
            let (host, name) = (entry.path(), entry.file_name().as_bytes().to_vec());
            let metadata = host.symlink_metadata()?;
            let file_type = metadata.file_type();
            let identity = (metadata.dev(), metadata.ino());
            if let Some(known) = seen.get(&identity) {
                self.link(*known, dir, &name).map_err(io::Error::other)?;
                continue;
            }
            let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
            let content;
            let target;
            let node = if file_type.is_dir() {
                NewNode::Directory
            } else if file_type.is_symlink() {
                target = host.read_link()?;
                NewNode::Symlink(target.as_os_str().as_bytes())
            } else if file_type.is_file() {
                content = std::fs::read(&host)?;
                NewNode::Regular(&content)
            } else if file_type.is_block_device() {
                NewNode::Special(FileKind::BlockDevice, major, minor)
            } else if file_type.is_char_device() {
                NewNode::Special(FileKind::CharDevice, major, minor)
            } else if file_type.is_fifo() {
                NewNode::Special(FileKind::Fifo, 0, 0)
            } else {
                NewNode::Special(FileKind::Socket, 0, 0)
            };
            let id = self.create(dir, &name, node, 0, 0, 0).map_err(io::Error::other)?;
            if file_type.is_dir() {
                self.copy_host_children(id, &host, seen)?;
            } else if metadata.nlink() > 1 {
                seen.insert(identity, id);
            }
            self.copy_host_metadata(id, &host)?;
        }
        Ok(())
    }

    fn copy_host_metadata(&mut self, id: NodeId, host: &Path) -> io::Result<()> {
        let metadata = host.symlink_metadata()?;
        let xattrs = host_xattrs(host)?;
        let time = |seconds, nanoseconds: i64| Timestamp { seconds, nanoseconds: nanoseconds as u32 };
        let node = self.node_mut(id).map_err(io::Error::other)?;
        node.mode = (metadata.mode() & 0o7777) as u16;
        (node.uid, node.gid) = (metadata.uid(), metadata.gid());
        node.times = [
            time(metadata.atime(), metadata.atime_nsec()),
            time(metadata.mtime(), metadata.mtime_nsec()),
            time(metadata.ctime(), metadata.ctime_nsec()),
        ];
        node.xattrs = xattrs;
        Ok(())
    }

    fn node(&self, id: NodeId) -> Result<&Node, VfsError> {
        self.nodes.get(&id).ok_or_else(|| no_node(id))
    }

    fn node_mut(&mut self, id: NodeId) -> Result<&mut Node, VfsError> {
        self.nodes.get_mut(&id).ok_or_else(|| no_node(id))
    }

    fn changeable(&mut self, id: NodeId) -> Result<&mut Node, VfsError> {
        let node = self.node_mut(id)?;
        if node.is_immutable {
            return Err(VfsError::WrongKind {
                path: format!("inode {}", id.0),
                detail: "immutable (chattr +i)".into(),
            });
        }
        Ok(node)
    }

    fn bytes_mut(&mut self, id: NodeId) -> Result<&mut Vec<u8>, VfsError> {
        let now = self.now;
        let node = self.changeable(id)?;
        (node.times[1], node.times[2]) = (now, now);
        match &mut node.content {
            Content::Bytes(bytes) => Ok(bytes),
            _ => Err(VfsError::WrongKind {
                path: format!("inode {}", id.0),
                detail: "not a regular file".into(),
            }),
        }
    }

    fn entries(&self, dir: NodeId) -> Result<&BTreeMap<Vec<u8>, NodeId>, VfsError> {
        match &self.node(dir)?.content {
            Content::Directory(entries) => Ok(entries),
            _ => Err(VfsError::NotADirectory { path: format!("inode {}", dir.0) }),
        }
    }

    fn entries_mut(&mut self, dir: NodeId) -> Result<&mut BTreeMap<Vec<u8>, NodeId>, VfsError> {
        let now = self.now;
        let node = self.changeable(dir)?;
        match &mut node.content {
            Content::Directory(entries) => {
                (node.times[1], node.times[2]) = (now, now);
                Ok(entries)
            }
            _ => Err(VfsError::NotADirectory { path: format!("inode {}", dir.0) }),
        }
    }

    fn used_bytes(&self) -> u64 {
        self.nodes.values().map(Node::allocated).sum()
    }

    /// Refuses when replacing `old` bytes of content by `new` takes more than the room left.
    fn need_room(&self, old: u64, new: u64) -> Result<(), VfsError> {
        let free = self.total_bytes.saturating_sub(self.used_bytes());
        let needed = new.next_multiple_of(BLOCK_SIZE).saturating_sub(old.next_multiple_of(BLOCK_SIZE));
        if needed > free {
            return Err(VfsError::NoSpace {
                filesystem: "test directory".into(),
                needed_bytes: needed,
                free_bytes: free,
            });
        }
        Ok(())
    }

    fn drop_link(&mut self, id: NodeId) -> Result<(), VfsError> {
        let now = self.now;
        let node = self.node_mut(id)?;
        node.links = node.links.saturating_sub(1);
        node.times[2] = now;
        if node.links == 0 {
            self.nodes.remove(&id);
        }
        Ok(())
    }

    /// True when `below` is `dir` or lies below it.
    fn lies_below(&self, dir: NodeId, below: NodeId) -> bool {
        dir == below
            || self.entries(dir).is_ok_and(|entries| entries.values().any(|id| self.lies_below(*id, below)))
    }
}

fn guest_path(raw: &[u8]) -> GuestPath {
    GuestPath::new(raw).unwrap_or_else(|error| panic!("{}: {error}", String::from_utf8_lossy(raw)))
}

fn no_node(id: NodeId) -> VfsError {
    VfsError::NotFound { path: format!("inode {}", id.0) }
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn check_name(name: &[u8]) -> Result<(), VfsError> {
    let detail = match name {
        b"" => "empty",
        b"." | b".." => "stands for a directory",
        name if name.len() > NAME_MAX => "longer than 255 bytes",
        name if name.iter().any(|byte| matches!(byte, b'/' | 0)) => "holds / or NUL",
        _ => return Ok(()),
    };
    Err(VfsError::BadName { name: lossy(name), detail })
}

fn host_xattrs(host: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0u8; 65536];
    let len = match rustix::fs::llistxattr(host, &mut names[..]) {
        Ok(len) => len,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno.into()),
    };
    let mut xattrs = BTreeMap::new();
    for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; 65536];
        let len = rustix::fs::lgetxattr(host, name, &mut value[..])?;
        value.truncate(len);
        xattrs.insert(name.to_vec(), value);
    }
    Ok(xattrs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_directory_is_taken_over() {
        let host = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(host.path().join("etc/default")).unwrap();
        std::fs::write(host.path().join("etc/default/grub"), "x=1\n").unwrap();
        std::fs::hard_link(host.path().join("etc/default/grub"), host.path().join("etc/grub")).unwrap();
        std::os::unix::fs::symlink("default/grub", host.path().join("etc/link")).unwrap();
        let filesystem = DirFs::from_host_dir(host.path()).unwrap();
        let mut tree = filesystem.into_tree();
        let path = |text: &str| GuestPath::new(text).unwrap();
        assert_eq!(tree.read(&path("/etc/link"), 100).unwrap(), b"x=1\n");
        assert_eq!(tree.stat(&path("/etc/grub")).unwrap().links, 2);
        tree.write(&path("/etc/link"), b"y", 0o600).unwrap();
        assert_eq!(tree.read(&path("/etc/grub"), 100).unwrap(), b"y");
    }

    #[test]
    fn refusals_change_nothing() {
        let mut filesystem = DirFs::from_files([("/a/b", "1"), ("/c", "2")]);
        filesystem.add_immutable("/c").limit_free_bytes(8192);
        let before = filesystem.listing();
        let a = filesystem.lookup(ROOT, b"a").unwrap().unwrap();
        let c = filesystem.lookup(ROOT, b"c").unwrap().unwrap();
        let big = vec![0; 8193];
        assert!(matches!(
            filesystem.create(a, b"big", NewNode::Regular(&big), 0o644, 0, 0),
            Err(VfsError::NoSpace { needed_bytes: 12288, free_bytes: 8192, .. })
        ));
        assert!(matches!(filesystem.remove_dir(ROOT, b"a"), Err(VfsError::NotEmpty { .. })));
        assert!(matches!(filesystem.rename(ROOT, b"a", a, b"x"), Err(VfsError::WrongKind { .. })));
        assert!(matches!(filesystem.replace_content(c, b"3"), Err(VfsError::WrongKind { .. })));
        assert!(matches!(filesystem.link(a, ROOT, b"d"), Err(VfsError::IsADirectory { .. })));
        assert_eq!(filesystem.listing(), before);
    }

    #[test]
    fn renames_and_links_keep_count() {
        let mut filesystem = DirFs::from_files([("/a/b", "1"), ("/d/e", "2")]);
        let a = filesystem.lookup(ROOT, b"a").unwrap().unwrap();
        let d = filesystem.lookup(ROOT, b"d").unwrap().unwrap();
        filesystem.rename(a, b"b", d, b"e").unwrap();
        filesystem.rename(ROOT, b"a", d, b"sub").unwrap();
        assert_eq!(filesystem.stat(ROOT).unwrap().links, 3);
        assert_eq!(filesystem.stat(d).unwrap().links, 3);
        let paths: Vec<String> = filesystem.listing().keys().map(ToString::to_string).collect();
        assert_eq!(paths, ["/", "/d", "/d/e", "/d/sub"]);
    }
}
