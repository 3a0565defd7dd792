//! The traits that each filesystem driver implements.

use crate::{FreeRanges, VfsError};

/// Number of a node (inode) within one filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

/// Kind of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Block device.
    BlockDevice,
    /// Character device.
    CharDevice,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
}

/// Seconds and nanoseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Whole seconds; negative before 1970.
    pub seconds: i64,
    /// 0 to 999 999 999.
    pub nanoseconds: u32,
}

/// What `stat` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The node itself.
    pub node: NodeId,
    /// Its kind.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid, sticky: `0o7777` at most.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Content length in bytes; of a symlink its target's length.
    pub len: u64,
    /// Hard links.
    pub links: u64,
    /// Bytes of storage used, in the filesystem's own account (`st_blocks * 512`).
    pub allocated: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Creation, where the format keeps it.
    pub crtime: Option<Timestamp>,
    /// Device number (major, minor) of a device node.
    pub device: Option<(u32, u32)>,
    /// `chattr +i`.
    pub is_immutable: bool,
    /// `chattr +a`.
    pub is_append_only: bool,
}

/// A name in a directory. `.` and `..` are not listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Name, 1 to 255 bytes.
    pub name: Vec<u8>,
    /// What it names.
    pub node: NodeId,
    /// Kind as the directory tells it; `None` where the format does not say.
    pub kind: Option<FileKind>,
}

/// An extended attribute with its full name (`security.selinux`) and the value as `getxattr` returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// Full name with its prefix.
    pub name: Vec<u8>,
    /// Value in system-call form (an ACL in the form of `system.posix_acl_access`).
    pub value: Vec<u8>,
}

/// What a filesystem says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemInfo {
    /// `ext2`, `ext3`, `ext4`, …
    pub kind: &'static str,
    /// Printed UUID, lower case.
    pub uuid: Option<String>,
    /// Label, lossily printed.
    pub label: Option<String>,
    /// Bytes per block.
    pub block_size: u32,
    /// Features by name, in the spelling of the reference tools.
    pub features: Vec<String>,
}

/// Room left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceInfo {
    /// Bytes of all data blocks.
    pub total_bytes: u64,
    /// Bytes free, the reserved ones included.
    pub free_bytes: u64,
    /// Bytes free to everyone (reserve taken off); never more than `free_bytes`.
    pub available_bytes: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Inodes free.
    pub free_inodes: u64,
}

/// A filesystem that can be read.
pub trait Filesystem: Send + Sync {
    /// Identity and features.
    fn info(&self) -> FilesystemInfo;
    /// The root directory.
    fn root(&self) -> NodeId;
    /// Finds `name` in `dir`; `Ok(None)` when there is no such name.
    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>, VfsError>;
    /// Metadata of a node.
    fn stat(&self, node: NodeId) -> Result<Metadata, VfsError>;
    /// All entries but `.` and `..`, in the order of storage.
    fn list(&self, dir: NodeId) -> Result<Vec<DirEntry>, VfsError>;
    /// Target of a symlink.
    fn read_link(&self, node: NodeId) -> Result<Vec<u8>, VfsError>;
    /// Fills `buf` from `offset`; returns how many bytes there were (short only at the end of the file).
    fn read_at(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize, VfsError>;
    /// All extended attributes.
    fn xattrs(&self, node: NodeId) -> Result<Vec<Xattr>, VfsError>;
    /// Room left.
    fn space(&self) -> Result<SpaceInfo, VfsError>;
    /// Space whose content nobody can miss, in bytes from the filesystem's first byte.
    ///
    /// It says what the allocation tables say; whether these can be believed is the structural check's to tell, which
    /// the caller runs before. Metadata is never free, nor is anything that the filesystem does not manage: boot code
    /// in front, what lies behind its end. A driver that cannot tell refuses by name.
    fn free_ranges(&self) -> Result<FreeRanges, VfsError> {
        Err(VfsError::Unsupported {
            layer: "vfs",
            code: "guest.free-space.unsupported",
            feature: format!("to tell the free space of {}", self.info().kind),
            detail: String::new(),
        })
    }
    /// The writing side, when this filesystem was opened for writing; else the error says why not.
    fn writable(&mut self) -> Result<&mut dyn WritableFilesystem, VfsError>;
}

/// What a new node is made of.
#[derive(Debug, Clone)]
pub enum NewNode<'a> {
    /// Regular file with this content.
    Regular(&'a [u8]),
    /// Empty directory.
    Directory,
    /// Symlink with this target.
    Symlink(&'a [u8]),
    /// Device node, FIFO or socket; the numbers are used by devices only.
    Special(FileKind, u32, u32),
}

/// Fields to change; `None` leaves a field as it is. `ctime` is always set to `now`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MetadataChange {
    /// Permission bits, `0o7777` at most. A POSIX ACL is changed along, as `chmod` does.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Access time.
    pub atime: Option<Timestamp>,
    /// Modification time.
    pub mtime: Option<Timestamp>,
}

/// The writing side of a filesystem.
///
/// Every operation is complete when it returns `Ok`, or has changed nothing that a later successful
/// [`WritableFilesystem::flush`] would keep. After an error other than a plain refusal (not found,
/// exists, no space, …) the caller drops the whole overlay. Times come from the caller through
/// [`WritableFilesystem::set_clock`], so that output is reproducible.
pub trait WritableFilesystem: Filesystem {
    /// Time stamped on everything changed from now on.
    fn set_clock(&mut self, now: Timestamp);
    /// Makes `name` in `dir`. Fails with `Exists` when the name is there.
    fn create(
        &mut self,
        dir: NodeId,
        name: &[u8],
        node: NewNode<'_>,
        mode: u16,
        uid: u32,
        gid: u32,
    ) -> Result<NodeId, VfsError>;
    /// Replaces the whole content of a regular file; number, mode, owner, xattrs stay.
    fn replace_content(&mut self, node: NodeId, content: &[u8]) -> Result<(), VfsError>;
    /// Overwrites or extends from `offset`; blocks outside the range are not touched. A gap reads as zero.
    fn write_at(&mut self, node: NodeId, offset: u64, data: &[u8]) -> Result<(), VfsError>;
    /// Cuts or extends (with a hole) to `len`.
    fn truncate(&mut self, node: NodeId, len: u64) -> Result<(), VfsError>;
    /// Another name for a node that is no directory.
    fn link(&mut self, node: NodeId, dir: NodeId, name: &[u8]) -> Result<(), VfsError>;
    /// Removes a name that is no directory; the node goes with its last name.
    fn unlink(&mut self, dir: NodeId, name: &[u8]) -> Result<(), VfsError>;
    /// Removes an empty directory.
    fn remove_dir(&mut self, dir: NodeId, name: &[u8]) -> Result<(), VfsError>;
    /// Moves a name; an existing target is replaced as `rename(2)` does.
    fn rename(&mut self, from_dir: NodeId, from: &[u8], to_dir: NodeId, to: &[u8]) -> Result<(), VfsError>;
    /// Changes mode, owner, times.
    fn set_metadata(&mut self, node: NodeId, change: MetadataChange) -> Result<(), VfsError>;
    /// Sets one extended attribute (full name, value in system-call form).
    fn set_xattr(&mut self, node: NodeId, name: &[u8], value: &[u8]) -> Result<(), VfsError>;
    /// Removes one extended attribute; `NotFound` when it is not there.
    fn remove_xattr(&mut self, node: NodeId, name: &[u8]) -> Result<(), VfsError>;
    /// Sets or clears `chattr +i`; the other operations refuse on an immutable node.
    fn set_immutable(&mut self, node: NodeId, immutable: bool) -> Result<(), VfsError>;
    /// Writes everything held back (superblock, descriptors, bitmaps) to the device below.
    fn flush(&mut self) -> Result<(), VfsError>;
}
