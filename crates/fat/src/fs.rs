//! Opening and reading.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use block::{ReadAt, WriteAt};
use hadris_fat::sync::FatFs;
use hadris_fs::{Clock, DateTime, DirCursor, FileType, MountOptions, Name, NodeId as FatNode};
use vfs::{
    DirEntry, FileKind, Filesystem, FilesystemInfo, FreeRanges, Metadata, NodeId, SpaceInfo, Timestamp,
    VfsError, WritableFilesystem, Xattr,
};

use crate::device::Blocks;
use crate::{error, free};

/// Entries of a directory at most; the format's own limit (2 MiB of 32 bytes).
const MAX_ENTRIES: usize = 65_536;
/// As Linux shows everything without `umask=`, `uid=` and `gid=`.
pub(crate) const MODE: u16 = 0o755;

thread_local! {
    /// What [`OperationClock`] shows; every operation that changes something sets it first.
    static NOW: Cell<Timestamp> = const { Cell::new(Timestamp { seconds: 0, nanoseconds: 0 }) };
}

/// A clock that shows what the caller of the running operation said: the driver takes one for good.
struct OperationClock;

impl Clock for OperationClock {
    fn now(&self) -> DateTime {
        date_time(NOW.get()).unwrap_or_else(|| hadris_fs::NoClock.now())
    }
}

static CLOCK: OperationClock = OperationClock;

/// FAT counts from 1980; anything before, or out of range, is the caller's `None`.
pub(crate) fn date_time(time: Timestamp) -> Option<DateTime> {
    DateTime::new(time.seconds, time.nanoseconds).ok()
}

/// A FAT filesystem.
pub struct Fat {
    driver: Mutex<FatFs<Blocks>>,
    blocks: Blocks,
    info: FilesystemInfo,
    is_writable: bool,
    pub(crate) now: Timestamp,
}

impl Fat {
    /// Opens for reading.
    pub fn open(device: Arc<dyn ReadAt>) -> Result<Self, VfsError> {
        Self::mount(Blocks::Read(device), MountOptions::new().read_only(), false)
    }

    /// Opens for reading and writing. What is on the device changes with each operation.
    pub fn open_writable(device: Arc<dyn WriteAt>) -> Result<Self, VfsError> {
        Self::mount(Blocks::Write(device), MountOptions::new(), true)
    }

    fn mount(blocks: Blocks, options: MountOptions, is_writable: bool) -> Result<Self, VfsError> {
        let mounted = FatFs::mount(blocks.clone(), options.with_clock(&CLOCK));
        let mut driver = mounted.map_err(|failed| error::of(failed.into_error(), b"boot sector"))?;
        let mut buffer = [0; 384];
        let label = driver.label(&mut buffer).map_err(|failed| error::of(failed, b"label"))?;
        let geometry = driver.info();
        let info = FilesystemInfo {
            kind: "vfat",
            uuid: driver
                .volume_serial()
                .map(|serial| format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)),
            label: label.map(str::to_owned),
            block_size: geometry.cluster_size(),
            features: vec![format!("{:?}", geometry.kind()).to_ascii_lowercase()],
        };
        Ok(Self { driver: Mutex::new(driver), blocks, info, is_writable, now: Timestamp::default() })
    }

    /// The driver, with the clock at the time of this filesystem.
    pub(crate) fn driver(&self) -> MutexGuard<'_, FatFs<Blocks>> {
        NOW.set(self.now);
        self.driver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The driver's name of a node. Nodes are not pinned: the number leads to the entry, which must be there still.
    pub(crate) fn node(node: NodeId) -> Result<FatNode, VfsError> {
        FatNode::new(node.0).ok_or_else(|| VfsError::NotFound { path: format!("node {}", node.0) })
    }

    /// Finds a name; the driver holds no pin afterwards.
    pub(crate) fn find(
        driver: &mut FatFs<Blocks>,
        dir: FatNode,
        name: &[u8],
    ) -> Result<Option<FatNode>, VfsError> {
        // `.` and `..` are entries of every FAT directory; the tree walks them itself.
        if matches!(name, b"." | b"..") {
            return Ok(None);
        }
        match driver.lookup(dir, Name::new(name)) {
            Ok(found) => {
                driver.forget(found, 1);
                Ok(Some(found))
            }
            Err(failed) => match error::of(failed, name) {
                VfsError::NotFound { .. } | VfsError::BadName { .. } => Ok(None),
                other => Err(other),
            },
        }
    }
}

fn kind(file_type: FileType) -> FileKind {
    match file_type {
        FileType::Dir => FileKind::Directory,
        _ => FileKind::Regular,
    }
}

fn timestamp(time: Option<DateTime>) -> Timestamp {
    time.map_or_else(Timestamp::default, |time| Timestamp {
        seconds: time.unix_seconds(),
        nanoseconds: time.nanoseconds(),
    })
}

fn label_of(node: NodeId) -> Vec<u8> {
    format!("node {}", node.0).into_bytes()
}

impl Filesystem for Fat {
    fn info(&self) -> FilesystemInfo {
        self.info.clone()
    }

    fn root(&self) -> NodeId {
        NodeId(self.driver().root().get())
    }

    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>, VfsError> {
        let found = Self::find(&mut self.driver(), Self::node(dir)?, name)?;
        Ok(found.map(|node| NodeId(node.get())))
    }

    fn stat(&self, node: NodeId) -> Result<Metadata, VfsError> {
        let found = self.driver().stat(Self::node(node)?);
        let metadata = found.map_err(|failed| error::of(failed, &label_of(node)))?;
        Ok(Metadata {
            node,
            kind: kind(metadata.file_type()),
            mode: MODE,
            uid: 0,
            gid: 0,
            len: metadata.len(),
            links: 1,
            allocated: metadata.allocated(),
            atime: timestamp(metadata.accessed()),
            mtime: timestamp(metadata.modified()),
            ctime: timestamp(metadata.modified()),
            crtime: metadata.created().map(|time| timestamp(Some(time))),
            device: None,
            is_immutable: false,
            is_append_only: false,
        })
    }

    fn list(&self, dir: NodeId) -> Result<Vec<DirEntry>, VfsError> {
        let mut driver = self.driver();
        let (node, mut cursor) = (Self::node(dir)?, DirCursor::from_raw(0));
        let mut entries = Vec::new();
        loop {
            let next = driver.readdir(node, cursor).map_err(|failed| error::of(failed, &label_of(dir)))?;
            let Some(entry) = next else { return Ok(entries) };
            if entries.len() == MAX_ENTRIES {
                let path = format!("node {}", dir.0);
                return Err(VfsError::Limit { path, limit: format!("more than {MAX_ENTRIES} entries") });
            }
            cursor = entry.next_cursor();
            entries.push(DirEntry {
                name: entry.name().as_bytes().to_vec(),
                node: NodeId(entry.node().get()),
                kind: Some(kind(entry.file_type())),
            });
        }
    }

    fn read_link(&self, node: NodeId) -> Result<Vec<u8>, VfsError> {
        let path = format!("node {}", node.0);
        Err(VfsError::WrongKind { path, detail: "not a symbolic link; FAT has none".into() })
    }

    fn read_at(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize, VfsError> {
        let mut driver = self.driver();
        let fat_node = Self::node(node)?;
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let got = driver.read(fat_node, offset + done as u64, rest);
            match got.map_err(|failed| error::of(failed, &label_of(node)))? {
                0 => break,
                got => done += got,
            }
        }
        Ok(done)
    }

    fn xattrs(&self, _node: NodeId) -> Result<Vec<Xattr>, VfsError> {
        Ok(Vec::new())
    }

    fn space(&self) -> Result<SpaceInfo, VfsError> {
        let stats = self.driver().statfs().map_err(|failed| error::of(failed, b"/"))?;
        let bytes = |blocks: u64| blocks.saturating_mul(u64::from(stats.block_size()));
        let free_bytes = bytes(stats.free_blocks());
        Ok(SpaceInfo {
            total_bytes: bytes(stats.total_blocks()),
            free_bytes,
            available_bytes: free_bytes,
            inodes: 0,
            free_inodes: 0,
        })
    }

    fn free_ranges(&self) -> Result<FreeRanges, VfsError> {
        let geometry = *self.driver().info();
        free::free_ranges(&self.blocks, &geometry)
    }

    fn writable(&mut self) -> Result<&mut dyn WritableFilesystem, VfsError> {
        match self.is_writable {
            true => Ok(self),
            false => Err(VfsError::ReadOnly {
                filesystem: self.info.uuid.clone().unwrap_or_else(|| "vfat".into()),
                reason: "it was opened for reading".into(),
            }),
        }
    }
}
